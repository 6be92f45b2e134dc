"""The plugin: the fixture, the seed, and what is shown of a rejected kernel."""

import sys

import pytest

pytest_plugins = ["pytester"]

KERNELS = """
import numpy as np
import pytest
import tinylm as tl
from tinylm import oracle

def kernel(x, cotangent):
    y = np.exp(x - np.max(x, axis=-1, keepdims=True, initial=-np.inf))
    y /= np.sum(y, axis=-1, keepdims=True)
    return y, {"x": y * (cotangent - np.sum(cotangent * y, axis=-1, keepdims=True))}

def wrong(x, cotangent):
    y, grads = kernel(x, cotangent)
    return y, {"x": 1.1 * grads["x"]}
"""


@pytest.fixture
def run(pytester):
    def run(tests, *options):
        pytester.makepyfile(KERNELS + tests)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

    return run


def test_a_right_kernel_passes(run):
    result = run("""
def test(grad_oracle):
    report = grad_oracle(kernel, "softmax")
    assert report.ok
    shapes = []
    def seen(**inputs):
        shapes.append({name: x.shape for name, x in inputs.items()})
        return kernel(**inputs)
    bare = {"seeds": 0, "layouts": (), "edges": ()}
    grad_oracle(seen, "softmax", sizes={"V": 31}, **bare)
    assert shapes[0] == {"x": (3, 5, 31), "cotangent": (3, 5, 31)}
    x = np.random.default_rng(0).standard_normal((7, 9))
    report = grad_oracle(seen, "softmax", {"x": x, "cotangent": x[::-1]}, rounding=oracle.Rounding(io="f64"))
    assert report.rounding.io == "f64"

def test_formula(grad_oracle):
    def square(x, cotangent):
        return x * x, {"x": 2 * x * cotangent}
    grad_oracle(square, lambda x: x * x, shapes="x:...ABCDEFGH -> ...ABCDEFGH",
        sizes=dict.fromkeys("CDEFGH", 2), seeds=0)

def test_options(grad_oracle):
    def attention(Q, K, V, cotangent, mask=None):
        y, pullback = tl.vjp(lambda *x: tl.attention(*x, mask, causal=True), Q, K, V)
        return y, dict(zip("QKV", pullback(cotangent)))
    grad_oracle(attention, "attention", sizes={"T": 5}, causal=True)
    def masked(mask, **inputs):
        return attention(mask=mask, **inputs)
    grad_oracle(masked, "attention", optional=["mask"], causal=True, edges=())
    def cross_entropy(logits, targets, cotangent):
        y, pullback = tl.vjp(lambda x: tl.cross_entropy(x, targets, 0), logits)
        return y, {"logits": pullback(cotangent)[0]}
    grad_oracle(cross_entropy, "cross_entropy", ignore_index=0)
""")
    result.assert_outcomes(passed=3)


def test_a_rejected_kernel_is_shown_as_its_report(run):
    result = run("""
def test(grad_oracle):
    grad_oracle(wrong, "softmax")
""", "--oracle-seed=17")  # fmt: skip
    result.assert_outcomes(failed=1)
    lines = result.outlines
    assert "tinylm: --oracle-seed=17" in lines
    title = next(i for i, line in enumerate(lines) if line.startswith("_____"))
    last = next(i for i, line in enumerate(lines) if "short test summary" in line)
    shown = "\n".join(lines[title + 1 : last])

    from tinylm import oracle
    from tinylm.oracle.strategies import axes_of_inputs, inputs_at

    names, sizes = {}, {"...": (3, 5), "V": 7}
    exec(KERNELS, names)  # noqa: S102
    rng = __import__("numpy").random.default_rng(17)
    inputs = inputs_at("softmax", axes_of_inputs("softmax"), sizes, rng)
    with pytest.raises(oracle.GradientMismatch) as caught:
        oracle.check(names["wrong"], "softmax", inputs)
    assert shown == f"{caught.value.report}\n\nthe inputs were drawn with --oracle-seed=17"
    assert "10% too large" in shown
    assert any("::test - tinylm.oracle" in line for line in lines[last:])


def test_other_failures_are_shown_as_ever(run):
    result = run("""
def test(grad_oracle):
    def broken(x, cotangent):
        raise IndexError("no such block")
    grad_oracle(broken, "softmax")

def test_given(grad_oracle):
    x = np.random.default_rng(0).standard_normal((7, 9))
    grad_oracle(wrong, "softmax", {"x": x, "cotangent": x[::-1]})

def test_caught(grad_oracle):
    with pytest.raises(oracle.GradientMismatch, match="10% too large"):
        grad_oracle(wrong, "softmax")

@pytest.mark.xfail(raises=oracle.GradientMismatch, strict=True)
def test_known(grad_oracle):
    grad_oracle(wrong, "softmax")

def test_twice(grad_oracle):
    with pytest.raises(ValueError, match="came inputs, and sizes or optional: wanted one"):
        grad_oracle(wrong, "softmax", {}, sizes={})
    with pytest.raises(ValueError, match="sizes has 'T': wanted 'V'"):
        grad_oracle(wrong, "softmax", sizes={"T": 3})
""")
    result.assert_outcomes(failed=2, passed=2, xfailed=1)
    result.stdout.fnmatch_lines(["tinylm: --oracle-seed=0"])
    result.stdout.fnmatch_lines(["*raise IndexError*", "*IndexError: no such block"])
    assert not any("were drawn" in line for line in result.outlines)


def test_a_run_without_the_fixture_does_not_load_the_package(pytester):
    pytester.makepyfile("""
import sys

def test():
    assert "tinylm.pytest_plugin" in sys.modules
    loaded = {name for name in sys.modules if name.startswith("tinylm")}
    assert loaded == {"tinylm", "tinylm.version", "tinylm.pytest_plugin"}
    assert "numpy" not in sys.modules
""")
    options = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=1)
    assert (
        pytester.run(sys.executable, "-m", "pytest", "--help").stdout.str().count("oracle-seed")
        == 1
    )
