"""The classical rival: an interpolated n-gram model with modified Kneser-Ney smoothing.

A language model of counts, which trains in a second and is hard to beat on little text. Every
neural figure here stands beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.evaluation.perplexity import Perplexity


class NGram:
    r"""Interpolated n-gram model.

    ``P(w | c) = max(a(c w) - D, 0) / a(c) + gamma(c) P(w | c')``, where c' is the context without
    its first token, a(c w) the count of c w in the longest n-grams and below them the number of
    different tokens seen before c w, D one of three discounts by that count, and gamma(c) what
    the discounts left over: Chen and Goodman 1998, "An empirical study of smoothing techniques
    for language modeling", eqs. (26) to (29). Below the unigrams stands the uniform distribution.

    It has a `context_length` and answers as a network does, so that `generate` draws from it and
    `perplexity` measures it; what the parameters of a network are it holds itself, and takes None
    in their place.

    Parameters
    ----------
    ids : ndarray of int, shape (N,)
        The training text.
    order : int
        n, at least 1; the model answers for every smaller order as well.
    vocab_size : int
        V.

    Raises
    ------
    ValueError
        If the text is shorter than the order, an id is outside [0, V), or the order is below 1.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> text = np.array([0, 1, 2] * 50)
    >>> model = tl.NGram(text, order=3, vocab_size=3)
    >>> round(model.perplexity(text).perplexity, 1)
    1.0
    >>> tl.generate(model, None, [1], max_new_tokens=5, temperature=0)
    array([1, 2, 0, 1, 2, 0])
    """

    def __init__(self, ids: Any, order: int, vocab_size: int) -> None:
        self.order = order
        self.vocab_size = vocab_size
        grams, suffixes = _count_grams(ids, order, vocab_size)
        sizes = [1] + [codes.size for codes, _ in grams]
        self.longest = [
            _Level(codes, counts, sizes[k], vocab_size) for k, (codes, counts) in enumerate(grams)
        ]
        self.shorter = [  # by continuation counts: the distinct longer grams that end so
            _Level(codes, np.bincount(suffixes[k + 1], minlength=codes.size), sizes[k], vocab_size)
            for k, (codes, _) in enumerate(grams[:-1])
        ]

    @property
    def context_length(self) -> int:
        """How many tokens it looks back on; at least one, which an order of 1 does not look at."""
        return max(1, self.order - 1)

    def __call__(self, params: None, ids: Any) -> Any:  # noqa: ARG002  # a network has some
        """Log-probabilities of every next token at every position, shape (..., T, V).

        Parameters
        ----------
        params : None
        ids : ndarray of int, shape (..., T)
        """
        ids = _checked(ids, self.vocab_size)
        probabilities = np.full((*ids.shape, self.vocab_size), 1 / self.vocab_size)
        context = np.zeros(ids.shape, dtype=np.int64)  # the grams of k tokens before each token
        gram = context  # and those that end with it
        for level in [*self.shorter, self.longest[-1]]:
            level.add_to(probabilities.reshape(-1, self.vocab_size), gram.ravel())
            gram = level.find(context, ids)
            context = _one_later(gram)
        with np.errstate(divide="ignore"):
            return np.log(probabilities)

    def probabilities(self, ids: Any, order: int | None = None) -> Any:
        """Probability of each token after those before it, shape (N,).

        Parameters
        ----------
        ids : ndarray of int, shape (N,)
        order : int, optional
            That of the model or a smaller one.
        """
        ids = _row(ids, self.vocab_size)
        order = self.order if order is None else order
        if not 1 <= order <= self.order:
            raise ValueError(f"NGram: {order=}: wanted 1 <= order <= {self.order}")
        probability = np.full(ids.size, 1 / self.vocab_size)
        context = np.zeros(ids.size, dtype=np.int64)  # the empty one
        for level in [*self.shorter[: order - 1], self.longest[order - 1]]:
            gram = level.find(context, ids)
            probability = level.mixed(context, gram, probability)
            context = _one_later(gram)
        return probability

    def perplexity(self, ids: Any, order: int | None = None) -> Perplexity:
        """Perplexity of a text; like that of a neural model, of every token but the first."""
        probabilities = self.probabilities(ids, order)[1:]
        return Perplexity(float(0 - np.mean(np.log(probabilities))), probabilities.size)


class _Level:
    """The grams of one length: their codes, their shares, and what their contexts leave over."""

    def __init__(self, codes: Any, counts: Any, contexts: int, vocab_size: int) -> None:
        self.codes = codes
        self.vocab_size = vocab_size
        context = codes // vocab_size
        discount = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
        total = np.bincount(context, counts, minlength=contexts)
        self.seen = total > 0
        total[~self.seen] = 1
        self.share = (counts - discount) / total[context]
        self.left_over = np.bincount(context, discount, minlength=contexts) / total

    def find(self, context: Any, ids: Any) -> Any:
        """The places of the grams ``context + id``, -1 where there is none."""
        wanted = context * self.vocab_size + ids
        place = np.minimum(np.searchsorted(self.codes, wanted), self.codes.size - 1)
        return np.where((context >= 0) & (self.codes[place] == wanted), place, -1)

    def mixed(self, context: Any, gram: Any, lower: Any) -> Any:
        """The probability of each gram's last token, of which shorter ones said `lower`."""
        probability = lower.copy()
        usable = (context >= 0) & self.seen[context]
        probability[usable] *= self.left_over[context[usable]]
        known = gram >= 0
        probability[known] += self.share[gram[known]]
        return probability

    def add_to(self, probabilities: Any, context: Any) -> None:
        """The same for every token, in place: rows of V, one for each context."""
        for row in np.flatnonzero((context >= 0) & self.seen[context]):
            first = context[row] * self.vocab_size
            known = slice(*np.searchsorted(self.codes, [first, first + self.vocab_size]))
            probabilities[row] *= self.left_over[context[row]]
            probabilities[row, self.codes[known] - first] += self.share[known]


def _one_later(gram: Any) -> Any:
    """For each token the gram that ended with the token before."""
    return np.concatenate([np.full_like(gram[..., :1], -1), gram[..., :-1]], axis=-1)


def _count_grams(ids: Any, order: int, vocab_size: int) -> tuple[list[Any], list[Any]]:
    """For each length, (codes, counts) of the grams, and where each one's suffix stands.

    The code of a gram is ``V * place of its context among the grams one shorter + last token``,
    so that codes stay small whatever the order.
    """
    ids = _row(ids, vocab_size)
    if order < 1 or ids.size < order:
        raise ValueError(f"NGram: {order=}, {ids.size} tokens: wanted 1 <= order <= tokens")
    grams, suffixes = [], []
    context = np.zeros(ids.size, dtype=np.int64)  # the place of the gram before each token
    shorter = np.zeros(ids.size, dtype=np.int64)  # that of the gram one shorter that ends there
    for k in range(order):
        codes, first, places, counts = np.unique(
            context[k:] * vocab_size + ids[k:],
            return_index=True, return_inverse=True, return_counts=True,
        )  # fmt: skip
        grams.append((codes, counts))
        suffixes.append(shorter[k:][first])
        shorter = np.concatenate([np.zeros(k, dtype=np.int64), places])
        context = np.concatenate([[0], shorter[:-1]])
    return grams, suffixes


def _discounts(counts: Any) -> list[float]:
    """The three discounts, for counts of 1, 2 and more."""
    n1, n2, n3, n4 = (max(int(np.count_nonzero(counts == i)), 1) for i in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    discounts = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return [max(discount, 0.0) for discount in discounts]


def _row(ids: Any, vocab_size: int) -> Any:
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(f"NGram: ids has shape {ids.shape}: wanted a row of integers")
    return _checked(ids, vocab_size)


def _checked(ids: Any, vocab_size: int) -> Any:
    ids = np.asarray(ids)
    if not ids.ndim or ids.dtype.kind not in "iu":
        raise ValueError(f"NGram: ids of {ids.dtype} and shape {ids.shape}: wanted integers")
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise ValueError(f"NGram: ids from {ids.min()} to {ids.max()}: wanted [0, {vocab_size})")
    return ids.astype(np.int64)
