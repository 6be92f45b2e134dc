"""The past of a layer: keys and values that need not be computed again for the next token."""

from __future__ import annotations

from typing import Any

import numpy as np


class Past:
    """Keys and values of the positions that one layer of self-attention has seen.

    A causal model's keys and values of a position do not depend on what follows, so that one more
    token costs one more row of each.

    Parameters
    ----------
    capacity : int
        Positions for which memory is set aside.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.nn import Past
    >>> past = Past(capacity=8)
    >>> for _ in range(2):
    ...     keys, values = past.extended(np.ones((4, 3, 2)), np.ones((4, 3, 2)))
    >>> keys.shape, past.length
    ((4, 6, 2), 6)
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._rows: list[Any] = []

    def extended(self, K: Any, V: Any) -> tuple[Any, Any]:
        """All keys and values, these among them, shape (..., H, length, D).

        Raises
        ------
        ValueError
            If there is no room for them.
        """
        start, stop = self.length, self.length + K.shape[-2]
        if stop > self.capacity:
            raise ValueError(f"Past: {stop} positions: wanted at most {self.capacity}")
        if not self._rows:
            self._rows = [
                np.empty((*x.shape[:-2], self.capacity, x.shape[-1]), x.dtype) for x in (K, V)
            ]
        for rows, new in zip(self._rows, (K, V), strict=True):
            rows[..., start:stop, :] = new
        self.length = stop
        K, V = (rows[..., :stop, :] for rows in self._rows)
        return K, V

    def reorder(self, order: Any) -> None:
        """Go on from other rows: of the beams of a search, those that were kept.

        Parameters
        ----------
        order : ndarray of int, shape (B, K)
            Row ``[b, k]`` of all keys and values, whose first two axes are of batch and beams, is
            then what row ``[b, order[b, k]]`` was.
        """
        batch = np.arange(len(order))[:, None]
        for i, rows in enumerate(self._rows):
            kept = rows[batch, order, :, : self.length]
            self._rows[i] = np.empty((*kept.shape[:-2], self.capacity, kept.shape[-1]), rows.dtype)
            self._rows[i][..., : self.length, :] = kept


class DecoderPast(Past):
    """The past of a decoder's layer: beside its own keys and values, those of the memory.

    The memory is the same for all beams, and is not reordered.

    Parameters
    ----------
    capacity : int
        Positions for which memory is set aside, of the target and of the source.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.memory = Past(capacity)
