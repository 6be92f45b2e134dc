"""Witnesses: what a derivative is, found without the engine; and how near two nests are."""

import numpy as np

from tinylm.autograd import trees
from tinylm.oracle.steps import complex_step, complex_step_along

__all__ = ["assert_close", "complex_step", "complex_step_along", "distance", "largest"]


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
