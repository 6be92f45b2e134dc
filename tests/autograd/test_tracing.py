"""What passes through a trace, what raises, and what can be taught."""

import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import assert_close
from scipy import special

import tinylm as tl
from tinylm.autograd import rules

X = np.array([[1.5, -0.5, 2.0], [0.25, 3.0, -1.0]])


@pytest.mark.parametrize(
    "function",
    [
        np.floor, np.ceil, np.trunc, np.rint, np.round, np.sign, np.isfinite, np.isnan, np.argmax,
        np.argsort, np.zeros_like, np.ones_like, np.shape, np.ndim, np.size, np.nonzero,
        lambda x: x > 0, lambda x: x == 1.5, lambda x: x >= 1.0, lambda x: x // 1, lambda x: np.any(x),
        lambda x: np.allclose(x, x), lambda x: np.searchsorted([0.0, 1.0], x), len, bool, str, repr,
        lambda x: x.argmax(axis=1), lambda x: x.round(1), lambda x: x.astype(int), lambda x: np.where(x),
        lambda x: np.where(x, 1, 2), lambda x: x.any(), lambda x: np.logical_or.reduce(x > 0),
        lambda x: (*x.shape, x.ndim, x.size, x.dtype),
    ],
)  # fmt: skip
def test_piecewise_constant_functions_give_plain_arrays(function):
    seen = []

    def f(x):
        seen.append(function(x if function is not bool else x[0, 0]))
        return np.sum(x)

    tl.grad(f)(X)
    plain = function(X if function is not bool else X[0, 0])
    if function in (str, repr):
        assert repr(X) in seen[0]
    else:
        np.testing.assert_equal(seen[0], plain)


def test_they_have_zero_gradient_inside_a_formula():
    gradient = tl.grad(lambda x: np.sum(np.floor(x) * x + (x > 0) * x))(X)
    assert np.array_equal(gradient, np.floor(X) + (X > 0))


def traced(f, *primals):
    return tl.vjp(f, *primals)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.fft.fft(x), r"numpy\.fft\.fft has no derivative in tinylm.*@tinylm\.derivative"),
        (lambda x: np.cbrt(x), r"@tinylm\.derivative\(numpy\.cbrt\)"),
        (lambda x: special.gamma(x), r"@tinylm\.derivative\(scipy\.special\.gamma\)"),
        (lambda x: np.linalg.svd(x), r"numpy\.linalg\.svd has no derivative"),
        (lambda x: np.subtract.reduce(x), r"numpy\.subtract\.reduce has no derivative"),
        (lambda x: np.add.at(x, 0, 1.0), r"numpy\.add\.at has no derivative"),
        (lambda x: np.multiply.accumulate(x), r"accumulate has no derivative in tinylm: reduce has one"),
        (lambda x: np.cumsum(x, 0, None, np.empty(x.shape)), r"numpy\.cumsum with out= writes"),
        (lambda x: np.dot(x, x.T, np.empty((2, 2))), r"numpy\.dot with out= writes"),
        (lambda x: x.cumsum(0, None, np.empty(x.shape)), r"numpy\.cumsum with out= writes"),
        (lambda x: np.pad(x, 1, constant_values=x[0, 0]), r"test_tracing\.<lambda> .* made an ndarray"),
        (lambda x: np.clip(x, 0, 1, dtype=float), r"numpy\.clip\(\) got an unexpected keyword"),
        (lambda x: float(np.sum(x)), "converted to a Python float.*stop_gradient"),
        (lambda x: int(np.sum(x)), "converted to a Python int"),
        (lambda x: complex(np.sum(x)), "converted to a Python complex"),
        (lambda x: math.exp(x[0, 0]), r"test_tracing.* converted to a Python float"),
        (lambda x: range(x[0, 0]), "converted to a Python int"),
        (lambda x: np.asarray(x), r"test_tracing.*made an ndarray of an array that is being"),
        (lambda x: np.array([x[0], x[1]]), "made an ndarray of"),
        (lambda x: np.array(x, dtype=float), "made an ndarray of"),
        (lambda x: special.logsumexp(x), r"derivative\(scipy\..*logsumexp.*\)|made an ndarray of"),
        (lambda x: np.exp(x, out=np.empty(x.shape)), r"numpy\.exp with out=.*writes into an array"),
        (lambda x: np.sum(x, axis=0, out=np.empty(3)), r"numpy\.sum with out= writes"),
        (lambda x: np.clip(x, 0, 1, out=np.empty(x.shape)), r"numpy\.clip with out="),
        (lambda x: np.einsum("ij->", x, out=np.empty(())), r"numpy\.einsum with out="),
        (lambda x: x.__setitem__(0, 1.0), r"x\[index\] = value writes into"),
        (lambda x: np.zeros(3).__setitem__(0, x[0, 0]), "setting an array element"),  # NumPy's own
        (lambda x: np.zeros(x.shape).__iadd__(x), r"numpy\.add with out=, or an in-place operator"),
        (lambda x: np.sum(x, where=x > 0), r"does not know the argument 'where'; it knows a, axis"),
        (lambda x: np.exp(x, where=x > 0), "does not know the argument 'where'"),
        (lambda x: np.sum(x, initial=1.0), "does not know the argument 'initial'"),
        (lambda x: x.tolist(), r"has no 'tolist'.*stop_gradient\(x\)\.tolist"),
        (lambda x: x.sort(), "has no 'sort'"),
        (lambda x: np.linalg.norm(x, "nuc"), "has a derivative for ord='nuc' of vectors only"),
        (lambda x: np.pad(x, 1, "mean"), "has no derivative in tinylm for mode='mean'"),
        (lambda x: np.pad(x, 1, "reflect", reflect_type="odd"), "reflect_type='odd'"),
        (lambda x: np.reshape(x, -1, order="A"), "order='A' depends on the layout"),
        (lambda x: np.ravel(x, order="K"), "order='K' depends on the layout"),
        (lambda x: np.concatenate([[x[0]], [x[1]]]), "made an ndarray of"),
        (lambda x: np.full_like(np.zeros(3), x[0]), "has no derivative|made an ndarray"),
        (lambda x: {x: 1}, "unhashable"),
    ],
)  # fmt: skip
def test_what_cannot_be_differentiated_raises(f, message):
    with pytest.raises((TypeError, AttributeError, ValueError), match=f"(?s){message}"):
        tl.vjp(f, X)[1](f(X))


def test_the_sign_of_a_complex_number_is_not_constant():
    with pytest.raises(TypeError, match="complex"):
        tl.vjp(np.sign, X + 1j)


def test_stop_gradient_takes_nests():
    constant = tl.grad(lambda p: np.sum(p["a"] * tl.stop_gradient(p)["a"] ** 2))({"a": X})
    assert np.array_equal(constant["a"], X**2)
    assert tl.stop_gradient([1.0, {"x": X}])[1]["x"] is X


def test_operators_with_lists_scalars_and_arrays_on_either_side():
    A = np.ones((2, 3))
    for f, expected in (
        (lambda x: [1.0, 2.0, 3.0] * x, [1.0, 2.0, 3.0] * A),
        (lambda x: np.float64(2) * x, 2 * A),
        (lambda x: np.float32(2) - x, -A),
        (lambda x: A / x, -A / X**2),
        (lambda x: 2**x, 2**X * np.log(2)),
        (lambda x: A @ x.T, np.full((2, 3), 2.0)),
        (lambda x: x % 0.75, A),
        (lambda x: -(+x), -A),
        (lambda x: abs(x), np.sign(X)),
        (lambda x: sum(x), A),
        (lambda x: max(x[0]) * A[0], [[0, 0, 3], [0, 0, 0]]),
    ):
        assert_close([tl.grad(lambda x, f=f: np.sum(f(x)))(X)], [np.asarray(expected, float)])


def test_methods_are_the_functions():
    for f, g in (
        (lambda x: x.sum(axis=0), lambda x: np.sum(x, axis=0)),
        (lambda x: x.mean(1, keepdims=True), lambda x: np.mean(x, 1, keepdims=True)),
        (lambda x: x.var(ddof=1), lambda x: np.var(x, ddof=1)),
        (lambda x: x.std(), np.std),
        (lambda x: x.prod(0), lambda x: np.prod(x, 0)),
        (lambda x: x.cumsum(1), lambda x: np.cumsum(x, 1)),
        (lambda x: x.max(axis=1), lambda x: np.max(x, axis=1)),
        (lambda x: x.min(), np.amin),
        (lambda x: x.reshape(3, 2).swapaxes(0, 1), lambda x: np.swapaxes(np.reshape(x, (3, 2)), 0, 1)),
        (lambda x: x[:, None].squeeze(1), lambda x: x),
        (lambda x: x.ravel(), np.ravel),
        (lambda x: x.repeat(2, axis=0), lambda x: np.repeat(x, 2, axis=0)),
        (lambda x: x.take([0, 0]), lambda x: np.take(x, [0, 0])),
        (lambda x: x.clip(0, 2), lambda x: np.clip(x, 0, 2)),
        (lambda x: x.diagonal(), np.diagonal),
        (lambda x: x.trace(), np.trace),
        (lambda x: x.dot(x.T), lambda x: np.dot(x, np.transpose(x))),
        (lambda x: x.copy().astype(np.float64), lambda x: x),
        (lambda x: x.conj().real, lambda x: x),
        (lambda x: x.mT, lambda x: np.swapaxes(x, -1, -2)),
        (lambda x: np.astype(x, np.float64) if hasattr(np, "astype") else x, lambda x: x),
    ):  # fmt: skip
        value, pullback = tl.vjp(f, X)
        expected, other = tl.vjp(g, X)
        assert np.array_equal(value, expected)
        cotangent = np.cos(np.arange(np.size(value)).reshape(np.shape(value)))
        assert np.array_equal(pullback(cotangent)[0], other(cotangent)[0])


def test_arrays_by_keyword():
    assert np.array_equal(tl.grad(lambda x: np.sum(a=x))(X), np.ones_like(X))
    assert tl.grad(lambda x: np.sum(np.take(a=x, indices=[0], axis=1)))(X).sum() == 2
    assert tl.grad(lambda x: np.sum(np.stack(arrays=[x, x], axis=1)))(X).sum() == 12


def test_at_a_tie_the_cotangent_is_shared():
    x = np.array([2.0, 1.0, 2.0])
    assert tl.grad(np.max)(x).tolist() == [0.5, 0, 0.5]
    assert tl.grad(np.min)(-x).tolist() == [0.5, 0, 0.5]
    assert tl.grad(lambda x: np.sum(np.maximum(x, 1.0)))(x).tolist() == [1, 0.5, 1]
    assert tl.grad(lambda x: np.sum(np.clip(x, 1.0, 2.0)))(x).tolist() == [0.5, 0.5, 0.5]
    assert tl.grad(lambda x: np.sum(np.abs(x)))(x * 0).tolist() == [0, 0, 0]
    assert tl.grad(np.linalg.norm)(x * 0).tolist() == [0, 0, 0]


def test_edges_of_the_table():
    assert tl.grad(np.prod)(np.array([0.0, 2.0, 3.0])).tolist() == [6, 0, 0]
    assert tl.grad(np.prod)(np.array([0.0, 0.0, 3.0])).tolist() == [0, 0, 0]
    assert tl.grad(lambda x: x**0)(0.0) == 0
    assert tl.grad(lambda b: np.power(0.0, b))(2.0) == 0
    assert tl.grad(lambda x: np.sum(np.power(x, np.zeros(2))))(np.zeros(2)).tolist() == [0, 0]
    assert tl.grad(np.abs)(0j) == 0
    assert tl.grad(lambda a: special.xlogy(a, 2.0))(0.0) == math.log(2)
    assert tl.grad(lambda b: special.xlogy(0.0, b))(0.0) == 0
    infinite = tl.grad(np.logaddexp, argnums=(0, 1))
    assert infinite(-np.inf, 1.0) == (0, 1)
    assert infinite(-np.inf, -np.inf) == (0.5, 0.5)
    assert tl.grad(np.tanh)(40.0) == pytest.approx(4 * math.exp(-80), rel=1e-14, abs=0)
    assert tl.grad(special.expit)(-700.0) == pytest.approx(math.exp(-700), rel=1e-12, abs=0)
    assert tl.grad(np.expm1)(-50.0) == pytest.approx(math.exp(-50), rel=1e-14, abs=0)
    assert tl.grad(special.log_ndtr)(-1e4) == pytest.approx(1e4 + 1e-4, rel=1e-14)
    assert tl.grad(np.tanh)(1e4) == 0
    assert tl.grad(tl.relu)(0.0) == 0
    for order in (0, 1, 2, 3, np.inf, -np.inf):
        assert not tl.grad(lambda x, order=order: np.linalg.norm(x, order))(np.zeros(3)).any()
    assert not tl.grad(lambda x: np.linalg.norm(x, 0))(X[0]).any()
    assert tl.grad(np.mean)(np.ones(70_000, np.float16))[0] == np.float16(1 / 70_000)
    assert tl.grad(lambda x: np.remainder(x, -0.7))(1.0) == 1
    assert tl.grad(lambda b: np.remainder(-1.0, b))(0.7) == 2  # -1 - 0.7 * floor(-1 / 0.7)
    assert tl.grad(lambda b: np.remainder(1.0, b))(-0.7) == 2


@pytest.mark.parametrize(
    ("f", "at", "hessian"),
    [
        (lambda v: np.logaddexp(v[0], v[1]), [1.0, 1.0], [[0.25, -0.25], [-0.25, 0.25]]),
        (lambda v: v[0] ** v[1], [2.0, 0.0], [[0.0, 0.5], [0.5, math.log(2) ** 2]]),
        (lambda v: v[0] ** v[1], [0.0, 2.0], [[2.0, 0.0], [0.0, 0.0]]),
        (lambda v: special.xlogy(v[0], v[1]), [0.0, 2.0], [[0.0, 0.5], [0.5, 0.0]]),
        (lambda v: np.prod(v), [0.0, 0.0], [[0.0, 1.0], [1.0, 0.0]]),
        (lambda v: np.sum(np.abs(v)) * v[0], [0.0, 3.0], [[0.0, 1.0], [1.0, 0.0]]),
        (lambda v: np.sum(v**2) * np.exp(v[1]), [0.0, 0.0], [[2.0, 0.0], [0.0, 2.0]]),
        (lambda v: np.cosh(v[0]) * np.tanh(v[1]), [0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]),
        (lambda v: tl.softmax(v)[0], [0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]),
        (lambda v: tl.log_softmax(v)[0], [0.0, 0.0], [[-0.25, 0.25], [0.25, -0.25]]),
        (lambda v: tl.gelu(v[0] * v[1]), [0.0, 1.0], [[math.sqrt(2 / math.pi), 0.5], [0.5, 0.0]]),
    ],
)  # fmt: skip
def test_hessians_at_ties_and_zeros(f, at, hessian):
    """Where a random point never falls: second derivatives by hand."""
    at = np.array(at)
    np.testing.assert_allclose(tl.jacobian(tl.grad(f))(at), hessian, rtol=1e-14, atol=1e-15)
    columns = [tl.hvp(f, (at,), (e,))[0] for e in np.eye(2)]
    np.testing.assert_allclose(columns, hessian, rtol=1e-14, atol=1e-15)


def test_teaching():
    known = set(rules.RULES)
    try:

        @tl.derivative(np.linalg.slogdet)
        def _(cotangent, y, a):
            return cotangent[1][..., None, None] * np.linalg.inv(a).mT

        A = X @ X.T
        gradient = tl.grad(lambda A: np.linalg.slogdet(A)[1] * 2 + np.linalg.slogdet(A).logabsdet)(
            A
        )
        assert_close([gradient], [3 * np.linalg.inv(A).T])

        def split_sign(x):
            return np.sign(np.asarray(x)), np.abs(np.asarray(x))

        taught = tl.derivative(split_sign)(lambda c, y, x: c[1] * y[0])
        assert tl.grad(lambda x: np.sum(taught(x)[1]))(X).tolist() == np.sign(X).tolist()

        two = tl.derivative(lambda x, y: np.asarray(x) * np.asarray(y))(
            lambda c, v, x, y: c * y, lambda c, v, x, y: c * x
        )
        assert_close(tl.grad(lambda x: np.sum(two(x, x)))(X), 2 * X)

        python = tl.derivative(lambda x: math.sqrt(float(x)))(lambda c, y, x: c / (2 * y))
        assert tl.grad(lambda x: python(x) * 3)(4.0) == 0.75

        forgetful = tl.derivative(lambda x, y: np.asarray(x) * np.asarray(y))(
            lambda c, v, x, y: c * y
        )
        assert tl.grad(forgetful)(2.0, 3.0) == 3
        with pytest.raises(TypeError, match="gives cotangents for the first 1 only"):
            tl.grad(forgetful, argnums=1)(2.0, 3.0)

        by_name = tl.derivative(lambda *, x: 2 * x)(lambda c, v, *, x: 2 * c)
        with pytest.raises(TypeError, match="came by keyword"):
            tl.grad(lambda x: by_name(x=x))(1.0)

        tl.derivative(np.diff)(lambda c, y, a, **kwargs: np.diff(-c, prepend=0, append=0, **kwargs))
        assert tl.grad(lambda x: np.sum(np.diff(x, axis=0)[0] * X[0]))(X).tolist() == [
            (-X[0]).tolist(), X[0].tolist(),
        ]  # fmt: skip

        def two_largest(x):
            order = np.argsort(-x)[:2]
            return x[order], order

        taught = tl.derivative(two_largest)(
            lambda c, y, x: np.bincount(y[1], c[0], minlength=np.size(x))
        )
        assert tl.grad(lambda x: np.sum(taught(x)[0] + x[taught(x)[1]]))(X[0]).tolist() == [2, 0, 2]

        tl.derivative(np.cbrt)(lambda c, y, x: np.ones(5))
        with pytest.raises(ValueError, match=r"cbrt returned a cotangent of shape \(5,\) for arg"):
            tl.vjp(np.cbrt, X[0])[1](X[0])

        tl.derivative(np.vecdot)(  # a ufunc, and not elementwise
            lambda c, y, a, b, axis=-1: np.expand_dims(c, axis) * b,
            lambda c, y, a, b, axis=-1: np.expand_dims(c, axis) * a,
        )
        assert np.array_equal(tl.grad(lambda x: np.sum(np.vecdot(x, X, axis=0)))(X), X)

        wrong = tl.derivative(lambda x: np.asarray(x) * 2)(lambda c, v, x: np.sum(c))
        with pytest.raises(
            ValueError, match=r"returned a cotangent of shape \(\) for argument 0 of shape"
        ):
            tl.vjp(wrong, X)[1](X)
    finally:
        for function in set(rules.RULES) - known:
            del rules.RULES[function]
    with pytest.raises(TypeError, match="derivative of 3: wanted a function"):
        tl.derivative(3)
    for nothing in ((7,), (None,), ()):
        with pytest.raises(TypeError, match="wanted functions, got"):
            tl.derivative(np.cbrt)(*nothing)


def test_names_are_recorded_with_their_cotangents():
    def f(x):
        return np.sum(tl.name(tl.name(x * 2, "double") ** 2, "square") * 3)

    with tl.record() as seen:
        tl.grad(f)(X)
    assert list(seen) == ["double", "square", "d_square", "d_double"]
    assert np.array_equal(seen["double"][0], 2 * X)
    assert np.array_equal(seen["d_square"][0], np.full_like(X, 3))
    assert np.array_equal(seen["d_double"][0], 12 * X)
    with tl.record() as seen:
        f(X)
        f(X)
    assert len(seen["double"]) == 2
    f(X)
    assert len(seen["double"]) == 2, "nothing is recorded outside of the context"
    with tl.record() as outer, tl.record() as inner:
        f(X)
    assert list(outer) == list(inner) == ["double", "square"]


def test_a_watcher_sees_names_in_order():
    order = []
    with tl.record(lambda label, value: order.append(label)):
        tl.attention(X, X, X)
    assert order == ["scores", "normalizer", "weights", "output"]


def test_patches_change_names_and_their_cotangents():
    def f(x):
        return tl.name(x * x, "square") + x

    with tl.patch({"square": lambda x: x + 1}), tl.record() as seen:
        value, pullback = tl.vjp(f, X)
        with tl.patch({"d_square": lambda c: 10 * c}):
            (changed,) = pullback(np.ones_like(X))
        (plain,) = pullback(np.ones_like(X))
    assert np.array_equal(value, X * X + 1 + X)
    assert np.array_equal(seen["square"][0], X * X + 1)
    np.testing.assert_allclose(plain, 2 * X + 1)
    np.testing.assert_allclose(changed, 20 * X + 1)
    assert np.array_equal(f(X), X * X + X)


def test_options_of_the_functions():
    """Keywords that no random case reaches, each against the plain way to say the same."""
    for f, g in (
        (lambda x: np.var(x, correction=1), lambda x: np.var(x, ddof=1)),
        (lambda x: np.std(x, axis=1, correction=1), lambda x: np.std(x, axis=1, ddof=1)),
        (lambda x: np.linalg.norm(x, 1, keepdims=True), lambda x: np.linalg.norm(x, 1)[None, None]),
        (lambda x: np.linalg.norm(x, -np.inf, keepdims=True), lambda x: np.linalg.norm(x, -np.inf)[None, None]),
        (lambda x: x.reshape(3, 2, order="F"), lambda x: np.reshape(x.T, (2, 3)).T),
        (lambda x: x.flatten(order="F"), lambda x: np.ravel(x.T)),
        (lambda x: np.add.accumulate(x), lambda x: np.cumsum(x, axis=0)),
        (lambda x: np.add.reduce(x), lambda x: np.sum(x, axis=0)),
        (lambda x: np.concatenate((x, x), axis=None), lambda x: np.concatenate([np.ravel(x)] * 2)),
        (lambda x: np.einsum(x, [0, 1], X[0], [30]), lambda x: np.multiply.outer(x, X[0])),
        (lambda x: np.einsum("ij,jk,kl", x, X.T, x, optimize=["einsum_path", (0, 1), (0, 1)]), lambda x: x @ X.T @ x),
        (lambda x: np.tensordot(x, X, np.int64(2)), lambda x: np.sum(x * X)),
        (lambda x: sum(np.split(x, 3, axis=1)[1:2] * 3), lambda x: 3 * x[:, 1:2]),
        (lambda x: np.concatenate((x, x[:1])), lambda x: x[[0, 1, 0]]),
        (lambda x: np.einsum("ij,ij->ij", x[:1], x[:0]), lambda x: x[:1] * x[:0]),
        (lambda x: np.einsum("ij,ij->ij", x[:0], x[:1]), lambda x: x[:0] * x[:1]),
        (lambda x: np.exp(x, dtype=np.float64), np.exp),
        (lambda x: np.multiply(x, 2.0, dtype=np.float64), lambda x: x * 2),
        (lambda x: np.full_like(x, x[0, 0], dtype=np.float32), lambda x: np.full((2, 3), 1) * x[0, 0].astype(np.float32)),
        (lambda x: np.where(np.full((1, 1), True), x, 0.0), lambda x: x),
    ):  # fmt: skip
        value, pullback = tl.vjp(f, X)
        expected, other = tl.vjp(g, X)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
        cotangent = np.cos(np.arange(np.size(value)).reshape(np.shape(value))).astype(value.dtype)
        assert_close([pullback(cotangent)[0]], [other(cotangent)[0]], 1e-14)


def test_numbers_of_another_arithmetic():
    """Fractions: every digit of a derivative is exact."""
    third = Fraction(1, 3)
    assert tl.grad(lambda x: np.sum(x * x))(np.array([1, 2], object)).tolist() == [2, 4]
    x = np.array([third, Fraction(2)])
    assert tl.grad(lambda x: np.sum(x * x * x))(x).tolist() == [third, 12]
    gradient = tl.grad(lambda x: np.sum(x[0] / x))(x)
    assert gradient.tolist() == [Fraction(1, 2), Fraction(-1, 12)]
