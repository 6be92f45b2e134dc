"""What each function does to numbers with an error: the table of the rounding arithmetic."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinylm.autograd.derivatives.products import einsum
from tinylm.autograd.derivatives.shapes import scatter
from tinylm.autograd.names import named
from tinylm.autograd.rules import RULES
from tinylm.autograd.tracing import astype
from tinylm.oracle.formats import FORMATS
from tinylm.oracle.rounding import (
    ROUNDED,
    Bounded,
    Rounding,
    elementwise,
    error_of,
    model_of,
    moved,
    plain,
    rounded,
    rounding_of,
    together,
)


def _mover(function: Any) -> Callable[..., Any]:
    return lambda x, *args, **kwargs: moved(function, x, *args, **kwargs)


def _joiner(function: Any) -> Callable[..., Any]:
    def joined(arrays: Any, *args: Any, **kwargs: Any) -> Any:
        model = model_of(arrays)
        error = function([error_of(x, model) for x in arrays], *args, **kwargs)
        return Bounded(function(plain(arrays), *args, **kwargs), error, model)

    return joined


for _function in (
    np.reshape, np.ravel, np.expand_dims, np.squeeze, np.broadcast_to, np.transpose, np.swapaxes,
    np.matrix_transpose, np.linalg.matrix_transpose, np.moveaxis, np.tril, np.triu, np.copy,
    np.split, np.array_split, operator.getitem, np.real,
):  # fmt: skip
    ROUNDED[_function] = _mover(_function)
ROUNDED[np.concatenate] = _joiner(np.concatenate)
ROUNDED[np.stack] = _joiner(np.stack)
ROUNDED[astype] = lambda x, dtype: x


@rounded(np.imag)
def _(x: Bounded) -> Bounded:
    return Bounded(np.zeros(x.shape), 0.0, x.model)


@rounded(np.pad)
def _(
    x: Bounded, pad_width: Any, mode: Any = "constant", *, constant_values: Any = 0, **kwargs: Any
) -> Bounded:
    given = {"constant_values": constant_values} if mode == "constant" else kwargs
    y = np.pad(x.value, pad_width, mode, **given)
    zero = {"constant_values": 0} if mode == "constant" else kwargs
    return Bounded(y, np.pad(x.error, pad_width, mode, **zero), x.model)


@rounded(named)
def _(x: Bounded, label: str, parts: str) -> Bounded:
    named(x.value, label, parts)  # for `record`
    return x.store(x.model.stores[label]) if label in x.model.stores else x


# Comparisons: whether one number is larger than another may be more than their errors can tell.


class Decision(np.ndarray[Any, Any]):
    """The answers to a comparison, and in `near` where a kernel may come to the opposite."""

    near: Any = None


UNDECIDED: ContextVar[bool] = ContextVar("undecided", default=False)
"""Whether a comparison was not decided since this was last set to False."""


def _near(model: Rounding, a: Any, b: Any) -> Any:
    reach = model.safety * together(model, error_of(a, model), error_of(b, model))
    distance = np.abs(np.subtract(*plain((a, b))))
    near = (distance < reach) if model.kinks == "convention" else (distance <= reach)
    return near | np.isnan(plain(a)) | np.isnan(plain(b))


def _comparison(function: Any) -> Callable[..., Any]:
    def compared(a: Any, b: Any) -> Any:
        with np.errstate(invalid="ignore"):
            near = _near(model_of((a, b)), a, b)
        answer = np.asarray(function(*plain((a, b)))).view(Decision)
        if np.any(near) and model_of((a, b)).kinks != "formula":
            answer.near = near
            UNDECIDED.set(True)
        return answer

    return compared


ROUNDED |= {
    f: _comparison(f)
    for f in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)
}


def _jump(model: Rounding, near: Any, size: Any) -> Any:
    """The error of what is undecided: so large that a whole jump is allowed."""
    return np.where(near, size / model.safety, 0.0)


@rounded(np.where)
def _(condition: Any, a: Any, b: Any) -> Any:
    model, near = model_of((condition, a, b)), getattr(condition, "near", None)
    y = elementwise(RULES[np.where], condition, a, b)
    if near is None:
        return y
    with np.errstate(invalid="ignore"):
        return y.of(y.value, y.error, _jump(model, near, np.abs(np.subtract(*plain((a, b))))))


@rounded(np.sign)
def _(x: Bounded) -> Bounded:
    return Bounded(np.sign(x.value), _jump(x.model, _near(x.model, x, 0.0), 2.0), x.model)


# Sums.


def _summed(
    model: Rounding, y: Any, terms: Any, error: Any, squares: Any, n: Any, factors: int = 1
) -> Any:
    """The error of a sum of n products, from the errors of their factors and all roundings.

    `terms` is the sum of their sizes, `squares` that of their squares. In the worst case every
    partial sum is as large as `terms`; usually it grows evenly to y, or like a random walk.
    """
    u = FORMATS[model.accumulate].unit
    kept, stored = FORMATS[model.io].unit, n // model.block if model.block else 0
    if model.bound == "worst":
        roundings = (np.maximum(n - 1, 0) + factors - 1) * u + stored * kept
        return error + roundings * terms

    def walk(n: Any) -> Any:
        return np.where(n > 1, n / 3 * np.square(y) + n / 2 * squares, 0.0)

    summed = u * u * (walk(n) + (factors - 1) * squares) + kept * kept * walk(stored)
    return np.sqrt(error + summed / 3)


def _power(model: Rounding, error: Any) -> Any:
    """An error as it adds up: itself, or its square."""
    return error if model.bound == "worst" else np.square(error)


@rounded(np.sum)
def _(
    x: Bounded, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False
) -> Any:
    def total(terms: Any) -> Any:
        return np.sum(terms, axis=axis, keepdims=keepdims)

    y, n = total(x.value), x.size // max(np.size(total(x.value)), 1)
    sizes, squares = total(np.abs(x.value)), total(np.square(x.value))
    error = _summed(x.model, y, sizes, total(_power(x.model, x.error)), squares, n)
    return Bounded(y, error, x.model)


@rounded(np.mean)
def _(
    x: Bounded, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False
) -> Any:
    y = ROUNDED[np.sum](x, axis, None, None, keepdims)
    return y * (1 / max(x.size // max(np.size(y.value), 1), 1))


@rounded(np.cumsum)
def _(x: Bounded, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    y = np.cumsum(x.value, axis)
    error = _summed(
        x.model, y, np.cumsum(np.abs(x.value), axis), np.cumsum(_power(x.model, x.error), axis),
        np.cumsum(np.square(x.value), axis), np.shape(y)[0 if axis is None else axis],
    )  # fmt: skip
    return Bounded(y, error, x.model)


@rounded(np.prod)
def _(
    x: Bounded, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False
) -> Any:
    y = np.prod(x.value, axis=axis, keepdims=keepdims)
    others = RULES[np.prod].parts[0](np.ones(np.shape(y)), y, x.value, axis, None, None, keepdims)
    spread = np.sum(_power(x.model, np.abs(others) * x.error), axis=axis, keepdims=keepdims)
    spread = spread if x.model.bound == "worst" else np.sqrt(spread)
    n = x.size // max(np.size(y), 1)
    return x.of(y, spread, math.sqrt(n) * rounding_of(x.model, y, math.sqrt(n)))


def _extreme(function: Any, choose: Any) -> Callable[..., Any]:
    def extreme(
        x: Bounded, axis: Any = None, out: Any = None, keepdims: Any = False, **_: Any
    ) -> Any:
        axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        ends = tuple(range(-len(axes), 0))
        moved = np.moveaxis(x.value, tuple(axes), ends)
        flat = moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
        place = choose(flat, axis=-1)[..., None]
        error = np.moveaxis(x.error, tuple(axes), ends).reshape(flat.shape)
        y = function(x.value, axis=axis, keepdims=keepdims)
        chosen = np.take_along_axis(error, place, axis=-1)[..., 0]
        return Bounded(y, chosen.reshape(np.shape(y)), x.model)

    return extreme


ROUNDED[np.max] = ROUNDED[np.amax] = _extreme(np.max, np.argmax)
ROUNDED[np.min] = ROUNDED[np.amin] = _extreme(np.min, np.argmin)


@rounded(scatter)
def _(x: Bounded, index: Any, shape: Any) -> Bounded:
    def sent(numbers: Any) -> Any:
        return scatter(np.array(numbers), index, shape)

    y, n = sent(x.value), sent(np.ones(x.shape))
    sizes, squares = sent(np.abs(x.value)), sent(np.square(x.value))
    error = _summed(x.model, y, sizes, sent(_power(x.model, x.error)), squares, n)
    return Bounded(y, error, x.model)


# Products.


def _product(multiply: Any, n: int, arrays: tuple[Any, ...]) -> Bounded:
    """A multilinear function, a sum of n products of an element of each array."""
    model, values = model_of(arrays), [np.asarray(x) for x in plain(arrays)]
    y, sizes = multiply(*values), [np.abs(x) for x in values]
    squares = multiply(*(np.square(x) for x in values))
    powers = sizes if model.bound == "worst" else [np.square(x) for x in values]
    error = sum(
        multiply(
            *(
                _power(model, error_of(x, model)) if i == k else powers[i]
                for i, x in enumerate(arrays)
            )
        )
        for k in range(len(arrays))
        if np.any(error_of(arrays[k], model))
    )
    summed = _summed(model, y, multiply(*sizes), error, squares, n, len(arrays))
    return Bounded(y, summed, model)


@rounded(np.matmul)
def _(a: Any, b: Any) -> Bounded:
    return _product(np.matmul, np.shape(a)[-1], (a, b))


@rounded(einsum)
def _(subscripts: str, *operands: Any, **_: Any) -> Bounded:
    inputs, output = subscripts.split("->")
    sizes: dict[str, int] = {}
    for term, operand in zip(inputs.split(","), operands, strict=True):
        for letter, size in zip(term, np.shape(operand), strict=True):
            sizes[letter] = max(size, sizes.get(letter, size))
    n = math.prod(size for letter, size in sizes.items() if letter not in output)
    return _product(lambda *arrays: np.einsum(subscripts, *arrays), n, operands)
