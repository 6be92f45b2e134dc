"""Masking: tokens hidden from a model that is to say what they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm.ops import IGNORED


def mask_tokens(
    ids: Any,
    mask_id: int,
    vocab_size: int,
    rng: np.random.Generator,
    rate: float = 0.15,
    special: Sequence[int] = (),
) -> tuple[Any, Any]:
    """Inputs and targets of masked language modelling.

    Devlin et al. 2019, "BERT", section 3.1, task 1: each token is chosen with probability `rate`,
    and is the target where it is. Of the chosen 80% become the mask, 10% a random token, and 10%
    stay as they are.

    Parameters
    ----------
    ids : ndarray of int, any shape
    mask_id : int
        The token that hides another.
    vocab_size : int
        V.
    rng : numpy.random.Generator
    rate : float
        In [0, 1].
    special : sequence of int
        Tokens that are never chosen and never put in the place of another, as the mask itself:
        beginning, end, padding.

    Returns
    -------
    ids : ndarray of int64
    targets : ndarray of int64
        The token that was chosen, and -100 elsewhere.

    Raises
    ------
    TypeError
        If the ids are not integers.
    ValueError
        If an id or `mask_id` is outside [0, V), the rate outside [0, 1], or every token special.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.text import mask_tokens
    >>> ids = np.array([1, 5, 6, 7, 8, 9, 2])
    >>> mask_tokens(ids, 3, vocab_size=10, rng=np.random.default_rng(5), rate=0.5, special=[1, 2])
    (array([1, 5, 6, 3, 3, 3, 2]), array([-100, -100, -100,    7,    8,    9, -100]))
    """
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"mask_tokens: ids holds {ids.dtype}: wanted integers")
    ids = ids.astype(np.int64)
    if not 0 <= rate <= 1:
        raise ValueError(f"mask_tokens: {rate=}: wanted 0 <= rate <= 1")
    if not 0 <= mask_id < vocab_size:
        raise ValueError(f"mask_tokens: {mask_id=}: wanted a token of [0, {vocab_size})")
    if ids.size and not (ids.min() >= 0 and ids.max() < vocab_size):
        raise ValueError(
            f"mask_tokens: ids from {ids.min()} to {ids.max()}: wanted [0, {vocab_size})"
        )
    apart = [mask_id, *special]
    ordinary = np.setdiff1d(np.arange(vocab_size), apart)
    if not ordinary.size:
        raise ValueError(f"mask_tokens: all {vocab_size} tokens are special")
    chosen = (rng.random(ids.shape) < rate) & ~np.isin(ids, apart)
    fate = rng.random(ids.shape)
    seen = np.where(fate < 0.8, mask_id, np.where(fate < 0.9, rng.choice(ordinary, ids.shape), ids))
    return np.where(chosen, seen, ids), np.where(chosen, ids, IGNORED)
