"""Reading on: what a model says to sequences that grow by a token at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Nest


class Reader:
    """A model with its parameters, and what it keeps of the sequences that it has read.

    Parameters
    ----------
    model : GPT
        Or any object with a `context_length` and ``model(params, ids) -> logits``; if it has
        `no_past`, what it computed for earlier tokens is kept as long as the context has room.
    params : nest

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=4, context_length=8, d_model=8, num_heads=1, num_layers=1)
    >>> read = tl.nn.Reader(model, model.init(np.random.default_rng(0)))
    >>> read(np.array([[1, 2]])).shape, read(np.array([[1, 2, 3]])).shape
    ((1, 4), (1, 4))
    """

    def __init__(self, model: Any, params: Nest) -> None:
        self.model, self.params = model, params
        self.past = model.no_past() if hasattr(model, "no_past") else []
        self.seen = 0

    def __call__(self, ids: Any) -> Any:
        """Logits of the next token, shape (..., V), of float64.

        Parameters
        ----------
        ids : ndarray of int, shape (..., T)
            Those of the call before, and what follows them.

        Raises
        ------
        ValueError
            If the logits are not numbers.
        """
        T, room = ids.shape[-1], self.model.context_length
        if self.past and room >= T:
            logits = self.model(self.params, ids[..., self.seen :], past=self.past)
        else:  # the window moves, and with it every position in it
            logits = self.model(self.params, ids[..., max(0, T - room) :])
        self.seen = T
        if not np.isfinite(np.max(logits[..., -1, :], axis=-1)).all():
            raise ValueError("the model's logits are not finite")
        return logits[..., -1, :].astype(np.float64)

    def reorder(self, order: Any) -> None:
        """Go on from other sequences, as `Past.reorder` says."""
        for past in self.past:
            past.reorder(order)


def as_prompt(caller: str, prompt_ids: Any) -> Any:
    """Ids as an array of one or more integers along its last axis."""
    ids = np.asarray(prompt_ids)
    if ids.ndim < 1 or ids.shape[-1] == 0 or ids.dtype.kind not in "iu":
        raise ValueError(
            f"{caller}: prompt_ids of {ids.dtype} and shape {ids.shape}: wanted one or more integers"
        )
    return ids.astype(int)


def as_stops(caller: str, stop: Any) -> Any:
    """The tokens that end a sequence, as an array, empty for None."""
    stops = np.atleast_1d(np.asarray([] if stop is None else stop))
    if stops.size and stops.dtype.kind not in "iu":
        raise ValueError(f"{caller}: {stop=}: wanted a token or a list of them")
    return stops.astype(int)
