"""Every rule of the table: against the complex step, at first and second order; and mutants."""

import operator
import re

import numpy as np
import pytest
from cases import CASES, Case
from helpers import assert_close, complex_step, complex_step_along

import tinylm as tl
from tinylm.autograd import Fused, names, rules
from tinylm.autograd.derivatives import elementwise, products

BY_FUNCTION = {case.function: [c for c in CASES if c.function is case.function] for case in CASES}


def inputs(case: Case, scale: float):
    rng = np.random.default_rng(7)
    return [case.domain(scale * rng.standard_normal(shape)) for shape in case.shapes]


def check_vjp(case: Case, scale: float):
    primals = inputs(case, scale)
    value, pullback = tl.vjp(case.call, *primals)
    assert np.array_equal(value, case.call(*primals)), "the value is NumPy's own"
    cotangent = np.random.default_rng(8).standard_normal(np.shape(value))
    got = pullback(cotangent)
    expected = complex_step(case.twin or case.call, primals, cotangent)
    if case.elementwise:
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300)
    assert_close(got, expected)
    for cotangent_of, primal in zip(got, primals, strict=True):
        assert np.shape(cotangent_of) == primal.shape
        assert cotangent_of.dtype == primal.dtype


def check_hvp(case: Case, scale: float):
    primals = inputs(case, scale)
    rng = np.random.default_rng(9)
    weights = rng.standard_normal(np.shape(case.call(*primals)))
    tangents = [scale * rng.standard_normal(x.shape) for x in primals]
    every = tuple(range(len(primals)))
    twin = case.twin or case.call
    got = tl.hvp(lambda *x: np.sum(case.call(*x) * weights), primals, tangents)
    expected = complex_step_along(
        tl.grad(lambda *x: np.sum(twin(*x) * weights), every), primals, tangents
    )
    assert_close(got, expected, 1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vjp_is_the_complex_step(case):
    for scale in case.scales:
        check_vjp(case, scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hvp_is_the_complex_step_of_the_gradient(case):
    for scale in case.scales:
        check_hvp(case, scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_jvp_is_the_complex_step(case):
    primals = inputs(case, 1.0)
    rng = np.random.default_rng(10)
    tangents = [rng.standard_normal(x.shape) for x in primals]
    _, got = tl.jvp(case.call, primals, tangents)
    assert_close(got, complex_step_along(case.twin or case.call, primals, tangents))


PRIVATE = {names.named, products.einsum, elementwise.sech_squared}
PRIVATE |= {f for f in rules.RULES if re.search(r"ops\.|recompute", getattr(f, "__module__", ""))}
ELSEWHERE = {np.sign, getattr(np, "astype", None)}  # in test_tracing: no derivative of their own
TAUGHT = [
    f
    for f in (*rules.RULES, *rules.EXPANSIONS)
    if not isinstance(f, Fused) and f not in PRIVATE | ELSEWHERE
]


@pytest.mark.parametrize("function", TAUGHT, ids=rules.title)
def test_every_function_in_the_table_has_a_case(function):
    assert function in BY_FUNCTION


class Wrong(rules.Rule):
    """A rule whose last cotangent is 0.1% too large."""

    def __init__(self, right):
        self.__dict__.update(right.__dict__)
        self.right = right

    def positional(self, args, kwargs):
        return self.right.positional(args, kwargs)

    def pull(self, cotangent, y):
        *shares, (parent, last) = self.right.pull(cotangent, y)
        wrong = [1.001 * x for x in last] if isinstance(last, list) else 1.001 * last
        yield from [*shares, (parent, wrong)]


MUTABLE = [f for f in rules.RULES if f in BY_FUNCTION and f is not np.imag]  # 1.001 * 0 is 0


@pytest.mark.parametrize("function", MUTABLE, ids=rules.title)
def test_a_rule_that_is_wrong_by_a_thousandth_is_caught(function, monkeypatch):
    monkeypatch.setitem(rules.RULES, function, Wrong(rules.RULES[function]))
    assert any(fails(case) for case in BY_FUNCTION[function])


def fails(case):
    try:
        check_vjp(case, case.scales[-1])
    except AssertionError:
        return True
    return False


def test_the_plain_power_is_a_square():
    x = np.array([0.1, 1 / 3])
    assert np.array_equal(tl.vjp(lambda x: x**2, x)[0], x * x)
    assert tl.grad(lambda x: np.sum(operator.pow(x, 0)))(np.zeros(2)).tolist() == [0, 0]
