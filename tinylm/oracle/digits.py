"""Fifty digits: the same formula over mpmath's numbers, to know the oracle's own error."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tinylm.autograd import trees
from tinylm.autograd.arraylike import ArrayLike
from tinylm.autograd.derivatives import Composed
from tinylm.autograd.names import named
from tinylm.autograd.rules import EXPANSIONS, PIECEWISE_CONSTANT, RULES, title
from tinylm.autograd.tracing import Tracer, astype

DIGITS = 50


def _mpmath() -> Any:
    try:
        import mpmath  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError(
            "fifty digits need mpmath: pip install 'tinylm[oracle]', or leave precision='f64'"
        ) from None
    return mpmath


class Digits(ArrayLike):
    """An array of numbers with fifty digits.

    Parameters
    ----------
    value : array_like
        Floats, which are taken exactly, or an object array of mpmath numbers.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        value = np.asarray(value)
        if value.dtype != object:
            value = np.frompyfunc(_mpmath().mpf, 1, 1)(value.astype(np.float64))
        self.value = np.asarray(value, dtype=object)

    dtype = property(lambda self: np.dtype(np.float64))

    def __repr__(self) -> str:
        return f"Digits({self.floats()!r})"

    def __bool__(self) -> bool:
        return bool(self.value)

    def __stop_gradient__(self) -> Any:
        return self

    def floats(self) -> Any:
        """The nearest float64 numbers; the real part of what is complex."""
        real = np.frompyfunc(lambda x: float(x.real), 1, 1)
        return np.asarray(real(self.value), dtype=np.float64)

    def astype(self, dtype: Any, **_: Any) -> Any:
        return astype(self, dtype)

    @staticmethod
    def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if any(type(arg) is Tracer for arg in trees.leaves(args)):
            return NotImplemented
        if function in (named, astype):
            return args[0]
        if function in EXPANSIONS and function is not np.sign:
            return EXPANSIONS[function](*args, **kwargs)
        rule = RULES.get(function)
        if function in PIECEWISE_CONSTANT:
            return function(*_floats(args), **_floats(kwargs))
        if isinstance(rule, Composed):
            return rule.composition(*args, **kwargs)
        if rule is None and function is not np.sign:
            raise TypeError(f"{title(function)} has no rule for numbers of fifty digits")
        if hasattr(function, "is_traceable") and rule is not None and rule.elementwise:
            return function.__wrapped__(*args, **kwargs)
        compute = _by_element(function)
        with _mpmath().workdps(DIGITS):
            y = (compute or function)(*_objects(args), **_objects(kwargs))
        return [Digits(item) for item in y] if isinstance(y, list | tuple) else Digits(y)


def _objects(nest: Any) -> Any:
    return trees.map_leaves(lambda x: x.value if type(x) is Digits else x, nest)


def _floats(nest: Any) -> Any:
    return trees.map_leaves(lambda x: x.floats() if type(x) is Digits else x, nest)


def _by_element(function: Any) -> Any:
    """What computes a function that NumPy cannot compute on objects by itself."""
    mp = _mpmath()
    unary = {
        np.exp: mp.exp, np.expm1: mp.expm1, np.log: mp.log, np.log1p: mp.log1p, np.sqrt: mp.sqrt,
        np.log2: lambda x: mp.log(x, 2), np.log10: mp.log10, np.sin: mp.sin, np.cos: mp.cos,
        np.sinh: mp.sinh, np.cosh: mp.cosh, np.tanh: mp.tanh, np.arctan: mp.atan,
        np.sign: mp.sign, np.conjugate: lambda x: x, np.real: lambda x: x, np.imag: lambda x: mp.mpf(0),
        special.erf: mp.erf, special.erfc: mp.erfc,
        special.erfcx: lambda x: mp.exp(x * x) * mp.erfc(x),
        special.expit: lambda x: 1 / (1 + mp.exp(-x)),
        special.log_expit: lambda x: -mp.log1p(mp.exp(-x)),
        special.log_ndtr: lambda x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2),
    }  # fmt: skip
    binary = {
        np.logaddexp: lambda a, b: max(a, b) + mp.log1p(mp.exp(-abs(a - b))),
        special.xlogy: lambda a, b: mp.mpf(0) if a == 0 else a * mp.log(b),
    }
    if function in unary:
        return np.frompyfunc(unary[function], 1, 1)
    if function in binary:
        return np.frompyfunc(binary[function], 2, 1)
    return None
