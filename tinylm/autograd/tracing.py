"""Tracing: an array that remembers the function and the arguments it came from.

A `Tracer` answers NumPy's protocols: it lets NumPy compute on the values that it carries, keeps the
arguments, and hands back a Tracer of the result. So a formula is plain NumPy code, and the record
of one call of it is a graph that points backward.

Two calls of `vjp` may be nested, and then a value inside the inner trace is itself a Tracer of the
outer one. Which trace does a product of the two belong to? Each trace has a level, inner ones a
higher level; an operation belongs to the highest level among its arguments, and to that trace
everything of a lower level is a constant. Without levels the derivative of ``x * d/dy (x + y)``
with respect to x would come out as 2 instead of 1.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd import trees
from tinylm.autograd.arraylike import ArrayLike
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
)

_indices = itertools.count()


class Tracer(ArrayLike):
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

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(leaves_the_trace("made an ndarray of"))

    def __repr__(self) -> str:
        return f"Tracer({stop_gradient(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(stop_gradient(self), spec) if spec else repr(self)

    def __bool__(self) -> bool:
        return bool(stop_gradient(self))

    def __getattr__(self, attribute: str) -> Any:
        raise AttributeError(
            f"an array that is being differentiated has no {attribute!r}: use a NumPy function "
            f"that has a derivative, or tinylm.stop_gradient(x).{attribute} for a constant"
        )

    def astype(self, dtype: Any, **_: Any) -> Any:
        return astype(self, dtype)

    @staticmethod
    def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function in RULES:
            return apply(function, args, kwargs)
        if function in EXPANSIONS:
            return EXPANSIONS[function](*args, **kwargs)
        if function in PIECEWISE_CONSTANT:
            return function(*map(untraced, args), **{k: untraced(x) for k, x in kwargs.items()})
        raise TypeError(untaught(function, title(function)))


def _refused(kind: str) -> Callable[[Any], Any]:
    def convert(self: Tracer) -> Any:
        raise TypeError(leaves_the_trace(f"converted to a Python {kind}"))

    return convert


for _name, _kind in {"float": "float", "int": "int", "index": "int", "complex": "complex"}.items():
    setattr(Tracer, f"__{_name}__", _refused(_kind))


# Recording.


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
    level = tracers[0][1].level
    if len(tracers) > 1:
        level = max([tracer.level for _, tracer in tracers])
        tracers = [entry for entry in tracers if entry[1].level == level]
    values = tuple([_lowered(arg, level) for arg in args])
    y = function(*values, **kwargs)
    if not hasattr(y, "dtype"):
        if isinstance(y, tuple | list):
            return _several(y, Tracer(y, level, rule, tuple(tracers), values, kwargs))
        y = _wrapped(y, values)
    return y if y.dtype.kind in "biu" else Tracer(y, level, rule, tuple(tracers), values, kwargs)


def _several(y: Any, node: Tracer) -> Any:
    """The arrays of a function that returns more than one: each an item of its node."""
    items = [
        item
        if item.dtype.kind in "biu"
        else Tracer(item, node.level, ITEM, ((0, node),), (i, len(y)))
        for i, item in enumerate(y)
    ]
    return trees.rebuilt(y, items)


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
        constant = getattr(type(leaf), "__stop_gradient__", None)  # of another arithmetic
        return leaf if constant is None else constant(leaf)

    return trees.map_leaves(stopped, untraced(x))


def untraced(x: trees.Nest) -> trees.Nest:
    """What the Tracers stand for: arrays, or numbers of another arithmetic."""
    while type(x) is Tracer:
        x = x.value
    return trees.map_leaves(untraced, x) if isinstance(x, dict | list | tuple) else x
