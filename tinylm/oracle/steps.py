"""Derivatives without the engine: by steps, either into the complex plane or to both sides."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import trees

STEP = 1e-30
"""The imaginary step."""

LONGEST, SHORTEST, RATIO, COLUMNS = 0.125, 2e-13, 6.1, 5
"""Real steps, relative to the primals, and the ratio of each to the next one. It is no integer, lest
the steps fall together with a period of f. Columns of the table of their differences."""

NEARBY = (-3.1, -2.3, -1.2, 0.0, 0.7, 1.7, 2.9)
"""Where f's rounding is measured, in ten-millionths of the primals."""

EPS = float(np.finfo(np.float64).eps)

ROUNDING = 300.0
"""Units in the last place that are allowed in a sum, of the sizes of its terms."""


def complex_step(
    f: Callable[..., Any], primals: Sequence[Any], cotangent: Any
) -> tuple[np.ndarray[Any, Any], ...]:
    """The cotangents of `primals`, one element at a time: ``Im <cotangent, f(x + ih e_j)> / h``.

    Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions".
    There is no difference of near numbers in it, so that h can be as small as one likes.

    Parameters
    ----------
    f : callable
        Of arrays; it has to compute with complex numbers what it computes with real ones.
    primals : sequence of array_like of float
    cotangent : array_like
        Of the shape of f's value.

    Returns
    -------
    tuple of ndarray

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.steps import complex_step
    >>> complex_step(np.square, (np.array([1.0, 3.0]),), np.ones(2))
    (array([2., 6.]),)
    """
    result = []
    for number, primal in enumerate(primals):
        gradient = np.zeros(np.shape(primal))
        for index in np.ndindex(np.shape(primal)):
            moved = [np.asarray(x, dtype=np.complex128) for x in primals]
            moved[number] = moved[number].copy()
            moved[number][index] += 1j * STEP
            gradient[index] = np.sum(np.asarray(cotangent) * np.imag(f(*moved))) / STEP
        result.append(gradient)
    return tuple(result)


def complex_step_along(
    f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> trees.Nest:
    """Derivative of every leaf of f's value along a direction: ``Im f(x + iht) / h``.

    Parameters
    ----------
    f : callable
        As for `complex_step`; its value may be a nest.
    primals, tangents : sequence of array_like of float
        Where, and in which direction; of equal shapes.

    Returns
    -------
    ndarray or nest of ndarray

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.steps import complex_step_along
    >>> float(complex_step_along(np.square, (np.array(3.0),), (np.array(2.0),)))
    12.0
    """
    moved = [
        np.asarray(x) + 1j * STEP * np.asarray(t) for x, t in zip(primals, tangents, strict=True)
    ]
    return trees.map_leaves(lambda y: np.imag(y) / STEP, f(*moved))


def richardson_along(
    f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], reach: float = LONGEST
) -> tuple[float, float]:
    """Derivative of a number along a direction by central differences, and how far off it may be.

    Differences ``(f(x + ht) - f(x - ht)) / 2h`` are extrapolated to h = 0: Richardson 1911, "The
    approximate arithmetical solution by finite differences". An entry of the table is as far off
    as it changed from the entries that it was made of, twice over (Ridders 1982, "Accurate
    computation of F'(x) and F'(x) F''(x)"), and by the rounding of f over h. Rounding is what of f
    at a few near points is no parabola, after Moré and Wild 2011, "Estimating computational noise".

    Parameters
    ----------
    f : callable
        Of arrays of floats; its value is one float. Where it raises or is not finite, nothing is
        known.
    primals, tangents : sequence of array_like of float
        As for `complex_step_along`. Steps are relative to the largest elements of both.
    reach : float
        How far the longest step moves the largest element, relative to itself.

    Returns
    -------
    derivative, error : float
        The error is inf if nothing converges, or if the derivatives on the left and on the right
        differ: a kink. If short steps change nothing f is a staircase, and the error covers a
        derivative of zero as well as that of the stairs. What of f is narrower than a
        ten-thousandth of the primals may be missed.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.steps import richardson_along
    >>> slope, error = richardson_along(np.exp, (np.array(0.0),), (np.array(1.0),))
    >>> abs(slope - 1) <= error < 1e-10
    True
    >>> richardson_along(abs, (np.array(0.0),), (np.array(1.0),))
    (0.0, inf)
    """
    unit = min(
        (magnitude(x) / magnitude(t) for x, t in zip(primals, tangents, strict=True) if np.any(t)),
        default=1.0,
    )
    centre = float(f(*primals))

    def change(h: float) -> float:
        try:
            y = f(*(x + h * np.asarray(t) for x, t in zip(primals, tangents, strict=True)))
        except Exception:  # noqa: BLE001 - outside of its domain a function may do anything
            return np.nan
        return float(y) - centre

    rows = 1 + int(np.log(reach / SHORTEST) / np.log(RATIO))
    steps = unit * reach * RATIO ** -np.arange(float(rows))
    with np.errstate(all="ignore"):
        ahead, behind = (np.array([change(h) for h in sign * steps]) for sign in (1, -1))
        nearby = [change(1e-7 * place * unit) for place in NEARBY]
        noise = max(EPS * abs(centre), _roughness(nearby))
        stair = _stair(np.abs([ahead, behind]))
        is_stair = stair > 10 * noise
        rounding = (stair if is_stair else noise) / steps
        slope, error = _limit((ahead - behind) / (2 * steps), rounding, 2)
        jump, doubt = _limit((ahead + behind) / (2 * steps), 2 * rounding, 1)
    return slope, np.inf if abs(jump) > doubt else error + is_stair * abs(slope)


def _roughness(nearby: Any) -> float:
    """What is no parabola in the values at near points."""
    powers = np.vander(NEARBY, 3)
    residual = np.eye(len(NEARBY)) - powers @ np.linalg.pinv(powers)
    return 4 * float(np.max(np.abs(residual @ nearby)))


def _stair(changes: Any) -> float:
    """The least change, if some steps change nothing and others do."""
    moving = changes[changes > 0]
    return float(np.min(moving)) if moving.size and np.any(changes == 0) else 0.0


def _limit(column: Any, rounding: Any, power: int) -> tuple[float, float]:
    """The best entry of a table, and its error.

    Each next column is rid of one more power of the step: of `power`, power + 2, ... A better entry
    has a smaller error, or has shorter steps and says that the other is wrong.
    """
    best, error = np.zeros(column.shape), np.full(column.shape, np.inf)
    for order in range(COLUMNS):
        better = column[1:] + np.diff(column) / (RATIO ** (power + 2 * order) - 1)
        change = np.maximum(np.abs(better - column[1:]), np.abs(better - column[:-1]))
        column, last = better, slice(order + 1, None)
        off = 2 * change + rounding[last]
        best[last] = np.where(off < error[last], column, best[last])
        error[last] = np.fmin(off, error[last])
    chosen = 0
    for row in range(len(best)):
        refuted = abs(best[row] - best[chosen]) > error[row] + error[chosen]
        chosen = row if refuted or error[row] < error[chosen] else chosen
    return float(best[chosen]), float(error[chosen])


def magnitude(x: Any) -> float:
    """The size of the largest element, 1 if there is nothing but zeros."""
    return float(np.max(np.abs(x), initial=0.0)) or 1.0


def sizes(x: Any) -> Any:
    """The size of each element, for zeros that of the largest: units in which elements may move."""
    return np.where(x == 0, magnitude(x), np.abs(x))


@dataclass(frozen=True)
class Estimate:
    """A number, how far off it may be, and the method that found it."""

    value: float
    error: float
    method: str


def product_along(
    f: Callable[..., Any],
    u: trees.Nest,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    visible: float,
    reach: float = LONGEST,
) -> Estimate:
    """``<u, J t>`` for a cotangent u in the nest of f's value, by the complex step if it counts.

    It counts if differences agree with it that are able to see a relative error of `visible`: code
    may refuse complex numbers, or drop them without a word, as `abs` does.
    """

    def product(*arrays: Any) -> Any:
        return np.sum(terms(u, f(*arrays)))

    slope, error = richardson_along(product, primals, tangents, reach)
    parts = np.array(np.nan)
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        parts = terms(u, complex_step_along(f, primals, tangents))
    value, size = float(np.sum(parts)), float(np.sum(np.abs(parts)))
    rounding = ROUNDING * EPS * size
    if error <= visible * size and abs(value - slope) <= 4 * error + rounding:
        return Estimate(value, rounding, "complex step")
    return Estimate(slope, error, "Richardson")


def terms(u: trees.Nest, y: trees.Nest) -> np.ndarray[Any, Any]:
    """The terms of <u, y>, of all leaves in a row."""
    products = trees.map_leaves(lambda a, b: np.ravel(a * np.asarray(b)), u, y)
    return np.concatenate(trees.leaves(products))
