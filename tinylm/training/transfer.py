"""Transfer: what a trained model has learned, put into a model with another head."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from tinylm.autograd import Nest, trees


class Transferred(NamedTuple):
    """Parameters of which some were trained before.

    Parameters
    ----------
    params : nest
        In the form of the fresh ones.
    taken : list of str
        The paths of those that come from the trained nest.
    fresh : list of str
        Those that are as they were initialised.
    unused : list of str
        Of the trained nest, those that have no place here, or one of another shape.
    """

    params: Nest
    taken: list[str]
    fresh: list[str]
    unused: list[str]


def transfer(params: Nest, fresh: Nest, anew: Sequence[str] = ()) -> Transferred:
    """Replace what fresh parameters share with trained ones: all but the head, as a rule.

    A leaf is taken if the other nest has one of the same path and shape: between two models with
    heads of one shape, say that the head begins anew. Howard and Ruder 2018,
    "Universal language model fine-tuning for text classification", section 3.3, train the new
    head together with what was trained before; to freeze the latter, give the trainer a rate of 0
    for each path in `taken`.

    Parameters
    ----------
    params : nest
        Of the trained model.
    fresh : nest
        Of the new one: ``model.init(rng)``. Its dtypes stay.
    anew : sequence of str
        Patterns (those of `fnmatch`) of paths that stay fresh, such as "head.*".

    Returns
    -------
    Transferred
        ``.params``, and the paths ``.taken``, ``.fresh`` and ``.unused``.

    Raises
    ------
    ValueError
        If nothing fits, or a pattern matches nothing.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> trained = {"body": np.ones(2), "head": np.ones(3)}
    >>> tl.transfer(trained, {"body": np.zeros(2), "classifier": np.zeros(4)})
    Transferred(params={'body': array([1., 1.]), 'classifier': array([0., 0., 0., 0.])},
                taken=['body'], fresh=['classifier'], unused=['head'])
    """
    trained = dict(trees.paths(params))
    taken: list[str] = []
    paths = [path for path, _ in trees.paths(fresh)]
    for pattern in anew:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise ValueError(f"transfer: anew={pattern!r} matches no parameter: they are {paths}")

    def take(path: str, new: Any) -> Any:
        if any(fnmatchcase(path, pattern) for pattern in anew):
            return new
        if path not in trained or np.shape(trained[path]) != np.shape(new):
            return new
        taken.append(path)
        return trained[path].astype(new.dtype, copy=False)

    result = trees.map_paths(take, fresh)
    if not taken:
        raise ValueError(
            f"transfer: none of {list(trained)} has the path and shape of one of {paths}"
        )
    return Transferred(
        result,
        taken,
        [path for path in paths if path not in taken],
        [path for path in trained if path not in taken],
    )
