"""Masking: the shares of the paper, targets only where a token was chosen, nothing special."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.text import mask_tokens

V, MASK, SPECIAL = 50, 4, [0, 2, 3]


def within(count, trials, share):
    """Five standard deviations of the binomial: one seed in two million is further off."""
    return abs(count - trials * share) < 5 * math.sqrt(trials * share * (1 - share))


@pytest.mark.parametrize(("seed", "rate"), [(0, 0.15), (1, 0.15), (2, 0.5), (3, 1.0)])
def test_the_shares_of_the_paper(seed, rate):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, V, 200_000)
    masked, targets = mask_tokens(ids, MASK, V, rng, rate, SPECIAL)
    ordinary = ~np.isin(ids, [MASK, *SPECIAL])
    chosen = targets != -100
    n = np.count_nonzero(chosen)
    assert not np.any(chosen & ~ordinary)
    trials = np.count_nonzero(ordinary)
    assert n == trials if rate == 1 else within(n, trials, rate)
    hidden = chosen & (masked == MASK)
    assert within(np.count_nonzero(hidden), n, 0.8)
    # a random token of the 46 may be the very one that stood there
    assert within(np.count_nonzero(chosen & (masked == ids)), n, 0.1 + 0.1 / 46)
    drawn = masked[chosen & ~hidden & (masked != ids)]
    assert within(drawn.size, n, 0.1 * 45 / 46)
    counts = np.bincount(drawn, minlength=V)
    assert not counts[[MASK, *SPECIAL]].any()
    others = np.delete(counts, [MASK, *SPECIAL])
    assert all(within(count, drawn.size, 1 / 46) for count in others), "each as likely"


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, V - 1), max_size=40),
    st.floats(0, 1),
    st.lists(st.integers(0, 20), max_size=5),
)
def test_what_is_not_chosen_stays(seed, ids, rate, special):
    ids = np.array(ids, dtype=np.int64)
    before = ids.copy()
    masked, targets = mask_tokens(ids, MASK, V, np.random.default_rng(seed), rate, special)
    again = mask_tokens(ids, MASK, V, np.random.default_rng(seed), rate, special)
    assert np.array_equal(again, (masked, targets))
    assert np.array_equal(ids, before)
    assert masked.dtype == targets.dtype == np.int64
    chosen = targets != -100
    assert np.array_equal(masked[~chosen], ids[~chosen])
    assert np.array_equal(targets[chosen], ids[chosen])
    assert not np.isin(ids[chosen], [MASK, *special]).any()
    if rate in (0, 1):
        assert np.array_equal(chosen, ~np.isin(ids, [MASK, *special]) & bool(rate))


def test_any_shape(rng):
    masked, targets = mask_tokens(np.ones((2, 3, 5), np.int32), MASK, V, rng, 0.5)
    assert masked.shape == targets.shape == (2, 3, 5)
    assert 0 < np.count_nonzero(targets == 1) < 30


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"ids": [0.5]}, TypeError, "ids holds float64: wanted integers"),
        ({"ids": [50]}, ValueError, r"ids from 50 to 50: wanted \[0, 50\)"),
        ({"ids": [3, -1]}, ValueError, "ids from -1 to 3"),
        ({"mask_id": 50}, ValueError, "mask_id=50: wanted a token"),
        ({"rate": 1.5}, ValueError, "rate=1.5: wanted 0 <= rate <= 1"),
        ({"rate": math.nan}, ValueError, "rate=nan"),
        ({"special": range(50)}, ValueError, "all 50 tokens are special"),
    ],
)
def test_impossible_masking(change, error, message):
    arguments = {"ids": [1, 2], "mask_id": MASK, "vocab_size": V, "rng": np.random.default_rng(0)}
    with pytest.raises(error, match=f"mask_tokens: {message}"):
        mask_tokens(**arguments | change)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64])
def test_ids_of_any_integer_type(dtype):
    ids = np.arange(20, dtype=dtype)
    seen, targets = mask_tokens(ids, 3, 200, np.random.default_rng(0))
    assert seen.dtype == targets.dtype == np.int64
    assert set(targets[targets != np.arange(20)]) == {-100}
