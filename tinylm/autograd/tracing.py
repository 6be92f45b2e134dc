"""Tracing: an array that remembers the function and the arguments it came from.

NumPy asks its arguments before it computes: a ufunc calls their `__array_ufunc__` (NEP 13), any
other function their `__array_function__` (NEP 18). A `Tracer` answers both. It lets NumPy compute
on the values that it carries, keeps the arguments, and hands back a Tracer of the result. So a
formula is plain NumPy code, and the record of one call of it is a graph that points backward.

Two calls of `vjp` may be nested, and then a value inside the inner trace is itself a Tracer of the
outer one. Which trace does a product of the two belong to? Each trace has a level, inner ones a
higher level; an operation belongs to the highest level among its arguments, and to that trace
everything of a lower level is a constant. Without levels the derivative of ``x * d/dy (x + y)``
with respect to x would come out as 2 instead of 1.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinylm.autograd import trees
from tinylm.autograd.rules import (
    EXPANSIONS,
    ITEM,
    PIECEWISE_CONSTANT,
    RULES,
    Array,
    Rule,
    leaves_the_trace,
    title,
    untaught,
    untaught_method,
    writes,
)

_indices = itertools.count()


class Tracer:
    """An array inside a differentiated function: a node of the recorded graph.

    `parents` holds (position among the arguments, Tracer). Nodes point at their parents only, so
    that no reference cycle keeps a finished graph alive; and since a node is younger than its
    parents, descending `index` is an order in which to go backward.
    """

    __slots__ = ("args", "index", "kwargs", "level", "parents", "rule", "value")

    def __init__(
        self,
        value: Any,
        level: int,
        rule: Rule | None = None,
        parents: tuple[tuple[Any, Tracer], ...] = (),
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.value = value
        self.level = level
        self.rule = rule
        self.parents = parents
        self.args = args
        self.kwargs = kwargs
        self.index = next(_indices)

    # What NumPy calls.

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            raise TypeError(writes(f"{title(ufunc)} with out=, or an in-place operator"))
        if method == "__call__":
            return dispatch(ufunc, args, kwargs)
        if method == "reduce" and ufunc in _REDUCTIONS:
            return dispatch(_REDUCTIONS[ufunc], args, {"axis": 0, **kwargs})
        if method == "accumulate" and ufunc is np.add:
            return dispatch(np.cumsum, args, {"axis": 0, **kwargs})
        if method == "outer":
            a, b = args
            return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b, **kwargs)
        raise TypeError(untaught_method(ufunc, method))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return dispatch(function, args, kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(leaves_the_trace("made an ndarray of"))

    # What an array can tell without being computed with.

    shape = property(lambda self: np.shape(self.value))
    ndim = property(lambda self: np.ndim(self.value))
    size = property(lambda self: np.size(self.value))
    dtype = property(lambda self: self.value.dtype)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Tracer({stop_gradient(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(stop_gradient(self), spec) if spec else repr(self)

    def __bool__(self) -> bool:
        return bool(stop_gradient(self))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(writes("x[index] = value"))

    def __getattr__(self, attribute: str) -> Any:
        raise AttributeError(
            f"an array that is being differentiated has no {attribute!r}: use a NumPy function "
            f"that has a derivative, or tinylm.stop_gradient(x).{attribute} for a constant"
        )

    # Properties, methods and operators are the functions of the same name.

    T = property(np.transpose)
    mT = property(np.matrix_transpose)  # noqa: N815
    real = property(np.real)
    imag = property(np.imag)

    def __getitem__(self, index: Any) -> Any:
        return apply(operator.getitem, (self, index), {})

    def reshape(self, *shape: Any, order: Any = "C") -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def flatten(self, order: Any = "C") -> Any:
        return np.ravel(self, order=order)

    def astype(self, dtype: Any, **_: Any) -> Any:
        return astype(self, dtype)


def _refused(kind: str) -> Callable[[Any], Any]:
    def convert(self: Tracer) -> Any:
        raise TypeError(leaves_the_trace(f"converted to a Python {kind}"))

    return convert


def _method(function: Any) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


def _operator(function: Any) -> Callable[..., Any]:
    return lambda *args: dispatch(function, args, {})


def _reflected(function: Any) -> Callable[[Any, Any], Any]:
    return lambda self, other: dispatch(function, (other, self), {})


for _name in [
    "all", "any", "argmax", "argmin", "argsort", "clip", "conj", "conjugate", "copy", "cumsum",
    "diagonal", "dot", "max", "mean", "min", "nonzero", "prod", "ravel", "repeat", "round",
    "squeeze", "std", "sum", "swapaxes", "take", "trace", "var",
]:  # fmt: skip
    setattr(Tracer, _name, _method(getattr(np, _name)))

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
    setattr(Tracer, f"__{_name}__", _operator(_function))
    setattr(Tracer, f"__r{_name}__", _reflected(_function))

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
    setattr(Tracer, f"__{_name}__", _operator(_function))

for _name, _kind in {"float": "float", "int": "int", "index": "int", "complex": "complex"}.items():
    setattr(Tracer, f"__{_name}__", _refused(_kind))

setattr(Tracer, "__hash__", None)  # noqa: B010  # as an ndarray, since == is elementwise

_REDUCTIONS: dict[Any, Any] = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
    np.logical_and: np.all,
    np.logical_or: np.any,
}


# Recording.


def dispatch(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `function` on arguments among which there is a Tracer."""
    if function in RULES:
        return apply(function, args, kwargs)
    if function in EXPANSIONS:
        return EXPANSIONS[function](*args, **kwargs)
    if function in PIECEWISE_CONSTANT:
        return function(*stop_gradient(args), **stop_gradient(kwargs))
    raise TypeError(untaught(function, title(function)))


def apply(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute `function` one level down, and record the call."""
    rule = RULES[function]
    if kwargs or len(args) > rule.before_out:
        args, kwargs = rule.positional(args, kwargs)
    tracers: list[tuple[Any, Tracer]] = []
    for i, arg in enumerate(args):
        kind = type(arg)
        if kind is Tracer:
            tracers.append((i, arg))
        elif kind is list or kind is tuple:
            tracers += [((i, j), item) for j, item in enumerate(arg) if type(item) is Tracer]
    if not tracers:
        raise TypeError(
            f"{title(function)}: a differentiated array came by keyword or deep in a list"
        )
    level = max([tracer.level for _, tracer in tracers])
    values = tuple([_lowered(arg, level) for arg in args])
    y = function(*values, **kwargs)
    if not hasattr(y, "dtype") and not isinstance(y, tuple | list):
        y = _wrapped(y, values)
    if _discrete(y):
        return y
    parents = tuple([entry for entry in tracers if entry[1].level == level])
    node = Tracer(y, level, rule, parents, values, kwargs)
    if isinstance(y, tuple | list):
        items = [
            item if _discrete(item) else Tracer(item, level, ITEM, ((0, node),), (i, len(y)))
            for i, item in enumerate(y)
        ]
        return trees.rebuilt(y, items)
    return node


def _lowered(arg: Any, level: int) -> Any:
    kind = type(arg)
    if kind is Tracer:
        return arg.value if arg.level == level else arg
    if kind is list or kind is tuple:
        return kind([_lowered(item, level) for item in arg])
    return arg


def _wrapped(y: Any, values: tuple[Any, ...]) -> Any:
    """A bare number, of another arithmetic or of a function that a user taught, as an array."""
    other = any(getattr(value, "dtype", None) == np.dtype(object) for value in values)
    return np.asarray(y, dtype=object if other else None)


def _discrete(y: Any) -> bool:
    """Whether there are only integers and booleans in y: then it is piecewise constant."""
    if isinstance(y, tuple | list):
        return all(_discrete(item) for item in y)
    return y.dtype.kind in "biu"


def traceable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give `function` what NumPy's functions have: its arguments' `__array_function__` comes first.

    The body is then run on plain arrays only, and `derivative` can teach a rule for it.
    """

    @functools.wraps(function)
    def dispatched(*args: Any, **kwargs: Any) -> Any:
        for arg in (*args, *kwargs.values()):
            answer = getattr(type(arg), "__array_function__", None)
            if answer is not None and answer is not np.ndarray.__array_function__:
                result = answer(arg, dispatched, (type(arg),), args, kwargs)
                if result is not NotImplemented:
                    return result
        return function(*args, **kwargs)

    dispatched.is_traceable = True  # type: ignore[attr-defined]
    return dispatched


@traceable
def astype(x: Array, dtype: Any) -> Array:
    """`x` converted to `dtype`: the function behind the method of that name."""
    return x.astype(dtype)


def stop_gradient(x: trees.Nest) -> trees.Nest:
    """The value of `x`, as a constant: no gradient flows through it.

    Parameters
    ----------
    x : array or nest of arrays

    Returns
    -------
    array or nest of arrays
        Plain arrays with the values of `x`.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> float(tl.grad(lambda x: x * tl.stop_gradient(x))(np.array(3.0)))
    3.0
    """

    def stopped(leaf: Any) -> Any:
        while type(leaf) is Tracer:
            leaf = leaf.value
        return leaf

    return trees.map_leaves(stopped, x)
