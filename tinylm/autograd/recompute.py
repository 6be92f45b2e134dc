"""Recomputation: a function whose record is not kept, but made again on the way back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinylm.autograd import trees
from tinylm.autograd.derivatives import Composed
from tinylm.autograd.names import kernels_are_off
from tinylm.autograd.rules import RULES
from tinylm.autograd.tracing import Tracer, traceable


def recompute(f: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, differentiated in less memory: what it computes on its way is not kept.

    The pullback runs it a second time. Chen et al. 2016, "Training deep nets with sublinear memory
    cost".

    Parameters
    ----------
    f : callable
        Plain NumPy code, from arrays or nests of them to one array, the same whenever it runs. All
        that is differentiated must come as a positional argument.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        When called, if f uses an array that is being differentiated and is not an argument.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> tl.grad(tl.recompute(lambda x: np.sum(np.tanh(x) ** 2)))(np.zeros(2))
    array([0., 0.])
    """

    @functools.wraps(f)
    def recomputed(*args: Any) -> Any:
        leaves = trees.leaves(args)
        if kernels_are_off() or not any(type(x) is Tracer for x in leaves):
            return f(*args)  # names would be seen twice
        places = iter(range(len(leaves)))
        return _run(_Call(f, trees.map_leaves(lambda _: next(places), args)), *leaves)

    return recomputed


@dataclass(frozen=True)
class _Call:
    f: Callable[..., Any]
    places: Any

    def __call__(self, *leaves: Any) -> Any:
        return self.f(*trees.map_leaves(lambda place: leaves[place], self.places))


def _composition(call: _Call, *leaves: Any) -> Any:
    return call(*leaves)


@traceable
def _run(call: _Call, *leaves: Any) -> Any:
    y = call(*leaves)
    if type(y) is Tracer:
        raise ValueError(
            "recompute: the function uses an array that is being differentiated and is not among "
            "its arguments: hand it in"
        )
    return y


RULES[_run] = Composed(_run, _composition)
