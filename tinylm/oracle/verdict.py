"""The verdict on one tensor: how far it is from what is expected, and what would have been seen.

Three tests, all in units of the allowed error. Elementwise: no element is further off than allowed
(of a million, 1.6 times as far).
Root mean square: the errors are not all large at once. Gain, a regression of the error on the
expected numbers: they are not all off in the same proportion, which a hundredth of the error of a
single element would show. An honest kernel's rms of error / allowed is near 0.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.oracle.formats import FORMATS


def rms_limit(n: int) -> float:
    """The largest rms of error / allowed, of n elements."""
    return 0.35 + 0.65 / math.sqrt(max(n, 1))


def gain_limit(n: int) -> float:
    """The largest correlation of error / allowed with the expected numbers, of n elements."""
    return 0.06 + 1.5 / math.sqrt(max(n, 1))


def element_limit(n: int) -> float:
    """The largest error / allowed of n elements: the more there are, the further out one lies."""
    return max(1.0, 0.3 * math.sqrt(2 * math.log(max(n, 1))))


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one tensor.

    Parameters
    ----------
    name : str
        "value", or the input whose gradient it is.
    failures : tuple of str
        What is wrong, empty if nothing is: "shape", "not finite", "element", "rms", "gain".
    worst : float
        The largest error / allowed.
    index : tuple of int
        Where that is.
    got, expected, allowed : float
        The numbers there.
    share : float
        The share of elements that are further off than allowed.
    rms : float
        The root mean square of error / allowed.
    gain : float
        By what proportion the tensor is too large.
    sees : float
        The smallest proportion that would have been rejected; infinite where nothing would.
    where : str
        Where the failing elements lie.
    """

    name: str
    failures: tuple[str, ...] = ()
    worst: float = 0.0
    index: tuple[int, ...] = ()
    got: float = math.nan
    expected: float = math.nan
    allowed: float = math.nan
    share: float = 0.0
    rms: float = 0.0
    gain: float = 0.0
    sees: float = math.inf
    where: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures


def judge(
    name: str,
    got: Any,
    expected: Any,
    allowed: Any,
    *,
    io: str = "f64",
    axes: str = "",
    apart: Any = False,
) -> Verdict:
    """Compare what came with what is expected.

    Parameters
    ----------
    name : str
    got, expected, allowed : ndarray
        Of one shape; `got` of any float dtype.
    io : str
        The format of `got`, which says what overflows.
    axes : str
        A letter for each of the last axes, to say where errors lie.
    apart : ndarray of bool
        Elements that do not count for the mean square and the gain, being allowed to jump.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.verdict import judge
    >>> expected = np.arange(1.0, 101.0)
    >>> judge("x", 1.004 * expected, expected, 0.01 * expected).failures
    ('gain',)
    """
    got, expected = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if got.shape != expected.shape:
        return Verdict(name, ("shape",), where=f"shape {got.shape}, wanted {expected.shape}")
    ratio = ratios(got, expected, allowed, io)
    known = np.isfinite(got) & np.isfinite(expected) & np.isfinite(allowed)
    counted = known & (allowed > 0) & ~np.asarray(apart)
    n = int(np.count_nonzero(counted))
    # equal numbers are rounded alike: they count once
    independent = np.unique(FORMATS[io].rounded(expected[counted])).size
    unit = np.where(counted, allowed, 1.0)
    error = np.subtract(got, expected, where=counted, out=np.zeros(got.shape)) / unit
    size = np.where(counted, expected, 0.0) / unit
    rms, signal = (math.sqrt(np.sum(x * x) / max(n, 1)) for x in (error, size))
    gain = float(np.sum(error * size) / max(np.sum(size * size), 1e-300))
    failing = ~(ratio <= element_limit(ratio.size))
    failures = {
        "not finite": bool(np.any(np.isfinite(expected) & ~np.isfinite(got) & failing)),
        "element": bool(np.any(failing)),
        "rms": rms > rms_limit(independent),
        "gain": abs(gain) * signal > gain_limit(independent),
    }
    shown = np.where(np.isnan(ratio), np.inf, ratio)
    index = np.unravel_index(int(np.argmax(shown)), shown.shape) if shown.size else ()
    triple = (got, expected, np.broadcast_to(allowed, got.shape))
    came, wanted, margin = (float(x[index]) if x.size else math.nan for x in triple)
    largest = float(np.max(np.abs(size), initial=0.0))
    seen, alone = min(gain_limit(independent), rms_limit(independent)), element_limit(ratio.size)
    return Verdict(
        name,
        tuple(key for key, failed in failures.items() if failed),
        float(np.max(shown, initial=0.0)),
        tuple(int(i) for i in index),
        came,
        wanted,
        margin,
        share=float(np.mean(failing)) if failing.size else 0.0,
        rms=rms,
        gain=gain,
        sees=min(seen / signal, alone / largest) if signal else math.inf,
        where=located(failing, axes, exact=(expected == 0) & (allowed == 0)),
    )


def ratios(got: Any, expected: Any, allowed: Any, io: str = "f64") -> Any:
    """|got - expected| / allowed: 0 where they agree, infinite where they may not differ."""
    with np.errstate(all="ignore"):
        error = np.abs(got - expected)
        ratio = np.where(error == 0, 0.0, error / allowed)
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        ends = [FORMATS[io].rounded(expected + sign * allowed) for sign in (-1, 1)]
        overflown = ~np.isfinite(got) & np.any(
            [(got == end) | (np.isnan(got) & np.isnan(end)) for end in ends], axis=0
        )
    return np.where(same | (overflown & np.isfinite(expected)), 0.0, ratio)


def located(failing: Any, axes: str = "", *, exact: Any = False) -> str:
    """Where the failing elements lie, in words; axes without a letter count from the end."""
    if not np.any(failing):
        return ""
    if np.all(exact | ~failing):
        return "where the expected number is exactly 0, as behind a mask"
    axes = axes.replace("...", "")
    places = []
    for axis in range(failing.ndim):
        length, back = failing.shape[axis], axis - failing.ndim
        others = tuple(i for i in range(failing.ndim) if i != axis)
        found = np.flatnonzero(np.any(failing, axis=others))
        if len(found) == length:
            continue
        label = axes[back] if -back <= len(axes) else f"axis {back}"
        low, high = int(found[0]), int(found[-1])
        if high - low + 1 > min(2 * len(found), length - 1):
            continue  # scattered
        last = f", the last {length - low}" if high == length - 1 and low < high else ""
        places.append(f"{label} = {low}" if low == high else f"{label} = {low} to {high}{last}")
    return "; ".join(places) or "everywhere"
