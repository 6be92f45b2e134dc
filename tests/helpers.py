"""Witnesses: what a derivative is, found without the engine."""

import numpy as np

from tinylm.autograd import trees

STEP = 1e-30


def complex_step(f, primals, cotangent):
    """The cotangents of `primals`, one element at a time: ``Im <cotangent, f(x + ih e_j)> / h``.

    Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions".
    There is no difference of near numbers in it, so that h can be as small as one likes.
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


def complex_step_along(f, primals, tangents):
    """Derivative of every leaf of f's value along a direction."""
    moved = [
        np.asarray(x) + 1j * STEP * np.asarray(t) for x, t in zip(primals, tangents, strict=True)
    ]
    return trees.map_leaves(lambda y: np.imag(y) / STEP, f(*moved))


def distance(got, expected, floor=0.0):
    """Largest difference of two arrays, relative to the largest expected element or `floor`."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    if not expected.size:
        return 0.0
    largest = max(float(np.max(np.abs(expected))), floor)
    return float(np.max(np.abs(got - expected)) / (largest if largest > 0 else 1.0))


def largest(x):
    """The largest finite size."""
    return float(np.max(np.abs(np.where(np.isfinite(x), x, 0)), initial=0.0))


def assert_close(got, expected, tolerance=1e-12, floor=0.0):
    """Each array within the tolerance of its largest element, or of `floor` if that is larger."""
    for (path, a), b in zip(trees.paths(got), trees.leaves(expected), strict=True):
        off = distance(a, b, floor)
        assert off <= tolerance, f"{path}: {off:.2e} off\n{a}\nwanted\n{b}"
