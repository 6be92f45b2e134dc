"""The gradient check: right gradients pass, wrong ones fail, and it knows what it could not see."""

import dataclasses
import math

import numpy as np
import pytest
from helpers import assert_close
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import rules
from tinylm.oracle import FORMATS
from tinylm.oracle.check_grads import GradientError, check_grads
from tinylm.oracle.steps import complex_step, complex_step_along, product_along, richardson_along

RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((2, 3, 5))
W = RNG.standard_normal((5, 5))
LONG = RNG.standard_normal(1000)
VANDERMONDE = np.vander(np.linspace(0.1, 1, 10))
STEP, TABLE = "complex step", "Richardson"


@pytest.fixture
def taught():
    """Whoever teaches a rule in a test takes it back."""
    known = dict(rules.RULES)
    yield
    for function in set(rules.RULES) - set(known):
        del rules.RULES[function]


# Right gradients.


def det_vjp(u, A):
    return u * np.linalg.det(A) * np.linalg.inv(A).T


def in_python(x, n):
    return math.sin(float(x[0])) * math.exp(float(x[1])) * n


def in_python_vjp(u, x, n):
    a, b = float(x[0]), float(x[1])
    return float(u) * n * np.array([math.cos(a) * math.exp(b), math.sin(a) * math.exp(b)])


def in_place(x):
    return np.exp(x, out=x)


def in_place_vjp(u, x):
    u *= in_place(x)
    return u


RIGHT = {  # function or pair, arguments, how it is checked
    "one argument": (lambda x: np.tanh(x) * x, (X,), STEP),
    "two arguments": (lambda x, W: np.tanh(x @ W), (X, W), STEP),
    "a number": (lambda x: x**3, (2.0,), STEP),
    "a scalar value": (lambda x: np.log(np.sum(np.exp(x))), (X,), STEP),
    "linear": (lambda x, W: x @ W, (X, W), STEP),
    "sum": (np.sum, (X,), STEP),
    "abs": (lambda x: np.abs(x) * np.sin(x), (X,), TABLE),
    "nothing but abs": (np.abs, (LONG,), TABLE),
    "norm": (lambda x: np.sqrt(np.sum(np.abs(x) ** 2)), (X,), TABLE),
    "real": (lambda x: np.real(x) * np.exp(x), (X,), TABLE),
    "maximum": (lambda x, y: np.maximum(x, y) ** 2, (X, Y), STEP),
    "nothing but maximum": (np.maximum, (LONG, RNG.permutation(LONG) + 1e-3), STEP),
    "sort": (lambda x: np.sort(x, axis=0) ** 2, (X,), STEP),
    "in float32": (lambda x: np.sin(x.astype(np.float32)), (X,), TABLE),
    "scales": (lambda a, b: np.sin(a * 1e6) * b * 1e-4, (X * 1e-6, Y * 1e4), STEP),
    "rows of scales": (lambda x: np.tanh(x / [[1e-6], [1], [1e4]]), (X * [[1e-6], [1], [1e4]],), STEP),
    "an op": (lambda Q, K: tl.attention(Q, K, K, causal=True), (X, Y), STEP),
    "masked": (lambda x: tl.softmax(np.where(X > -1, x, -np.inf)), (Y,), STEP),
    "nearly linear": (np.sin, (X * 1e-6,), STEP),
    "little": (lambda x: tl.gelu(x) * 1e-200, (X,), STEP),
    "pair": ((np.sin, lambda u, x: u * np.cos(x)), (X,), STEP),
    "vjp in float32": ((np.sin, lambda u, x: (u * np.cos(x)).astype("f4")), (X,), STEP),
    "pair, a tuple": ((np.sin, lambda u, x: (u * np.cos(x),)), (X,), STEP),
    "pair in Python": ((in_python, in_python_vjp), (X[0, :2], 3), TABLE),
    "pair in place": ((in_place, in_place_vjp), (X,), STEP),
    "pair, ill-conditioned": ((np.linalg.det, det_vjp), (VANDERMONDE,), STEP),
    "vjp, ill-conditioned": (
        (lambda A: np.sum(A * A), lambda u, A: 2 * u * np.linalg.inv(np.linalg.inv(A))),
        (VANDERMONDE,),
        STEP,
    ),
    "pair in float32": (
        (lambda x: np.sin(x.astype("f4")), lambda u, x: u.astype("f4") * np.cos(x.astype("f4"))),
        (X,),
        TABLE,
    ),
}  # fmt: skip


NOT_TRACED = {
    "pair in Python", "pair in place", "pair, ill-conditioned", "vjp, ill-conditioned"
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_pass(name):
    f, args, method = RIGHT[name]
    before = tl.stop_gradient([np.array(x) for x in args])
    found = check_grads(f, args)
    assert found.first.method == method
    for comparison in filter(None, dataclasses.astuple(found)):
        _, relative_error, visible, *_ = comparison
        assert relative_error <= visible < 1e-3
    exactly = method == STEP and name not in ("vjp in float32", "vjp, ill-conditioned")
    assert found.first.visible < (1e-8 if exactly else 1e-3)
    assert (found.second is None) == (name in NOT_TRACED)
    for x, y in zip(args, before, strict=True):
        assert np.array_equal(x, y), "the arguments are the caller's"


def test_orders():
    first = check_grads(np.sin, (X,), order=1)
    assert first.nearby is first.second is None
    both = check_grads(np.sin, (X,), order=2)
    assert both.first == first.first
    assert both == check_grads(np.sin, (X,))
    assert both.second.largest > 0
    assert both.second.zero == ()


def test_a_second_derivative_of_zero_is_checked_and_told():
    found = check_grads(lambda x, y: x * np.sin(y) + x, (X, Y))
    assert found.second.zero == ()
    found = check_grads(lambda x, y: x + np.sin(y), (X, Y))
    assert (found.first.zero, found.second.zero) == ((), ("args[0]",))
    assert found.second.visible < 1e-12


def test_nests_integers_and_whatever_else():
    def f(params, times, how, nothing):
        assert how == "sin"
        assert nothing is None
        assert params["ids"].tolist() == [2, 0]
        rows = getattr(np, how)(params["W"])[params["ids"]] * times
        return {"rows": rows, "ids": params["ids"], "sums": (np.sum(params["b"][0] ** 2), 7)}

    def vjp(u, params, times, how, nothing):
        assert u["ids"].tolist() == [0, 0], "integers have no cotangent"
        d_W = np.zeros(W.shape)
        d_W[params["ids"]] = u["rows"] * np.cos(params["W"][params["ids"]]) * times
        return {"W": d_W, "ids": None, "b": [2 * u["sums"][0] * params["b"][0]]}

    params = {"W": W, "ids": np.array([2, 0]), "b": [X[0].astype(np.float32)]}
    args = params, 3, "sin", None
    assert check_grads(f, args).first.zero == ()
    assert check_grads((f, vjp), args).second is None, "it writes into an array"
    with pytest.raises(GradientError, match=r"with f: args\[0.b.0\] is wrong"):
        check_grads((f, lambda *a: {**vjp(*a), "b": [vjp(*a)["b"][0] * 1.001]}), args)


def test_float32_is_computed_with_in_float64():
    def f(x):
        assert x.dtype in (np.float64, np.complex128)
        return np.exp(x)

    assert check_grads((f, lambda u, x: u * f(x)), (X.astype(np.float32),)).first.visible < 1e-12


# Wrong gradients, judged by the complex step, and by differences where np.real forbids it.


def smooth(x, W):
    return np.tanh(x @ W)


def rough(x, W):
    return np.tanh(np.real(x) @ W)


def vjp(u, x, W):
    d = u * (1 - smooth(x, W) ** 2)
    return d @ W.T, x.T @ d


def but(*factors):
    return lambda *args: tuple(a * b for a, b in zip(factors, vjp(*args), strict=True))


def one_entry(u, x, W):
    d_x, d_W = vjp(u, x, W)
    d_W[3, 2] *= 1.001
    return d_x, d_W


def dropped(u, x, W):
    return u @ W.T, x.T @ u


def constant_in_the_trace(u, x, W):
    d = u * (1 - tl.stop_gradient(smooth(x, W)) ** 2)
    return d @ W.T, x.T @ d


WRONG = {
    "a thousandth of the first": (but(1.001, 1), r"the vjp with f: args\[0\] is wrong"),
    "a thousandth of the second": (but(1, 1.001), r"the vjp with f: args\[1\] is wrong"),
    "a millionth": (but(1, 1 + 1e-6), r"the vjp with f: args\[1\] is wrong"),
    "sign": (but(1, -1), r"the vjp with f: args\[1\] is wrong"),
    "nothing": (but(0, 1), r"the vjp with f: args\[0\] is wrong"),
    "not a number": (but(1, np.nan), r"args\[1\] is wrong[^:]*:\s*args\[1\]\[\d, \d\]: got nan"),
    "transposed": (
        lambda *args: (vjp(*args)[0], vjp(*args)[1].T),
        r"the vjp with f: args\[1\] is wrong",
    ),
    "a dropped factor": (dropped, r"the vjp with f: args\[0\] is wrong"),
    "one entry": (one_entry, r"of its 25 entries 1 are off, the worst:\n  args\[1\]\[3, 2\]: got"),
    "right at the point only": (
        lambda u, x, W: vjp(u, X, globals()["W"]),
        r"the vjp with f near by: args\[0\] is wrong",
    ),
    "right but for its derivative": (
        constant_in_the_trace,
        r"the vjp of the vjp with the vjp: args\[0\] is wrong",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("f", [smooth, rough])
def test_wrong_gradients_fail(f, name):
    wrong, message = WRONG[name]
    with pytest.raises(GradientError, match=message):
        check_grads((f, wrong), (X, W))


def test_the_right_one_of_these_passes():
    assert check_grads((smooth, vjp), (X, W)).first.method == STEP
    assert check_grads((rough, vjp), (X, W)).first.method == f"{TABLE} and {STEP}"


@pytest.mark.parametrize("function", [np.sin, lambda x: np.sin(np.real(x))])
@pytest.mark.parametrize("wrong", [1.001, np.nan, 0.0])
def test_one_entry_of_a_thousand_is_found(function, wrong):
    x = LONG.reshape(20, 50)
    factor = np.ones(x.shape)
    factor[12, 17] = wrong
    with pytest.raises(
        GradientError, match=r"entries 1 are off, the worst:\n  args\[0\]\[12, 17\]"
    ):
        check_grads((function, lambda u, x: factor * u * np.cos(x)), (x,))


@pytest.mark.parametrize("function", [np.sin, lambda x: np.sin(np.real(x))])
def test_zeros_move_as_well(function):
    x = X * (X > 0)
    with pytest.raises(GradientError, match=r"args\[0\] is wrong"):
        check_grads((function, lambda u, x: u * np.cos(x) * (x != 0)), (x,))


@pytest.mark.parametrize("part", [lambda x: x, np.real])
def test_a_second_derivative_among_far_larger_ones(part):
    """In units of the arguments they are all of one size."""
    f = lambda a, b: np.sin(part(a) / 1e6 + b * 1e6)  # noqa: E731

    def vjp(u, a, b):
        z = a / 1e6 + b * 1e6
        return u * np.cos(tl.stop_gradient(z)) / 1e6, u * np.cos(z) * 1e6

    with pytest.raises(GradientError, match=r"the vjp of the vjp with the vjp: args\[0\]"):
        check_grads((f, vjp), (X * 1e6, Y / 1e6))


def test_what_the_message_says():
    with pytest.raises(AssertionError) as failure:
        check_grads((np.square, lambda u, x: u * x), (np.array(1.5),))
    text = str(failure.value)
    assert "Of 1 of its 1 entries 1 are off" in text
    got, expected = text.split("args[0]: got ")[1].split(", expected ")
    assert 2 * float(got) == pytest.approx(float(expected.split(" within ")[0]))
    assert "(complex step)" in text


@pytest.mark.usefixtures("taught")
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda c, y, x: 3 * c * x**2, None),
        (lambda c, y, x: 3.003 * c * x**2, "the vjp with f: "),
        (lambda c, y, x: 3 * c * x * X, "the vjp with f near by: "),
        (lambda c, y, x: 3 * c * x * tl.stop_gradient(x), "the vjp of the vjp with the vjp: "),
    ],
)
def test_a_rule_that_is_taught(rule, message):
    cube = tl.derivative(lambda x: x * x * x)(rule)
    if message is None:
        assert check_grads(lambda x: np.sin(cube(x)), (X,)).second.visible < 1e-11
        return
    with pytest.raises(GradientError, match=message):
        check_grads(lambda x: np.sin(cube(x)), (X,))


@given(st.integers(0, 2**32 - 1), st.integers(-6, 4), st.booleans())
def test_it_sees_what_it_says(seed, power, complex_too):
    rng = np.random.default_rng(seed)
    scale = 10.0**power
    x, y = scale * rng.standard_normal((2, rng.integers(1, 9)))

    def f(x, y):
        return np.sin(x / scale) * (y if complex_too else np.real(y))

    def times(factor):
        return f, lambda u, x, y: (
            factor * u * y * np.cos(x / scale) / scale,
            u * np.sin(x / scale),
        )

    found = check_grads(times(1), (x, y), order=1).first
    with pytest.raises(GradientError, match=r"args\[0\] is wrong"):
        check_grads(times(1 + found.relative_error + 1.01 * found.visible), (x, y), order=1)


# What cannot be seen.

VACUOUS = {
    "constant": (lambda x: np.ones(3) + 0 * x[0, 0], (X,)),
    "constant but for rounding": (lambda x: np.sum(tl.softmax(x)), (X,)),
    "steps": (np.round, (X,)),
    "a value that hides it": (lambda x: np.abs(x) + 1e15, (X,)),
    "not the same twice": ((lambda x: x * np.random.default_rng().random(5), lambda u, x: u), (X,)),
    "all of it at the kink": (tl.relu, (np.zeros(3),)),
    "one of it at the kink": (lambda x: np.abs(x - 1), (np.array([1.0, 2.0, 3.0]),)),
    "very near the kink": (lambda x: np.abs(x - 1), (np.array([1 + 1e-9, 2.0]),)),
    "equals": (lambda x, y: np.maximum(x, y) * x, (X, X.copy())),
    "at the end of the domain": ((np.sqrt, lambda u, x: u), (np.zeros(2),)),
    "bfloat16": ((lambda x: FORMATS["bf16"].rounded(np.sin(x)), lambda u, x: u * np.cos(x)), (X,)),
    "one argument of two": (lambda x, y: np.abs(x) * 1e-12 + np.abs(y), (X, Y)),
}  # fmt: skip


@pytest.mark.parametrize("name", VACUOUS)
def test_what_cannot_be_seen_does_not_pass(name):
    f, args = VACUOUS[name]
    with pytest.raises(GradientError, match=r"args\[\d\]: the check is vacuous"):
        check_grads(f, args)


def test_an_argument_without_influence_is_told_and_must_have_no_gradient():
    f = lambda x, y: np.sin(x) + 0 * y  # noqa: E731
    assert check_grads(f, (X, Y)).first.zero == ("args[1]",)
    with pytest.raises(GradientError, match=r"args\[1\] is wrong"):
        check_grads((f, lambda u, x, y: (u * np.cos(x), 1e-9 * u)), (X, Y))


def test_what_has_to_be_visible():
    f = lambda x: np.abs(x) + 1e10  # noqa: E731
    with pytest.raises(GradientError, match="vacuous.* relative error of 1e-06 would not show"):
        check_grads(f, (X,), visible=1e-6)
    assert 1e-6 < check_grads(f, (X,), visible=0.1).first.visible < 0.1


# Kinks.


@pytest.mark.parametrize("f", [tl.relu, np.abs, lambda x: np.maximum(x, 0) * np.cos(x)])
def test_a_few_elements_at_the_kink_do_not_matter(f):
    x = LONG[:40].copy()
    x[[3, 17]] = 0
    found = check_grads(f, (x,))
    assert found.first.visible < 1e-6
    with pytest.raises(GradientError, match="is wrong"):
        check_grads((f, lambda u, x: 1.001 * tl.vjp(f, x)[1](u)[0]), (x,))


@pytest.mark.parametrize("distance", [1e-2, 1e-4])
def test_a_kink_near_by_does_not_matter(distance):
    x = np.array([1 + distance, 2.0, 3.0])
    assert check_grads(lambda x: np.abs(x - 1), (x,), order=1).first.visible < 1e-6


# Steps.

SMOOTH = {
    "exp": (np.exp, np.exp),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2),
    "waves": (lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x)),
    "a narrow peak": (lambda x: 1 / (1e-4 + x * x), lambda x: -2 * x / (1e-4 + x * x) ** 2),
    "ripples": (lambda x: x + 1e-4 * np.sin(1e4 * x), lambda x: 1 + np.cos(1e4 * x)),
    "abs": (np.abs, np.sign),
    "of a large number": (lambda x: 1e8 + np.sin(x), np.cos),
    "what is left of large numbers": (lambda x: (1e6 + np.sin(x)) - 1e6, np.cos),
    "float32": (lambda x: np.sin(x.astype(np.float32)).astype(float), np.cos),
    "float16": (lambda x: np.sin(x.astype(np.float16)).astype(float), np.cos),
    "log": (lambda x: np.log(np.abs(x)), lambda x: 1 / x),
}


@pytest.mark.parametrize("name", SMOOTH)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 10.0]))
def test_the_error_of_the_differences_covers_the_truth(name, seed, scale):
    f, derivative = SMOOTH[name]
    x, t = scale * np.random.default_rng(seed).standard_normal((2, 1))
    exact = float(derivative(x[0]) * t[0])
    slope, error = richardson_along(lambda x: f(x)[0], (x,), (t,))
    assert abs(slope - exact) <= error + 1e-15 * abs(exact)


def test_differences_converge():
    for f, tangent, exact in ((np.sin, 3.0, 3 * math.cos(2)), (np.exp, -1e-3, -1e-3 * math.exp(2))):
        slope, error = richardson_along(f, (np.array(2.0),), (np.array(tangent),))
        assert abs(slope - exact) <= error < 1e-11 * abs(exact)


def test_differences_at_a_kink():
    """A few of them may cancel each other: nothing is known."""
    weights = np.array([1.0, -2.0, 3.0])
    for f in (tl.relu, lambda x: np.sum(weights * tl.relu(x))):
        at, tangent = np.zeros(3), np.array([0.3, -0.2, 0.5])
        assert richardson_along(lambda x: np.sum(f(x)), (at,), (tangent,))[1] == np.inf  # noqa: B023


@given(st.integers(0, 2**32 - 1), st.sampled_from(["f16", "bf16", "e5m2"]))
def test_differences_of_a_staircase_may_be_zero_or_not(seed, narrow):
    x, t = 10 * np.random.default_rng(seed).standard_normal(2)
    slope, error = richardson_along(lambda x: float(FORMATS[narrow].rounded(x)), (x,), (t,))
    assert abs(slope - t) <= error
    assert abs(slope) <= error


def test_differences_where_f_raises():
    def f(x):
        if x < 1 or not np.isfinite(x):
            raise ValueError
        return float(x) ** 2

    slope, error = richardson_along(f, (1.01,), (1.0,))
    assert abs(slope - 2.02) <= error < 1e-6
    assert richardson_along(f, (1.0,), (1.0,)) == (0.0, np.inf)


@pytest.mark.parametrize(
    ("f", "method"),
    [
        (lambda x: x * x, STEP),
        (lambda x: np.abs(x) * x, TABLE),
        (lambda x: x.real * x, TABLE),
        (lambda x: x * np.where(np.isreal(x), x, 2 * x), TABLE),
        (lambda x: np.square(x, dtype=np.float64, casting="unsafe"), TABLE),
        (lambda x: np.array([math.pow(v, 2) for v in x]), TABLE),
        (lambda x: x * (x if x.dtype == float else np.nan), TABLE),
    ],
)
def test_the_complex_step_counts_where_the_differences_agree(f, method):
    u = np.array([1.0, -2.0, 0.5])
    found = product_along(f, u, (np.array([1.0, 2.0, 3.0]),), (np.array([0.3, 0.2, -0.1]),), 1e-3)
    assert found.method == method
    assert abs(found.value - (0.6 - 1.6 - 0.3)) <= found.error < 1e-9


def test_the_complex_step_does_not_count_at_a_kink():
    """The maximum of complex numbers takes one side, and says nothing of the other."""
    at, tangent = np.array([0.0, 1.0]), np.array([1e-3, 5.0])
    found = product_along(lambda x: np.maximum(x, 0), np.ones(2), (at,), (tangent,), 1e-3)
    assert (found.method, found.error) == (TABLE, np.inf)


def test_complex_steps():
    x, u = X[0], Y[0]
    assert_close(complex_step(np.exp, (x,), u), (u * np.exp(x),), 1e-15)
    along = complex_step_along(lambda x: {"a": x**2, "b": (x,)}, (x,), (u,))
    assert_close(along, {"a": 2 * x * u, "b": (u,)}, 1e-15)


# Wrong calls.


@pytest.mark.parametrize(
    ("f", "args", "options", "message"),
    [
        (np.sin, (X,), {"order": 3}, "order=3: wanted 1 or 2"),
        (np.sin, (X,), {"order": "2"}, "order='2': wanted 1 or 2"),
        (np.sin, (X,), {"visible": 0}, "visible=0: wanted a number between 0 and 1"),
        ("sin", (X,), {}, "f='sin': wanted a function, or a pair"),
        ((np.sin, None, np.cos), (X,), {}, "wanted a function, or a pair"),
        ((np.sin, 3), (X,), {}, "wanted a function, or a pair"),
        (np.sin, X, {}, r"args is a ndarray: wanted a tuple: \(x,\)"),
        (np.sin, [X], {}, r"args is a list: wanted a tuple"),
        (np.sin, (np.arange(3),), {}, "args hold no floats"),
        (np.sin, (np.zeros(0),), {}, "args hold no floats"),
        (np.sin, (), {}, "args hold no floats"),
        (np.sin, (X + 0j,), {}, r"args\[0\] holds complex numbers"),
        (lambda p: p["w"], ({"w": X * np.nan},), {}, r"args\[0.w\] holds numbers that are not finite"),
        (np.log, (-X * X,), {}, "f returned numbers that are not finite"),
        (lambda x: np.exp(1j * x), (X,), {}, "f returned complex numbers"),
        (np.argmax, (X,), {}, "f returned no floats"),
        (lambda x: None, (X,), {}, "f returned no floats"),
        (lambda x: "y", (X,), {}, "f returned no floats"),
        ((np.sin, lambda u, x: u[0]), (X,), {}, r"vjp returned float64 of shape \(5,\) for args\[0\]"),
        ((np.sin, lambda u, x: 1), (X,), {}, r"vjp returned int64 of shape \(\) for args\[0\]"),
        ((np.sin, lambda u, x: 1j * u), (X,), {}, r"vjp returned complex128 .*wanted floats of shape"),
        ((np.sin, lambda u, x: (u, u)), (X,), {}, r"the nests differ at 'the top'"),
        ((np.add, lambda u, x, y: u), (X, Y), {}, r"the nests differ at 'the top': wanted tuple"),
        ((np.add, lambda u, x, y: (u,)), (X, Y), {}, r"wanted tuple of \[0, 1\], got tuple of \[0\]"),
    ],
)  # fmt: skip
def test_wrong_calls_say_what_is_wrong(f, args, options, message):
    with np.errstate(all="ignore"), pytest.raises((ValueError, TypeError), match=message):
        check_grads(f, args, **options)


def test_what_the_engine_cannot_trace():
    with pytest.raises(TypeError, match=r"numpy.linalg.det has no derivative in tinylm"):
        check_grads(np.linalg.det, (W,))


@pytest.mark.usefixtures("taught")
def test_a_rule_that_cannot_be_traced_has_a_first_order_only():
    f = tl.derivative(lambda x: x * x)(lambda c, y, x: 2 * c * np.asarray(x, dtype=float))
    check_grads(f, (X,), order=1)
    with pytest.raises(TypeError, match="being differentiated"):
        check_grads(f, (X,))
