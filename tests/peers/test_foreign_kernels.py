"""Kernels of PyTorch and JAX are what they declare, and no bound on them is so wide that it is vain.

Of 12 seeds each: accepted, and the rms of error / allowed is near one fifth, where an honest kernel
has it; with half a unit of rounding for three allowed ones, or 1% of the bound, it would not be.
"""

import numpy as np
import pytest
from peers.kernels import FORMATS, KERNELS, mutants

from tinylm import oracle

EXACT = {("relu", "value"), ("relu", "x"), ("embedding", "value")}
"""What only chooses numbers rounds nothing."""

FORMAT = pytest.mark.parametrize("io", FORMATS)
SMALL = [kernel for kernel in KERNELS if kernel.sizes.get("T", 64) == 64]


def named(kernels):
    return pytest.mark.parametrize("kernel", kernels, ids=[kernel.name for kernel in kernels])


@FORMAT
@named(KERNELS)
def test_accepted_with_errors_near_the_bound(kernel, io):
    squares = {}
    for seed in range(12):
        report = kernel.check(seed, io, seeds=0, layouts=(), edges=())
        for name, verdict in report.verdicts.items():
            squares.setdefault(name, []).append(verdict.rms**2)
    least = 0.01 if io == "f32" else 0.05
    for name, of_seeds in squares.items():
        rms = np.sqrt(np.mean(of_seeds))
        exact = (kernel.op, name) in EXACT
        assert rms == 0 if exact else least <= rms <= 1, f"{name}: {rms:.3f}"


@named(SMALL)
def test_elsewhere_in_memory_and_at_the_edges(kernel):
    report = kernel.check(0, "bf16")
    print(kernel.name, [(run.label, run.note, run.problem) for run in report.runs if run.note])


class Mutant:
    """A kernel with a mistake in its gradients."""

    def __init__(self, kernel, which, io="f32"):
        self.kernel, self.which, self.io = kernel, which, io

    def declared(self, io):
        return Mutant(self.kernel.declared(io), self.which, io)

    def __call__(self, **inputs):
        value, grads = self.kernel(**inputs)
        return value, dict(mutants(grads, self.io))[self.which]


@FORMAT
@pytest.mark.parametrize(
    "which",
    ["V 1% too large", "K without the last quarter", "Q with a row of zeros", "Q and K swapped"],
)
@named([kernel for kernel in SMALL if kernel.name.startswith("torch") and kernel.op == "attention"])
def test_mutants_are_rejected(kernel, which, io):
    mutant = Mutant(kernel.kernel, which)
    with pytest.raises(oracle.GradientMismatch):
        oracle.check(
            mutant,
            kernel.op,
            kernel.inputs(0),
            rounding=kernel.model(io),
            seeds=0,
            layouts=(),
            edges=(),
            **kernel.attributes,
        )
