"""Shards: the gradient of a batch as the sum of the gradients of its parts.

One after the other they are gradient accumulation (less memory); side by side they are threads
(`tinylm.workers`) or processes (`tinylm.training.processes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Nest, trees, value_and_grad
from tinylm.ops import IGNORED
from tinylm.workers import ALONE, Workers


@dataclass(frozen=True)
class Shard:
    """A part of a batch.

    Parameters
    ----------
    ids, targets : ndarray, shape (B, ...), or nest of such
    share : float
        Of the batch's targets that count, those that are here.
    seed : int, optional
        For its dropout.
    """

    ids: Any
    targets: Any
    share: float
    seed: int | None = None


def number_of_targets(targets: Nest) -> int:
    """How many targets count: those that are not -100."""
    return sum(int(np.count_nonzero(x != IGNORED)) for x in trees.leaves(targets))


def cut(
    ids: Any,
    targets: Any,
    shards: int = 1,
    rng: np.random.Generator | None = None,
    weight: Callable[[Any], float] = number_of_targets,
) -> list[Shard]:
    """Cut a batch along its first axis into at most so many shards, each with targets that count.

    With a generator, each gets a seed of its own.

    Parameters
    ----------
    ids, targets : array_like, shape (B, ...), or dict or tuple of such
        One B for all of them. A list is an array, of its rows.
    shards : int
    rng : numpy.random.Generator, optional
    weight : callable
        ``weight(targets)``: what the model's loss of some rows divides by. The loss of the batch
        is then the mean of the losses of its shards, weighted so.

    Raises
    ------
    ValueError
        If the arrays differ in B, or no target counts.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.training.shards import cut
    >>> source, target = np.arange(6).reshape(3, 2), np.array([[1, 2], [3, -100], [4, 5]])
    >>> [(shard.ids[0].tolist(), shard.share) for shard in cut((source, target), target, shards=2)]
    [([[0, 1], [2, 3]], 0.6), ([[4, 5]], 0.4)]
    """
    batch = {"ids": _arrays(ids), "targets": _arrays(targets)}
    sizes = {path: x.shape[:1] for path, x in trees.paths(batch)}
    if len({*sizes.values()}) != 1 or not all(size and size[0] for size in sizes.values()):
        raise ValueError(f"a batch whose arrays have {sizes} rows: wanted the same number in all")
    rows = np.arange(len(trees.leaves(batch)[0]))
    parts = np.array_split(rows, min(shards, rows.size))
    seeds = [None] * len(parts) if rng is None else rng.integers(2**63, size=len(parts)).tolist()
    pieces = [trees.map_leaves(lambda x, i=i: x[i[0] : i[-1] + 1], batch) for i in parts]
    weights = [weight(piece["targets"]) for piece in pieces]
    if not sum(weights):
        raise ValueError("the batch has no target that counts")
    return [
        Shard(**piece, share=weight / sum(weights), seed=seed)
        for piece, weight, seed in zip(pieces, weights, seeds, strict=True)
        if weight
    ]


def _arrays(batch: Any) -> Nest:
    """A batch with arrays for leaves: a list is one, and so is a number."""
    inside = None if isinstance(batch, list) else trees.children(batch)
    if inside is None:
        return np.asarray(batch)
    return trees.rebuilt(batch, [_arrays(child) for _, child in inside])


def shard_gradients(
    model: Any, params: Nest, shards: list[Shard], workers: Workers = ALONE
) -> tuple[Any, list[Nest]]:
    """The loss of shards, and the gradient of each: sums of what each has of the batch's mean.

    Parameters
    ----------
    model : object with ``loss(params, ids, targets)``, and with ``rng`` if there are seeds
    params : nest
    shards : list of Shard
    workers : Workers
        Who computes them.

    Returns
    -------
    loss : float
    gradients : list of nest
    """

    def of_shard(shard: Shard) -> tuple[Any, Nest]:
        extra = {} if shard.seed is None else {"rng": np.random.default_rng(shard.seed)}

        def loss(params: Nest) -> Any:
            mean = model.loss(params, shard.ids, shard.targets, **extra)
            return mean if shard.share == 1 else mean * shard.share

        return value_and_grad(loss)(params)  # type: ignore[no-any-return]

    losses, gradients = zip(*workers.map(of_shard, shards), strict=True)
    return sum(losses), list(gradients)
