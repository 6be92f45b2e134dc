"""Functions that change a shape, or only move elements."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd.derivatives.teach import composed, derivative, expanded
from tinylm.autograd.rules import EXPANSIONS, RULES, Array, Rule, unbroadcast
from tinylm.autograd.tracing import Tracer, astype, stop_gradient, traceable

derivative(np.reshape)(
    lambda c, y, a, shape=None, order="C", *, newshape=None, copy=None: np.reshape(
        c, np.shape(a), order=_layout(order)
    )
)
derivative(np.ravel)(lambda c, y, a, order="C": np.reshape(c, np.shape(a), order=_layout(order)))
derivative(np.expand_dims)(lambda c, y, a, axis: np.reshape(c, np.shape(a)))
derivative(np.squeeze)(lambda c, y, a, axis=None: np.reshape(c, np.shape(a)))
derivative(np.broadcast_to)(lambda c, y, array, shape, subok=False: unbroadcast(c, np.shape(array)))
derivative(np.transpose)(
    lambda c, y, a, axes=None: np.transpose(
        c, None if axes is None else np.argsort([axis % np.ndim(a) for axis in axes])
    )
)
derivative(np.swapaxes)(lambda c, y, a, axis1, axis2: np.swapaxes(c, axis1, axis2))
derivative(np.matrix_transpose)(lambda c, y, x: np.swapaxes(c, -1, -2))
derivative(np.moveaxis)(lambda c, y, a, source, destination: np.moveaxis(c, destination, source))
derivative(np.tril)(lambda c, y, m, k=0: np.tril(c, k))
derivative(np.triu)(lambda c, y, m, k=0: np.triu(c, k))
derivative(np.copy)(lambda c, y, a, order="K", subok=False: c)
derivative(astype)(lambda c, y, x, dtype: c)


def _layout(order: str) -> Any:
    if order not in ("C", "F"):
        raise TypeError(
            f"order={order!r} depends on the layout in memory; the derivative knows C, F"
        )
    return order


@derivative(np.concatenate)
def _(
    c: Array, y: Array, arrays: Any, axis: int | None = 0, out: Any = None, dtype: Any = None,
    casting: Any = None,
) -> Any:  # fmt: skip
    sizes = [np.size(x) if axis is None else np.shape(x)[axis] for x in arrays]
    pieces = np.split(c, np.cumsum(sizes)[:-1], axis=axis or 0)
    shares = [np.reshape(piece, np.shape(x)) for piece, x in zip(pieces, arrays, strict=True)]
    return shares if isinstance(arrays, list | tuple) else np.stack(shares)


@derivative(np.stack)
def _(
    c: Array, y: Array, arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None,
    casting: Any = None,
) -> Any:  # fmt: skip
    shares = np.moveaxis(c, axis, 0)
    return list(shares) if isinstance(arrays, list | tuple) else shares


derivative(np.split)(lambda c, y, ary, indices_or_sections, axis=0: np.concatenate(c, axis=axis))
derivative(np.array_split)(
    lambda c, y, ary, indices_or_sections, axis=0: np.concatenate(c, axis=axis)
)


def _at_least(function: Any) -> Callable[..., Any]:
    def expansion(*arrays: Array) -> Any:
        shaped = [np.reshape(x, function(np.empty(np.shape(x))).shape) for x in arrays]
        return shaped[0] if len(shaped) == 1 else tuple(shaped)

    return expansion


for _function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    EXPANSIONS[_function] = _at_least(_function)


@expanded(np.vstack)
def _(tup: Any) -> Array:
    return np.concatenate([np.atleast_2d(x) for x in tup], axis=0)


@expanded(np.hstack)
def _(tup: Any) -> Array:
    rows = [np.atleast_1d(x) for x in tup]
    return np.concatenate(rows, axis=0 if rows[0].ndim == 1 else 1)


@expanded(np.full_like)
def _(a: Array, fill_value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    blank = np.empty_like(stop_gradient(a), dtype, **kwargs)
    if type(fill_value) is Tracer:
        return astype(np.broadcast_to(fill_value, blank.shape), blank.dtype)
    return np.full_like(blank, fill_value)


if hasattr(np, "astype"):  # NumPy 2.1

    @expanded(np.astype)
    def _(x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Array:
        return astype(x, dtype)


# Elements moved.


@traceable
def scatter(cotangent: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with `cotangent` added at `index`: the transpose of indexing."""
    result = np.zeros(shape, cotangent.dtype)
    basic = index if isinstance(index, tuple) else (index,)
    if all(isinstance(i, int | slice | None | type(...)) for i in basic):
        result[index] = cotangent
    else:
        np.add.at(result, index, cotangent)
    return result


derivative(scatter)(lambda c, y, cotangent, index, shape: c[index])
derivative(operator.getitem)(lambda c, y, x, index: scatter(c, index, np.shape(x)))


def _positions(x: Array) -> Any:
    return np.arange(np.size(x)).reshape(np.shape(x))


def _sent_back(c: Array, source: Any, x: Array) -> Array:
    """Add each cotangent to the element at the flat position `source` that it came from."""
    flat = scatter(np.reshape(c, (-1,)), np.reshape(source, (-1,)), (np.size(x),))
    return np.reshape(flat, np.shape(x))


class Moves(Rule):
    """The rule of a function that only moves, repeats or drops elements of its first argument."""

    def __init__(self, function: Any) -> None:
        super().__init__(function, (self.sent_back,), like=function)

    def sent_back(self, c: Array, _: Array, x: Array, *args: Any, **kwargs: Any) -> Array:
        return _sent_back(c, self.function(_positions(x), *args, **kwargs), x)


_MOVES: tuple[Any, ...] = (
    np.diagonal, np.flip, np.fliplr, np.flipud, np.repeat, np.roll, np.rot90, np.take,
    np.take_along_axis, np.tile,
)  # fmt: skip
for _function in _MOVES:
    RULES[_function] = Moves(_function)


@derivative(np.pad)
def _(
    c: Array, y: Array, array: Array, pad_width: Any, mode: Any = "constant",
    *, constant_values: Any = 0, reflect_type: str = "even",
) -> Array:  # fmt: skip
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap") or reflect_type != "even":
        raise TypeError(f"numpy.pad has no derivative in tinylm for mode={mode!r}, {reflect_type=}")
    new = {"constant_values": -1} if mode == "constant" else {}
    source = np.pad(_positions(array), pad_width, mode, **new)
    kept = source >= 0
    return _sent_back(c[kept], source[kept], array)


@composed(np.sort)
def _(
    a: Array, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    if axis is None:
        a, axis = np.ravel(a), -1
    order = np.argsort(stop_gradient(a), axis=axis, kind="stable")
    return np.take_along_axis(a, order, axis=axis)
