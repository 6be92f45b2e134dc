"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinylm.autograd import Array, fused, name
from tinylm.autograd.rules import unbroadcast
from tinylm.ops.softmax import row_maximum, softmax, softmax_in_place


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
        if np.ndim(x) < 2:
            raise ValueError(
                f"attention: {argument} has shape {np.shape(x)}: wanted (..., positions, features)"
            )
    *batch_Q, T, D = np.shape(Q)
    *batch_K, S, D_K = np.shape(K)
    *batch_V, S_V, _ = np.shape(V)
    if D_K != D:
        raise ValueError(f"attention: K has {D_K} features at each position, and Q has {D}")
    if S_V != S:
        raise ValueError(f"attention: V has {S_V} positions, and K has {S}")
    if D == 0 and scale is None:
        raise ValueError("attention: Q has 0 features, and 1 / sqrt(0) is no scale: give a scale")
    try:
        leading = np.broadcast_shapes(tuple(batch_Q), tuple(batch_K), tuple(batch_V))
    except ValueError:
        raise ValueError(
            f"attention: the leading axes of Q {np.shape(Q)}, K {np.shape(K)} and V {np.shape(V)} "
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
    scale = _scale(Q, scale)
    weights = np.matmul(Q * scale, np.swapaxes(K, -1, -2))
    allowed = _allowed(Q, K, mask, causal)
    if allowed is not None:
        shape = np.broadcast_shapes(weights.shape, allowed.shape)
        weights = weights if shape == weights.shape else np.broadcast_to(weights, shape).copy()
        np.copyto(weights, -np.inf, where=~allowed)
    softmax_in_place(weights)
    return np.matmul(weights, V), (Q, K, V, weights, scale)


@attention.vjp
def _(residuals: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    Q, K, V, weights, scale = residuals
    d_scores = np.matmul(cotangent, np.swapaxes(V, -1, -2))
    d_scores -= np.einsum("...s,...s->...", d_scores, weights)[..., None]
    d_scores *= weights
    d_Q = np.matmul(d_scores, K)
    d_Q *= scale
    d_K = np.matmul(np.swapaxes(d_scores, -1, -2), Q)
    d_K *= scale
    d_V = np.matmul(np.swapaxes(weights, -1, -2), cotangent)
    return unbroadcast(d_Q, Q.shape), unbroadcast(d_K, K.shape), unbroadcast(d_V, V.shape)


def _scale(Q: Array, scale: Any) -> Any:
    if scale is None:
        return 1 / math.sqrt(np.shape(Q)[-1])
    return float(scale) if isinstance(scale, np.floating) else scale  # whose dtype would spread


def _allowed(Q: Array, K: Array, mask: Any, causal: bool) -> Any:
    """Where queries may attend, shape (..., T, S) or broadcast to it; None for everywhere."""
    mask = None if mask is None else np.asarray(mask)
    if not causal:
        return mask
    lower = np.tri(np.shape(Q)[-2], np.shape(K)[-2], dtype=bool)
    return lower if mask is None else lower & mask
