"""The rounding arithmetic: numbers, and how far a kernel may honestly be from each.

A kernel of a declared precision rounds after every operation, and where it stores a named value it
rounds once more, and reads the rounded one on the way back. To first order an error e of x becomes ``|f'(x)| e`` in f(x), and the rounding of
the result adds ``u |f(x)|``: Higham 2002, *Accuracy and Stability of Numerical Algorithms*, ch. 3.
Run a formula, and its vjp, on such numbers, and out comes an elementwise tolerance for its value
and its gradients, with nothing derived by hand.

Two ways to add errors up. "worst": their sum, which no kernel of the model exceeds (to first
order). "prob": each is a standard deviation, and independent ones add in squares; a kernel stays
within a few of them, and the worst case of thousands of terms does not hide what is wrong.

A comparison of two numbers that are nearer to each other than their errors is not decided: what
`where` makes of it may be either, and so may the derivative at a kink.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinylm.autograd import trees
from tinylm.autograd.arraylike import ArrayLike
from tinylm.autograd.derivatives import Composed
from tinylm.autograd.derivatives.elementwise import sech_squared
from tinylm.autograd.derivatives.shapes import Moves
from tinylm.autograd.rules import EXPANSIONS, PIECEWISE_CONSTANT, RULES, Rule, title
from tinylm.autograd.tracing import Tracer, astype
from tinylm.oracle.formats import FORMATS, Format


@dataclass(frozen=True)
class Rounding:
    """What a kernel declares of its arithmetic.

    Parameters
    ----------
    io : str
        Format of the inputs, the value and the gradients: f64, f32, tf32, f16, bf16, e4m3, e5m2.
    accumulate : str
        Format in which it computes.
    stores : mapping of str to str
        Format of each named intermediate that it rounds, and of each named cotangent: "weights",
        "d_scores".
    block : int
        Where not 0, sums of more terms than this are kept in the io format after every so many, as
        by a kernel that adds its blocks up in memory.
    tensors : mapping of str to Rounding
        For the value (under "value") or some gradients a model of their own: the gradient of a gain
        may be summed up in another precision than everything else.
    bound : {"prob", "worst"}
        How errors add up.
    safety : float, optional
        How many errors are allowed: 4 standard deviations, or 1 worst case, if not given.
    kinks : {"either", "convention", "formula"}
        Whether a kernel may choose a one-sided derivative exactly at a kink, as at 0 in relu, or
        has to take that of the formula ("convention"); where rounding decides the side, it may
        choose in both. "formula" leaves it no choice anywhere.

    Raises
    ------
    ValueError
        If a format, the bound or kinks is unknown, or a number not positive.

    Examples
    --------
    >>> from tinylm.oracle import Rounding
    >>> Rounding(io="bf16", accumulate="f32", stores={"weights": "bf16", "d_scores": "bf16"}).io
    'bf16'
    """

    io: str = "f32"
    accumulate: str = "f32"
    stores: Mapping[str, str] = field(default_factory=dict)
    block: int = 0
    tensors: Mapping[str, Rounding] = field(default_factory=dict)
    bound: str = "prob"
    safety: float = 0.0
    kinks: str = "either"

    def __post_init__(self) -> None:
        for what, given, kind in (
            ("stores", self.stores, str),
            ("tensors", self.tensors, Rounding),
        ):
            if not isinstance(given, Mapping) or not all(
                isinstance(x, kind) for x in given.values()
            ):
                raise TypeError(
                    f"Rounding: {what}={given!r}: wanted a dict of names and {kind.__name__}"
                )
        for where, chosen in (
            ("io", self.io),
            ("accumulate", self.accumulate),
            *((f"stores[{label!r}]", chosen) for label, chosen in self.stores.items()),
        ):
            if not isinstance(chosen, str) or chosen not in FORMATS:
                raise ValueError(f"Rounding: {where}={chosen!r}: wanted {', '.join(FORMATS)}")
        if not isinstance(self.block, int) or self.block < 0:
            raise ValueError(f"Rounding: block={self.block!r}: wanted a whole number, 0 or more")
        if self.bound not in ("prob", "worst"):
            raise ValueError(f"Rounding: bound={self.bound!r}: wanted 'prob' or 'worst'")
        if self.kinks not in ("either", "convention", "formula"):
            raise ValueError(
                f"Rounding: kinks={self.kinks!r}: wanted 'either', 'convention' or 'formula'"
            )
        if not 0 <= self.safety < math.inf:
            raise ValueError(f"Rounding: safety={self.safety}: wanted a positive number")
        if self.safety == 0:
            object.__setattr__(self, "safety", 4.0 if self.bound == "prob" else 1.0)


class Bounded(ArrayLike):
    """Numbers in float64, taken as the truth, and the error of a kernel in each.

    Parameters
    ----------
    value, error : ndarray
        Of one shape.
    model : Rounding
    """

    __slots__ = ("error", "model", "stored", "undecided", "value")

    def __init__(self, value: Any, error: Any, model: Rounding) -> None:
        self.value = np.asarray(value)
        self.error = np.broadcast_to(np.asarray(error, dtype=np.float64), self.value.shape)
        self.model = model
        self.stored = ""
        self.undecided: Any = False
        """Where the error is that of a choice at a kink; told by `tolerances` only."""

    def __repr__(self) -> str:
        return f"Bounded({self.value!r}, error={np.array(self.error)!r})"

    def __bool__(self) -> bool:
        return bool(self.value)

    def __stop_gradient__(self) -> Any:
        return self.value

    def astype(self, dtype: Any, **_: Any) -> Any:
        return astype(self, dtype)

    def store(self, format_name: str) -> Bounded:
        """Round to a format, in place: what is read on the way back is what was stored."""
        if self.stored != format_name:
            error = _deviation(FORMATS[format_name], self)
            self.error = together(self.model, self.error, error)
            self.stored = format_name
        return self

    @property
    def allowed(self) -> Any:
        """How far from each number a kernel may be."""
        return self.model.safety * self.error

    def of(self, value: Any, *errors: Any) -> Bounded:
        """Other numbers of the same kernel, with errors from several sources."""
        return Bounded(value, together(self.model, *errors), self.model)

    @staticmethod
    def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if any(type(arg) is Tracer for arg in trees.leaves(args)):
            return NotImplemented
        if function in ROUNDED:
            return ROUNDED[function](*args, **kwargs)
        if function in EXPANSIONS:
            return EXPANSIONS[function](*args, **kwargs)
        if function in PIECEWISE_CONSTANT:
            return function(*plain(args), **plain(kwargs))
        rule = RULES.get(function)
        if isinstance(rule, Moves):
            return moved(function, *args, **kwargs)
        if isinstance(rule, Composed):
            return rule.composition(*args, **kwargs)
        if isinstance(rule, Rule) and rule.elementwise:
            return elementwise(rule, *args, **kwargs)
        if rule is not None and hasattr(function, "is_traceable"):
            return function.__wrapped__(*args, **kwargs)
        raise TypeError(f"{title(function)} has no rule in the rounding arithmetic")


def together(model: Rounding, *errors: Any) -> Any:
    """Errors from several sources, in one."""
    if model.bound == "worst":
        return sum(errors)
    return np.sqrt(sum(np.square(error) for error in errors))


def _deviation(format_: Format, x: Bounded) -> Any:
    """The error of rounding x: at most half a unit in the last place, a third of it in the mean."""
    error = format_.error(x.value)
    return error if x.model.bound == "worst" else error / math.sqrt(3)


def rounding_of(model: Rounding, y: Any, units: float = 1.0) -> Any:
    """The error of computing y in the accumulator's format."""
    error = units * FORMATS[model.accumulate].error(y)
    return error if model.bound == "worst" else error / math.sqrt(3)


def plain(nest: Any) -> Any:
    """Arguments without their errors."""
    return trees.map_leaves(lambda x: x.value if type(x) is Bounded else x, nest)


def error_of(x: Any, model: Rounding) -> Any:
    """The error of an argument; a constant may not be a number of the kernel's format."""
    if type(x) is Bounded:
        return x.error
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return np.zeros(x.shape)
    error = np.abs(FORMATS[model.accumulate].rounded(x) - x)
    return np.where(np.isfinite(error), error, 0.0)


def model_of(args: Any) -> Rounding:
    """The model of the first argument that has one."""
    return next(x.model for x in trees.leaves(args) if type(x) is Bounded)


ROUNDED: dict[Any, Callable[..., Any]] = {}
"""What a function does to Bounded numbers: `tinylm.oracle.rounding_rules` fills it."""


def rounded(*functions: Any) -> Callable[..., Any]:
    """Decorate the rule of some functions."""

    def teach(rule: Callable[..., Any]) -> Callable[..., Any]:
        ROUNDED.update(dict.fromkeys(functions, rule))
        return rule

    return teach


# Elementwise functions: the derivative is in the engine's table already.

EXACT = {
    np.positive, np.negative, np.absolute, np.maximum, np.minimum, np.where, np.conjugate,
}  # fmt: skip
"""Functions that only choose or change a sign: they round nothing."""

CORRECTLY_ROUNDED = {
    np.add, np.subtract, np.multiply, np.divide, np.reciprocal, np.square, np.sqrt, np.remainder,
}  # fmt: skip
"""Functions that IEEE 754 rounds to the nearest number."""

UNITS = {"numpy": 4.0, "scipy": 16.0}
"""By how many units roundoff the other functions may be off, those of libraries like these two.

In float32 and float64, that is: for narrower numbers they compute in float32, and round once."""

INSIDE: dict[Any, Callable[..., Any]] = {
    np.logaddexp: lambda y, a, b: np.maximum(np.abs(a), np.abs(b)),
    sech_squared: lambda y, x: np.full(np.shape(x), 8.0),  # 1 - tanh^2: twice the error of tanh
}
"""How large the numbers are that a function adds up to its value, if larger than that."""


def _units(function: Any, model: Rounding) -> float:
    narrow = FORMATS[model.accumulate].precision < FORMATS["f32"].precision
    if narrow or function in CORRECTLY_ROUNDED:
        return 1.0
    return UNITS["scipy" if title(function).startswith("scipy") else "numpy"]


def elementwise(rule: Rule, *args: Any, **kwargs: Any) -> Any:
    """Errors go through an elementwise function by its derivative, and it rounds once more."""
    model, values = model_of(args), plain(args)
    with np.errstate(all="ignore"):
        y = rule.function(*values, **kwargs)
        ones = np.ones(np.shape(y))
        errors = []
        for i, x in enumerate(args):
            part, error = rule.parts[i if len(rule.parts) > 1 else 0], error_of(x, model)
            if part is not None and np.any(error):
                partial = np.abs(part(ones, y, *values))
                errors.append(np.where(error == 0, 0.0, partial * error))
        if rule.function not in EXACT:
            errors.append(rounding_of(model, y, _units(rule.function, model)))
            if rule.function in INSIDE:
                errors.append(rounding_of(model, INSIDE[rule.function](y, *values)))
    return Bounded(y, together(model, *errors) if errors else 0.0, model)


# What moves numbers moves their errors.


def moved(function: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """A function that only moves numbers: it moves their errors likewise."""
    y = function(x.value, *args, **kwargs)
    error = function(np.array(x.error), *args, **kwargs)
    if isinstance(y, list | tuple):
        return [Bounded(v, e, x.model) for v, e in zip(y, error, strict=True)]
    return Bounded(y, error, x.model)
