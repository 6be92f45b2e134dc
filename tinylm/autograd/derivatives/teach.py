"""Teaching: how a function gets into the table."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinylm.autograd.rules import EXPANSIONS, RULES, Array, Rule, title
from tinylm.autograd.tracing import traceable
from tinylm.autograd.vjp import vjp


def derivative(function: Any) -> Callable[..., Any]:
    """Teach the engine the derivative of a function.

    Parameters
    ----------
    function : callable
        A NumPy or SciPy function, or one of your own.

    Returns
    -------
    callable
        A decorator for the rule. The rule is called as ``rule(cotangent, y, *args, **kwargs)``
        and returns the cotangent of the first argument, or a tuple with those of all of them.
        It may also be called with one rule for each argument, of which only those that are
        needed will run; None stands for an argument in which the function is piecewise constant.
        What it returns is the function to call: `function` itself if NumPy dispatches it, else
        `function` made traceable.

    Raises
    ------
    TypeError
        If `function` or a rule cannot be called.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> @tl.derivative(np.cbrt)
    ... def _(cotangent, y, x):
    ...     return cotangent / (3 * y * y)
    >>> float(tl.grad(np.cbrt)(np.array(8.0))) * 12
    1.0
    >>> @tl.derivative(lambda x, y: np.hypot(x, y))
    ... def distance(cotangent, y, a, b):
    ...     return cotangent * a / y, cotangent * b / y
    >>> tl.grad(distance, argnums=(0, 1))(3.0, 4.0)
    (np.float64(0.6), np.float64(0.8))
    """
    if not callable(function):
        raise TypeError(f"derivative of {function!r}: wanted a function")

    def teach(*rules: Any) -> Any:
        some = any(callable(rule) for rule in rules)
        if not some or not all(rule is None or callable(rule) for rule in rules):
            raise TypeError(f"the derivative of {title(function)}: wanted functions, got {rules!r}")
        taught = function if _dispatched(function) else traceable(function)
        elementwise = isinstance(taught, np.ufunc) and taught.signature is None
        RULES[taught] = Rule(taught, rules, elementwise)
        return taught

    return teach


def _dispatched(function: Any) -> bool:
    """Whether a call of `function` on a Tracer reaches the engine."""
    return (
        isinstance(function, np.ufunc)
        or hasattr(function, "_implementation")  # what NumPy puts on the functions of NEP 18
        or getattr(function, "is_traceable", False)
        or function in (operator.getitem, operator.pow)
    )


class Composed(Rule):
    """The rule that differentiates a composition in the place of the function.

    The value is the function's own; the composition runs on the way back only.
    """

    def __init__(self, function: Any, composition: Callable[..., Any]) -> None:
        super().__init__(function, like=composition)
        self.composition = composition

    def pull(self, cotangent: Array, y: Any) -> Iterator[tuple[Any, Array]]:
        positions = [position for position, _ in y.parents]

        def of_parents(*parents: Any) -> Any:
            args = list(y.args)
            for position, parent in zip(positions, parents, strict=True):
                args[position] = parent
            return self.composition(*args, **(y.kwargs or {}))

        _, pullback = vjp(of_parents, *(y.args[position] for position in positions))
        for (_, parent), share in zip(y.parents, pullback.once(cotangent), strict=True):
            yield parent, share


def composed(function: Any) -> Callable[..., Any]:
    """Decorate the composition whose derivative is that of `function`."""

    def teach(composition: Callable[..., Any]) -> Callable[..., Any]:
        RULES[function] = Composed(function, composition)
        return composition

    return teach


def expanded(function: Any) -> Callable[..., Any]:
    """Decorate what stands for `function` on Tracers, its value included."""

    def teach(expansion: Callable[..., Any]) -> Callable[..., Any]:
        expansion.__qualname__ = title(function)  # what Python says of a wrong call
        EXPANSIONS[function] = expansion
        return expansion

    return teach
