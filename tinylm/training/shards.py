"""Shards: the gradient of a batch as the sum of the gradients of its parts.

One after the other they are gradient accumulation (less memory); side by side they are threads
(`tinylm.workers`) or processes (`tinylm.training.processes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Nest, value_and_grad
from tinylm.ops import IGNORED
from tinylm.workers import ALONE, Workers


@dataclass(frozen=True)
class Shard:
    """A part of a batch.

    Parameters
    ----------
    ids, targets : ndarray of int, shape (B, ...)
    share : float
        Of the batch's targets that count, those that are here.
    seed : int, optional
        For its dropout.
    """

    ids: Any
    targets: Any
    share: float
    seed: int | None = None


def cut(
    ids: Any, targets: Any, shards: int = 1, rng: np.random.Generator | None = None
) -> list[Shard]:
    """Cut a batch along its first axis into at most so many shards, each with targets that count.

    With a generator, each gets a seed of its own.
    """
    ids, targets = np.asarray(ids), np.asarray(targets)
    parts = min(shards, len(ids))
    seeds = [None] * parts if rng is None else rng.integers(2**63, size=parts).tolist()
    pieces = list(
        zip(np.array_split(ids, parts), np.array_split(targets, parts), seeds, strict=True)
    )
    counts = [np.count_nonzero(targets != IGNORED) for _, targets, _ in pieces]
    if not sum(counts):
        raise ValueError("the batch has no target that counts")
    return [
        Shard(ids, targets, count / sum(counts), seed)
        for (ids, targets, seed), count in zip(pieces, counts, strict=True)
        if count
    ]


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
