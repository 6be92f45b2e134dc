"""Planning: sizes and steps that fit a time on this machine."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

from tinylm.run import Corpus, Run
from tinylm.settings import Settings

SIZES: list[tuple[float, dict[str, int]]] = [
    (0, {"layers": 2, "heads": 2, "d_model": 64, "context": 64, "batch": 12}),
    (60, {"layers": 4, "heads": 4, "d_model": 128, "context": 64, "batch": 12}),
    (900, {"layers": 6, "heads": 6, "d_model": 192, "context": 128, "batch": 16}),
    (7200, {"layers": 6, "heads": 6, "d_model": 384, "context": 256, "batch": 16}),
]
"""(seconds from which on they are best, sizes), on a machine that makes the reference step in
REFERENCE_SECONDS; measured on the default corpus, see docs/decisions/0004-budget.md."""

REFERENCE = SIZES[1][1]
REFERENCE_SECONDS = 0.075
TRAINING_SHARE = 0.88
"""Of the time, what is left for steps by the evaluations, the samples and the rival."""


def seconds_per_step(settings: Settings, corpus: Corpus, steps: int = 5) -> float:
    """Median time of a step, on a run of its own that is thrown away and does not move."""
    run = Run(dataclasses.replace(settings, lr=0.0, final_lr=0.0), corpus)
    times = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        run.trainer.step(*next(run.batches))
        times.append(time.perf_counter() - began)
        if sum(times) > 3:
            break
    return statistics.median(times[1:] or times)


def fit_to_budget(
    settings: Settings, corpus: Corpus, seconds: float, fixed: set[str]
) -> tuple[Settings, float]:
    """Settings whose training takes about so many seconds, and the time of a step.

    Sizes are chosen as well, unless the user fixed one of them.
    """
    if not fixed & set(REFERENCE):
        reference = _with_sizes(settings, REFERENCE)
        speed = REFERENCE_SECONDS / seconds_per_step(reference, corpus)
        settings = _with_sizes(settings, [s for least, s in SIZES if least <= seconds * speed][-1])
    step = seconds_per_step(settings, corpus)
    steps = max(10, int(seconds * TRAINING_SHARE / step))
    return dataclasses.replace(settings, steps=steps), step


def _with_sizes(settings: Settings, sizes: Any) -> Settings:
    return dataclasses.replace(settings, **sizes)
