"""Pseudo-perplexity: the perplexity of a model that reads from both sides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.autograd import Nest
from tinylm.evaluation.perplexity import Perplexity
from tinylm.ops import IGNORED


def pseudo_perplexity(
    model: Any,
    params: Nest,
    ids: Any,
    mask_id: int,
    special: Sequence[int] = (),
    batch_size: int = 32,
) -> Perplexity:
    r"""Perplexity under a masked model, each token predicted from all the others of its text.

    ``PLL(W) = sum_t log P(w_t | W without w_t)``, and of all texts together
    ``PPPL = exp(-(1/N) sum_W PLL(W))``: Salazar et al. 2020, "Masked language model scoring",
    eqs. (1) to (3). It is no probability of the text, and not to be held against the perplexity of
    a model that sees the past alone.

    Parameters
    ----------
    model : BERT
        With task "masked-lm", or any object with a `context_length` and
        ``loss(params, ids, targets)``.
    params : nest
    ids : ndarray of int, shape (T,), or a sequence of them
        One text or several, each with its special tokens and without padding, and each at most the
        context length long.
    mask_id : int
        The token that hides another.
    special : sequence of int
        Tokens that are seen and not predicted: beginning and end.
    batch_size : int
        Copies of a text computed together, each with one token masked.

    Returns
    -------
    Perplexity

    Raises
    ------
    ValueError
        If a text has no shape (T,), or is too long, or there is nothing to predict.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.BERT(10, context_length=8, d_model=8, num_heads=1, num_layers=1, task="masked-lm")
    >>> params = model.init(np.random.default_rng(0))
    >>> text = np.array([1, 5, 6, 7, 2])
    >>> measured = tl.pseudo_perplexity(model, params, text, mask_id=3, special=[1, 2])
    >>> measured.tokens, round(measured.perplexity)
    (3, 10)
    """
    several = len(ids) > 0 and np.ndim(ids[0]) > 0
    texts = [np.asarray(text) for text in (ids if several else [ids])]
    for text in texts:
        if text.ndim != 1 or text.size > model.context_length:
            raise ValueError(
                f"pseudo_perplexity: a text has shape {text.shape}: wanted (T,) with "
                f"T <= context_length = {model.context_length}"
            )
    sums, tokens = [], 0
    for masked, targets in _masked(texts, mask_id, special, batch_size):
        sums.append(float(model.loss(params, masked, targets)) * len(masked))
        tokens += len(masked)
    if not tokens:
        raise ValueError("pseudo_perplexity: every token is special, and none is predicted")
    return Perplexity(math.fsum(sums) / tokens, tokens)


def _masked(
    texts: list[Any], mask_id: int, special: Sequence[int], batch_size: int
) -> Iterator[tuple[Any, Any]]:
    """Yield batches of copies of one text, another token masked in each, and what it was."""
    for text in texts:
        positions = np.flatnonzero(~np.isin(text, special))
        for i in range(0, positions.size, batch_size):
            hidden = positions[i : i + batch_size, None] == np.arange(text.size)
            yield np.where(hidden, mask_id, text), np.where(hidden, text, np.int64(IGNORED))
