"""Fifty digits (mpmath): the oracle's own error is what it says, for every function and every op."""

import math

import mpmath
import numpy as np
import pytest
from cases import CASES
from registry import REGISTRY

import tinylm as tl
from tinylm import oracle
from tinylm.oracle import Digits
from tinylm.oracle.reference import OWN, Bounded


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_function_of_the_table_has_fifty_digits(case):
    """And float64 is as close to them as the rounding arithmetic says."""
    rng = np.random.default_rng(12)
    primals = [case.domain(rng.standard_normal(shape)) for shape in case.shapes]
    value, pullback = tl.vjp(case.call, *primals)
    cotangent = rng.standard_normal(np.shape(value))
    exact, pull = tl.vjp(case.call, *map(Digits, primals))
    zeros = [Bounded(x, np.zeros(np.shape(x)), OWN) for x in (*primals, cotangent)]
    bounded, back = tl.vjp(case.call, *zeros[:-1])
    for got, true, known in zip(
        (value, *pullback(cotangent)), (exact, *pull(Digits(cotangent))),
        (bounded, *back(zeros[-1])), strict=True,
    ):  # fmt: skip
        exactly = true.floats() if type(true) is Digits else np.asarray(true, dtype=float)
        error = known.error if type(known) is Bounded else 0.0
        assert np.shape(got) == np.shape(exactly)
        assert np.all(np.abs(got - exactly) <= error + 2**-53 * np.abs(exactly))


def test_the_digits_are_there():
    (third,) = tl.vjp(lambda x: x / 3, Digits(1.0))[1](Digits(1.0))
    with mpmath.workdps(60):
        assert abs(third.value.item() - mpmath.mpf(1) / 3) < mpmath.mpf(10) ** -50
    second = tl.grad(tl.grad(lambda x: np.exp(x) * np.sin(x)))(Digits(1.0))
    with mpmath.workdps(60):
        exact = 2 * mpmath.exp(1) * mpmath.cos(1)
        assert abs(second.value.item() - exact) < mpmath.mpf(10) ** -48


@pytest.mark.parametrize("name", REGISTRY)
def test_the_error_of_the_oracle_itself(name):
    """Never below the true error, and not much above it."""
    entry, rng = REGISTRY[name], np.random.default_rng(13)
    ratios = []
    for _ in range(4):
        pins, attributes, expected = entry.pin
        arrays = [rng.standard_normal(x.shape) * np.where(np.isfinite(x), 1, np.inf) for x in pins]
        names = [entry.op.parameters[i] for i in entry.op.arrays]
        inputs = {**dict(zip(names, arrays, strict=False)), **attributes}
        inputs["cotangent"] = rng.standard_normal(np.shape(expected))
        if name == "softmax":
            inputs["x"] = rng.standard_normal((3, 4))
            inputs["cotangent"] = rng.standard_normal((3, 4))
        known = oracle.reference(name, **inputs)
        exact = oracle.reference(name, **inputs, precision="mp50")
        for key, error in known.error.items():
            got, true = (
                (known.value, exact.value)
                if key == "value"
                else (known.grads[key], exact.grads[key])
            )
            off = np.abs(got - true)
            assert np.all(off <= error + exact.error[key]), key
            ratios += (np.asarray(error)[off > 0] / off[off > 0]).tolist()
    assert not ratios or np.median(ratios) < 100


def test_what_has_no_rule():
    with pytest.raises(TypeError, match="numpy.fft.fft has no rule for numbers of fifty digits"):
        np.fft.fft(Digits([1.0]))
    assert bool(Digits(1.0) > 0)
    assert math.isclose(Digits([0.5]).floats()[0], 0.5)
