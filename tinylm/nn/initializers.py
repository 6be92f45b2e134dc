"""Initial values of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np


def normal(
    rng: np.random.Generator, *shape: int, std: float = 0.02, dtype: Any = np.float32
) -> Any:
    """Independent normal numbers, mean 0 and standard deviation `std`.

    The 0.02 is GPT's: Radford et al. 2018, "Improving language understanding by generative
    pre-training", section 4.1.
    """
    return (std * rng.standard_normal(shape)).astype(dtype)
