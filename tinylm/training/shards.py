"""Shards: the gradient of a batch as the sum of the gradients of its parts.

One after the other they are gradient accumulation (less memory), side by side threads: NumPy lets
go of the interpreter's lock in its loops and matrix products. The sum is taken in the order of
the shards, so that it does not depend on the number of threads.
"""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tinylm.autograd import Nest, trees, value_and_grad
from tinylm.ops import IGNORED


def sharded_value_and_grad(
    model: Any,
    params: Nest,
    ids: Any,
    targets: Any,
    shards: int = 1,
    threads: int = 1,
    rng: np.random.Generator | None = None,
) -> tuple[Any, Nest]:
    """Loss and gradient of a batch, the mean over all targets that count.

    Parameters
    ----------
    model : object with ``loss(params, ids, targets)``, and with ``rng`` if one is given
    params : nest
    ids, targets : ndarray of int, shape (B, ...)
    shards : int
        Parts along the first axis; at most B are made.
    threads : int
        How many are computed at the same time.
    rng : numpy.random.Generator, optional
        Draws one seed for each shard, for its dropout.

    Returns
    -------
    loss : float
    gradient : nest
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

    def of_part(part: Any, seed: int | None) -> tuple[Any, Nest]:
        part_ids, part_targets, count = part
        extra = {} if seed is None else {"rng": np.random.default_rng(seed)}

        def loss(params: Nest) -> Any:
            mean = model.loss(params, part_ids, part_targets, **extra)
            return mean if count == counted else mean * (count / counted)

        return value_and_grad(loss)(params)  # type: ignore[no-any-return]

    work = [(part, seed) for part, seed in zip(parts, seeds, strict=True) if part[2]]
    if threads > 1 and len(work) > 1:
        with ThreadPoolExecutor(threads) as pool:
            jobs = [pool.submit(contextvars.copy_context().run, of_part, *item) for item in work]
            results = [job.result() for job in jobs]
    else:
        results = [of_part(*item) for item in work]
    loss, gradient = results[0]
    for more_loss, more_gradient in results[1:]:
        loss = loss + more_loss
        gradient = trees.map_leaves(np.add, gradient, more_gradient)
    return loss, gradient
