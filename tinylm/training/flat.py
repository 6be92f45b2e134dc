"""Flat: a nest of many arrays as views of a few long ones.

What is done to every number alike, such as an update or a norm, is then a few long loops in place
of many short ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Nest, trees


@dataclass(frozen=True)
class _Place:
    key: str
    start: int
    shape: tuple[int, ...]
    size: int


class Flat:
    """Where each leaf of a nest lies in which long array.

    Parameters
    ----------
    like : nest of arrays
    group : callable
        ``group(path, leaf)``: leaves of one group and dtype become parts of one long array.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.training.flat import Flat
    >>> nest = {"W": np.ones((1, 2)), "b": np.zeros(1)}
    >>> flat = Flat(nest, lambda path, x: "all")
    >>> packed = flat.packed(nest, nest)
    >>> packed, flat.unpacked(packed)
    ({'all float64': array([2., 2., 0.])}, {'W': array([[2., 2.]]), 'b': array([0.])})
    """

    def __init__(self, like: Nest, group: Callable[[str, Any], Any]) -> None:
        self.groups: dict[str, Any] = {}
        self.sizes: dict[str, int] = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}

        def place(path: str, x: Any) -> _Place:
            key = f"{(its := group(path, x))} {x.dtype}"
            start = self.sizes.get(key, 0)
            self.groups[key], self.sizes[key], self.dtypes[key] = its, start + x.size, x.dtype
            return _Place(key, start, x.shape, x.size)

        self._places = trees.map_paths(place, like)

    def packed(self, *nests: Nest) -> dict[str, Any]:
        """The sum of nests, in long arrays of its own."""
        packed = {key: np.empty(size, self.dtypes[key]) for key, size in self.sizes.items()}
        self.pack(nests, packed)
        return packed

    def pack(self, nests: Sequence[Nest], packed: dict[str, Any]) -> None:
        """Write the sum of nests into long arrays."""

        def add(whole: Any, first: Any, *others: Any) -> None:
            if others:
                np.add(first, others[0], out=whole)
            else:
                np.copyto(whole, first)
            for x in others[1:]:
                whole += x

        trees.map_leaves(add, self.unpacked(packed), *nests)

    def unpacked(self, packed: dict[str, Any]) -> Nest:
        """The nest, as views of long arrays."""

        def view(place: _Place) -> Any:
            return packed[place.key][place.start : place.start + place.size].reshape(place.shape)

        return trees.map_leaves(view, self._places)
