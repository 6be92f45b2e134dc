"""The Gaussian error linear unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from tinylm.autograd import Array, fused, name


@fused
def gelu(x: Array, approximate: bool = False) -> Array:
    r"""Gaussian error linear unit, ``x Phi(x)`` with Phi the normal distribution function.

    Hendrycks and Gimpel 2016, "Gaussian error linear units", section 2: exactly
    ``x/2 (1 + erf(x / sqrt(2)))``, here with ``erfc(-z)`` for ``1 + erf(z)``, which keeps its
    digits where x is negative; or approximately
    ``x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``, which is what GPT-2 uses.

    Parameters
    ----------
    x : ndarray
    approximate : bool
        Use the tanh form.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`.

    Notes
    -----
    Named intermediate: "share", which is Phi(x).

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    if approximate:
        share = 0.5 * (1 + np.tanh(_SLOPE * (x + 0.044715 * x**3)))
    else:
        share = 0.5 * special.erfc(x * -math.sqrt(0.5))
    return x * name(share, "share")


@gelu.program
def _(x: Array, approximate: bool) -> Array:
    """As the paper prints it: 1 + erf has few digits where it is small."""
    return gelu.formula(x, True) if approximate else 0.5 * x * (1 + special.erf(x * math.sqrt(0.5)))


@gelu.kernel
def _(x: Any, approximate: bool) -> tuple[Any, Any]:
    if approximate:  # (1 + tanh(u)) / 2 is 1 / (1 + exp(-2u))
        share = x * x
        share *= -2 * 0.044715 * _SLOPE
        share -= 2 * _SLOPE
        share *= x
        with np.errstate(over="ignore"):  # far below 0 the share is 1 / inf
            np.exp(share, out=share)
        share += 1
        np.reciprocal(share, out=share)
    else:
        share = np.multiply(x, -math.sqrt(0.5))
        share = special.erfc(share, out=share)
        share *= 0.5
    return x * share, (x, share, approximate)


@gelu.vjp
def _(residuals: Any, cotangent: Any) -> Any:
    x, share, approximate = residuals
    slope = x * x
    if approximate:  # the derivative of (1 + tanh u) / 2 is 2 u' s (1 - s), where s is that share
        slope *= 3 * 0.044715 * _SLOPE * 2
        slope += 2 * _SLOPE
        slope *= share
        slope *= 1 - share
    else:
        slope *= -0.5
        np.exp(slope, out=slope)
        slope *= 1 / math.sqrt(2 * math.pi)
    slope *= x
    slope += share
    slope *= cotangent
    return slope


_SLOPE = math.sqrt(2 / math.pi)
