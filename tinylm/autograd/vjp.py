"""The vector-Jacobian product: run a function on Tracers, and go back through what they recorded."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd import trees
from tinylm.autograd.rules import Array
from tinylm.autograd.tracing import Tracer

_levels = itertools.count()
"""Each trace takes the next: a trace that is begun inside of another has the higher level."""


def vjp(f: Callable[..., Any], *primals: trees.Nest) -> tuple[Any, Callable[..., Any]]:
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
        dtype of its primal (zeros for integers). It may be called any number of times.

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

    def pullback(cotangent: trees.Nest) -> tuple[Any, ...]:
        seeds: list[tuple[Tracer, Array]] = []
        trees.map_paths(functools.partial(_seed, seeds, level), output, cotangent)
        traced = [x for x in trees.leaves(inputs) if _belongs(x, level)]
        arrived = iter(_backward(seeds, traced))
        handed_out = [cotangent for _, cotangent in seeds]

        def cotangent_of(x: Any) -> Array:
            found = next(arrived) if _belongs(x, level) else None
            found = np.zeros_like(getattr(x, "value", x)) if found is None else found
            return _own(found, handed_out)

        result: tuple[Any, ...] = trees.map_leaves(cotangent_of, inputs)
        return result

    return value, pullback


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


def _own(array: Array, handed_out: list[Any]) -> Array:
    """The array as one that the caller may write into: nobody else's, and no view."""
    if type(array) is np.ndarray and (
        array.base is not None or not array.flags.writeable or any(array is x for x in handed_out)
    ):
        array = array.copy()
    handed_out.append(array)
    return array


# Going backward.


def _backward(seeds: list[tuple[Tracer, Array]], inputs: list[Tracer]) -> list[Array | None]:
    """Cotangents of `inputs`, given those of some outputs; None where nothing arrived.

    Every node hands its cotangent on to its parents when all of it has arrived: nodes are taken
    youngest first, and nothing younger is left that could add to it. No recursion, however long
    the chain.
    """
    pending: dict[int, Array] = {}
    for y, cotangent in seeds:
        _add(pending, y, cotangent)
    for y in _reachable([y for y, _ in seeds]):
        if y.rule is not None and y.index in pending:
            cotangent = pending.pop(y.index)
            if type(cotangent) is list:  # y is a tuple of arrays
                cotangent = [
                    np.zeros_like(value) if part is None else part
                    for part, value in zip(cotangent, y.value, strict=True)
                ]
            for parent, share in y.rule.pull(cotangent, y):
                _add(pending, parent, share)
    return [pending.get(x.index) for x in inputs]


def _reachable(outputs: list[Tracer]) -> list[Tracer]:
    """Every node that an output depends on, youngest first."""
    seen = {y.index: y for y in outputs}
    stack = list(seen.values())
    while stack:
        for _, parent in stack.pop().parents:
            if parent.index not in seen:
                seen[parent.index] = parent
                stack.append(parent)
    return [seen[index] for index in sorted(seen, reverse=True)]


def _add(pending: dict[int, Array], y: Tracer, share: Array) -> None:
    if y.index not in pending:
        pending[y.index] = share
    elif type(share) is list:
        pending[y.index] = [
            b if a is None else a if b is None else a + b
            for a, b in zip(pending[y.index], share, strict=True)
        ]
    else:
        pending[y.index] = pending[y.index] + share
