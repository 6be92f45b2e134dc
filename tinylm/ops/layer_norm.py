"""Layer normalization, and its simpler sibling that rescales only."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Array, derivative, fused, name, traceable


@fused
def layer_norm(x: Array, gain: Array, bias: Array, eps: float = 1e-5) -> Array:
    r"""Layer normalization, ``gain * (x - mean) / sqrt(var + eps) + bias`` over the last axis.

    Ba, Kiros and Hinton 2016, "Layer normalization", eq. (4), with the variance of the
    population (divided by C) and `eps` inside the root.

    Parameters
    ----------
    x : ndarray, shape (..., C)
    gain, bias : ndarray, shape (C,)
    eps : float

    Returns
    -------
    ndarray, shape (..., C)

    Raises
    ------
    ValueError
        If gain or bias is not of shape (C,).

    Notes
    -----
    Named intermediates: "mean", "std"; for rounding models also "rstd", which is 1 / std.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.layer_norm(np.array([1.0, 3.0]), gain=np.ones(2), bias=np.zeros(2), eps=0.0)
    array([-1.,  1.])
    """
    deviation = x - name(np.mean(x, axis=-1, keepdims=True), "mean")
    variance = np.mean(deviation * deviation, axis=-1, keepdims=True)
    return deviation / name(np.sqrt(variance + eps), "std") * gain + bias


@layer_norm.program
def _(x: Array, gain: Array, bias: Array, eps: float) -> Array:
    """With the reciprocal of the standard deviation, which is kept."""
    deviation = x - name(np.mean(x, axis=-1, keepdims=True), "mean")
    variance = np.mean(deviation * deviation, axis=-1, keepdims=True)
    return deviation * name(_rsqrt(variance + eps), "rstd") * gain + bias


@traceable
def _rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


derivative(_rsqrt)(lambda c, y, x: -0.5 * c * y**3)


@layer_norm.check
def _(x: Array, gain: Array, bias: Array, eps: float) -> None:
    _check_size("layer_norm", x, gain=gain, bias=bias)


@layer_norm.kernel
def _(x: Any, gain: Any, bias: Any, eps: float) -> tuple[Any, Any]:
    normalized = x - _row_means(x)
    scale = 1 / np.sqrt(_row_mean(normalized, normalized) + eps)
    normalized *= scale
    y = normalized * gain
    y = np.add(y, bias, out=y if y.dtype == np.result_type(y, bias) else None)
    return y, (normalized, scale, gain)


@layer_norm.vjp
def _(residuals: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    normalized, scale, gain = residuals
    products = cotangent * normalized
    d_gain, d_bias = _column_sums(products), _column_sums(cotangent)
    d_x = cotangent * gain
    d_x -= _row_means(cotangent, gain)
    d_x -= np.multiply(normalized, _row_means(products, gain), out=products)
    d_x *= scale
    return d_x, d_gain, d_bias


@fused
def rms_norm(x: Array, gain: Array, eps: float = 1e-5) -> Array:
    r"""Root mean square normalization, ``gain * x / sqrt(mean(x^2) + eps)`` over the last axis.

    Zhang and Sennrich 2019, "Root mean square layer normalization", eq. (4), with `eps` inside
    the root.

    Parameters
    ----------
    x : ndarray, shape (..., C)
    gain : ndarray, shape (C,)
    eps : float

    Returns
    -------
    ndarray, shape (..., C)

    Raises
    ------
    ValueError
        If gain is not of shape (C,).

    Notes
    -----
    Named intermediate: "rms"; for rounding models also "rstd", which is 1 / rms.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.rms_norm(np.array([7.0, 1.0]), gain=np.ones(2), eps=0.0)
    array([1.4, 0.2])
    """
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return x / name(np.sqrt(mean_square + eps), "rms") * gain


@rms_norm.check
def _(x: Array, gain: Array, eps: float) -> None:
    _check_size("rms_norm", x, gain=gain)


@rms_norm.program
def _(x: Array, gain: Array, eps: float) -> Array:
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return x * name(_rsqrt(mean_square + eps), "rstd") * gain


@rms_norm.kernel
def _(x: Any, gain: Any, eps: float) -> tuple[Any, Any]:
    scale = 1 / np.sqrt(_row_mean(x, x) + eps)
    normalized = x * scale
    return normalized * gain, (normalized, scale, gain)


@rms_norm.vjp
def _(residuals: Any, cotangent: Any) -> tuple[Any, Any]:
    normalized, scale, gain = residuals
    products = cotangent * normalized
    d_gain = _column_sums(products)
    d_x = cotangent * gain
    d_x -= np.multiply(normalized, _row_means(products, gain), out=products)
    d_x *= scale
    return d_x, d_gain


# Sums as products with a vector, which a matrix library makes in one pass.


def _row_means(x: Any, weights: Any = None) -> Any:
    """Mean of ``weights * x`` over the last axis, kept."""
    C = x.shape[-1]
    vector = np.full(C, 1 / C, x.dtype) if weights is None else weights / C
    return np.matmul(x, vector)[..., None]


def _row_mean(a: Any, b: Any) -> Any:
    """Mean of ``a * b`` over the last axis, kept, without an array of the products."""
    return np.vecdot(a, b)[..., None] / a.shape[-1]


def _column_sums(x: Any) -> Any:
    """Sum over all axes but the last."""
    rows = x.reshape(-1, x.shape[-1])
    return np.matmul(np.ones(len(rows), x.dtype), rows)


def _check_size(op: str, x: Array, **parameters: Array) -> None:
    if x.ndim < 1 or x.shape[-1] == 0:
        raise ValueError(f"{op}: x has shape {x.shape}: wanted (..., C) with C >= 1")
    for parameter, value in parameters.items():
        if value.shape != x.shape[-1:]:
            raise ValueError(
                f"{op}: {parameter} has shape {value.shape}, and x has {x.shape}: "
                f"wanted {x.shape[-1:]}"
            )
