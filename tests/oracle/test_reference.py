"""The reference: what it gives, and how it is called wrongly."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import assert_close, complex_step
from registry import REGISTRY

import tinylm as tl
from tinylm import oracle


@pytest.mark.parametrize("name", REGISTRY)
def test_every_op_by_name(name):
    entry = REGISTRY[name]
    arrays, attributes, expected = entry.pin
    names = [entry.op.parameters[i] for i in entry.op.arrays]
    inputs = dict(zip(names, arrays, strict=False))
    cotangent = np.random.default_rng(0).standard_normal(np.shape(expected))
    ref = oracle.reference(name, cotangent=cotangent, **inputs, **attributes)
    np.testing.assert_allclose(ref.value, expected, rtol=1e-14, atol=1e-16)
    if name not in ("softmax", "relu"):  # whose pins are at infinity and at the kink
        step = complex_step(lambda *x: entry.op.formula(*x, **attributes), arrays, cotangent)
        assert_close(list(ref.grads.values()), step)
    assert list(ref.grads) == list(inputs)
    assert ref.error.keys() == {"value", *inputs}
    for key, error in ref.error.items():
        exact = ref.value if key == "value" else ref.grads[key]
        assert np.shape(error) == np.shape(exact)
        assert np.all(error <= 1e-13 * max(1.0, np.max(np.abs(exact))))


def test_intermediates_and_their_cotangents(rng):
    Q, K, V, d_output = rng.standard_normal((4, 5, 3))
    ref = oracle.reference("attention", Q=Q, K=K, V=V, cotangent=d_output, causal=True)
    assert set(ref.intermediates) == {
        "scores", "normalizer", "weights", "output",
        "d_scores", "d_normalizer", "d_weights", "d_output",
    }  # fmt: skip
    assert np.array_equal(ref.intermediates["output"][0], ref.value)
    weights, d_scores = ref.intermediates["weights"][0], ref.intermediates["d_scores"][0]
    np.testing.assert_allclose(ref.grads["V"], weights.T @ d_output, rtol=1e-13)
    np.testing.assert_allclose(ref.grads["K"], d_scores.T @ Q / np.sqrt(3), rtol=1e-12, atol=1e-15)


def test_any_formula(rng):
    x = rng.standard_normal(4)
    ref = oracle.reference(lambda x, power: np.sum(x**power), x=x, power=3, cotangent=2.0)
    np.testing.assert_allclose(ref.grads["x"], 6 * x**2)
    assert list(ref.grads) == ["x"]
    assert ref.intermediates == {}


def test_inputs_are_those_of_the_format(rng):
    x, c = rng.standard_normal((2, 4))
    bf16 = oracle.FORMATS["bf16"].rounded
    narrow = oracle.reference("gelu", x=x, cotangent=c, io="bf16")
    same = oracle.reference("gelu", x=bf16(x), cotangent=bf16(c))
    assert np.array_equal(narrow.value, same.value)
    assert np.array_equal(narrow.grads["x"], same.grads["x"])
    assert not np.array_equal(narrow.value, tl.gelu(x))


def test_the_smallest_probability_is_not_lost():
    ref = oracle.reference("log_softmax", x=np.array([37.4, 0.0]), cotangent=np.array([1.0, 0.0]))
    small = np.exp(-37.4) / (1 + np.exp(-37.4))
    assert ref.grads["x"] == pytest.approx([small, -small], rel=1e-14, abs=0)
    assert np.all(ref.error["x"] < 1e-14 * small)


def test_wrong_calls_say_what_is_wrong():
    x = np.ones(3)
    with pytest.raises(ValueError, match="there is no op 'atention': attention, cross_entropy"):
        oracle.reference("atention", x=x, cotangent=x)
    with pytest.raises(TypeError, match="missing a required argument: 'K'"):
        oracle.reference("attention", Q=x, cotangent=x)
    with pytest.raises(ValueError, match="precision='double': wanted 'f64' or 'mp50'"):
        oracle.reference("gelu", x=x, cotangent=x, precision="double")
    with pytest.raises(ValueError, match="io='half': wanted f64"):
        oracle.reference("gelu", x=x, cotangent=x, io="half")
    with pytest.raises(ValueError, match="no array of floats"):
        oracle.reference(lambda n: n, n=3, cotangent=x)
    with pytest.raises(ValueError, match=r"cotangent has shape \(2,\), and the value has \(3,\)"):
        oracle.reference("gelu", x=x, cotangent=x[:2])


def test_what_importing_the_oracle_loads():
    code = "import sys, tinylm.oracle; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    names = loaded.stdout.split()
    packages = {name.split(".")[0] for name in names}
    assert not {"torch", "jax", "hypothesis", "mpmath", "pytest"} & packages
    rooms = {name.split(".")[1] for name in names if name.startswith("tinylm.")}
    assert rooms <= {"autograd", "ops", "oracle", "checkpoint", "files", "version"}
