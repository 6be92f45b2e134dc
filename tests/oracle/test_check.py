"""The check: what it asks of a kernel, what it refuses to say, and how it is called wrongly."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm import oracle
from tinylm.oracle import Bounded, GradientMismatch, Rounding
from tinylm.oracle.report import Cause
from tinylm.oracle.subject import Case, _judged
from tinylm.oracle.variants import laid_out, shuffled

BARE = {"seeds": 0, "layouts": (), "edges": ()}


def softmax(x, cotangent):
    y = np.exp(x - np.max(x, axis=-1, keepdims=True, initial=-np.inf))
    y /= np.sum(y, axis=-1, keepdims=True)
    return y, {"x": y * (cotangent - np.sum(cotangent * y, axis=-1, keepdims=True))}


def two(*shape, seed=0):
    x, cotangent = np.random.default_rng(seed).standard_normal((2, *shape))
    return {"x": x, "cotangent": cotangent}


def rejected(kernel, op, given, **options):
    with pytest.raises(GradientMismatch) as caught:
        oracle.check(kernel, op, given, **options)
    return caught.value.report


def test_a_report():
    report = oracle.check(softmax, "softmax", two(20, 30))
    assert report.ok
    assert list(report.verdicts) == ["value", "x"]
    assert [run.label for run in report.runs] == [
        "as given", "shuffled 1", "shuffled 2", "strided", "transposed", "x broadcast",
        "cotangent broadcast", "V = 1", "... = 1", "V = 0", "... = 0", "nan in x",
    ]  # fmt: skip
    text = str(report)
    assert text.startswith("softmax: accepted (io f32, computed in f32; allowed: 4 standard dev")
    assert "also accepted: shuffled 1" in text
    assert "called twice, it gave the same bits" in text
    assert "likeliest" not in text
    back = json.loads(report.to_json())
    assert back["accepted"] is True
    assert back["runs"][0]["verdicts"][1]["sees"] == report.verdicts["x"].sees


def test_the_text_of_a_rejection():
    def kernel(x, cotangent):
        y, grads = softmax(x, cotangent)
        grads["x"][2, :] *= 1.2
        return y, grads

    report = rejected(kernel, "softmax", two(20, 30))
    text = str(report)
    verdict = report.verdicts["x"]
    assert (
        f"worst at {verdict.index}: got {verdict.got:.9g}, expected {verdict.expected:.9g}" in text
    )
    for line in (
        "softmax: REJECTED",
        "beyond what is allowed: axis -2 = 2",
        "likeliest cause: the gradient of x where axis -2 = 2 is 20% too large (explains",
        "shuffled 1",
    ):
        assert line in text
    assert json.loads(report.to_json())["causes"][0]["text"] == report.causes[0].text
    assert (
        str(Cause("it is dropped", 0.9, 0.02))
        == "it is dropped, 2% of it (explains 90.0% of the error)"
    )


@pytest.mark.parametrize("io", ["f64", "f32", "f16", "bf16", "tf32", "e4m3", "e5m2"])
def test_every_format(io):
    """Computed in float64 and rounded at the end: better than any kernel, and accepted."""
    dtypes = set()

    def kernel(x, cotangent):
        dtypes.add(str(x.dtype))
        fmt = oracle.FORMATS[io].rounded
        assert np.array_equal(fmt(x), x, equal_nan=True)
        y, grads = softmax(x.astype(float), cotangent.astype(float))
        return fmt(y), {"x": fmt(grads["x"])}

    model = Rounding(io=io, accumulate="f64" if io == "f64" else "f32")
    report = oracle.check(kernel, "softmax", two(30, 8), rounding=model, power=0.5)
    assert dtypes == {{"f64": "float64", "f16": "float16"}.get(io, "float32")}
    assert report.verdicts["x"].sees < 60 * oracle.FORMATS[io].unit


@pytest.mark.parametrize("bound", ["prob", "worst"])
def test_both_bounds_accept_the_right_and_reject_the_wrong(bound):
    model = Rounding(bound=bound)
    assert oracle.check(softmax, "softmax", two(20, 30), rounding=model).ok

    def kernel(x, cotangent):
        y, grads = softmax(x, cotangent)
        return y, {"x": grads["x"] * 1.00001}

    assert not rejected(kernel, "softmax", two(20, 30), rounding=model, **BARE).verdicts["x"].ok


# What it does besides.


def test_inputs_that_are_written_into():
    def kernel(x, cotangent):
        cotangent -= 1
        return softmax(x, cotangent + 1)

    report = rejected(kernel, "softmax", two(3, 4))
    assert "it wrote into cotangent" in str(report)

    def other(x, cotangent):
        answer = softmax(x, cotangent)
        x[:] = 0
        return answer

    assert rejected(other, "softmax", two(3, 4)).runs[0].problem == "it wrote into x"


def test_other_bits():
    state = np.random.default_rng(0)

    def kernel(x, cotangent):
        y, grads = softmax(x.astype(np.float32), cotangent)
        return y, {"x": grads["x"] * (1 + 1e-4 * state.random())}

    report = oracle.check(kernel, "softmax", two(9, 9), rounding=Rounding(io="f16"))
    assert not report.repeatable
    assert "other bits" in str(report)
    report = rejected(kernel, "softmax", two(9, 9), rounding=Rounding(io="f16"), repeatable=True)
    assert report.problems == ("called twice with the same inputs, it gave other bits",)


@pytest.mark.parametrize("layout", ["strided", "transposed"])
def test_a_kernel_that_reads_memory_as_if_it_were_contiguous(layout):
    def kernel(x, cotangent):
        def memory(x):
            rows = [n * x.itemsize for n in (*x.shape[1:], 1)]
            return np.lib.stride_tricks.as_strided(x, x.shape, rows)

        return softmax(memory(x), cotangent)

    report = rejected(kernel, "softmax", two(20, 30), layouts=[layout], edges=())
    assert [run.label for run in report.runs if not run.ok] == [layout]
    assert report.causes[0].text == f"it reads {layout} arrays as if they were contiguous"


def test_only_shuffled_numbers_show_it():
    def kernel(x, cotangent):
        y, grads = softmax(x, cotangent)
        return y, {"x": np.where(cotangent < 0, 1.1 * grads["x"], grads["x"])}

    given = two(20, 30)
    given["cotangent"] = np.abs(given["cotangent"])
    report = rejected(kernel, "softmax", given, seeds=1)
    assert next(run.label for run in report.runs if not run.ok) == "shuffled 1"


def attention(Q, K, V, cotangent, mask=None, nothing=np.nan):
    scores = Q @ K.swapaxes(-1, -2) / np.sqrt(Q.shape[-1])
    scores = np.where(True if mask is None else mask, scores, -np.inf)
    top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = np.sum(e, axis=-1, keepdims=True)
    weights = e / np.where(total == 0, nothing, total)
    d = cotangent @ V.swapaxes(-1, -2)
    d = weights * (d - np.sum(d * weights, axis=-1, keepdims=True)) / np.sqrt(Q.shape[-1])
    return weights @ V, {
        "Q": d @ K,
        "K": d.swapaxes(-1, -2) @ Q,
        "V": weights.swapaxes(-1, -2) @ cotangent,
    }


def four(mask=False):
    names = ("Q", "K", "V", "cotangent")
    rng = np.random.default_rng(3)
    given = dict(zip(names, rng.standard_normal((4, 2, 12, 8)), strict=True))
    return given | ({"mask": rng.random((12, 12)) < 0.7} if mask else {})


def test_rows_with_nothing_to_attend_to():
    assert oracle.check(lambda **x: attention(**x, nothing=1), "attention", four(mask=True)).ok
    report = rejected(attention, "attention", four(mask=True), edges=["masked row"])
    wrong = [run for run in report.runs if not run.ok]
    assert [run.label for run in wrong] == ["a row masked"]
    assert wrong[0].verdicts[0].where.startswith("where the expected number is exactly 0")
    assert "not finite" in wrong[0].verdicts[0].failures


def test_lengths_of_one_and_none():
    def squeezed(Q, K, V, cotangent):
        value, grads = attention(Q, K, V, cotangent)
        return value, grads | {"V": grads["V"].squeeze()}

    report = rejected(squeezed, "attention", four(), layouts=())
    assert {"S = 1", "E = 1", "... = 1"} == {run.label for run in report.runs if not run.ok}
    assert "shape (2, 12), wanted (2, 12, 1)" in str(report)

    def refusing(Q, K, V, cotangent):
        if K.shape[-2] == 0:
            raise ValueError("no keys")
        return attention(Q, K, V, cotangent, nothing=1)

    report = oracle.check(refusing, "attention", four())
    assert "S = 0: refused, ValueError: no keys" in str(report)
    assert "D = 0" not in str(report), "where the op itself is not defined"


def test_a_nan_must_not_vanish():
    def kernel(x, cotangent):
        return softmax(np.nan_to_num(x), cotangent)

    report = rejected(kernel, "softmax", two(20, 30))
    assert [run.label for run in report.runs if not run.ok] == ["nan in x"]
    assert "a nan of the inputs has vanished" in str(report)

    def spreads(x, cotangent):  # from one row to all
        return softmax(x + 0 * np.sum(x), cotangent)

    report = rejected(spreads, "softmax", two(20, 30), edges=["nan"])
    assert "not finite" in report.runs[-1].verdicts[0].failures


def test_behind_a_mask_a_nan_may_be_a_number():
    """Weights of 0 times a nan: a kernel that skips what is masked has a number there."""
    given = four()
    given["mask"] = np.tri(12, dtype=bool)
    assert oracle.check(lambda **x: attention(**x, nothing=1), "attention", given, edges=["nan"]).ok

    def skips(Q, K, V, cotangent, mask):
        clean = {"Q": np.nan_to_num(Q), "K": K, "V": V, "cotangent": cotangent, "mask": mask}
        return attention(**clean, nothing=1)

    report = rejected(skips, "attention", given, edges=["nan"])
    assert [run.label for run in report.runs if not run.ok] == ["nan in Q"]


def test_an_error_that_is_not_known_is_no_licence():
    """Of ordinary inputs, a nan for an allowed error accepts nothing."""
    expected = Bounded(np.array([1.0, 2.0]), np.array([np.nan, 1.0]), Rounding())
    for x, ok in ((np.ones(2), False), (np.array([np.nan, 1.0]), True)):
        verdict = _judged("x", np.array([5.0, 2.0]), expected, "", Case("as given", {"x": x}))
        assert verdict.ok == ok


def relu(at_zero):
    def kernel(x, cotangent):
        slope = np.where(x > 0, 1, np.where(x == 0, at_zero, 0))
        return np.maximum(x, 0), {"x": slope * cotangent}

    return kernel


def test_at_a_kink_either_derivative_will_do():
    given = two(40, 10)
    given["x"][::3] = 0
    for at_zero in (0, 0.5, 1):
        assert oracle.check(relu(at_zero), "relu", given).ok
    assert not rejected(relu(-1), "relu", given, **BARE).ok
    strict = Rounding(kinks="convention")
    assert oracle.check(relu(0), "relu", given, rounding=strict).ok
    assert not rejected(relu(1), "relu", given, rounding=strict, **BARE).ok

    def near(x, W, cotangent):  # 0 but for rounding: either side
        y = np.float32(x @ W)
        slope = (y > 0) * cotangent
        return np.maximum(y, 0), {"x": slope @ W.T, "W": x.T @ slope}

    rng = np.random.default_rng(0)
    x, W = np.repeat(rng.standard_normal((8, 1)), 40, axis=1), rng.standard_normal((40, 6))
    W[:, 0] = np.where(np.arange(40) % 2, -1, 1)[rng.permutation(40)] * 0.1
    x[0] = rng.permutation(np.linspace(1, 2, 40))
    given = {"x": x, "W": W, "cotangent": rng.standard_normal((8, 6))}
    formula = lambda x, W: np.maximum(x @ W, 0)  # noqa: E731
    assert oracle.check(near, formula, given, rounding=Rounding(), **BARE).ok


# What it would have seen.


def test_a_cotangent_that_cannot_excite_the_op():
    given = two(20, 30) | {"cotangent": np.ones((20, 30))}
    report = rejected(softmax, "softmax", given, **BARE)
    assert len(report.problems) == 1
    assert report.problems[0].startswith("vacuous: in the gradient of x it would have seen nothing")
    assert report.problems[0].endswith("the cotangent is constant: give it random numbers")
    assert report.verdicts["x"].ok


def test_a_gradient_that_is_zero():
    given = two(20, 30)
    report = rejected(relu(0), "relu", given | {"x": -np.abs(given["x"])}, **BARE)
    assert any("in the gradient of x" in problem for problem in report.problems)


def test_a_model_so_wide_that_it_sees_little():
    wide = Rounding(io="e5m2", accumulate="e5m2")
    kernel = lambda x, cotangent: softmax(x, cotangent)  # noqa: E731
    report = rejected(kernel, "softmax", two(3, 30), rounding=wide, **BARE)
    assert all(problem.startswith("vacuous") for problem in report.problems)
    assert oracle.check(kernel, "softmax", two(3, 30), rounding=wide, power=10, **BARE).ok


@given(seed=st.integers(0, 99))
@settings(max_examples=10)
def test_what_it_says_it_sees_it_sees(seed):
    report = oracle.check(softmax, "softmax", two(20, 30, seed=seed), **BARE)
    sees = report.verdicts["x"].sees

    def kernel(x, cotangent):
        y, grads = softmax(x.astype(float), cotangent.astype(float))
        return y, {"x": grads["x"] * (1 + 1.01 * sees)}

    assert rejected(kernel, "softmax", two(20, 30, seed=seed), **BARE).verdicts["value"].ok


# Formulas that are no ops, and wrong calls.


def test_a_formula():
    def formula(x, W):
        return np.tanh(x @ W)

    def kernel(x, W, cotangent):
        y = np.tanh(x @ W)
        d = cotangent * (1 - y * y)
        return y, {"x": d @ W.T, "W": x.T @ d}

    rng = np.random.default_rng(0)
    given = {"x": rng.standard_normal((6, 5)), "W": rng.standard_normal((5, 3))}
    given["cotangent"] = rng.standard_normal((6, 3))
    report = oracle.check(kernel, formula, given)
    assert report.op == "formula"
    assert not any("= 1" in run.label for run in report.runs)
    report = oracle.check(kernel, formula, given, shapes="x:BI W:IO -> BO")
    assert {"B = 1", "I = 0", "O = 1"} <= {run.label for run in report.runs}

    def wrong(x, W, cotangent):
        y, grads = kernel(x, W, cotangent)
        return y, grads | {"W": np.roll(grads["W"], 1, axis=-1)}

    report = rejected(wrong, formula, given, shapes="x:BI W:IO -> BO")
    assert report.causes[0].text == "the gradient of W is shifted by 1 along axis -1"


def test_wrong_calls():
    x = two(3, 4)
    for message, args, options in (
        ("inputs has x: wanted 'cotangent'", ("softmax", {"x": x["x"]}), {}),
        ("power=0: wanted a positive", ("softmax", x), {"power": 0}),
        ("seeds=-1: wanted 0 or more", ("softmax", x), {"seeds": -1}),
        ("layouts='strided': wanted some of", ("softmax", x), {"layouts": "strided"}),
        (r"edges=\['zero'\]: wanted some of", ("softmax", x), {"edges": ["zero"]}),
        ("shapes='x': wanted something like", (np.exp, x), {"shapes": "x"}),
        ("there is no op 'softmix'", ("softmix", x), {}),
        (
            "axis is among the inputs and the attributes",
            ("softmax", x | {"axis": -1}),
            {"axis": -1},
        ),
    ):
        with pytest.raises(ValueError, match=message):
            oracle.check(softmax, *args, **options)
    with pytest.raises(TypeError, match="softmax: the gradients: came 'y', wanted 'x'"):
        oracle.check(_misnamed, "softmax", x)
    with pytest.raises(ZeroDivisionError):  # a kernel's own errors are not hidden
        oracle.check(lambda x, cotangent: 1 / 0, "softmax", x)


def _misnamed(x, cotangent):
    return x, {"y": x}


_misnamed.__module__, _misnamed.__name__ = "", "softmax"


# Variants of the inputs.


def test_layouts():
    x = np.arange(6.0).reshape(2, 3)
    for layout, strides in (("C", (24, 8)), ("strided", (48, 16)), ("transposed", (8, 16))):
        y = laid_out(x, layout)
        assert y.strides == strides
        assert np.array_equal(y, x)
        assert not np.shares_memory(x, y)
    assert np.isnan(laid_out(x, "strided").base[:, 1::2]).all()
    assert laid_out(x, "broadcast").strides == (24, 8), "only equal rows can share memory"
    assert laid_out(np.ones((2, 3)), "broadcast").strides == (0, 8)
    assert laid_out(np.float64(3.0), "strided").shape == ()


def test_shuffling_keeps_the_numbers():
    given = {"x": np.arange(6.0), "ids": np.arange(3), "cotangent": np.arange(9.0) + 1}
    other = shuffled(given, np.random.default_rng(0))
    assert sorted(other["x"]) == sorted(given["x"])
    sizes = np.abs(other["cotangent"])
    assert np.max(np.where(sizes > 9, sizes / 2, sizes)) == 9
    one = {"x": np.arange(2.0), "cotangent": np.array(1.0)}
    assert all(shuffled(one, np.random.default_rng(i))["cotangent"] != 1 for i in range(9))
    assert np.min(other["cotangent"]) < 0
    assert other["ids"] is given["ids"]


def test_a_single_row_may_share_one_error():
    """As a float32 kernel whose exponentials sum to a little more than they should."""

    def kernel(x, cotangent):
        e = np.exp(x - np.max(x, axis=-1, keepdims=True))
        total = np.sum(e, axis=-1, keepdims=True) * np.float32(1 + 5e-7 * (len(x) == 1))
        y = e / total
        return y, {"x": y * (cotangent - np.sum(y * cotangent, axis=-1, keepdims=True))}

    x, cotangent = np.random.default_rng(3).standard_normal((2, 9, 300))
    report = oracle.check(kernel, "softmax", {"x": x, "cotangent": cotangent})
    assert "... = 1" in {run.label for run in report.runs}
