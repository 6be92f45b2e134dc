"""vjp, jvp, grad, hvp, jacobian: nests, arguments, several routes to one number."""

import gc
import sys
import threading
import tracemalloc
import weakref
from typing import NamedTuple

import numpy as np
import pytest
from helpers import assert_close, complex_step, complex_step_along
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

import tinylm as tl
from tinylm.autograd import trees


def formula(x, y, z):
    """Something of everything, with repeated and broadcast arguments."""
    s = np.tanh(x @ y.mT / np.sqrt(3.0)) * z
    p = np.exp(s - np.max(tl.stop_gradient(s).real, axis=-1, keepdims=True))
    return np.where(s.real > -0.5, p / np.sum(p, axis=-1, keepdims=True), s) @ y[..., ::-1] + z * z


@pytest.fixture
def primals(rng):
    return [rng.standard_normal(shape) for shape in ((2, 5, 3), (7, 3), ())]


def test_vjp_jvp_and_complex_step_agree(primals, rng):
    value, pullback = tl.vjp(formula, *primals)
    cotangent = rng.standard_normal(value.shape)
    tangents = [rng.standard_normal(x.shape) for x in primals]
    gradients = pullback(cotangent)
    assert_close(gradients, complex_step(formula, primals, cotangent))
    tangent = tl.jvp(formula, primals, tangents)[1]
    assert_close([tangent], [complex_step_along(formula, primals, tangents)])
    paired = sum(np.sum(g * t) for g, t in zip(gradients, tangents, strict=True))
    assert np.isclose(paired, np.sum(cotangent * tangent), rtol=1e-13)


def test_six_routes_to_one_hessian(rng):
    A = rng.standard_normal((3, 3))
    x = rng.standard_normal(3)
    eye = np.eye(3)

    def f(x):
        return np.sum(np.sin(x @ A) * x) + np.prod(x)

    routes = {
        "hvp": np.stack([tl.hvp(f, (x,), (e,))[0] for e in eye]),
        "jacobian of grad": tl.jacobian(tl.grad(f))(x),
        "jacobian of jacobian": tl.jacobian(tl.jacobian(f))(x),
        "grad of grad": np.stack([tl.grad(lambda x, e=e: tl.grad(f)(x) @ e)(x) for e in eye]),
        "jvp of grad": np.stack([tl.jvp(tl.grad(f), (x,), (e,))[1] for e in eye]),
        "vjp of grad": np.stack([tl.vjp(tl.grad(f), x)[1](e)[0] for e in eye]),
        "grad of jvp": np.stack([tl.grad(lambda x, e=e: tl.jvp(f, (x,), (e,))[1])(x) for e in eye]),
        "complex step of grad": np.stack([complex_step_along(tl.grad(f), [x], [e]) for e in eye]),
    }
    for route, hessian in routes.items():
        assert_close([hessian], [routes["hvp"]], 1e-13), route


def test_any_order():
    f = np.tanh
    for order in range(6):
        t = np.tanh(0.3)
        polynomial = np.polynomial.Polynomial([0, 1])
        for _ in range(order):
            polynomial = polynomial.deriv() * np.polynomial.Polynomial([1, 0, -1])
        assert np.isclose(f(np.float64(0.3)), polynomial(t), rtol=1e-12)
        f = tl.grad(f)


def test_nested_derivatives_do_not_mix():
    """d/dx of x * d/dy (x + y) is 1."""
    assert tl.grad(lambda x: x * tl.grad(lambda y: x + y)(1.0))(1.0) == 1
    assert tl.grad(lambda x: tl.grad(lambda y: x * y * y)(x))(3.0) == 12


class Point(NamedTuple):
    x: float
    y: np.ndarray


def test_nests_come_back_as_they_were(rng):
    params = {
        "blocks": [{"W": rng.standard_normal((2, 3))}, {"W": rng.standard_normal((2, 3))}],
        "pair": (rng.standard_normal(3), Point(1.0, rng.standard_normal(()))),
        "none": None,
        "count": np.array([3, 4]),
        "flag": True,
    }

    def f(p):
        total = sum(np.sum(b["W"] ** 2) for b in p["blocks"])
        return total + np.sum(p["pair"][0]) * p["pair"][1].x * p["pair"][1].y * p["count"][0]

    gradient = tl.grad(f)(params)
    assert [path for path, _ in trees.paths(gradient)] == [path for path, _ in trees.paths(params)]
    assert isinstance(gradient["pair"][1], Point)
    assert gradient["none"] is None
    assert np.array_equal(gradient["blocks"][1]["W"], 2 * params["blocks"][1]["W"])
    assert np.array_equal(gradient["count"], [0, 0])
    assert gradient["count"].dtype == params["count"].dtype


def test_nests_as_values(rng):
    x = rng.standard_normal(3)
    value, pullback = tl.vjp(lambda x: {"a": x * 2, "b": [np.sum(x), 7.0], "x": x}, x)
    assert value["b"][1] == 7.0
    (gradient,) = pullback({"a": np.ones(3), "b": [np.float64(3.0), 0.0], "x": np.ones(3)})
    assert np.array_equal(gradient, [6.0] * 3)
    value, tangent = tl.jvp(lambda x: (x * x, [np.sum(x)]), (x,), (np.ones(3),))
    assert_close(tangent, (2 * x, [3.0]))


def test_unused_and_repeated_arguments(rng):
    x = rng.standard_normal((2, 3))
    assert not tl.grad(lambda x, y: np.sum(y))(x, x).any()
    assert np.array_equal(tl.grad(lambda x: np.sum(x * x + x))(x), 2 * x + 1)
    both = tl.grad(lambda x, y: np.sum(x * y), argnums=(0, 1))(x, x)
    assert np.array_equal(both[0], x)
    assert np.array_equal(both[1], x)
    assert tl.grad(lambda x: 3.0)(1.0) == 0
    assert tl.grad(lambda x, y: x * y, argnums=-1)(2.0, 3.0) == 2
    assert tl.grad(lambda x, *, power=1: x**power)(3.0, power=2) == 6
    jacobians = tl.jacobian(lambda x, y: x * y, argnums=(0, -1))(x[0], x[1])
    assert type(jacobians) is tuple
    assert_close(jacobians, (np.diag(x[1]), np.diag(x[0])))
    single = tl.jacobian(lambda x: x * 2)(np.ones(2, np.float32))
    assert single.dtype == np.float32
    assert tl.jacobian(lambda x: x[:0])(np.ones(2, np.float32)).dtype == np.float32


def test_integers_and_booleans_beside_floats(rng):
    table = rng.standard_normal((5, 2))
    ids, keep = np.array([1, 1, 4]), np.array([True, False, True])
    value, pullback = tl.vjp(lambda t, i, k: t[i] * k[:, None], table, ids, keep)
    d_table, d_ids, d_keep = pullback(np.ones(value.shape))
    assert d_table.sum() == 4
    assert not d_ids.any()
    assert d_ids.dtype == ids.dtype
    assert not d_keep.any()
    assert d_keep.dtype == bool
    (curvature, zero) = tl.hvp(
        lambda t, i: np.sum(t[i] ** 3), (table, ids), (np.ones((5, 2)), ids * 0)
    )
    assert_close([curvature], [6 * table * np.array([0, 2, 0, 0, 1])[:, None]])
    assert not zero.any()


def test_strided_read_only_and_zero_dimensional_inputs(rng):
    base = rng.standard_normal((6, 8))
    base.setflags(write=False)
    for view in (
        base,
        base.T,
        base[::2, ::-3],
        np.broadcast_to(base[0], (4, 8)),
        base[0, 0],
        base[:0],
    ):
        gradient = tl.grad(lambda x: np.sum(np.sin(x) * x))(view)
        assert_close([gradient], [np.cos(view) * view + np.sin(view)], 1e-14)


def test_gradients_are_the_callers_own(rng):
    x, y = rng.standard_normal((2, 3))
    for gradient in (
        tl.grad(np.sum)(x),
        tl.grad(lambda x: np.sum(x[:2]))(x),
        *tl.grad(lambda x, y: np.sum(x + y), argnums=(0, 1))(x, y),
        *tl.vjp(lambda x: x, x)[1](y),
        *tl.vjp(lambda x: x.reshape(3, 1), x)[1](y.reshape(3, 1)),
    ):
        assert gradient.flags.writeable
        assert gradient.base is None
        assert gradient is not y
    a, b = tl.grad(lambda x, y: np.sum(x + y), argnums=(0, 1))(x, y)
    assert not np.shares_memory(a, b)
    frozen = np.broadcast_to(np.float64(1), 3)
    assert tl.vjp(lambda x: x, x)[1](frozen)[0].flags.writeable


def test_values_are_the_callers_own(rng):
    x, cotangent = rng.standard_normal((2, 3))
    for f in (tl.softmax, np.exp, lambda x: x):
        value, pullback = tl.vjp(f, x)
        expected = pullback(cotangent)[0]
        before = x.copy()
        value *= 0
        assert np.array_equal(pullback(cotangent)[0], expected)
        assert np.array_equal(x, before)


def test_an_array_that_outlives_its_derivative_raises():
    kept = []

    def f(x):
        tl.grad(lambda y: (kept.append(y), y * y)[1])(x)
        return x * kept[0]

    with pytest.raises(ValueError, match="a derivative that was computed inside of it"):
        tl.grad(f)(3.0)


def test_the_pullback_may_be_called_again(primals):
    value, pullback = tl.vjp(formula, *primals)
    cotangent = np.ones(value.shape)
    once, twice = pullback(cotangent), pullback(cotangent)
    for a, b in zip(once, twice, strict=True):
        assert np.array_equal(a, b)


def test_dtypes_are_kept():
    for dtype in (np.float16, np.float32, np.float64, np.longdouble):
        x = np.ones((2, 3), dtype)

        def f(x, dtype=dtype):
            y = np.tanh(x @ x.mT) * 2.5 + np.mean(x) - np.var(x)
            return np.sum(y if dtype is np.longdouble else y + special.erf(x[0, 0]))

        value, gradient = tl.value_and_grad(f)(x)
        assert gradient.dtype == dtype
        assert value.dtype == f(x).dtype
    mixed = tl.grad(lambda a, b: np.sum(a * b), argnums=(0, 1))(np.ones(2, np.float32), np.ones(2))
    assert [g.dtype for g in mixed] == [np.float32, np.float64]


def test_complex_primals_and_real_ones_beside_them(rng):
    z, x = rng.standard_normal(3) + 1j * rng.standard_normal(3), rng.standard_normal(3)
    assert_close([tl.vjp(np.exp, z)[1](np.ones(3))[0]], [np.exp(z)])
    d_z, d_x = tl.grad(lambda z, x: np.sum(np.real(z * x)), argnums=(0, 1))(z, x)
    assert np.array_equal(d_z, x)
    assert np.array_equal(d_x, z.real)
    assert_close([tl.grad(lambda x: np.sum(np.abs(x * z)))(x)], [np.abs(z) * np.sign(x)])
    for transform in (tl.grad, tl.jacobian):
        with pytest.raises(ValueError, match=r"np\.real"):
            transform(lambda x: np.sum(x * z))(x)


@pytest.mark.parametrize(
    "f",
    [
        lambda z: np.sum(np.abs(z) ** 3),
        lambda z: np.sum(np.imag(z) * np.real(z * z)),
        lambda z: np.sum(np.real(np.conjugate(z) * np.exp(z))),
        lambda z: np.linalg.norm(z),
        lambda z: np.linalg.norm(z, 3),
        lambda z: np.var(z) + np.std(z, ddof=1),
        lambda z: np.sum(np.abs(z / z[0])),
    ],
)
def test_real_functions_of_complex_numbers(rng, f):
    """The gradient g says ``df = Re(g dz)``: held to differences."""
    z, dz = (rng.standard_normal(3) + 1j * rng.standard_normal(3) for _ in range(2))
    h = 1e-6
    difference = (f(z + h * dz) - f(z - h * dz)) / (2 * h)
    assert np.real(np.sum(tl.grad(f)(z) * dz)) == pytest.approx(difference, rel=1e-7)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3, 1)])
def test_zero_size(shape):
    def f(x):
        return np.sum(np.exp(x)) + np.sum(np.mean(x, axis=0)) + np.sum(np.concatenate([x, x]).T)

    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert tl.grad(f)(np.zeros(shape)).shape == shape
    assert tl.jacobian(lambda x: x * 2)(np.zeros(shape)).shape == shape + shape


@given(
    hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=4, min_side=0),
    st.integers(0, 2**32 - 1),
)
def test_broadcasting(shapes, seed):
    rng = np.random.default_rng(seed)
    x, y, z = (rng.standard_normal(shape) for shape in shapes.input_shapes)

    def f(x, y, z):
        return (x + y) * z - x / (y * y + 1) * np.where(z.real > 0, y, x)

    value, pullback = tl.vjp(f, x, y, z)
    cotangent = rng.standard_normal(value.shape)
    assert_close(pullback(cotangent), complex_step(f, (x, y, z), cotangent))


def test_wrong_calls_say_what_is_wrong():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"one number, and it returned shape \(2, 3\)"):
        tl.grad(np.exp)(x)
    with pytest.raises(ValueError, match="it returned dict"):
        tl.grad(lambda x: {"loss": np.sum(x)})(x)
    with pytest.raises(TypeError, match=r"argument 0 holds int64 numbers.*3\.0 instead of 3"):
        tl.grad(lambda x: x * x)(3)
    for wrong in (2, 1, -2):
        with pytest.raises(
            ValueError, match=f"argnums={wrong}: there is no argument {wrong} among"
        ):
            tl.grad(np.sum, argnums=wrong)(x)
    with pytest.raises(ValueError, match=r"argnums=\(0, -2\) names an argument twice"):
        tl.grad(np.add, argnums=(0, -2))(1.0, 2.0)
    with pytest.raises(TypeError, match="primals is a ndarray: wanted a tuple"):
        tl.hvp(np.sum, x, x)
    with pytest.raises(TypeError, match="tangents is a ndarray: wanted a tuple"):
        tl.jvp(np.exp, (x,), x)
    with pytest.raises(ValueError, match=r"cotangent has shape \(3,\), and the value has \(2, 3\)"):
        tl.vjp(np.exp, x)[1](np.ones(3))
    with pytest.raises(ValueError, match=r"cotangent has shape \(1, 3\), and the value has \(3,\)"):
        tl.vjp(np.exp, x[0])[1](np.ones((1, 3)))
    with pytest.raises(ValueError, match="the nests differ"):
        tl.vjp(lambda x: {"a": x}, x)[1]({"b": x})
    with pytest.raises(ValueError, match=r"tangents\[0\] has shape \(3,\), and primals\[0\] has"):
        tl.jvp(np.exp, (x,), (np.ones(3),))
    with pytest.raises(ValueError, match="the nests differ"):
        tl.hvp(np.sum, (x,), (x, x))
    with pytest.raises(ValueError, match="returned a dict"):
        tl.jacobian(lambda x: {"a": x})(x)


def test_a_chain_of_a_hundred_thousand_ops_needs_no_recursion():
    def chain(x):
        for _ in range(100_000):
            x = x * 1.00001
        return x

    limit = sys.getrecursionlimit()
    depth = len(__import__("inspect").stack(0))
    try:
        sys.setrecursionlimit(depth + 200)
        gradient = tl.grad(chain)(1.0)
    finally:
        sys.setrecursionlimit(limit)
    assert np.isclose(gradient, 1.00001**100_000)


def test_nothing_is_left_for_the_garbage_collector(rng):
    x = rng.standard_normal((20, 20))

    def f(x):
        return np.sum(tl.softmax(x @ x.mT) * np.split(x, 2)[0][0, 0])

    tl.hvp(f, (x,), (x,))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            tl.grad(f)(x)
            tl.hvp(f, (x,), (x,))
            tl.jacobian(lambda x: f(x) * x[0])(x)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_memory_does_not_grow(rng):
    x = rng.standard_normal((50, 50))
    gradient = tl.grad(lambda x: np.sum(np.tanh(x @ x) ** 2))
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(2500):  # until Python's own lists of free tuples are full
            gradient(x)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(500):
            gradient(x)
        assert tracemalloc.get_traced_memory()[0] - before < 20_000  # one array of the trace
    finally:
        tracemalloc.stop()
        gc.enable()


def test_eight_threads_agree_with_one(rng):
    inputs = [rng.standard_normal((30, 30)) for _ in range(8)]

    def f(x):
        return np.sum(
            tl.softmax(x @ x.mT, axis=-1) ** 2 * tl.grad(lambda y: np.sum(np.sin(y) * x))(x)
        )

    alone = [tl.grad(f)(x) for x in inputs]
    together: list = [None] * 8

    def work(i):
        for _ in range(20):
            together[i] = tl.grad(f)(inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a, b)


def test_a_pullback_that_is_used_once_lets_go_of_its_record():
    factors = []

    def f(x):
        for _ in range(3):
            factor = np.full(2, 2.0)
            factors.append(weakref.ref(factor))
            x = x * factor
            del factor
        return x

    def alive():
        return sum(factor() is not None for factor in factors)

    value, pullback = tl.vjp(f, np.ones(2))
    assert alive() == 3
    assert pullback(np.ones(2))[0].tolist() == [8.0, 8.0]
    assert alive() == 3
    assert pullback.once(np.ones(2))[0].tolist() == [8.0, 8.0]
    assert alive() == 0
    with pytest.raises(RuntimeError, match=r"was called once\(\), and has let go"):
        pullback(np.ones(2))
    assert value.tolist() == [8.0, 8.0]


def test_recompute_changes_the_memory_and_nothing_else(rng):
    W, x = rng.standard_normal((2, 4, 4))

    def f(params, x):
        return np.tanh(x @ params["W"]) * params["b"][0]

    def chain(f):
        def composed(params, x):
            for _ in range(3):
                x = f(params, x)
            return np.sum(x * x)

        return composed

    params = {"W": W, "b": [rng.standard_normal(4)]}
    plain, again = (tl.value_and_grad(chain(g), (0, 1))(params, x) for g in (f, tl.recompute(f)))
    assert plain[0] == again[0]
    for a, b in zip(trees.leaves(plain[1]), trees.leaves(again[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    tangents = (trees.map_leaves(np.ones_like, params), np.ones_like(x))
    plain, again = (tl.hvp(chain(g), (params, x), tangents) for g in (f, tl.recompute(f)))
    for a, b in zip(trees.leaves(plain), trees.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert np.array_equal(tl.recompute(f)(params, x), f(params, x))
    with tl.record() as seen:
        tl.grad(tl.recompute(lambda x: np.sum(tl.name(x, "x"))))(x)
    assert len(seen["x"]) == 1
    with pytest.raises(ValueError, match="is not among its arguments: hand it in"):
        tl.grad(lambda x: np.sum(tl.recompute(lambda y: x * y)(x)))(x)


def test_recompute_keeps_less(rng):
    def peak(f):
        def chain(x):
            for _ in range(8):
                x = f(x)
            return np.sum(x)

        tracemalloc.start()
        tl.grad(chain)(x)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    def f(x):
        for _ in range(8):
            x = np.tanh(x)
        return x

    x = rng.standard_normal(10_000)
    assert peak(tl.recompute(f)) < peak(f) / 2
