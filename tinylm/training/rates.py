"""Rates: which parameters are trained, and how fast, by patterns of their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tinylm.autograd import Nest, trees


def factors(rates: Mapping[str, float], params: Nest) -> Nest:
    """For each parameter, the factor of the last pattern that its path matches, or 1.

    Parameters
    ----------
    rates : dict of str to float
        A pattern is that of `fnmatch`, for the whole path: ``*`` is any text, dots too.
    params : nest

    Returns
    -------
    nest of float

    Raises
    ------
    ValueError
        If a pattern matches nothing, a factor is negative or not finite, or all are 0.

    Examples
    --------
    >>> from tinylm.training.rates import factors
    >>> factors({"*": 0.0, "head.*": 0.5}, {"body": {"W": 1}, "head": {"W": 1, "b": 1}})
    {'body': {'W': 0.0}, 'head': {'W': 0.5, 'b': 0.5}}
    """
    found = dict.fromkeys((path for path, _ in trees.paths(params)), 1.0)
    for pattern, factor in rates.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"rates[{pattern!r}]={factor}: wanted finite, not negative")
        matching = [path for path in found if fnmatchcase(path, pattern)]
        if not matching:
            raise ValueError(f"rates[{pattern!r}] matches no parameter: they are {list(found)}")
        found.update(dict.fromkeys(matching, float(factor)))
    if rates and not any(found.values()):
        raise ValueError(f"{rates=}: all is frozen, and nothing is left to train")
    return trees.map_paths(lambda path, _: found[path], params)


def split(factors: Nest, params: Nest) -> tuple[Nest, Nest]:
    """Those parameters that are trained and those that are not, each with None for the others."""
    return (
        trees.map_leaves(lambda factor, p: p if factor else None, factors, params),
        trees.map_leaves(lambda factor, p: None if factor else p, factors, params),
    )


def joined(nest: Nest, other: Nest) -> Nest:
    """What was split, as one nest."""
    if nest is None or other is None:
        return other if nest is None else nest
    inside = trees.children(nest) or []
    return trees.rebuilt(nest, [joined(child, other[key]) for key, child in inside])


@dataclass(frozen=True)
class PartlyFrozen:
    """A model of fewer parameters: the others are constants, and have no gradient.

    Parameters
    ----------
    model : object with ``loss(params, ids, targets)``
    constants : nest
        None in place of each parameter that is trained.
    """

    model: Any
    constants: Nest

    def loss(self, params: Nest, ids: Any, targets: Any, **rng: Any) -> Any:
        """The model's loss; `params` has None in place of the constants."""
        return self.model.loss(joined(params, self.constants), ids, targets, **rng)
