"""Rules: how one function is differentiated, and what an error says where that is not known.

A rule gets back from the cotangent of ``y = f(*args)`` to the cotangents of the arguments. The
table of all of them is `RULES`; it is filled by `tinylm.autograd.derivatives`, and by users.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from scipy import special

Array: TypeAlias = Any
"""An ndarray, a Tracer of one, or any object that answers NumPy's two protocols."""

RULES: dict[Any, Rule] = {}
"""How each function is differentiated."""

EXPANSIONS: dict[Any, Callable[..., Any]] = {}
"""Functions that stand, on Tracers, for a composition of functions in `RULES`."""

PIECEWISE_CONSTANT: set[Any] = set()
"""Functions whose derivative is zero wherever it exists: they return plain arrays."""


class Rule:
    """The vector-Jacobian product of one function.

    `parts` is one rule that returns the cotangent of every argument (alone or as a tuple), or one
    rule for each argument, None where the function is piecewise constant in it. A rule is called
    as ``part(cotangent, y, *args, **kwargs)`` and is plain NumPy code, so that it can be traced.
    An elementwise function broadcasts its arguments: its rule returns a cotangent of the shape of
    y, and the sum over the broadcast axes is taken here. The names of the arguments are read from
    the rule, or from `like`.
    """

    def __init__(
        self,
        function: Any,
        parts: tuple[Any, ...] = (),
        elementwise: bool = False,
        like: Callable[..., Any] | None = None,
    ) -> None:
        self.function = function
        self.parts = parts
        self.elementwise = elementwise
        shown = inspect.signature(like or next(part for part in parts if part))
        taken = list(shown.parameters.values())[0 if like else 2 :]
        self.names = [p.name for p in taken if p.kind is p.POSITIONAL_OR_KEYWORD]
        if isinstance(function, np.ufunc):
            self.names = self.names[: function.nin]  # what stands behind them is out=
        self.keywords = {
            p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        self.takes_any = any(p.kind is p.VAR_KEYWORD for p in taken)
        self.before_out = self.names.index("out") if "out" in self.names else sys.maxsize

    def positional(
        self, args: Any, kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Check the keywords, and put arrays that came by keyword among the positional ones."""
        given = dict(zip(self.names, args, strict=False)) | kwargs
        if given.get("out") is not None:
            raise TypeError(writes(f"{title(self.function)} with out="))
        kwargs = {key: value for key, value in kwargs.items() if key != "out"}
        known = self.keywords | (_UFUNC_KEYWORDS if self.elementwise else set())
        for key in kwargs:
            if key not in known and not self.takes_any:
                raise TypeError(
                    f"the derivative of {title(self.function)} does not know the argument "
                    f"{key!r}; it knows {', '.join(sorted(known)) or 'none'}"
                )
        while len(args) < len(self.names) and self.names[len(args)] in kwargs:
            args = (*args, kwargs.pop(self.names[len(args)]))
        return args, kwargs

    def pull(self, cotangent: Array, y: Any) -> Iterator[tuple[Any, Array]]:
        """Yield (parent, its cotangent) for every parent of the Tracer `y`."""
        kwargs = {} if self.elementwise else y.kwargs or {}
        answers: Any = self.parts  # one for each argument
        together = len(self.parts) == 1
        if together:
            answers = self.parts[0](cotangent, y.value, *y.args, **kwargs)
            answers = answers if type(answers) is tuple else (answers,)
        for position, parent in y.parents:
            argument = position if type(position) is int else position[0]
            if argument >= len(answers):
                raise TypeError(
                    f"{title(self.function)} was differentiated in {len(y.args)} arguments, and "
                    f"its derivative gives cotangents for the first {len(answers)} only"
                )
            answer = answers[argument]
            if answer is not None and not together:
                answer = answer(cotangent, y.value, *y.args, **kwargs)
            if answer is not None:
                share = answer if argument is position else answer[position[1]]
                yield parent, self.fitted(share, parent.value, position)

    def fitted(self, cotangent: Array, x: Array, position: Any) -> Array:
        """The cotangent in the shape and dtype of the argument `x` that it belongs to."""
        if not hasattr(cotangent, "dtype"):
            cotangent = np.asarray(cotangent)
        if cotangent.shape != x.shape:
            if not self.elementwise or not _broadcasts(x.shape, cotangent.shape):
                raise ValueError(
                    f"the derivative of {title(self.function)} returned a cotangent of shape "
                    f"{cotangent.shape} for argument {position} of shape {x.shape}"
                )
            cotangent = unbroadcast(cotangent, x.shape)
        if cotangent.dtype != x.dtype:
            if cotangent.dtype.kind == "c" and x.dtype.kind != "c":
                cotangent = np.real(cotangent)
            cotangent = cotangent.astype(x.dtype)
        return cotangent


_UFUNC_KEYWORDS = {"dtype", "casting", "order", "subok"}


class _Item(Rule):
    """One item of a function that returns several arrays."""

    def __init__(self) -> None:
        pass

    def pull(self, cotangent: Array, y: Any) -> Iterator[tuple[Any, Array]]:
        item, count = y.args
        yield y.parents[0][1], [cotangent if i == item else None for i in range(count)]


ITEM = _Item()


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(n in (m, 1) for n, m in pairs)


def unbroadcast(cotangent: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an array of `shape` was repeated."""
    extra = np.ndim(cotangent) - len(shape)
    repeated = [
        axis
        for axis, size in enumerate(np.shape(cotangent))
        if axis < extra or (shape[axis - extra] == 1 and size != 1)
    ]
    return np.reshape(np.sum(cotangent, axis=tuple(repeated)), shape)


# What the errors say.


def title(function: Any) -> str:
    """The name under which a reader knows `function`, such as ``numpy.fft.fft``."""
    name = getattr(function, "__name__", repr(function))
    if isinstance(function, np.ufunc):
        home = next((m for m in (np, special) if getattr(m, name, None) is function), None)
        return f"{home.__name__}.{name}" if home else name
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module else name


def untaught(function: Any, shown: str) -> str:
    """What is said of a function that has no rule."""
    return (
        f"{shown} has no derivative in tinylm. Teach it one:\n"
        f"    @tinylm.derivative({title(function)})\n"
        f"    def _(cotangent, y, *args, **kwargs):  # y = {title(function)}(*args, **kwargs)\n"
        f"        return ...  # the cotangent of each argument\n"
        f"or keep it out of the derivative: {title(function)}(tinylm.stop_gradient(x))"
    )


def untaught_method(ufunc: Any, method: str) -> str:
    """What is said of a method of a ufunc, such as ``numpy.multiply.accumulate``."""
    return (
        f"{title(ufunc)}.{method} has no derivative in tinylm: reduce has one of add, multiply, "
        f"maximum and minimum, accumulate of add, outer of all; write it with functions that have one, put it into a function "
        "of your own and teach that with @tinylm.derivative, or keep it out of the derivative: "
        f"{title(ufunc)}.{method}(tinylm.stop_gradient(x))"
    )


def writes(what: str) -> str:
    """What is said of writing into an array."""
    return (
        f"{what} writes into an array, and an array that is being differentiated cannot be "
        "written into: build a new one (np.where, np.concatenate, x + y)"
    )


_INSIDE = ("numpy", "tinylm.autograd")


def leaves_the_trace(what: str) -> str:
    """The message of a conversion, with the function that asked for it."""
    caller = sys._getframe(2)  # noqa: SLF001
    while caller.f_back and caller.f_globals.get("__name__", "").startswith(_INSIDE):
        caller = caller.f_back
    place = f"{caller.f_globals.get('__name__', '?')}.{caller.f_code.co_name}"
    return (
        f"{place} (line {caller.f_lineno}) {what} an array that is being differentiated, which "
        "would make it a constant. Use NumPy functions that have a derivative; teach that "
        f"function one with @tinylm.derivative({place}); or say tinylm.stop_gradient(x)"
    )
