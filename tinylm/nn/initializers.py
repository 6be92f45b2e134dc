"""Initial values of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np


def normal(
    rng: np.random.Generator, *shape: int, std: float | None = 0.02, dtype: Any = np.float32
) -> Any:
    """Independent normal numbers, mean 0 and standard deviation `std`.

    The 0.02 is GPT's: Radford et al. 2018, "Improving language understanding by generative
    pre-training", section 4.1. With None it is ``n ** -0.5`` for a map of n features, so that what
    comes out is as large as what goes in: LeCun et al. 1998, "Efficient backprop", section 4.6.
    """
    std = shape[0] ** -0.5 if std is None else std
    return (std * rng.standard_normal(shape)).astype(dtype)
