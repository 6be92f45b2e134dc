"""Reductions: sums, means, products, extrema, moments, norms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinylm.autograd.derivatives.teach import composed, derivative
from tinylm.autograd.rules import Array


def _spread(reduced: Array, axis: Any, keepdims: bool) -> Array:
    """A reduction's result, shaped so that it broadcasts against what was reduced."""
    return reduced if keepdims or axis is None else np.expand_dims(reduced, axis)


def _count(x: Array, axis: Any) -> int:
    """How many elements of x go into one of the result."""
    shape = np.shape(x)
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))


@derivative(np.sum)
def _(
    c: Array, y: Array, a: Array, axis: Any = None, dtype: Any = None, out: Any = None,
    keepdims: bool = False,
) -> Array:  # fmt: skip
    return np.broadcast_to(_spread(c, axis, keepdims), np.shape(a))


@derivative(np.mean)
def _(
    c: Array, y: Array, a: Array, axis: Any = None, dtype: Any = None, out: Any = None,
    keepdims: bool = False,
) -> Array:  # fmt: skip
    # times the share, since float16 cannot hold a count of 70,000
    return np.broadcast_to(_spread(c, axis, keepdims) * (1 / max(_count(a, axis), 1)), np.shape(a))


@derivative(np.prod)
def _(
    c: Array, y: Array, a: Array, axis: Any = None, dtype: Any = None, out: Any = None,
    keepdims: bool = False,
) -> Array:  # fmt: skip
    # The product of all the others, exact where an element is 0; quadratic in the length.
    axes = range(np.ndim(a)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    ends = tuple(range(-len(axes), 0))
    rows = np.moveaxis(a, tuple(axes), ends)
    length = _count(a, axis)
    flat = np.reshape(rows, (*np.shape(rows)[: np.ndim(a) - len(axes)], length))
    others = np.prod(np.where(np.eye(length, dtype=bool), 1, flat[..., None, :]), axis=-1)
    others = np.moveaxis(np.reshape(others, np.shape(rows)), ends, tuple(axes))
    return _spread(c, axis, keepdims) * others


@derivative(np.cumsum)
def _(c: Array, y: Array, a: Array, axis: Any = None, dtype: Any = None, out: Any = None) -> Array:
    return np.reshape(np.flip(np.cumsum(np.flip(c, axis), axis), axis), np.shape(a))


def _extremum(
    c: Array, y: Array, a: Array, axis: Any = None, out: Any = None, keepdims: bool = False
) -> Array:
    reached = a == _spread(y, axis, keepdims)
    ties = np.sum(reached, axis=axis, keepdims=True)
    return np.where(reached, _spread(c, axis, keepdims), 0) / ties


derivative(np.max)(_extremum)
derivative(np.min)(_extremum)


@composed(np.var)
def _variance(
    a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0,
    keepdims: bool = False, *, correction: float | None = None,
) -> Array:  # fmt: skip
    deviation = a - np.mean(a, axis=axis, keepdims=True)
    freedom = _count(a, axis) - (ddof if correction is None else correction)
    return np.sum(_modulus_squared(deviation), axis=axis, keepdims=keepdims) / max(freedom, 0)


@composed(np.std)
def _(
    a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0,
    keepdims: bool = False, *, correction: float | None = None,
) -> Array:  # fmt: skip
    return np.sqrt(_variance(a, axis, None, None, ddof, keepdims, correction=correction))


def _modulus_squared(x: Array) -> Array:
    return np.real(x * np.conjugate(x)) if np.iscomplexobj(x) else x * x


@composed(np.linalg.norm)
def _(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:  # noqa: A002
    axes = (
        tuple(range(np.ndim(x))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    )
    if ord is None or ord == "fro" or (ord == 2 and len(axes) == 1):
        squared = np.sum(_modulus_squared(x), axis=axes, keepdims=keepdims)
        return np.where(squared == 0, 0, np.sqrt(np.where(squared == 0, 1, squared)))
    return (_vector_norm if len(axes) == 1 else _matrix_norm)(np.abs(x), ord, axes, keepdims)


def _vector_norm(modulus: Array, order: Any, axes: tuple[int, ...], keepdims: bool) -> Array:
    if order == np.inf:
        return np.max(modulus, axis=axes, keepdims=keepdims)
    if order == -np.inf:
        return np.min(modulus, axis=axes, keepdims=keepdims)
    if order == 0:  # a count of elements, with zero gradient
        return np.sum(modulus * 0, axis=axes, keepdims=keepdims)
    powers = np.sum(modulus**order, axis=axes, keepdims=keepdims)
    return np.where(powers == 0, 0, np.where(powers == 0, 1, powers) ** (1 / order))


def _matrix_norm(modulus: Array, order: Any, axes: tuple[int, ...], keepdims: bool) -> Array:
    """The largest or smallest sum of the columns (order 1, -1) or rows (inf, -inf)."""
    if order not in (1, -1, np.inf, -np.inf):
        raise TypeError(f"numpy.linalg.norm has a derivative for ord={order!r} of vectors only")
    row, column = axes
    sums = np.sum(modulus, axis=row if abs(order) == 1 else column, keepdims=True)
    return (np.max if order > 0 else np.min)(sums, axis=axes, keepdims=keepdims)
