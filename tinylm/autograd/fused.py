"""Fused ops: one formula, and the faster ways to say it.

An op *is* its formula. A kernel computes the same value from plain arrays in fewer passes and
keeps residuals, from which its vjp computes the cotangents. Wherever a kernel does not apply
(second derivatives, complex numbers, any other arithmetic, a recording of the names), the formula
runs, so that a kernel's vjp need not be differentiable and everything is right by construction.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinylm.autograd.derivatives import Composed
from tinylm.autograd.names import kernels_are_off
from tinylm.autograd.rules import Array
from tinylm.autograd.tracing import Tracer


class _Missing:
    """What stands for an argument that was not given and has no default."""


class Fused(Composed):
    """An op: a formula, and where it has one a kernel with its vjp.

    Parameters annotated ``Array`` are the differentiable ones. They may be given as anything that
    NumPy makes an array of; integers become float64.
    """

    def __init__(self, formula: Callable[..., Any]) -> None:
        super().__init__(self, formula)
        functools.update_wrapper(self, formula)
        self.formula = formula
        parameters = inspect.signature(formula).parameters
        self.parameters = list(parameters)
        self._places = {key: i for i, key in enumerate(parameters)}
        self._rest = [
            _Missing() if p.default is p.empty else p.default for p in parameters.values()
        ]
        self.defaults = {
            key: p.default for key, p in parameters.items() if p.default is not p.empty
        }
        self.arrays = [
            i for i, p in enumerate(parameters.values()) if str(p.annotation).startswith("Array")
        ]
        self.others = [i for i in range(len(parameters)) if i not in self.arrays]
        self.programs: list[Callable[..., Any]] = [formula]
        self._check: Callable[..., None] | None = None
        self._kernel: Callable[..., tuple[Any, Any]] | None = None
        self._vjp: Callable[..., Any] | None = None

    def check(self, function: Callable[..., None]) -> Callable[..., None]:
        """Register what raises on arguments that do not fit: called before formula and kernel."""
        self._check = function
        return function

    def program(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register another formula of the same function, in an order in which kernels compute it.

        It is never run for its value. The oracle allows a kernel the rounding errors of either.
        """
        self.programs.append(function)
        return function

    def kernel(self, function: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
        """Register the kernel: plain arrays -> (value, residuals)."""
        self._kernel = function
        return function

    def vjp(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register the kernel's vjp: (residuals, cotangent) -> cotangents of the arrays."""
        self._vjp = function
        return function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._bound(args, kwargs)
        values, tracers = bound.copy(), []
        plain = self._kernel is not None and not kernels_are_off()
        for i in self.arrays:
            x = bound[i]
            if x is None:
                continue
            if type(x) is np.ndarray and x.dtype.kind == "f":
                plain = plain and x.ndim > 0
                continue
            x = bound[i] = values[i] = _floats(x, self.parameters[i])
            if type(x) is Tracer:
                tracers.append((i, x))
                x = values[i] = x.value
                plain = plain and tracers[0][1].level == tracers[-1][1].level
            plain = plain and _plain(x, 1)
        if self._check is not None:
            self._check(*bound)
        if not plain or (self.others and Tracer in [type(values[i]) for i in self.others]):
            return self.formula(*bound)
        value, residuals = self._kernel(*values)  # type: ignore[misc]
        if not tracers:
            return value
        level = tracers[0][1].level
        return Tracer(value, level, self, tuple(tracers), tuple(values), {"residuals": residuals})

    def pull(self, cotangent: Array, y: Any) -> Iterator[tuple[Any, Array]]:
        if self._vjp is None or not _plain(cotangent):
            yield from super().pull(cotangent, Tracer(y.value, y.level, self, y.parents, y.args))
            return
        answer = self._vjp(y.kwargs["residuals"], cotangent)
        answers = dict(
            zip(self.arrays, answer if type(answer) is tuple else (answer,), strict=True)
        )
        for i, parent in y.parents:
            yield parent, self.fitted(answers[i], parent.value, self.parameters[i])

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Every parameter's argument, in order."""
        bound = [*args, *self._rest[len(args) :]]
        complete = len(bound) == len(self.parameters)
        for key, value in kwargs.items():
            place = self._places.get(key, -1)
            complete = complete and place >= len(args)
            bound[place] = value
        if not complete or _Missing in map(type, bound):
            inspect.signature(self.formula).bind(*args, **kwargs)  # raises, and says which
        return bound


def fused(formula: Callable[..., Any]) -> Fused:
    """Make an op of a formula; its `kernel` and `vjp` can then be registered.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.autograd import Array, fused
    >>> @fused
    ... def double(x: Array) -> Array:
    ...     return x + x
    >>> @double.kernel
    ... def _(x):
    ...     return 2 * x, ()
    >>> @double.vjp
    ... def _(residuals, cotangent):
    ...     return 2 * cotangent
    >>> double(np.ones(2)), double.formula(np.ones(2))
    (array([2., 2.]), array([2., 2.]))
    """
    return Fused(formula)


def _plain(x: Any, least_ndim: int = 0) -> bool:
    """Whether x is an ordinary array of real floats, which is all that a kernel takes.

    Kernels work in place, and NumPy makes bare numbers of arrays without axes.
    """
    return isinstance(x, np.ndarray | np.floating) and x.dtype.kind == "f" and x.ndim >= least_ndim


def _floats(x: Any, parameter: str) -> Any:
    if type(x) is Tracer or type(x) is np.ndarray or not hasattr(type(x), "__array_function__"):
        x = x if hasattr(x, "dtype") else np.asarray(x)
        if x.dtype.kind in "biu":
            x = x.astype(np.float64)
        elif x.dtype.kind not in "fcO":
            raise TypeError(f"{parameter} holds {x.dtype}: wanted numbers")
    return x
