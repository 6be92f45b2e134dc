"""Elementwise functions: c times the partial derivative, for each argument."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from scipy import special

from tinylm.autograd.derivatives.teach import derivative, expanded
from tinylm.autograd.rules import RULES, Array, writes
from tinylm.autograd.tracing import traceable

derivative(np.add)(lambda c, y, a, b: c, lambda c, y, a, b: c)
derivative(np.subtract)(lambda c, y, a, b: c, lambda c, y, a, b: -c)
derivative(np.multiply)(lambda c, y, a, b: c * b, lambda c, y, a, b: c * a)
derivative(np.divide)(lambda c, y, a, b: c / b, lambda c, y, a, b: -c * y / b)
derivative(np.remainder)(lambda c, y, a, b: c, lambda c, y, a, b: -c * np.floor_divide(a, b))
derivative(np.negative)(lambda c, y, x: -c)
derivative(np.positive)(lambda c, y, x: c)
derivative(np.reciprocal)(lambda c, y, x: -c * y * y)
derivative(np.square)(lambda c, y, x: 2 * c * x)
derivative(np.sqrt)(lambda c, y, x: c / (2 * y))
derivative(np.exp)(lambda c, y, x: c * y)
derivative(np.expm1)(lambda c, y, x: c * np.exp(x))  # y + 1 would lose a small exp(x)
derivative(np.log)(lambda c, y, x: c / x)
derivative(np.log1p)(lambda c, y, x: c / (1 + x))
derivative(np.log2)(lambda c, y, x: c / (x * math.log(2)))
derivative(np.log10)(lambda c, y, x: c / (x * math.log(10)))
derivative(np.sin)(lambda c, y, x: c * np.cos(x))
derivative(np.cos)(lambda c, y, x: -c * np.sin(x))
derivative(np.sinh)(lambda c, y, x: c * np.cosh(x))
derivative(np.cosh)(lambda c, y, x: c * np.sinh(x))
derivative(np.arctan)(lambda c, y, x: c / (1 + x * x))
derivative(np.real)(lambda c, y, val: c)
derivative(np.imag)(lambda c, y, val: -1j * c)
derivative(np.conjugate)(lambda c, y, x: np.conjugate(c))


@traceable
def sech_squared(x: Array) -> Array:
    """The slope of tanh."""
    # 1 / cosh(x)^2 overflows; 1 - tanh(x)^2 loses the flat tails, and the exponentials the middle
    e = np.exp(2 * np.where(np.real(x) > 0, -x, x))
    return np.where(np.abs(np.real(x)) < 1, 1 - np.square(np.tanh(x)), 4 * e / np.square(1 + e))


derivative(np.tanh)(lambda c, y, x: c * sech_squared(x))
derivative(sech_squared)(lambda c, y, x: -2 * c * y * np.tanh(x))
RULES[sech_squared].elementwise = True
derivative(special.expit)(lambda c, y, x: c * sech_squared(x / 2) / 4)
derivative(special.log_expit)(lambda c, y, x: c * special.expit(-x))


def _power_base(c: Array, y: Array, a: Array, b: Array) -> Array:
    # b a^(b-1), and 0 where both are 0
    if isinstance(b, int | float):
        return c * b * a ** (b - 1 if b else 1)
    less = np.where((a == 0) & (b == 0), 1, b - 1)
    return c * b * a**less


def _power_exponent(c: Array, y: Array, a: Array, b: Array) -> Array:
    return c * y * np.log(np.where(a == 0, 1, a))  # 0 where a = 0


derivative(np.power)(_power_base, _power_exponent)
derivative(operator.pow)(_power_base, _power_exponent)
RULES[operator.pow].elementwise = True

derivative(special.erf)(lambda c, y, x: c * (2 / math.sqrt(math.pi)) * np.exp(-x * x))
derivative(special.erfc)(lambda c, y, x: -c * (2 / math.sqrt(math.pi)) * np.exp(-x * x))
derivative(special.erfcx)(lambda c, y, x: c * (2 * x * y - 2 / math.sqrt(math.pi)))
derivative(special.log_ndtr)(
    # the normal density over its integral, both scaled by exp(x * x / 2)
    lambda c, y, x: c * math.sqrt(2 / math.pi) / special.erfcx(-x / math.sqrt(2))
)
derivative(special.xlogy)(
    lambda c, y, a, b: c * np.log(b),
    lambda c, y, a, b: c * a / np.where((a == 0) & (b == 0), 1, b),
)


def _logaddexp_share(c: Array, y: Array, mine: Array, other: Array) -> Array:
    # exp(mine) / (exp(mine) + exp(other)); a half each for two equal infinities
    equal = (mine == other) & np.isinf(mine)
    return c * special.expit(np.where(equal, 0, mine) - np.where(equal, 0, other))


derivative(np.logaddexp)(_logaddexp_share, lambda c, y, a, b: _logaddexp_share(c, y, b, a))


# With kinks: at a tie the cotangent is shared equally.


def _larger_share(c: Array, y: Array, mine: Array, other: Array) -> Array:
    return np.where(mine == other, c / 2, np.where(mine > other, c, 0))


def _smaller_share(c: Array, y: Array, mine: Array, other: Array) -> Array:
    return np.where(mine == other, c / 2, np.where(mine < other, c, 0))


derivative(np.maximum)(_larger_share, lambda c, y, a, b: _larger_share(c, y, b, a))
derivative(np.minimum)(_smaller_share, lambda c, y, a, b: _smaller_share(c, y, b, a))


@derivative(np.absolute)
def _(c: Array, y: Array, x: Array) -> Array:
    if np.iscomplexobj(x):
        return c * np.conjugate(x) / np.where(y == 0, 1, y)
    return c * np.sign(x)


derivative(np.where)(
    None,
    lambda c, y, condition, a, b: np.where(condition, c, 0),
    lambda c, y, condition, a, b: np.where(condition, 0, c),
)
RULES[np.where].elementwise = True


@expanded(np.clip)
def _(
    a: Array,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,  # noqa: A002
    max: Any = None,  # noqa: A002
) -> Array:
    if out is not None:
        raise TypeError(writes("numpy.clip with out="))
    lower = min if a_min is None else a_min
    upper = max if a_max is None else a_max
    a = a if lower is None else np.maximum(a, lower)
    return a if upper is None else np.minimum(a, upper)
