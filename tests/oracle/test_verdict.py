"""The verdict on one tensor: by hand, and what it says that it would have seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.oracle.verdict import gain_limit, judge, located, ratios, rms_limit


def test_by_hand():
    expected, allowed = np.array([[1.0, 2.0], [4.0, 0.0]]), np.array([[0.1, 0.2], [0.4, 0.0]])
    verdict = judge("x", expected + np.array([[0.05, 0.0], [-0.8, 0.0]]), expected, allowed)
    assert verdict.failures == ("element", "rms")
    assert (verdict.worst, verdict.index) == (pytest.approx(2), (1, 0))
    assert (verdict.got, verdict.expected, verdict.allowed) == (pytest.approx(3.2), 4.0, 0.4)
    assert verdict.share == 0.25
    assert verdict.rms == pytest.approx(np.sqrt((0.25 + 4) / 3))
    assert verdict.gain == pytest.approx((0.5 * 10 - 2 * 10) / 300)
    assert verdict.where == "axis -2 = 1; axis -1 = 0"
    assert judge("x", expected, expected, allowed).ok
    nothing = judge("x", np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)))
    assert nothing.ok
    assert nothing.sees == np.inf
    assert judge("x", np.zeros(2), np.zeros(3), np.zeros(3)).failures == ("shape",)


def test_what_may_not_differ_at_all():
    zero = np.zeros((2, 3))
    assert judge("x", -zero, zero, zero).ok
    verdict = judge("x", zero + np.array([0, 0, 1e-300]), zero, zero)
    assert verdict.failures == ("element",)
    assert verdict.where == "where the expected number is exactly 0, as behind a mask"


@pytest.mark.parametrize(
    ("got", "expected", "io", "fits"),
    [
        (np.inf, np.inf, "f32", True),
        (-np.inf, np.inf, "f32", False),
        (np.nan, np.nan, "f32", True),
        (np.nan, 1.0, "f32", False),
        (np.inf, 1.0, "f32", False),
        (1.0, np.nan, "f32", False),
        (np.inf, 65500.0, "f16", True),  # as near to the largest number as is allowed
        (np.inf, 65000.0, "f16", False),
        (-np.inf, -70000.0, "f16", True),
        (65504.0, 65530.0, "f16", True),
        (np.nan, 460.0, "e4m3", True),
        (np.nan, 300.0, "e4m3", False),
    ],
)
def test_what_is_not_finite(got, expected, io, fits):
    verdict = judge("x", np.array([got]), np.array([expected]), np.array([50.0]), io=io)
    assert verdict.ok == fits
    if not fits and np.isfinite(expected) and not np.isfinite(got):
        assert "not finite" in verdict.failures


@given(st.integers(0, 1000), st.sampled_from([1, 3, 50, 2000]), st.sampled_from([1e-7, 1e-3, 0.1]))
def test_it_sees_what_it_says_and_not_much_less(seed, n, relative):
    rng = np.random.default_rng(seed)
    expected = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4)
    allowed = relative * np.abs(expected) * rng.uniform(0.5, 2, n)
    sees = judge("x", expected, expected, allowed).sees
    assert not judge("x", expected * (1 + 1.01 * sees), expected, allowed).ok
    assert judge("x", expected * (1 + 0.99 * sees), expected, allowed).ok
    noise = 0.2 * allowed * rng.standard_normal(n).clip(-3, 3)
    assert judge("x", expected + noise, expected, allowed).ok
    if n > 1:  # noise alone may hide half of it
        assert not judge("x", expected * (1 + 3 * sees) + noise, expected, allowed).ok


def test_limits_of_one_element_are_those_of_the_element():
    assert rms_limit(1) == 1
    assert gain_limit(1) > 1
    assert rms_limit(10**6) < 0.36
    assert gain_limit(10**6) < 0.062


def test_equal_rows_are_one():
    rng = np.random.default_rng(0)
    expected = np.broadcast_to(rng.standard_normal(40), (500, 40))
    allowed = 0.01 * np.abs(expected)
    off = expected * 1.0012
    assert judge("x", off, expected, allowed).ok
    assert not judge("x", off, expected + 1e-9 * rng.standard_normal((500, 40)), allowed).ok


def test_where():
    failing = np.zeros((2, 8, 5), bool)
    assert located(failing) == ""
    failing[1, 6:, :] = True
    assert located(failing, "HTD") == "H = 1; T = 6 to 7, the last 2"
    failing[:] = True
    assert located(failing, "HTD") == "everywhere"
    failing[:] = False
    failing[:, 3, 2] = True
    assert located(failing, "...TD") == "T = 3; D = 2"
    failing[:] = False
    failing[0, ::7, 0] = True
    assert located(failing, "TD") == "axis -3 = 0; D = 0", "scattered along T"


def test_ratios():
    assert ratios(np.array([1.0, 2.0]), np.array([1.0, 1.0]), np.array([0.0, 4.0])).tolist() == [
        0.0,
        0.25,
    ]
