"""Planning: sizes and steps that fit a time on this machine."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

from tinylm.run import Corpus, Run
from tinylm.settings import Settings

LARGER: list[tuple[float, dict[str, Any]]] = [
    (300, {"layers": 4, "heads": 4, "d_model": 96, "context": 128, "batch": 6, "dropout": 0.1}),
]
"""(seconds from which on they are better than what stands before them, sizes), on a machine that
makes a step of the default sizes in REFERENCE_SECONDS: see docs/decisions/0005-budget.md."""

REFERENCE_SECONDS = 0.032
TRAINING_SHARE = 0.88
"""Of the time, what is left for steps by the evaluations, the samples and the rival."""


def seconds_per_step(settings: Settings, corpus: Corpus, steps: int = 20) -> float:
    """Median time of a step, on a run of its own that is thrown away and does not move.

    The first half of the steps warm up memory and processes.
    """
    run = Run(dataclasses.replace(settings, lr=0.0, final_lr=0.0), corpus)
    times: list[float] = []
    while len(times) < 2 or (len(times) < steps and sum(times) < 3):
        began = time.perf_counter()
        run.trainer.step(*next(run.batches))
        times.append(time.perf_counter() - began)
    return statistics.median(times[len(times) // 2 :])


def fit_to_budget(
    settings: Settings, corpus: Corpus, seconds: float, fixed: set[str]
) -> tuple[Settings, float]:
    """Settings whose training takes about so many seconds, and the time of a step.

    Sizes are chosen as well, unless the user fixed one of them.
    """
    step = seconds_per_step(settings, corpus)
    speed = REFERENCE_SECONDS / step
    for least, sizes in LARGER:
        if least <= seconds * speed and not fixed & set(sizes) - {"dropout"}:
            wanted = {name: value for name, value in sizes.items() if name not in fixed}
            settings = dataclasses.replace(settings, **wanted)
            step = seconds_per_step(settings, corpus)
    steps = max(10, int(seconds * TRAINING_SHARE / step))
    return dataclasses.replace(settings, steps=steps), step
