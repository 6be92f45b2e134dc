"""Random numbers that are the same on every platform, and exact in f64, f32, f16 and bf16.

They are drawn from the raw integers of PCG64, of which NumPy promises that a seed gives the same
ones in every version. What follows is whole numbers and powers of two, which round nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def numbers(shape: tuple[int, ...], seed: int, key: str) -> Any:
    """Random numbers, nearly normal, with a standard deviation of 1.15.

    Odd multiples of 1/64 between -251/64 and 253/64: the sum of four uniform numbers of six bits.
    None is zero, where relu has its kink.

    Parameters
    ----------
    shape : tuple of int
    seed : int
    key : str
        What they are for: another key gives others.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> from tinylm.oracle.drawing import numbers
    >>> numbers((4,), seed=0, key="x").tolist()
    [-1.234375, 2.703125, 1.671875, -1.421875]
    """
    raw = integers(shape, seed, key)
    total = sum((raw >> np.uint64(shift)) % np.uint64(64) for shift in (0, 16, 32, 48))
    return (2 * total.astype(np.int64) - 251) / 64


def gains(shape: tuple[int, ...], seed: int, key: str) -> Any:
    """Random multiples of 1/64 around one, between 1/2 and 3/2; arguments as for `numbers`."""
    return 1 + np.floor(8 * numbers(shape, seed, key)) / 64


def weights(shape: tuple[int, ...], seed: int, key: str) -> Any:
    """`numbers` for a matrix, so much smaller that a product with it keeps the scale."""
    return numbers(shape, seed, key) / 2 ** (math.frexp(shape[0])[1] // 2)


def integers(shape: tuple[int, ...], seed: int, key: str) -> Any:
    """Random 64-bit integers; arguments as for `numbers`."""
    raw = np.random.PCG64([seed, *key.encode()]).random_raw(math.prod(shape))
    return raw.reshape(shape)


def below(limit: int, shape: tuple[int, ...], seed: int, key: str) -> Any:
    """Random whole numbers from 0 to below a limit, as int64."""
    return (integers(shape, seed, key) % np.uint64(limit)).astype(np.int64)
