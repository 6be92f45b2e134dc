"""The vector-Jacobian product: run a function on Tracers, and go back through what they recorded."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinylm.autograd import trees
from tinylm.autograd.rules import Array
from tinylm.autograd.tracing import Tracer

_levels = itertools.count()
"""Each trace takes the next: a trace that is begun inside of another has the higher level."""


def vjp(f: Callable[..., Any], *primals: trees.Nest) -> tuple[Any, Pullback]:
    """Value of ``f(*primals)``, and the function that pulls cotangents back through it.

    The vector-Jacobian product maps a cotangent u of the value to ``u @ J``, where J is the
    Jacobian of f at the primals; see Griewank and Walther, *Evaluating Derivatives* (2008), ch. 3.

    Parameters
    ----------
    f : callable
        Plain NumPy code, from arrays (or nests of them) to an array (or a nest).
    *primals : array or nest of arrays
        Where to differentiate. Integer and boolean arrays are passed on as they are.

    Returns
    -------
    value : array or nest
        ``f(*primals)``, exactly as NumPy computes it.
    pullback : callable
        ``pullback(cotangent)``: the tuple of cotangents of the primals, each in the shape and
        dtype of its primal (zeros for integers). It may be called any number of times;
        ``pullback.once(cotangent)`` lets go of the record meanwhile, and is the last call.

    Raises
    ------
    TypeError
        If f uses a function that has no derivative here; the message says how to teach it.
    ValueError
        From the pullback, if the cotangent has not the shape of the value.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> value, pullback = tl.vjp(lambda x, y: x * np.sin(y), np.array(2.0), np.array(0.0))
    >>> [float(c) for c in pullback(np.array(1.0))]
    [0.0, 2.0]
    """
    level = next(_levels)
    primals = trees.map_leaves(as_array, primals)
    inputs = trees.map_leaves(lambda x: Tracer(x, level) if differentiable(x) else x, primals)
    output = f(*inputs)
    value = trees.map_leaves(lambda y: _value(y, level), output)
    return value, Pullback(output, inputs, level)


class Pullback:
    """The way back through one record: from a cotangent of the value to those of the primals."""

    def __init__(self, output: trees.Nest, inputs: tuple[trees.Nest, ...], level: int) -> None:
        self._output = output
        self._inputs = inputs
        self._level = level
        self._spent = False

    def __call__(self, cotangent: trees.Nest) -> tuple[Any, ...]:
        """Cotangents of the primals. The record is kept, for further calls."""
        return self._pulled(self._seeds(cotangent))

    def once(self, cotangent: trees.Nest) -> tuple[Any, ...]:
        """The same, for the last time: what was recorded is let go while the way back is made."""
        seeds = self._seeds(cotangent)
        self._output, self._spent = None, True
        return self._pulled(seeds)

    def _seeds(self, cotangent: trees.Nest) -> list[tuple[Tracer, Array]]:
        """The outputs that depend on the primals, each with its cotangent."""
        if self._spent:
            raise RuntimeError("this pullback was called once(), and has let go of its record")
        seeds: list[tuple[Tracer, Array]] = []
        trees.map_paths(functools.partial(_seed, seeds, self._level), self._output, cotangent)
        return seeds

    def _pulled(self, seeds: list[tuple[Tracer, Array]]) -> tuple[Any, ...]:
        traced = [x for x in trees.leaves(self._inputs) if _belongs(x, self._level)]
        handed_out = {id(cotangent) for _, cotangent in seeds}
        arrived = iter(_backward(seeds, traced))

        def cotangent_of(x: Any) -> Array:
            found = next(arrived) if _belongs(x, self._level) else None
            found = np.zeros_like(getattr(x, "value", x)) if found is None else found
            return _own(found, handed_out)

        result: tuple[Any, ...] = trees.map_leaves(cotangent_of, self._inputs)
        return result


def as_array(leaf: Any) -> Any:
    """A leaf as something with a shape and a dtype."""
    return leaf if hasattr(leaf, "dtype") else np.asarray(leaf)


def differentiable(x: Any) -> bool:
    """Whether x holds floats, complex numbers, or numbers of another arithmetic."""
    return x.dtype.kind in "fcO"


def _belongs(y: Any, level: int) -> bool:
    return type(y) is Tracer and y.level == level


def _value(y: Any, level: int) -> Any:
    """An output's value, as an array of the caller's own: ours may be needed on the way back."""
    if not _belongs(y, level):
        if type(y) is Tracer and y.level > level:
            raise ValueError(
                "the function returned an array of a derivative that was computed inside of it and "
                "is finished: return that derivative, or the array's tinylm.stop_gradient"
            )
        return y
    return y.value.copy() if type(y.value) is np.ndarray else y.value


def _seed(seeds: list[tuple[Tracer, Array]], level: int, path: str, y: Any, cotangent: Any) -> None:
    """Note the cotangent of one output, checked, if the output depends on the primals."""
    cotangent = as_array(cotangent)
    if np.shape(cotangent) != np.shape(y):
        raise ValueError(
            f"the cotangent {path and f'at {path!r} '}has shape {np.shape(cotangent)}, and the "
            f"value has {np.shape(y)}"
        )
    if _belongs(y, level):
        if cotangent.dtype != y.dtype and cotangent.dtype.kind != "c":
            cotangent = cotangent.astype(y.dtype)
        seeds.append((y, cotangent))


def _own(array: Array, handed_out: set[int]) -> Array:
    """The array as one that the caller may write into: nobody else's, and no view."""
    if type(array) is np.ndarray and (
        array.base is not None or not array.flags.writeable or id(array) in handed_out
    ):
        return array.copy()
    handed_out.add(id(array))
    return array


# Going backward.


def _backward(seeds: list[tuple[Tracer, Array]], inputs: list[Tracer]) -> list[Array | None]:
    """Cotangents of `inputs`, given those of some outputs; None where nothing arrived.

    Every node hands its cotangent on to its parents when all of it has arrived: of the nodes that
    something has arrived at, the youngest is next, and nothing younger is left that could add to
    it. No recursion, however long the chain; and a node that is done, and held by nobody else, is
    gone with its residuals.
    """
    waiting: dict[int, tuple[Tracer, Array]] = {}
    youngest: list[int] = []  # a heap of their indices, negative
    arrived: dict[int, Array] = {}
    shares: Iterable[tuple[Tracer, Array]] = seeds
    while True:
        for y, share in shares:
            before = waiting.get(y.index)
            if before is None:
                heapq.heappush(youngest, -y.index)
            waiting[y.index] = (y, share if before is None else _sum(before[1], share))
        seeds.clear()
        if not youngest:
            return [arrived.get(x.index) for x in inputs]
        y, cotangent = waiting.pop(-heapq.heappop(youngest))
        if y.rule is None:
            arrived[y.index] = cotangent
            shares = ()
        elif type(cotangent) is list:  # y is a tuple of arrays
            parts = zip(cotangent, y.value, strict=True)
            whole = [np.zeros_like(v) if part is None else part for part, v in parts]
            shares = y.rule.pull(whole, y)
        else:
            shares = y.rule.pull(cotangent, y)


def _sum(a: Any, b: Any) -> Any:
    """Of two shares of a cotangent; those of a tuple of arrays are lists, None for nothing."""
    if type(a) is not list:
        return a + b
    return [y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True)]
