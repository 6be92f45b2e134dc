"""Schedules: the learning rate as a function of the number of updates made."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

Schedule: TypeAlias = Callable[[int], float]


def warmup_cosine(peak: float, final: float, warmup: int, steps: int) -> Schedule:
    """Linear warm-up to `peak`, then half a cosine down to `final`.

    Loshchilov and Hutter 2017, "SGDR", eq. (5), with one period; the warm-up is that of Vaswani
    et al. 2017, section 5.3.

    Parameters
    ----------
    peak, final : float
    warmup : int
        Step at which the peak is reached; the first step takes ``peak / (warmup + 1)``.
    steps : int
        Step at which `final` is reached; it stays from there on.

    Returns
    -------
    callable
        From the number of updates made so far to the rate of the next.

    Examples
    --------
    >>> from tinylm.training import warmup_cosine
    >>> rate = warmup_cosine(peak=1.0, final=0.2, warmup=1, steps=5)
    >>> [round(rate(step), 2) for step in range(7)]
    [0.5, 1.0, 0.88, 0.6, 0.32, 0.2, 0.2]
    """

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2

    return rate
