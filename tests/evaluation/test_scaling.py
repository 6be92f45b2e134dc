"""Scaling laws: recovered where they hold, nearest where they do not, whatever the units."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.evaluation import PowerLaw, frontier

SIZES = np.array([300, 1_000, 3_000, 11_000, 30_000, 100_000])


def distance(law, sizes, losses):
    """The sum of squares of the docstring, in a loop."""
    E, A, alpha = law
    return sum(
        (np.log(E + A / N**alpha) - np.log(L)) ** 2 for N, L in zip(sizes, losses, strict=True)
    )


def test_by_hand():
    """1 + 8 / sqrt(N): 5 at 4, 3 at 16, 2 at 64, 1.5 at 256; the next is 1.25."""
    law = tl.fit_power_law([4, 16, 64, 256], [5, 3, 2, 1.5])
    assert law == pytest.approx((1, 8, 0.5), rel=1e-6)
    assert law(1024) == pytest.approx(1.25, rel=1e-6)
    assert law([4, 16]) == pytest.approx([5, 3], rel=1e-6)


@given(st.floats(0.05, 3), st.floats(0.1, 10), st.floats(0.1, 2))
def test_a_law_is_recovered(E, above, alpha):
    """`above` is what the smallest size has above E."""
    losses = E + above * (SIZES / SIZES[0]) ** -alpha
    law = tl.fit_power_law(SIZES, losses)
    assert law(SIZES) == pytest.approx(losses, rel=1e-4)
    if above / E > 0.3 and alpha > 0.2:  # else six points say little of the three
        assert law == pytest.approx((E, above * SIZES[0] ** alpha, alpha), rel=1e-2)


@given(st.floats(1e-3, 1e3), st.floats(0.05, 3))
def test_without_a_floor_it_is_the_straight_line(A, alpha):
    law = tl.fit_power_law(SIZES, A * SIZES**-alpha)
    assert law(10 * SIZES[-1]) == pytest.approx(A * (10.0 * SIZES[-1]) ** -alpha, rel=1e-2)


def test_no_floor_is_exactly_none():
    assert tl.fit_power_law([1, 2, 4, 8], [8, 4, 2, 1]).E == 0


@given(st.integers(0, 10**6))
def test_no_neighbour_is_nearer(seed):
    rng = np.random.default_rng(seed)
    sizes = np.repeat(SIZES, 3)
    losses = (0.3 + 40 * sizes**-0.6) * np.exp(0.2 * rng.standard_normal(sizes.size))
    law = tl.fit_power_law(sizes, losses)
    least = distance(law, sizes, losses)
    for factors in itertools.product((0.99, 1, 1.01), repeat=3):
        other = [max(x, 1e-9) * f for x, f in zip(law, factors, strict=True)]
        assert distance(other, sizes, losses) >= least * (1 - 1e-9)


def test_units_and_order_change_nothing_but_their_own(rng):
    losses = (0.3 + 40 * SIZES**-0.6) * np.exp(0.1 * rng.standard_normal(SIZES.size))
    E, A, alpha = tl.fit_power_law(SIZES, losses)
    turned = tl.fit_power_law(SIZES[::-1], losses[::-1])
    assert turned == pytest.approx((E, A, alpha), rel=1e-4)
    millions = tl.fit_power_law(SIZES / 1e6, losses)
    assert millions == pytest.approx((E, A * 1e6**-alpha, alpha), rel=1e-4)
    bits = tl.fit_power_law(SIZES, losses / np.log(2))
    assert bits == pytest.approx((E / np.log(2), A / np.log(2), alpha), rel=1e-4)


def test_losses_over_many_orders_of_magnitude():
    """Nothing overflows on the way (warnings are errors), and an A without a float is named."""
    sizes, losses = np.array([1e6, 1.1e6, 1.2e6]), [1e9, 1, 1e-9]
    with pytest.raises(ValueError, match=r"alpha = 227.2 and A = exp\(31\d\d\), out of the range"):
        tl.fit_power_law(sizes, losses)
    with pytest.raises(ValueError, match=r"A = exp\(-31\d\d\).*in which they are near 1"):
        tl.fit_power_law(sizes / 1e12, losses)
    law = tl.fit_power_law(sizes / 1e6, losses)
    slope, level = np.polyfit(np.log(sizes / 1e6), np.log(losses), 1)
    line = (0, np.exp(level), -slope)
    least = distance(line, sizes / 1e6, losses)
    assert distance(law, sizes / 1e6, losses) <= least * (1 + 1e-9)
    assert law[1:] == pytest.approx(line[1:], rel=1e-6)
    assert tl.fit_power_law([1, 2, 3], [5e-324] * 3).A == 5e-324


def test_sizes_that_differ_in_the_last_digit_alone():
    with pytest.raises(ValueError, match="1 different sizes: wanted at least 3"):
        tl.fit_power_law([1e15, 1e15 + 1, 1e15 + 2], [3, 2, 1])


def test_losses_that_do_not_fall_have_no_slope():
    losses = np.array([1, 1.1, 1.2, 1.3, 1.4, 1.5])
    law = tl.fit_power_law(SIZES, losses)
    assert law(SIZES) == pytest.approx(np.full(6, np.exp(np.mean(np.log(losses)))), rel=1e-6)


@pytest.mark.parametrize(
    ("sizes", "losses", "message"),
    [
        ([1, 2, 3], [1, 2], r"sizes has shape \(3,\), losses has \(2,\)"),
        ([[1, 2, 3]], [[3, 2, 1]], r"sizes has shape \(1, 3\)"),
        ([1, 2, 0], [3, 2, 1], "sizes has 0.0: wanted numbers above 0"),
        ([1, 2, 3], [3, np.nan, 1], "losses has nan"),
        ([1, 2, 3], [3, -2, 1], "losses has -2.0"),
        ([1, 2, 2, 1], [3, 2, 2, 3], "2 different sizes: wanted at least 3"),
    ],
)
def test_impossible_laws(sizes, losses, message):
    with pytest.raises(ValueError, match=f"fit_power_law: {message}"):
        tl.fit_power_law(sizes, losses)


def test_a_law_is_what_it_says():
    assert PowerLaw(1.0, 2.0, 0.5)(np.array([4, 16])) == pytest.approx([2.0, 1.5])


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=12))
def test_the_frontier_is_what_nothing_smaller_equals(runs):
    """By the definition, in loops; of equal runs one is kept."""
    best = {
        (size, loss)
        for size, loss in runs
        if not any(s <= size and loss >= L and (s, L) != (size, loss) for s, L in runs)
    }
    places = frontier([s for s, _ in runs], [L for _, L in runs])
    assert [runs[i] for i in places] == sorted(best)


def test_an_impossible_frontier():
    with pytest.raises(ValueError, match="frontier: losses has inf: wanted numbers above 0"):
        frontier([1, 2], [1, np.inf])
