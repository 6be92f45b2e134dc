"""What it takes to be an array for NumPy: its two protocols, and the methods of ndarray.

NumPy asks its arguments before it computes: a ufunc calls their `__array_ufunc__` (NEP 13), any
other function their `__array_function__` (NEP 18). Here both come down to one question, `call`,
and so do the operators, methods and properties, which are the functions of the same name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinylm.autograd.rules import title, untaught_method, writes


class ArrayLike:
    """An object around an array, its `value`, that stands for it in plain NumPy code."""

    __slots__ = ()

    value: Any

    @staticmethod
    def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute `function` on arguments among which there is one of this class."""
        raise NotImplementedError

    # What NumPy calls.

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            raise TypeError(writes(f"{title(ufunc)} with out=, or an in-place operator"))
        if method == "__call__":
            return self.call(ufunc, args, kwargs)
        if method == "reduce" and ufunc in _REDUCTIONS:
            return self.call(_REDUCTIONS[ufunc], args, {"axis": 0, **kwargs})
        if method == "accumulate" and ufunc is np.add:
            return self.call(np.cumsum, args, {"axis": 0, **kwargs})
        if method == "outer":
            a, b = args
            return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b, **kwargs)
        raise TypeError(untaught_method(ufunc, method))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return self.call(function, args, kwargs)

    # What an array can tell without being computed with.

    shape = property(lambda self: np.shape(self.value))
    ndim = property(lambda self: np.ndim(self.value))
    size = property(lambda self: np.size(self.value))
    dtype = property(lambda self: self.value.dtype)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    __hash__ = None  # type: ignore[assignment]  # as an ndarray, since == is elementwise

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(writes("x[index] = value"))

    # Properties, methods and operators are the functions of the same name.

    T = property(np.transpose)
    mT = property(np.matrix_transpose)  # noqa: N815
    real = property(np.real)
    imag = property(np.imag)

    def __getitem__(self, index: Any) -> Any:
        return self.call(operator.getitem, (self, index), {})

    def reshape(self: Any, *shape: Any, order: Any = "C") -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self: Any, *axes: Any) -> Any:
        return np.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def flatten(self: Any, order: Any = "C") -> Any:
        return np.ravel(self, order=order)


def _method(function: Any) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


def _operator(function: Any) -> Callable[..., Any]:
    return lambda *args: args[0].call(function, args, {})


def _reflected(function: Any) -> Callable[[Any, Any], Any]:
    return lambda self, other: self.call(function, (other, self), {})


for _name in [
    "all", "any", "argmax", "argmin", "argsort", "clip", "conj", "conjugate", "copy", "cumsum",
    "diagonal", "dot", "max", "mean", "min", "nonzero", "prod", "ravel", "repeat", "round",
    "squeeze", "std", "sum", "swapaxes", "take", "trace", "var",
]:  # fmt: skip
    setattr(ArrayLike, _name, _method(getattr(np, _name)))

for _name, _function in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": operator.pow,  # not np.power: ndarray ** 2 is a square
    "matmul": np.matmul,
}.items():
    setattr(ArrayLike, f"__{_name}__", _operator(_function))
    setattr(ArrayLike, f"__r{_name}__", _reflected(_function))

for _name, _function in {
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "neg": np.negative,
    "pos": np.positive,
    "abs": np.absolute,
}.items():
    setattr(ArrayLike, f"__{_name}__", _operator(_function))


_REDUCTIONS: dict[Any, Any] = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
    np.logical_and: np.all,
    np.logical_or: np.any,
}
