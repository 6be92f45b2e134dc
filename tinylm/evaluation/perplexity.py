"""Perplexity: how many equally likely tokens a model hesitates between, on average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Nest, kernels_are_off
from tinylm.ops import IGNORED, cross_entropy
from tinylm.threads import one_thread
from tinylm.workers import Workers


@dataclass(frozen=True)
class Perplexity:
    """The measure of a text under a model.

    Parameters
    ----------
    nll : float
        Mean negative log-likelihood of a token, in nats.
    tokens : int
        How many tokens were predicted.
    """

    nll: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """The measure itself, ``exp(nll)``.

        Jelinek et al. 1977, "Perplexity: a measure of the difficulty of speech recognition tasks".
        """
        return math.exp(self.nll) if self.nll < 709 else math.inf  # which a float cannot hold

    @property
    def bits_per_token(self) -> float:
        """The negative log-likelihood in bits, ``nll / log(2)``."""
        return self.nll / math.log(2)

    def bits_per_character(self, characters: int) -> float:
        """Bits for each of the characters that the tokens stand for."""
        return self.bits_per_token * self.tokens / characters


def perplexity(
    model: Any,
    params: Nest,
    ids: Any,
    stride: int | None = None,
    batch_size: int = 32,
    threads: int = 1,
) -> Perplexity:
    """Perplexity of a whole text, every token but the first predicted exactly once.

    The text is cut into windows of the model's context length. Disjoint windows are the cheapest
    and the hardest on the model, since the first tokens of each have little before them; windows
    that begin every `stride` tokens give each token, from the second window on, at least
    ``context_length - stride`` tokens before it.

    Parameters
    ----------
    model : GPT
        Or any object with a `context_length` and ``model(params, ids) -> logits``.
    params : nest
    ids : ndarray of int, shape (N,)
        At least two tokens.
    stride : int, optional
        From 1 to the context length; the context length if not given.
    batch_size : int
        Windows computed together.
    threads : int
        So many batches of windows are computed at the same time.

    Returns
    -------
    Perplexity

    Raises
    ------
    ValueError
        If there are fewer than two tokens, or the stride is impossible.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=4, context_length=8, d_model=8, num_heads=1, num_layers=1)
    >>> params = model.init(np.random.default_rng(0))
    >>> measured = tl.perplexity(model, params, np.array([0, 1, 2, 3] * 5))
    >>> measured.tokens, round(measured.perplexity, 1)
    (19, 4.0)
    """
    ids = np.asarray(ids)
    length = model.context_length
    stride = length if stride is None else stride
    if ids.ndim != 1 or ids.size < 2:
        raise ValueError(f"perplexity: ids has shape {ids.shape}: wanted two or more tokens")
    if not 1 <= stride <= length:
        raise ValueError(f"perplexity: {stride=}: wanted 1 <= stride <= {length}")
    inputs, targets = ids[:-1], ids[1:]

    def of_batch(batch: tuple[Any, int, Any]) -> float:
        starts, width, scored_from = batch
        positions = starts[:, None] + np.arange(width)
        wanted = np.where(positions >= scored_from[:, None], targets[positions], IGNORED)
        mean = cross_entropy(model(params, inputs[positions]), wanted, IGNORED)
        return float(mean) * np.count_nonzero(wanted != IGNORED)

    if kernels_are_off():  # names are recorded in order
        threads = 1
    batches = _windows(targets.size, length, stride, batch_size)
    with one_thread() if threads > 1 else contextlib.nullcontext():
        total = math.fsum(Workers(threads).map(of_batch, batches))
    return Perplexity(total / targets.size, targets.size)


def _windows(
    size: int, length: int, stride: int, batch_size: int
) -> Iterator[tuple[Any, int, Any]]:
    """Yield (starts, width, first position to be scored of each) of windows over `size` positions."""
    starts = stride * np.arange(1 + -(-max(0, size - length) // stride))
    scored_from = np.where(starts == 0, 0, starts - stride + length)
    whole = starts + length <= size  # all but perhaps the last
    for group in (np.flatnonzero(whole), np.flatnonzero(~whole)):
        for i in range(0, group.size, batch_size):
            chosen = group[i : i + batch_size]
            yield starts[chosen], min(length, size - starts[chosen[0]]), scored_from[chosen]
