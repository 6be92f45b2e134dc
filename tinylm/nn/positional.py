"""Positional encoding: what tells a position from another to attention, which sees a set.

Learned positions are a table like any other and stand in `tinylm.models`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Array, fused


def sinusoidal_encoding(length: int, d_model: int) -> Any:
    r"""Sinusoids of geometrically spaced wavelengths.

    ``PE[pos, 2i] = sin(pos / 10000^(2i / d_model))`` and
    ``PE[pos, 2i + 1] = cos(pos / 10000^(2i / d_model))``: Vaswani et al. 2017, section 3.5. An
    odd `d_model` ends with a sine.

    Parameters
    ----------
    length : int
        Number of positions, counted from 0.
    d_model : int

    Returns
    -------
    ndarray of float64, shape (length, d_model)

    Raises
    ------
    ValueError
        If length or d_model is negative.

    Examples
    --------
    >>> import tinylm as tl
    >>> tl.sinusoidal_encoding(2, 4).round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]])
    """
    if length < 0 or d_model < 0:
        raise ValueError(f"sinusoidal_encoding: {length=} and {d_model=}: wanted none below 0")
    angles = _angles(np.arange(length), d_model, 10000.0)
    encoding = np.empty((length, d_model))
    encoding[:, 0::2] = np.sin(angles)
    encoding[:, 1::2] = np.cos(angles[:, : d_model // 2])
    return encoding


@fused
def rotary(x: Array, positions: Any, base: float = 10000.0) -> Array:
    r"""Rotary position embedding: each pair of features turned by an angle that grows with position.

    The pair ``(x_{2i}, x_{2i+1})`` at position m is rotated by ``m base^(-2i / D)``, so that the
    product of a query and a key depends on the difference of their positions alone: Su et al.
    2021, "RoFormer", eqs. (15) and (34).

    Parameters
    ----------
    x : ndarray, shape (..., T, D)
        Queries or keys, D even.
    positions : ndarray, shape (..., T)
    base : float

    Returns
    -------
    ndarray, shape (..., T, D)

    Raises
    ------
    ValueError
        If D is odd or the positions do not fit.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.rotary(np.array([[1.0, 0.0], [1.0, 0.0]]), positions=[0, 1]).round(4)
    array([[1.    , 0.    ],
           [0.5403, 0.8415]])
    """
    angles = _angles(positions, np.shape(x)[-1], base)
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    cos, sin = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return np.reshape(turned, np.shape(x))


@rotary.check
def _(x: Array, positions: Any, base: float) -> None:
    *leading, T, D = np.shape(x) if np.ndim(x) >= 2 else (None, 1)
    try:
        fits = np.broadcast_shapes(np.shape(positions), (*leading, T)) == (*leading, T)
    except (ValueError, TypeError):
        fits = False
    if D % 2 or not fits or np.shape(positions)[-1:] != (T,):
        raise ValueError(
            f"rotary: x has shape {np.shape(x)}, and positions has {np.shape(positions)}: "
            "wanted (..., T, D) with D even, and (..., T)"
        )


@rotary.kernel
def _(x: Any, positions: Any, base: float) -> tuple[Any, Any]:
    """Each pair is a complex number, and to turn it is to multiply it by ``exp(i angle)``."""
    turn = np.exp(1j * _angles(positions, x.shape[-1], base))
    turn = turn.astype(np.result_type(x, np.complex64))
    return _turned(x, turn), turn


@rotary.vjp
def _(turn: Any, cotangent: Any) -> Any:
    return _turned(cotangent, np.conjugate(turn))


def _turned(x: Any, turn: Any) -> Any:
    real, dtype = turn.real.dtype, x.dtype
    if dtype != real or x.strides[-1] != x.itemsize:
        x = np.ascontiguousarray(x, real)
    return np.multiply(x.view(turn.dtype), turn).view(real).astype(dtype, copy=False)


def _angles(positions: Any, d_model: int, base: float) -> Any:
    """``positions / base^(2i / d_model)``, shape (..., T, ceil(d_model / 2))."""
    frequencies = base ** (-np.arange(0, d_model, 2) / max(d_model, 1))
    return np.asarray(positions)[..., None] * frequencies
