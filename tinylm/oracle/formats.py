"""Number formats: what a kernel can store, and how far rounding to it moves a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Format:
    """A binary floating-point format.

    Parameters
    ----------
    name : str
    precision : int
        Bits of the significand, the hidden one included.
    least, greatest : int
        Exponents of the least normal number and of the largest power of two.
    largest : float
        The largest finite number.
    infinite : bool
        Whether it has infinities; what is too large becomes nan without them.
    """

    name: str
    precision: int
    least: int
    greatest: int
    largest: float
    infinite: bool = True

    @property
    def unit(self) -> float:
        """Unit roundoff: half the distance from 1 to the next number."""
        return 2.0**-self.precision

    @property
    def smallest(self) -> float:
        """The smallest positive number, a subnormal one."""
        return 2.0 ** (self.least - self.precision + 1)

    def rounded(self, x: Any) -> Any:
        """Round float64 numbers to the nearest of this format, ties to even.

        Parameters
        ----------
        x : array_like of float

        Returns
        -------
        ndarray of float64

        Examples
        --------
        >>> from tinylm.oracle import FORMATS
        >>> FORMATS["bf16"].rounded([1.0, 1.003, 1e39]).tolist()
        [1.0, 1.0, inf]
        """
        x = np.asarray(x, dtype=np.float64)
        if self.precision == 53:
            return x.copy()
        with np.errstate(all="ignore"):
            exponent = np.maximum(np.frexp(x)[1] - 1, self.least)
            quantum = np.ldexp(1.0, exponent - self.precision + 1)
            y = np.rint(x / quantum) * quantum  # both exact, but for the rounding
        too_large = np.abs(y) > self.largest
        beyond = np.copysign(np.inf, x) if self.infinite else np.nan
        return np.where(np.isfinite(x) & too_large, beyond, np.where(np.isfinite(x), y, x))

    def error(self, x: Any) -> Any:
        """The most by which rounding moves numbers of this size: ``max(unit |x|, smallest / 2)``.

        Exact for powers of two, up to twice too large between them; 0 for what is not finite. With
        the exponents of float32, subnormal numbers may be lost altogether: many processors and
        compilers flush them to zero.
        """
        size = np.abs(x)
        error = np.where(size == 0, 0.0, np.maximum(self.unit * size, self.smallest / 2))
        if self.least == -126:
            error = np.where(size < 2.0**self.least, np.maximum(size, error), error)
        return np.where(np.isfinite(size), error, 0.0)


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("f64", 53, -1022, 1023, float(np.finfo(np.float64).max)),
        Format("f32", 24, -126, 127, float(np.finfo(np.float32).max)),
        Format("tf32", 11, -126, 127, (2 - 2.0**-10) * 2.0**127),
        Format("f16", 11, -14, 15, 65504.0),
        Format("bf16", 8, -126, 127, (2 - 2.0**-7) * 2.0**127),
        Format("e4m3", 4, -6, 8, 448.0, infinite=False),
        Format("e5m2", 3, -14, 15, 57344.0),
    )
}
"""IEEE 754 (f64, f32, f16), TF32, bfloat16, and the two of Micikevicius et al. 2022, "FP8 formats
for deep learning", table 1: e4m3 without infinities, e5m2."""
