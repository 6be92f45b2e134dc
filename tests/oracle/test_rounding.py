"""The rounding arithmetic: it bounds what NumPy does in a narrower format, function by function."""

import numpy as np
import pytest
from cases import CASES
from helpers import largest
from hypothesis import given
from hypothesis import strategies as st
from registry import REGISTRY

import tinylm as tl
from tinylm.oracle import FORMATS, Bounded, Rounding
from tinylm.oracle.reference import bounds, tolerances

WORST = Rounding(io="f32", accumulate="f32", bound="worst")
USUAL = Rounding(io="f32", accumulate="f32")


def bounded(x, model):
    return Bounded(np.asarray(x, dtype=np.float64), np.zeros(np.shape(x)), model)


def with_errors(f, primals, cotangent, model):
    """Value and gradients as (float64, error) pairs."""
    value, pullback = tl.vjp(f, *(bounded(x, model) for x in primals))
    results = [value, *pullback(bounded(cotangent, model))]
    return [
        (x.value, x.error) if type(x) is Bounded else (x, np.zeros(np.shape(x))) for x in results
    ]


def plain(f, primals, cotangent):
    value, pullback = tl.vjp(f, *primals)
    return [value, *pullback(cotangent)]


def narrow(x):
    return np.asarray(x).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_function_of_the_table_has_a_bound(case):
    """In float32, by the formula: value and gradients are within the worst case."""
    rng = np.random.default_rng(11)
    primals = [narrow(case.domain(rng.standard_normal(shape))) for shape in case.shapes]
    wide = [x.astype(np.float64) for x in primals]
    cotangent = narrow(rng.standard_normal(np.shape(case.call(*wide))))
    with np.errstate(all="ignore"):
        got = plain(case.call, primals, cotangent)
        exact = plain(case.call, wide, cotangent.astype(np.float64))
        allowed = with_errors(case.call, wide, cotangent, WORST)
    for a, b, (value, error) in zip(got, exact, allowed, strict=True):
        np.testing.assert_allclose(value, b, rtol=1e-9, atol=1e-12 * largest(b))
        assert np.shape(error) == np.shape(b)
        second_order = 1e-10 * largest(b)
        assert np.all(np.abs(a - b) <= 1.01 * error + second_order)


@pytest.mark.parametrize("name", REGISTRY)
@given(data=st.data())
def test_formulas_in_float32_are_within_the_worst_case(name, data):
    entry = REGISTRY[name]
    arrays, attributes = data.draw(entry.inputs, label="inputs")
    arrays = [narrow(x) for x in arrays]
    wide = [x.astype(np.float64) for x in arrays]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))

    def op(*arrays):
        return entry.op(*arrays, **attributes)

    with np.errstate(all="ignore"), tl.formulas():
        cotangent = narrow(rng.standard_normal(np.shape(op(*wide))))
        got, exact = plain(op, arrays, cotangent), plain(op, wide, cotangent.astype(np.float64))
        allowed = with_errors(op, wide, cotangent, WORST)
    for a, b, (_, error) in zip(got, exact, allowed, strict=True):
        finite = np.isfinite(b) & np.isfinite(error)
        assert np.all(np.abs(a - b)[finite] <= 1.05 * error[finite] + 1e-7 * error.max(initial=0))


def test_the_usual_error_is_what_is_usual():
    """A matrix product of many terms: the rms of error / deviation is of the order of one."""
    rng = np.random.default_rng(0)
    A, B = (narrow(rng.standard_normal((300, 300))) for _ in range(2))
    half = FORMATS["f16"]
    model = Rounding(io="f16", accumulate="f32")
    product = np.matmul(bounded(half.rounded(A), model), bounded(half.rounded(B), model))
    got = half.rounded(narrow(half.rounded(A)) @ narrow(half.rounded(B)))
    stored = product.store("f16")
    ratio = np.sqrt(np.mean(((got - stored.value) / stored.error) ** 2))
    assert 0.5 < ratio < 1.5
    worst = Rounding(io="f16", accumulate="f32", bound="worst")
    product = np.matmul(bounded(half.rounded(A), worst), bounded(half.rounded(B), worst))
    assert np.all(np.abs(got - stored.value) <= product.store("f16").error)


def test_names_say_what_is_stored():
    model = Rounding(io="f32", accumulate="f32", stores={"weights": "bf16", "d_scores": "bf16"})
    x = bounded([[1.0, 2.0], [3.0, 5.0]], model)
    for stores, more in (({}, 1), ({"weights": "bf16"}, 100), ({"nothing": "bf16"}, 1)):
        model = Rounding(io="f32", stores=stores)
        x = bounded([[1.0, 2.0], [3.0, 5.0]], model)
        y = tl.attention(x, x, x)
        assert more < np.max(y.error) / (2**-24 * np.max(y.value)) < 1000 * more
    x = bounded(x.value, Rounding(stores={"d_scores": "bf16"}))
    value, pullback = tl.vjp(lambda x: tl.attention(x, x.value, x.value), x)
    assert np.max(value.error) < 3e-5
    assert np.max(pullback(x)[0].error) > 1e-4


def test_exact_functions_round_nothing():
    x = bounded([[1.0, -2.0], [3.0, -5.0]], WORST)
    for f in (
        lambda x: -x, np.abs, lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, x, 0),
        np.transpose, lambda x: x[0], lambda x: np.concatenate([x, x]), lambda x: np.max(x, axis=0),
        lambda x: np.pad(x, 1), lambda x: np.sum(x[:, :1], axis=1), lambda x: x.astype(float),
    ):  # fmt: skip
        assert not np.any(f(x).error)
    assert np.array_equal((x + x).error, 2**-24 * np.abs(2 * x.value))
    assert np.array_equal((x * 3.0).error, 2**-24 * np.abs(3 * x.value))
    assert bool(x[0, 0] > 0)


def test_what_is_read_on_the_way_back_is_what_was_stored():
    """The output of softmax, stored in bf16, is what its vjp multiplies with."""
    given = {"x": np.array([0.1, 0.7, -0.3])}
    cotangent = np.array([1.0, -0.5, 0.2])
    narrow = bounds(tl.softmax, given, given, cotangent, Rounding(io="bf16", bound="worst"))
    wide = bounds(tl.softmax, given, given, cotangent, Rounding(io="f32", bound="worst"))
    y, size = narrow["value"].value, FORMATS["bf16"].error(narrow["x"].value)
    delta = np.sum(np.abs(cotangent * y)) * 2**-8  # of the rounded y
    assert np.all(narrow["x"].error - size >= y * delta * 0.99)
    assert np.all(wide["x"].error < 1e-6)


@pytest.mark.parametrize("bound", ["worst", "prob"])
def test_undecided_comparisons_allow_either_answer(bound):
    model = Rounding(io="f32", bound=bound)
    x = Bounded([-1.0, -1e-4, 0.0, 1e-4, 1.0], np.full(5, 1e-3), model)
    for f, jumps in (
        (tl.relu.formula, [0, 1, 1, 1, 0]),
        (np.abs, [0, 2, 2, 2, 0]),
        (lambda x: np.maximum(x, 0.0), [0, 1, 1, 1, 0]),
        (lambda x: np.where(x > 3, 5 * x, x), [0] * 5),
    ):
        _, pullback = tl.vjp(f, x)
        (slope,) = pullback(bounded(np.ones(5), model))
        allowed = slope.allowed if type(slope) is Bounded else np.zeros(5)
        either = np.array(jumps) > 0
        assert np.all(allowed[either] >= 0.5)
        assert np.all(allowed[~either] < 1e-5)
    exact = bounded([0.0, 1.0], model)  # a tie is a kink, too
    (slope,) = tl.vjp(tl.relu.formula, exact)[1](bounded([2.0, 2.0], model))
    assert slope.allowed[0] >= 2
    assert slope.allowed[1] < 1e-5
    strict = bounded([0.0, 1.0], Rounding(io="f32", bound=bound, kinks="convention"))
    (slope,) = tl.vjp(tl.relu.formula, strict)[1](bounded([2.0, 2.0], model))
    assert np.all(slope.allowed < 1e-5)


def test_safety_is_how_many_errors_are_allowed():
    assert Rounding().safety == 4
    assert Rounding(bound="worst").safety == 1
    x = Bounded([1.0], [0.5], Rounding(safety=3))
    assert x.allowed == 1.5
    for safety in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="Rounding: safety="):
            Rounding(safety=safety)


def test_errors_add_up():
    for model, sums in ((WORST, (7.0, 5.0)), (USUAL, (5.0, np.sqrt(17.0)))):
        a, b = Bounded([1.0], [3.0], model), Bounded([2.0], [4.0], model)
        assert (a + b).error == pytest.approx(sums[0])
        assert (a - b).error == pytest.approx(sums[0])
        assert np.sum(np.concatenate([a, b])).error == pytest.approx(sums[0])
        c, d = Bounded([[2.0]], [[0.5]], model), Bounded([[8.0]], [[0.5]], model)
        both = 5.0 if model is WORST else np.sqrt(17.0)
        assert np.matmul(c, d).error == pytest.approx(both, rel=1e-6)
        assert (c * d).error == pytest.approx(both, rel=1e-6)
    assert sums[1] == pytest.approx(np.sqrt(17.0))


def test_what_has_no_rule():
    with pytest.raises(TypeError, match="numpy.fft.fft has no rule in the rounding arithmetic"):
        np.fft.fft(bounded([1.0], WORST))
    with pytest.raises(TypeError, match=r"numpy\.exp with out="):
        np.exp(bounded([1.0], WORST), out=np.empty(1))


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_the_roundings_of_a_sum(mean):
    """Accumulated one after the other in half precision: a random walk, or even growth."""
    half = FORMATS["f16"].rounded
    x = half(np.random.default_rng(3).standard_normal((2000, 64)) + mean)
    model = Rounding(io="f64", accumulate="f16")
    total = np.zeros(2000)
    for column in x.T:
        total = half(total + column)
    known = np.sum(bounded(x, model), axis=1)
    ratio = np.sqrt(np.mean(((total - known.value) / known.error) ** 2))
    assert 0.4 < ratio < 1.3
    product = np.matmul(bounded(x, model), np.ones(64))
    assert np.all(product.error >= known.error)


def test_the_error_of_a_product_of_all():
    x = Bounded([2.0, 3.0, 5.0], [0.1, 0.2, 0.0], WORST)
    assert np.prod(x).error == pytest.approx(15 * 0.1 + 10 * 0.2, rel=1e-5)


def test_values_and_gradients_are_stored():
    given = {"x": np.array([0.5, 1.0])}
    for io, unit in (("bf16", 2**-8), ("f16", 2**-11)):
        model = Rounding(io=io, accumulate="f32", bound="worst")
        known = bounds(tl.gelu, given, given, np.ones(2), model)
        for x in known.values():
            assert np.all(unit * np.abs(x.value) <= x.error)
            assert np.all(x.error <= 1.1 * unit * np.abs(x.value))


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_sums_that_go_through_memory_in_blocks(mean):
    """Added up in float64, and kept in bfloat16 after every 16 of 512 terms."""
    bf16 = FORMATS["bf16"].rounded
    x = bf16(np.random.default_rng(4).standard_normal((2000, 512)) + mean)
    total = np.zeros(2000)
    for block in np.split(x, 32, axis=1):
        total = bf16(total + np.sum(block, axis=1))
    ratios = []
    for size in (16, 0):
        model = Rounding(io="bf16", accumulate="f64", block=size)
        known = np.sum(bounded(x, model), axis=1).store("bf16")
        ratios.append(np.sqrt(np.mean(((total - known.value) / known.error) ** 2)))
    assert 0.4 < ratios[0] < 1.3 < ratios[1]
    worst = Rounding(io="bf16", accumulate="f64", block=16, bound="worst")
    assert np.all(np.abs(total - known.value) <= np.sum(bounded(x, worst), axis=1).error)


def test_some_tensors_have_a_model_of_their_own():
    rng = np.random.default_rng(0)
    given = {"x": rng.standard_normal((64, 8)), "gain": rng.standard_normal(8)}
    own = Rounding(io="bf16", accumulate="bf16")
    models = {
        "plain": Rounding(io="bf16"),
        "own": own,
        "mixed": Rounding(io="bf16", tensors={"gain": own}),
    }
    found = {
        name: tolerances(tl.rms_norm, given, given, given["x"], model)
        for name, model in models.items()
    }
    for tensor, like in (("value", "plain"), ("x", "plain"), ("gain", "own")):
        assert np.array_equal(found["mixed"][tensor].error, found[like][tensor].error)
    assert np.min(found["own"]["gain"].error / found["plain"]["gain"].error) > 2


def test_the_largest_error_of_all_programs_is_allowed():
    given = {"x": np.array([-6.0, 1.0])}  # where 1 + erf has few digits
    model = Rounding(io="f32")
    by_formula = bounds(tl.gelu.formula, given, given, np.ones(2), model)["value"].error
    allowed = tolerances(tl.gelu, given, given, np.ones(2), model)["value"].error
    assert allowed[0] > 1e3 * by_formula[0]
    assert allowed[1] < 5 * by_formula[1]


def test_at_a_kink_the_middle_of_both_sides_is_expected():
    given = {"x": np.array([-1.0, 0.0, 2.0])}
    cotangent = np.array([1.0, 3.0, 1.0])
    found = tolerances(tl.relu, given, given, cotangent, Rounding(io="f32"))["x"]
    assert found.value.tolist() == [0, 1.5, 1]
    assert found.allowed == pytest.approx([0, 1.5, 0], rel=0.02, abs=1e-6)
    assert found.undecided.tolist() == [False, True, False]
    strict = tolerances(tl.relu, given, given, cotangent, Rounding(io="f32", kinks="convention"))
    assert strict["x"].value.tolist() == [0, 0, 1]
    assert not np.any(strict["x"].undecided)
