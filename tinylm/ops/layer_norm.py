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
    normalized = x - np.mean(x, axis=-1, keepdims=True)
    scale = 1 / np.sqrt(_row_mean(normalized, normalized) + eps)
    normalized *= scale
    y = normalized * gain
    y = np.add(y, bias, out=y if y.dtype == np.result_type(y, bias) else None)
    return y, (normalized, scale, gain)


@layer_norm.vjp
def _(residuals: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    normalized, scale, gain = residuals
    rows = cotangent.reshape(-1, cotangent.shape[-1])
    d_gain = np.einsum("ni,ni->i", rows, normalized.reshape(rows.shape))
    d_bias = np.sum(rows, axis=0)
    d_x = cotangent * gain
    along = _row_mean(d_x, normalized)
    d_x -= np.mean(d_x, axis=-1, keepdims=True)
    d_x -= normalized * along
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
    rows = cotangent.reshape(-1, cotangent.shape[-1])
    d_gain = np.einsum("ni,ni->i", rows, normalized.reshape(rows.shape))
    d_x = cotangent * gain
    d_x -= normalized * _row_mean(d_x, normalized)
    d_x *= scale
    return d_x, d_gain


def _row_mean(a: Any, b: Any) -> Any:
    """Mean of a * b over the last axis, kept, without an array of the products."""
    return np.einsum("...i,...i->...", a, b)[..., None] / a.shape[-1]


def _check_size(op: str, x: Array, **parameters: Array) -> None:
    if np.ndim(x) < 1 or np.shape(x)[-1] == 0:
        raise ValueError(f"{op}: x has shape {np.shape(x)}: wanted (..., C) with C >= 1")
    for parameter, value in parameters.items():
        if np.shape(value) != np.shape(x)[-1:]:
            raise ValueError(
                f"{op}: {parameter} has shape {np.shape(value)}, and x has {np.shape(x)}: "
                f"wanted {np.shape(x)[-1:]}"
            )
