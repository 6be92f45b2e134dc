"""Scaled dot-product attention."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from tinylm.autograd import Array, fused, name
from tinylm.autograd.rules import unbroadcast
from tinylm.ops.softmax import row_maximum, softmax


@fused
def attention(
    Q: Array,
    K: Array,
    V: Array,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
) -> Array:
    r"""Scaled dot-product attention, ``softmax(Q K^T / sqrt(d_k)) V``.

    Vaswani et al. 2017, "Attention is all you need", eq. (1). Each query takes a mean of the
    values, weighted by how well the keys match it.

    Parameters
    ----------
    Q : ndarray, shape (..., T, D)
        Queries.
    K : ndarray, shape (..., S, D)
        Keys.
    V : ndarray, shape (..., S, Dv)
        Values. The leading axes of all three broadcast against each other.
    mask : ndarray of bool, shape (..., T, S), optional
        True where a query may attend. A query that may attend to nothing gives zeros and has zero
        gradients.
    causal : bool
        Query t attends to the keys at positions s <= t only, both counted from the start.
    scale : float, optional
        Stands in the place of ``1 / sqrt(D)``.

    Returns
    -------
    ndarray, shape (..., T, Dv)

    Raises
    ------
    TypeError
        If the mask is not boolean.
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Named intermediates: "scores", "weights", "output", and softmax's "normalizer".

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> Q, K = np.array([[10.0, 0.0]]), np.array([[10.0, 0.0], [0.0, 10.0]])
    >>> tl.attention(Q, K, V=np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[1., 2.]])
    """
    scores = _scores(Q, K, mask, causal, scale)
    weights = name(softmax.formula(scores), "weights")
    return name(weights @ V, "output")


@attention.program
def _(Q: Array, K: Array, V: Array, mask: Any, causal: bool, scale: float | None) -> Array:
    """Divided at the end, so that the way back takes its row sums from the output.

    Dao et al. 2022, "FlashAttention", algorithms 1 and 4.
    """
    scores = _scores(Q, K, mask, causal, scale)
    weights = name(np.exp(scores - row_maximum(scores, -1)), "weights")
    total = name(np.sum(weights, axis=-1, keepdims=True), "normalizer")
    return name(weights @ V / np.where(total == 0, 1, total), "output")


def _scores(Q: Array, K: Array, mask: Any, causal: bool, scale: float | None) -> Array:
    scores = name(Q @ np.swapaxes(K, -1, -2) * _scale(Q, scale), "scores")
    allowed = _allowed(Q, K, mask, causal)
    return scores if allowed is None else np.where(allowed, scores, -np.inf)


@attention.check
def _(Q: Array, K: Array, V: Array, mask: Any, causal: bool, scale: float | None) -> None:
    for argument, x in (("Q", Q), ("K", K), ("V", V)):
        if x.ndim < 2:
            raise ValueError(
                f"attention: {argument} has shape {x.shape}: wanted (..., positions, features)"
            )
    (T, D), (S, D_K), S_V = Q.shape[-2:], K.shape[-2:], V.shape[-2]
    if D_K != D:
        raise ValueError(f"attention: K has {D_K} features at each position, and Q has {D}")
    if S_V != S:
        raise ValueError(f"attention: V has {S_V} positions, and K has {S}")
    if D == 0 and scale is None:
        raise ValueError("attention: Q has 0 features, and 1 / sqrt(0) is no scale: give a scale")
    try:
        leading = _leading(Q, K, V)
    except ValueError:
        raise ValueError(
            f"attention: the leading axes of Q {Q.shape}, K {K.shape} and V {V.shape} "
            "do not broadcast"
        ) from None
    if mask is None:
        return
    if np.asarray(mask).dtype != bool:
        raise TypeError(
            f"attention: mask holds {np.asarray(mask).dtype}: wanted bool, True = may attend"
        )
    try:
        fits = np.broadcast_shapes(np.shape(mask), (*leading, T, S))[-2:] == (T, S)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"attention: mask of shape {np.shape(mask)} does not broadcast to {(*leading, T, S)}"
        )


@attention.kernel
def _(Q: Any, K: Any, V: Any, mask: Any, causal: bool, scale: float | None) -> tuple[Any, Any]:
    """Tile by tile of queries, so that the memory for scores does not grow with T.

    A tile sees all of its keys, and the causal mask leaves out those behind its last query. If
    there are few weights they are kept; else they are computed again on the way back from the
    maximum and sum of each row.
    """
    given, (T, S), scale = (Q, K, V), (Q.shape[-2], K.shape[-2]), _scale(Q, scale)
    leading = _leading(Q, K, V)
    if mask is not None:
        leading = np.broadcast_shapes(leading, np.shape(mask)[:-2])
        mask = np.broadcast_to(mask, (*np.shape(mask)[:-2], T, S))
    if Q.shape[:-2] != leading:
        Q = np.broadcast_to(Q, (*leading, *Q.shape[-2:]))
    output = np.empty_like(Q, np.result_type(Q, K, V, scale), shape=(*leading, T, V.shape[-1]))
    groups = math.prod(leading)
    tiles, small, kept = _tiles(groups, T, S, causal), groups * T * S <= KEPT, []
    for queries, keys in tiles:
        scores = _tile_of_scores(Q, K, mask, causal, scale, queries, keys)
        top = np.max(scores.real, axis=-1, keepdims=True, initial=_lowest(scores.dtype))
        weights = _weights(scores, top)
        total = np.matmul(weights, np.ones((weights.shape[-1], 1), weights.dtype))
        np.maximum(total, 1, out=total)  # it is 0 where there is nothing to attend to
        rows = output[..., queries, :]
        np.matmul(weights, V[..., keys, :], out=rows)
        rows /= total
        kept.append((weights if small else None, top, total))
    return output, (given, Q, mask, causal, scale, tiles, kept)


@attention.vjp
def _(residuals: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    given, Q, mask, causal, scale, tiles, kept = residuals
    _, K, V = given
    d_Q = np.empty_like(Q)
    d_K, d_V = (np.empty_like(x, shape=(*Q.shape[:-2], *x.shape[-2:])) for x in (K, V))
    seen = 0  # keys that have a gradient already
    for (queries, keys), (weights_kept, top, total) in zip(tiles, kept, strict=True):
        weights = weights_kept
        if weights is None:
            scores = _tile_of_scores(Q, K, mask, causal, scale, queries, keys)
            weights = _weights(scores, top)
        d_output = cotangent[..., queries, :] / total  # in the place of weights / total
        d_scores = np.matmul(d_output, np.swapaxes(V[..., keys, :], -1, -2))
        d_scores -= np.vecdot(weights, d_scores)[..., None] / total
        d_scores *= weights
        d_scores *= scale
        np.matmul(d_scores, K[..., keys, :], out=d_Q[..., queries, :])
        for d_x, d_tile, rows in (
            (d_K, d_scores, Q[..., queries, :]),
            (d_V, weights, d_output),
        ):
            _add_product(d_x[..., keys, :], np.swapaxes(d_tile, -1, -2), rows, seen)
        seen = keys.stop
    for d_x in (d_K, d_V):
        d_x[..., seen:, :] = 0
    return tuple(unbroadcast(d_x, x.shape) for d_x, x in zip((d_Q, d_K, d_V), given, strict=True))


def _add_product(x: Any, a: Any, b: Any, seen: int) -> None:
    """``x += a @ b``, where the rows of x from `seen` on hold nothing yet."""
    if seen == 0:
        np.matmul(a, b, out=x)
        return
    product = np.matmul(a, b)
    x[..., :seen, :] += product[..., :seen, :]
    x[..., seen:, :] = product[..., seen:, :]


TILE, HEIGHT = 1 << 18, 64
"""Scores in a tile, about, that stay in the cache; but queries in it, at least."""

KEPT = 1 << 21
"""Weights that are kept for the way back, at most: beyond them memory grows with T alone."""


def _leading(*arrays: Any) -> tuple[int, ...]:
    """The leading axes of all, broadcast."""
    first, *others = (x.shape[:-2] for x in arrays)
    return first if all(x == first for x in others) else np.broadcast_shapes(first, *others)


def _tiles(groups: int, T: int, S: int, causal: bool) -> list[tuple[slice, slice]]:
    """The queries of each tile, and the keys that they may see."""
    height = max(HEIGHT, TILE // max(1, groups * S))
    if causal:  # half of the keys of half of the queries need not be looked at
        height = min(height, max(HEIGHT, -(-T // 2)))
    return [
        (slice(i, min(i + height, T)), slice(0, min(i + height, S) if causal else S))
        for i in range(0, T, height)
    ]


def _tile_of_scores(
    Q: Any, K: Any, mask: Any, causal: bool, scale: float, queries: slice, keys: slice
) -> Any:
    scores = np.matmul(Q[..., queries, :] * scale, np.swapaxes(K[..., keys, :], -1, -2))
    if mask is not None:
        np.copyto(scores, -np.inf, where=~mask[..., queries, keys])
    if causal:
        diagonal = scores[..., queries.start :]
        np.copyto(diagonal, -np.inf, where=_future(*diagonal.shape[-2:]))
    return scores


def _weights(scores: Any, top: Any) -> Any:
    """Before they are divided by their sum; written over the scores."""
    scores -= top
    return np.exp(scores, out=scores)


@functools.cache
def _lowest(dtype: Any) -> Any:
    """The maximum of a row of nothing but -inf, so that it can be subtracted."""
    return np.finfo(dtype).min


@functools.lru_cache(maxsize=8)
def _future(T: int, S: int) -> Any:
    """Where a key stands behind its query."""
    return np.logical_not(np.tri(T, S, dtype=bool))


def _scale(Q: Array, scale: Any) -> Any:
    if scale is None:
        return 1 / math.sqrt(Q.shape[-1])
    return float(scale) if isinstance(scale, np.floating) else scale  # whose dtype would spread


def _allowed(Q: Array, K: Array, mask: Any, causal: bool) -> Any:
    """Where queries may attend, shape (..., T, S) or broadcast to it; None for everywhere."""
    mask = None if mask is None else np.asarray(mask)
    if not causal:
        return mask
    lower = np.tri(Q.shape[-2], K.shape[-2], dtype=bool)
    return lower if mask is None else lower & mask
