"""Matrices: what is compressed of a nest, put into another form and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.autograd import Nest, trees


def for_each_matrix(who: str, function: Callable[[str, Any], Any], params: Nest) -> Nest:
    """The nest with ``function(path, W)`` for each leaf W of two axes; the others stay.

    Raises
    ------
    ValueError
        If a matrix does not hold finite floats, or there is none.
    """
    found = []

    def one(path: str, W: Any) -> Any:
        if np.ndim(W) != 2:
            return W
        found.append(path)
        W = np.asarray(W)
        if W.dtype.kind != "f" or not np.isfinite(W).all():
            holds = "what is not finite" if W.dtype.kind == "f" else str(W.dtype)
            raise ValueError(f"{who}: {path or 'params'} holds {holds}: wanted finite floats")
        return function(path, W)

    result = trees.map_paths(one, params)
    if not found:
        raise ValueError(f"{who}: no matrix in {[path for path, _ in trees.paths(params)]}")
    return result


def replaced(who: str, keys: set[str], function: Callable[[Nest], Any], nest: Nest) -> Nest:
    """The nest with ``function(child)`` for each dict in it that has just these keys.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = []

    def walked(nest: Nest) -> Nest:
        if isinstance(nest, dict) and nest.keys() == keys:
            found.append(nest)
            return function(nest)
        inside = trees.children(nest)
        return nest if not inside else trees.rebuilt(nest, [walked(child) for _, child in inside])

    result = walked(nest)
    if not found:
        raise ValueError(f"{who}: nothing in it has the keys {sorted(keys)}")
    return result
