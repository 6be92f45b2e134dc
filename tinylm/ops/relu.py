"""Rectifiers: the rectified linear unit and the sigmoid linear unit."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tinylm.autograd import Array, derivative, fused, traceable


@fused
def relu(x: Array) -> Array:
    r"""Rectified linear unit, ``max(0, x)``.

    Nair and Hinton 2010, "Rectified linear units improve restricted Boltzmann machines". At the
    kink the derivative is taken as 0, as everybody does.

    Parameters
    ----------
    x : ndarray

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return np.where(x <= 0, 0, x)


@fused
def silu(x: Array) -> Array:
    r"""Sigmoid linear unit or swish, ``x / (1 + exp(-x))``.

    Elfwing, Uchibe and Doya 2018, "Sigmoid-weighted linear units", eq. (2).

    Parameters
    ----------
    x : ndarray

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.silu(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7311])
    """
    e = np.exp(np.where(x < 0, x, -x))  # never overflows
    return x * np.where(x < 0, e, 1) / (1 + e)


@silu.program
def _(x: Array) -> Array:
    """With a sigmoid that is kept: its slope is s (1 - s)."""
    return x * _kept_sigmoid(x)


@traceable
def _kept_sigmoid(x: Array) -> Array:
    return special.expit(x)


derivative(_kept_sigmoid)(lambda c, y, x: c * y * (1 - y))


@silu.kernel
def _(x: Any) -> tuple[Any, Any]:
    e = np.abs(x)
    np.negative(e, out=e)
    np.exp(e, out=e)
    share = np.where(x < 0, e, np.ones((), x.dtype))
    e += 1
    share /= e
    y = x * share
    return y, (share, y)


@silu.vjp
def _(residuals: Any, cotangent: Any) -> Any:
    share, y = residuals
    slope = 1 - share
    slope *= y
    slope += share
    slope *= cotangent
    return slope
