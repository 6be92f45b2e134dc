"""Three witnesses for every op, and the ways to call it wrongly."""

import contextlib
import re
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_close, complex_step, complex_step_along, distance, largest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from registry import REGISTRY

import tinylm as tl
import tinylm.ops
from tinylm.autograd import Fused

ENTRIES = pytest.mark.parametrize("entry", REGISTRY.values(), ids=list(REGISTRY))
WITH_KERNEL = [name for name, entry in REGISTRY.items() if entry.op._kernel is not None]


def test_every_op_is_in_the_registry_and_cites_its_source():
    ops = {name: op for name, op in vars(tinylm.ops).items() if name in tinylm.ops.__all__}
    fused = {name for name, op in ops.items() if isinstance(op, Fused)}
    assert fused == set(REGISTRY)
    for name in fused | {"dropout"}:
        assert re.search(r"[A-Z]\w+(,| and| et al\.|\s)[^.]*\b(19|20)\d\d\b", ops[name].__doc__), (
            f"{name} cites nobody"
        )
        for part in ("Parameters", "Returns", "Examples", ">>> "):
            assert part in ops[name].__doc__, f"{name}: {part}"
        assert getattr(tl, name) is ops[name]


@ENTRIES
def test_the_value_worked_by_hand(entry):
    arrays, attributes, expected = entry.pin
    for call in (entry.op, entry.op.formula):
        np.testing.assert_allclose(call(*arrays, **attributes), expected, rtol=1e-14, atol=1e-16)


def run(entry, data):
    arrays, attributes = data.draw(entry.inputs, label="inputs")
    return arrays, attributes, np.random.default_rng(data.draw(st.integers(0, 99)))


@ENTRIES
@given(data=st.data())
def test_formula_and_kernel_are_the_loops(entry, data):
    arrays, attributes, _ = run(entry, data)
    expected = entry.loops(*arrays, **attributes)
    for call in (entry.op, entry.op.formula):
        value = call(*arrays, **attributes)
        assert value.shape == expected.shape
        finite = np.where(np.isfinite(expected), expected, 0)
        assert np.array_equal(np.isfinite(value), np.isfinite(expected))
        assert distance(np.where(np.isfinite(value), value, 0), finite) < 1e-12


WITH_PROGRAMS = [e for e in REGISTRY.values() if len(e.op.programs) > 1]


@pytest.mark.parametrize("entry", WITH_PROGRAMS, ids=lambda entry: entry.op.__name__)
@given(data=st.data())
def test_every_program_is_the_formula(entry, data):
    arrays, attributes, rng = run(entry, data)
    arrays = [np.clip(x, -30, 30) for x in arrays]  # programs may be worse where numbers are large
    value, pullback = tl.vjp(lambda *x: entry.op.formula(*x, **attributes), *arrays)
    cotangent = rng.standard_normal(value.shape)
    full = {key: entry.op.defaults[key] for key in entry.op.defaults} | attributes
    for program in entry.op.programs[1:]:
        with np.errstate(all="ignore"):
            again, pull = tl.vjp(lambda *x, f=program: f(*x, **full), *arrays)
            cotangents = pull(cotangent)
        np.testing.assert_allclose(again, value, rtol=1e-12, atol=1e-12)
        assert_close(cotangents, pullback(cotangent), floor=largest(cotangent))


def tangents_of(arrays, rng):
    return [rng.standard_normal(x.shape) * max(largest(x), 1e-6) for x in arrays]


@ENTRIES
@given(data=st.data())
def test_formula_is_the_complex_step(entry, data):
    arrays, attributes, rng = run(entry, data)

    def formula(*arrays):
        return entry.op.formula(*arrays, **attributes)

    value, pullback = tl.vjp(formula, *arrays)
    cotangent = rng.standard_normal(value.shape)
    expected = complex_step(formula, arrays, cotangent)
    assert_close(pullback(cotangent), expected, floor=largest(cotangent))
    tangents = tangents_of(arrays, rng)
    expected = complex_step_along(formula, arrays, tangents)
    assert_close([tl.jvp(formula, arrays, tangents)[1]], [expected], floor=largest(value))


@ENTRIES
@given(data=st.data())
def test_order_two_is_the_complex_step_of_the_gradient(entry, data):
    arrays, attributes, rng = run(entry, data)
    weights = rng.standard_normal(np.shape(entry.op(*arrays, **attributes)))
    tangents = tangents_of(arrays, rng)
    every = tuple(range(len(arrays)))

    def scalar(*arrays):
        y = entry.op(*arrays, **attributes)
        return np.sum(np.where(np.isfinite(y), y * y, 0) * weights)

    gradient = tl.grad(scalar, every)
    expected = complex_step_along(gradient, arrays, tangents)
    got = tl.hvp(scalar, arrays, tangents)
    for a, b, g in zip(got, expected, gradient(*arrays), strict=True):
        assert_close([a], [b], floor=max(largest(g), 1.0))


def by_formula(op, arrays, cotangent):
    with tl.formulas():
        value, pullback = tl.vjp(op, *arrays)
    return [value, *pullback(cotangent)]


def errors(got, exact):
    """Largest error of each array; what is not finite must be so in both."""
    for a, b in zip(got, exact, strict=True):
        assert np.array_equal(np.isfinite(a), np.isfinite(b))
    return [largest(np.asarray(a, b.dtype) - b) for a, b in zip(got, exact, strict=True)]


WIDER = {np.float32: np.float64, np.float64: np.longdouble}
JITTERS = 6


def obeys_the_law(entry, data, dtype):
    """A kernel is at most twice as far from the truth as its formula in its dtype, plus a few ulp.

    The truth is the formula in a wider dtype. How far the formula is from it depends on how its
    roundings happen to fall: it is taken at several points beside the one of the kernel.
    """
    arrays, attributes, rng = run(entry, data)
    arrays = [x.astype(dtype) for x in arrays]
    cotangent = rng.standard_normal(np.shape(entry.op(*arrays, **attributes))).astype(dtype)
    before = [x.copy() for x in (*arrays, cotangent)]

    def op(*arrays):
        return entry.op(*arrays, **attributes)

    value, pullback = tl.vjp(op, *arrays)
    kernel = [value, *pullback(cotangent)]
    for a, b in zip(before, (*arrays, cotangent), strict=True):
        assert np.array_equal(a, b), "an input was written into"

    def exact(arrays):
        return by_formula(
            op, [x.astype(WIDER[dtype]) for x in arrays], cotangent.astype(WIDER[dtype])
        )

    truth = exact(arrays)
    allowed = [8 * float(np.finfo(dtype).eps) * largest(x) for x in truth]
    for _ in range(JITTERS):
        near = [(x * (1 + 1e-3 * rng.standard_normal(x.shape))).astype(dtype) for x in arrays]
        formula_errors = errors(by_formula(op, near, cotangent), exact(near))
        allowed = [
            max(a, 2 * error + 8 * float(np.finfo(dtype).eps) * largest(t))
            for a, error, t in zip(allowed, formula_errors, truth, strict=True)
        ]
    for array, error, most in zip(kernel, errors(kernel, truth), allowed, strict=True):
        assert array.dtype == dtype
        assert error <= most


@pytest.mark.parametrize("name", WITH_KERNEL)
@given(data=st.data())
def test_the_kernel_obeys_the_law(name, data):
    obeys_the_law(REGISTRY[name], data, np.float32)


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps == np.finfo(np.float64).eps,
    reason="here NumPy has no arithmetic wider than float64 to hold the kernel against",
)
@pytest.mark.parametrize("name", WITH_KERNEL)
@given(data=st.data())
def test_the_kernel_obeys_the_law_in_float64(name, data):
    entry = REGISTRY[name]
    if name == "gelu":  # SciPy's erfc is no wider than float64
        entry = replace(
            entry, inputs=entry.inputs.map(lambda drawn: (drawn[0], {"approximate": True}))
        )
    obeys_the_law(entry, data, np.float64)


def test_the_exact_gelu_in_float64(rng):
    x = np.concatenate([rng.standard_normal(500) * s for s in (1e-6, 1e-2, 1, 5)])
    value, pullback = tl.vjp(tl.gelu, x)
    with tl.formulas():
        formula_value, formula_pullback = tl.vjp(tl.gelu, x)
    np.testing.assert_allclose(value, formula_value, rtol=1e-14)
    cotangent = np.ones(x.shape)
    np.testing.assert_allclose(
        pullback(cotangent)[0], formula_pullback(cotangent)[0], rtol=1e-13, atol=1e-16
    )


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_kernels_that_are_wrong_by_a_thousandth_are_caught(name, monkeypatch):
    entry = REGISTRY[name]
    right_kernel, right_vjp = entry.op._kernel, entry.op._vjp

    def wrong_kernel(*args):
        value, residuals = right_kernel(*args)
        return 1.001 * value, residuals

    def wrong_vjp(i):
        def vjp(residuals, cotangent):
            answer = right_vjp(residuals, cotangent)
            answers = list(answer) if isinstance(answer, tuple) else [answer]
            answers[i] = None if answers[i] is None else 1.001 * answers[i]
            return tuple(answers)

        return vjp

    def caught():
        @settings(max_examples=30, database=None, phases=[Phase.generate])
        @given(data=st.data())
        def law(data):
            obeys_the_law(entry, data, np.float32)

        try:
            law()
        except AssertionError:
            return True
        return False

    monkeypatch.setattr(entry.op, "_kernel", wrong_kernel)
    assert caught()
    monkeypatch.setattr(entry.op, "_kernel", right_kernel)
    for i in range(len(entry.op.arrays)):
        monkeypatch.setattr(entry.op, "_vjp", wrong_vjp(i))
        assert caught(), entry.op.parameters[i]


@ENTRIES
def test_higher_order_goes_through_the_formula(entry):
    arrays, attributes, _ = entry.pin
    value, pullback = tl.vjp(lambda *x: entry.op(*x, **attributes), *arrays)
    pulled = tl.jacobian(lambda c: pullback(c)[0])(np.ones(np.shape(value)))
    columns = tl.jacobian(lambda *x: entry.op(*x, **attributes))(*arrays)
    assert_close(
        [np.moveaxis(pulled, range(np.ndim(arrays[0])), range(-np.ndim(arrays[0]), 0))],
        [columns],
        1e-13,
    )


@ENTRIES
def test_lists_and_integers_are_taken_as_floats(entry):
    arrays, attributes, expected = entry.pin
    lists = [x.tolist() for x in arrays]
    np.testing.assert_allclose(entry.op(*lists, **attributes), expected, rtol=1e-14, atol=1e-16)
    if entry.op is tl.softmax:
        assert tl.softmax([0, 0]).tolist() == [0.5, 0.5]
        assert tl.softmax([0, 0]).dtype == np.float64


def test_formulas_switches_the_kernels_off(monkeypatch):
    def no_kernel(*args):
        raise AssertionError("the kernel ran")

    monkeypatch.setattr(tl.gelu, "_kernel", no_kernel)
    x = np.ones(3)
    with pytest.raises(AssertionError, match="the kernel ran"):
        tl.gelu(x)
    with tl.formulas():
        _, pullback = tl.vjp(tl.gelu, x)
    pullback(x)  # what was recorded with the formula goes back through it
    with tl.record():
        tl.gelu(x)
    tl.gelu(x.astype(complex))
    tl.hvp(lambda x: np.sum(tl.gelu(x)), (x,), (x,))


def test_attributes_can_be_differentiated_as_well(rng):
    Q, K, V = rng.standard_normal((3, 4, 5))

    def f(scale):
        return np.sum(tl.attention(Q, K, V, scale=scale) ** 2)

    along = np.imag(f(0.3 + 1e-30j)) / 1e-30
    assert tl.grad(f)(0.3) == pytest.approx(along, rel=1e-12)
    eps = tl.grad(lambda eps: np.sum(tl.rms_norm(Q, V[0], eps)))(0.1)
    expected = -0.5 * np.sum(Q * V[0] * (np.mean(Q * Q, -1, keepdims=True) + 0.1) ** -1.5)
    assert eps == pytest.approx(expected, rel=1e-12)


def test_large_logits():
    x = np.array([1e4, 0.0, -1e4, 9999.0])
    for op, loops in ((tl.softmax, REGISTRY["softmax"].loops), (tl.log_softmax, None)):
        assert np.isfinite(op(x)).all()
        if loops:
            assert distance(op(x), loops(x)) < 1e-12
    assert tl.cross_entropy(x[None], [2]) == pytest.approx(2e4 + np.log1p(np.exp(-1.0)))


def test_log_softmax_keeps_the_smallest_probability():
    """At [37.4, 0] one minus the probability is 5.7e-17, half of what 1 - p can hold."""
    x = np.array([37.4, 0.0])
    small = np.exp(-37.4) / (1 + np.exp(-37.4))
    value, pullback = tl.vjp(tl.log_softmax.formula, x)
    assert value[0] == pytest.approx(-small, rel=1e-14, abs=0)
    (gradient,) = pullback(np.array([1.0, 0.0]))
    assert gradient == pytest.approx([small, -small], rel=1e-14, abs=0)
    assert tl.grad(lambda x: tl.cross_entropy.formula(x[None], [0]))(x) == pytest.approx(
        [-small, small], rel=1e-14, abs=0
    )
    gradient = pullback(np.array([0.0, 1.0]))[0]
    assert gradient == pytest.approx([-1.0, 1.0], rel=1e-15, abs=0)


def test_a_query_that_may_attend_to_nothing(rng):
    Q, K, V = (rng.standard_normal((3, 5)) for _ in range(3))
    mask = np.array([[True, True, False], [False, False, False], [True, False, True]])
    for context in (contextlib.nullcontext(), tl.formulas()):
        with context:
            y, pullback = tl.vjp(lambda Q, K, V: tl.attention(Q, K, V, mask), Q, K, V)
            d_Q, d_K, d_V = pullback(rng.standard_normal((3, 5)))
        assert not y[1].any()
        assert not d_Q[1].any()
        assert np.isfinite([d_Q, d_K, d_V]).all()
    empty = tl.attention(Q, K[:0], V[:0])
    assert not empty.any()
    assert empty.shape == (3, 5)
    assert not tl.softmax(np.full(3, -np.inf)).any()


def test_causal_attention_does_not_look_ahead(rng):
    Q, K, V = (rng.standard_normal((2, 7, 5)) for _ in range(3))
    gradient = tl.grad(lambda K: np.sum(tl.attention(Q, K, V, causal=True)[:, 3]))(K)
    assert not gradient[:, 4:].any()
    assert gradient[:, :4].all()
    both = tl.attention(Q, K, V, mask=np.tri(7, dtype=bool))
    np.testing.assert_allclose(tl.attention(Q, K, V, causal=True), both, rtol=1e-14)


def test_dropout(rng):
    x = np.ones((200, 300))
    y = tl.dropout(x, 0.25, rng)
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert abs(np.mean(y == 0) - 0.25) < 0.01
    assert np.array_equal(
        tl.dropout(x, 0.25, np.random.default_rng(1)), tl.dropout(x, 0.25, np.random.default_rng(1))
    )
    gradient = tl.grad(lambda x: np.sum(tl.dropout(x, 0.25, np.random.default_rng(1))))(x)
    assert np.array_equal(gradient, tl.dropout(x, 0.25, np.random.default_rng(1)))
    assert tl.dropout(x.astype(np.float32), 0.5, rng).dtype == np.float32
    assert tl.dropout(x, 0.0, rng) is x


X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tl.softmax(), "missing a required argument: 'x'"),
        (lambda: tl.softmax(X, 1, 2), "too many positional arguments"),
        (lambda: tl.softmax(X, axes=1), "unexpected keyword argument 'axes'"),
        (lambda: tl.softmax(axes=1), "missing a required argument|unexpected keyword"),
        (lambda: tl.softmax(X, x=X), "multiple values for argument 'x'"),
        (lambda: tl.softmax(X, axis=2), "axis 2 is out of bounds"),
        (lambda: tl.softmax(["a"]), "x holds <U1: wanted numbers"),
        (
            lambda: tl.attention(X, X[0], X),
            r"attention: K has shape \(3,\): wanted \(\.\.\., positions",
        ),
        (
            lambda: tl.attention(X, np.ones((2, 4)), X),
            "K has 4 features at each position, and Q has 3",
        ),
        (lambda: tl.attention(X, X, np.ones((5, 3))), "V has 5 positions, and K has 2"),
        (lambda: tl.attention(X[:, :0], X[:, :0], X), r"1 / sqrt\(0\) is no scale"),
        (
            lambda: tl.attention(X, X, X, mask=np.ones((2, 2))),
            "mask holds float64: wanted bool, True = may",
        ),
        (
            lambda: tl.attention(X, X, X, mask=np.ones((3, 2), bool)),
            r"mask of shape \(3, 2\) does not broadcast to \(2, 2\)",
        ),
        (
            lambda: tl.attention(X[:1], X, X, mask=np.ones((3, 2), bool)),
            r"mask of shape \(3, 2\) does not broadcast to \(1, 2\)",
        ),
        (lambda: tl.attention(np.ones((2, 2, 3)), np.ones((5, 2, 3)), X), "leading axes of Q"),
        (
            lambda: tl.layer_norm(X, np.ones(2), np.ones(3)),
            r"layer_norm: gain has shape \(2,\).*wanted \(3,\)",
        ),
        (
            lambda: tl.layer_norm(X, np.ones(3), np.ones((1, 3))),
            r"layer_norm: bias has shape \(1, 3\)",
        ),
        (lambda: tl.rms_norm(X[:, :0], np.ones(0)), r"rms_norm: x has shape \(2, 0\): wanted"),
        (lambda: tl.linear(X, np.ones(3)), r"linear: W has shape \(3,\): wanted \(in, out\)"),
        (
            lambda: tl.linear(X, np.ones((2, 5))),
            r"linear: x has shape \(2, 3\).*wanted \(\.\.\., 2\) for x",
        ),
        (
            lambda: tl.linear(X, np.ones((3, 5)), np.ones(3)),
            r"linear: b has shape \(3,\).*wanted \(5,\)",
        ),
        (lambda: tl.embedding(X, [0.0]), "ids holds float64: wanted integers"),
        (lambda: tl.embedding(X, [0, 2]), r"id 2 is outside the table \[0, 2\)"),
        (lambda: tl.embedding(X, -1), "id -1 is outside"),
        (lambda: tl.embedding(X[0], 0), r"table has shape \(3,\): wanted \(V, C\)"),
        (lambda: tl.cross_entropy(X, [0.5, 1]), "targets holds float64"),
        (lambda: tl.cross_entropy(X, [0]), r"targets has shape \(1,\), and logits has \(2, 3\)"),
        (lambda: tl.cross_entropy(X, [0, 3]), r"target 3 is outside the vocabulary \[0, 3\)"),
        (lambda: tl.cross_entropy(X, [0, -1]), "target -1 is outside"),
        (lambda: tl.cross_entropy(X, [-100, -100]), "no target counts"),
        (
            lambda: tl.cross_entropy(X, [0, 1], label_smoothing=1.5),
            "label_smoothing=1.5: wanted a number from 0 to 1",
        ),
        (lambda: tl.cross_entropy(X, [0, 1], label_smoothing=float("nan")), "label_smoothing=nan"),
        (
            lambda: tl.cross_entropy(X, [0, 1], weights=[1.0, 1.0]),
            r"weights holds float64 in the shape \(2,\): wanted numbers, \(3,\)",
        ),
        (lambda: tl.cross_entropy(X, [0, 1], weights=[1, 1, -1]), "weights: wanted finite numbers"),
        (lambda: tl.cross_entropy(X, [0, 1], weights=[1, 1, np.inf]), "weights: wanted finite"),
        (lambda: tl.cross_entropy(X, [0, -100], weights=[0, 1, 1]), "counts has the weight 0"),
        (lambda: tl.dropout(X, 1.0, np.random.default_rng()), "rate is 1.0: wanted 0 <= rate < 1"),
        (lambda: tl.dropout(X, float("nan"), np.random.default_rng()), "rate is nan"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_kernels_between_two_traces(rng):
    """The kernel belongs to one trace; with two, the formula runs."""
    x = rng.standard_normal((1, 2))
    inner = lambda x: np.sum(tl.grad(lambda W: np.sum(tl.linear(x, W) ** 2))(np.eye(2)))  # noqa: E731
    with tl.formulas():
        expected = tl.grad(inner)(x)
    assert expected.all()
    assert_close([tl.grad(inner)(x)], [expected], 1e-14)


def test_the_cross_entropy_kernel_keeps_the_smallest_probability():
    logits = np.array([[37.4, 0.0]])
    small = np.exp(-37.4) / (1 + np.exp(-37.4))
    value, gradient = tl.value_and_grad(lambda x: tl.cross_entropy(x, [0]))(logits)
    assert value == pytest.approx(small, rel=1e-14, abs=0)
    assert gradient[0] == pytest.approx([-small, small], rel=1e-14, abs=0)


def test_smoothing_and_weights_by_hand():
    """p is (7/8, 1/8) and the target the second: q is (1/4, 3/4) with half of it smoothed."""
    logits, targets = np.log([[7.0, 1.0], [1.0, 1.0]]), [1, -100]
    first, second = np.log(8 / 7), np.log(8)
    for call in (tl.cross_entropy, tl.cross_entropy.formula):
        smoothed = call(logits, np.array(targets), label_smoothing=0.5)
        assert smoothed == pytest.approx(first / 4 + 3 * second / 4, rel=1e-14)
        weighted = call(logits, np.array(targets), label_smoothing=0.5, weights=[2, 6])
        assert weighted == pytest.approx((2 * first / 4 + 6 * 3 * second / 4) / 6, rel=1e-14)
    # a mean in which the second row counts three times as much as the first
    value = tl.cross_entropy(np.log([[7.0, 1.0], [1.0, 1.0]]), [0, 1], weights=[1, 3])
    assert value == pytest.approx((first + 3 * np.log(2)) / 4, rel=1e-14)


def test_what_smoothing_and_weights_leave_as_it_is(rng):
    logits, targets = rng.standard_normal((2, 3, 5)).astype(np.float32), rng.integers(0, 5, (2, 3))
    weights = rng.uniform(0.5, 2, 5)
    before = weights.copy()
    options = {"label_smoothing": 0.1, "weights": weights}
    value, gradient = tl.value_and_grad(lambda x: tl.cross_entropy(x, targets, **options))(logits)
    assert (value.dtype, gradient.dtype) == (np.float32, np.float32)
    assert np.array_equal(weights, before)
    np.testing.assert_allclose(np.sum(gradient, axis=-1), 0, atol=1e-6)
    doubled = tl.cross_entropy(logits, targets, label_smoothing=0.1, weights=2 * weights)
    assert doubled == pytest.approx(value, rel=1e-6), "the scale of the weights does not matter"
    equal = tl.cross_entropy(logits, targets, weights=np.full(5, 3.0))
    assert equal == pytest.approx(tl.cross_entropy(logits, targets), rel=1e-6)


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_mixed_dtypes_are_those_of_the_formula(name):
    entry = REGISTRY[name]
    arrays, attributes, _ = entry.pin
    for wide in range(len(arrays)):
        mixed = [x if i == wide else x.astype(np.float32) for i, x in enumerate(arrays)]
        mixed = [np.atleast_1d(x) for x in mixed]
        value = entry.op(*mixed, **attributes)
        assert value.dtype == entry.op.formula(*mixed, **attributes).dtype, wide
    assert tl.attention(*[np.ones((2, 2), np.float32)] * 3, scale=np.float64(0.5)).dtype == "f4"
    assert (
        tl.dropout(np.ones(2, np.float32), np.float64(0.5), np.random.default_rng()).dtype == "f4"
    )


def test_masks_in_every_form(rng):
    Q, K, V = rng.standard_normal((3, 2, 2))
    mask = np.array([[True, False], [True, True]])
    expected = tl.attention(Q, K, V, mask)
    assert np.array_equal(tl.attention(Q, K, V, mask.tolist()), expected)
    assert np.array_equal(tl.attention(Q, K, V, mask, causal=True), expected)
    assert np.array_equal(tl.attention(Q, K, V, True), tl.attention(Q, K, V))
    row = np.array([True, False])
    assert np.array_equal(tl.attention(Q, K, V, row), tl.attention(Q, K, V, [row, row]))


@given(
    seed=st.integers(0, 999), T=st.integers(1, 70), S=st.integers(1, 70), causal=st.booleans(),
    mask=st.sampled_from([None, "rows", "one for all", "batch"]), kept=st.booleans(),
)  # fmt: skip
def test_attention_in_tiles_is_the_formula(seed, T, S, causal, mask, kept):
    """With tiles of 16 queries; the weights are kept, or computed again on the way back."""
    rng = np.random.default_rng(seed)
    Q, K, V = (rng.standard_normal((*b, n, 3)) for b, n in (((2,), T), ((3, 1), S), ((), S)))
    shape = {None: None, "rows": (T, S), "one for all": (1, S), "batch": (4, 1, 1, T, S)}[mask]
    mask = None if shape is None else rng.random(shape) < 0.7
    module = sys.modules["tinylm.ops.attention"]
    before = module.TILE, module.HEIGHT, module.KEPT
    module.TILE, module.HEIGHT, module.KEPT = 1, 16, before[2] if kept else 0
    try:
        y, pullback = tl.vjp(lambda *x: tl.attention(*x, mask, causal), Q, K, V)
        cotangent = rng.standard_normal(y.shape)
        got = [y, *pullback(cotangent)]
    finally:
        module.TILE, module.HEIGHT, module.KEPT = before
    with tl.formulas():
        y, pullback = tl.vjp(lambda *x: tl.attention(*x, mask, causal), Q, K, V)
        assert_close(got, [y, *pullback(cotangent)], floor=1.0)


def test_the_memory_of_attention_grows_with_its_length_and_not_with_its_square(rng):
    def peak(T):
        Q, K, V = rng.standard_normal((3, 2, T, 16), dtype=np.float32)
        tracemalloc.start()
        y, pullback = tl.vjp(lambda *x: tl.attention(*x, causal=True), Q, K, V)
        pullback.once(y)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(4096) < 2.6 * peak(2048)


def test_gelu_of_large_numbers():
    for dtype in ("f4", "f8"):
        x = np.array([-1e4, -30.0, 30.0, 1e4], dtype)
        y, pullback = tl.vjp(lambda x: tl.gelu(x, approximate=True), x)
        assert y[[0, 2, 3]].tolist() == [0, 30, 1e4]
        assert abs(y[1]) < 1e-30
        assert pullback(np.ones(4, dtype))[0].tolist() == pytest.approx([0, 0, 1, 1], abs=1e-30)


def test_a_vjp_that_gives_another_number_of_cotangents():
    @tl.autograd.fused
    def f(x: "Array", y: "Array"):  # noqa: F821
        return x * y

    f.kernel(lambda x, y: (x * y, ()))
    for answer in ((1.0,), (1.0, 1.0, 1.0)):
        f.vjp(lambda residuals, cotangent, answer=answer: tuple(a * cotangent for a in answer))
        _, pullback = tl.vjp(f, np.ones(2), np.ones(2))
        with pytest.raises(ValueError, match="zip"):
            pullback(np.ones(2))


def test_cross_entropy_of_half_precision_with_heavy_weights(rng):
    """Only their proportions count, so that their sum need not fit into the dtype."""
    logits, targets = rng.standard_normal((5000, 2)).astype(np.float16), rng.integers(0, 2, 5000)

    def loss(logits, weights):
        return tl.cross_entropy(logits, targets, weights=weights)

    value, gradient = tl.value_and_grad(loss)(logits, [1.0, 1.0])
    for weights in ([20.0, 20.0], [1e6, 1e6]):
        again, its = tl.value_and_grad(loss)(logits, weights)
        assert again == value
        assert np.array_equal(its, gradient)
    assert np.isfinite(value)
    assert gradient.any()


def test_the_dtype_of_the_smoothing_does_not_spread(rng):
    logits = rng.standard_normal((3, 5)).astype(np.float32)
    for kernels in (contextlib.nullcontext(), tl.formulas()):
        with kernels:
            loss = tl.cross_entropy(logits, [0, 1, 2], label_smoothing=np.float64(0.1))
        assert loss.dtype == np.float32
    with pytest.raises(ValueError, match=r"weights holds <U1 in the shape \(5,\): wanted numbers"):
        tl.cross_entropy(logits, [0, 1, 2], weights=list("abcde"))
