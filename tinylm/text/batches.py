"""Batches: windows of a text, each start once an epoch, in an order that can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


class Batches:
    """An endless stream of (ids, targets), where the targets are the ids one position later.

    In each epoch every window of `context_length` ids is drawn exactly once, in an order that the
    generator shuffles.

    Parameters
    ----------
    ids : ndarray of int, shape (N,)
    context_length : int
        T, less than N.
    batch_size : int
        B.
    rng : numpy.random.Generator
        Shuffles; it is this object's own from then on.

    Raises
    ------
    ValueError
        If the text is too short for one window and its targets.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.text import Batches
    >>> ids, targets = next(Batches(np.arange(100), 4, 2, np.random.default_rng(0)))
    >>> ids.shape, bool((targets == ids + 1).all())
    ((2, 4), True)
    """

    def __init__(
        self, ids: Any, context_length: int, batch_size: int, rng: np.random.Generator
    ) -> None:
        self.ids = np.asarray(ids)
        self.context_length = context_length
        self.batch_size = batch_size
        self.rng = rng
        if batch_size < 1 or context_length < 1:
            raise ValueError(f"Batches: {context_length=} and {batch_size=}: wanted at least 1")
        if self.ids.ndim != 1 or self.ids.size <= context_length:
            raise ValueError(
                f"Batches: the text has {self.ids.size} tokens: wanted more than the "
                f"context_length of {context_length}"
            )
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._epoch = self.rng.bit_generator.state
        self._starts = self.rng.permutation(self.ids.size - self.context_length)
        self._used = 0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self

    def __next__(self) -> tuple[Any, Any]:
        starts: list[Any] = []
        missing = self.batch_size
        while missing:
            if self._used == self._starts.size:
                self._begin_epoch()
            starts.append(self._starts[self._used : self._used + missing])
            self._used += starts[-1].size
            missing -= starts[-1].size
        windows = np.concatenate(starts)[:, None] + np.arange(self.context_length + 1)
        taken = self.ids[windows]
        return taken[:, :-1], taken[:, 1:]

    def state(self) -> dict[str, Any]:
        """The place in the stream, as JSON can hold it."""
        return {"epoch": self._epoch, "used": self._used}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place that `state` told; raises ValueError if there is no such place."""
        if not 0 <= state["used"] <= self._starts.size:
            raise ValueError(f"Batches: {state['used']} windows used of {self._starts.size}")
        self.rng.bit_generator.state = state["epoch"]
        self._begin_epoch()
        self._used = state["used"]
