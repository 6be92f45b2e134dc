"""Shards: the gradient of a batch as the sum of the gradients of its parts.

One after the other they are gradient accumulation (less memory), side by side threads. The sum is
taken in the order of the shards, so that it does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinylm.autograd import Nest, value_and_grad
from tinylm.ops import IGNORED
from tinylm.training.workers import ALONE, Workers


def shard_gradients(
    model: Any,
    params: Nest,
    ids: Any,
    targets: Any,
    shards: int = 1,
    workers: Workers = ALONE,
    rng: np.random.Generator | None = None,
) -> tuple[Any, list[Nest]]:
    """Loss of a batch, the mean over all targets that count, and the gradient in parts.

    Parameters
    ----------
    model : object with ``loss(params, ids, targets)``, and with ``rng`` if one is given
    params : nest
    ids, targets : ndarray of int, shape (B, ...)
    shards : int
        Parts along the first axis; at most B are made.
    workers : Workers
        Who computes them.
    rng : numpy.random.Generator, optional
        Draws one seed for each shard, for its dropout.

    Returns
    -------
    loss : float
    gradients : list of nest
        One for each shard; the gradient is their sum.
    """
    ids, targets = np.asarray(ids), np.asarray(targets)
    parts = [
        (part_ids, part_targets, np.count_nonzero(part_targets != IGNORED))
        for part_ids, part_targets in zip(
            np.array_split(ids, min(shards, len(ids))),
            np.array_split(targets, min(shards, len(ids))),
            strict=True,
        )
    ]
    counted = sum(count for *_, count in parts)
    if not counted:
        raise ValueError("the batch has no target that counts")
    seeds = (
        rng.integers(2**63, size=len(parts)).tolist() if rng is not None else [None] * len(parts)
    )

    def of_part(work: tuple[Any, int | None]) -> tuple[Any, Nest]:
        (part_ids, part_targets, count), seed = work
        extra = {} if seed is None else {"rng": np.random.default_rng(seed)}

        def loss(params: Nest) -> Any:
            mean = model.loss(params, part_ids, part_targets, **extra)
            return mean if count == counted else mean * (count / counted)

        return value_and_grad(loss)(params)  # type: ignore[no-any-return]

    work = [(part, seed) for part, seed in zip(parts, seeds, strict=True) if part[2]]
    losses, gradients = zip(*workers.map(of_part, work), strict=True)
    return sum(losses), list(gradients)
