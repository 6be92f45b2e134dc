"""The rival: modified Kneser-Ney against a transcription with dictionaries, and that it sums to one."""

import hashlib
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl


def kneser_ney(text, order, vocab_size):
    """Chen and Goodman 1998, with dictionaries: (token, tokens before it) -> probability."""
    counts = []
    for k in range(1, order + 1):
        if k == order:
            counts.append(Counter(tuple(text[i : i + k]) for i in range(len(text) - k + 1)))
        else:
            longer = {tuple(text[i : i + k + 1]) for i in range(len(text) - k)}
            counts.append(Counter(gram[1:] for gram in longer))

    def discounts(counter):
        n1, n2, n3, n4 = (max(1, sum(c == i for c in counter.values())) for i in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        raw = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return [0.0] + [min(max(d, 0.0), i) for i, d in enumerate(raw, 1)]

    discount = [discounts(counter) for counter in counts]

    def probability(token, before, k=order):
        if k == 0:
            return 1 / vocab_size
        lower = probability(token, before, k - 1)
        if len(before) < k - 1:
            return lower
        context = tuple(before[len(before) - (k - 1) :])
        after = {gram[-1]: c for gram, c in counts[k - 1].items() if gram[:-1] == context}
        total = sum(after.values())
        if total == 0:
            return lower
        d = discount[k - 1]
        left_over = sum(d[min(c, 3)] for c in after.values()) / total
        own = after.get(token, 0)
        return max(own - d[min(own, 3)], 0) / total + left_over * lower

    return probability


@given(
    st.lists(st.integers(0, 3), min_size=5, max_size=60),
    st.lists(st.integers(0, 4), min_size=2, max_size=12),
    st.integers(1, 5),
)
def test_probabilities_are_the_transcription(text, other, order):
    model = tl.NGram(np.array(text), order, vocab_size=5)
    expected = kneser_ney(text, order, 5)
    got = model.probabilities(np.array(other))
    if order > 2:
        smaller = tl.NGram(np.array(text), order - 2, vocab_size=5)
        shorter = model.probabilities(np.array(other), order - 2)
        np.testing.assert_allclose(shorter, smaller.probabilities(np.array(other)), rtol=1e-14)
    for i, token in enumerate(other):
        assert got[i] == pytest.approx(expected(token, tuple(other[:i])), rel=1e-12), i


@given(st.lists(st.integers(0, 3), min_size=5, max_size=60), st.integers(1, 5), st.integers(0, 99))
def test_probabilities_sum_to_one(text, order, seed):
    model = tl.NGram(np.array(text), order, vocab_size=6)
    before = np.random.default_rng(seed).integers(0, 6, 7)
    total = sum(model.probabilities(np.append(before, token))[-1] for token in range(6))
    assert total == pytest.approx(1, rel=1e-12)


@given(
    st.lists(st.integers(0, 3), min_size=5, max_size=60),
    st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=3),
    st.integers(1, 5),
)
def test_as_a_model_it_says_the_same_of_every_token(text, rows, order):
    model, rows = tl.NGram(np.array(text), order, vocab_size=5), np.array(rows)
    expected = kneser_ney(text, order, 5)
    for got in (np.exp(model(None, rows)), np.exp(model(None, rows[None]))[0]):
        for i, t in np.ndindex(rows.shape):
            for token in range(5):
                known = expected(token, tuple(rows[i, : t + 1].tolist()))
                assert got[i, t, token] == pytest.approx(known, rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_as_a_model_it_has_the_same_perplexity(order):
    text, other = np.random.default_rng(0).integers(0, 4, (2, 200))
    model = tl.NGram(text, order, 4)
    measured = tl.perplexity(model, None, other, stride=1)
    assert measured.nll == pytest.approx(model.perplexity(other).nll, rel=1e-9)
    assert measured.tokens == 199


def test_what_it_writes():
    """Drawn tokens are as frequent as it says, and those before the context do not count."""
    text = np.random.default_rng(0).integers(0, 3, 200)
    model = tl.NGram(text, 3, 3)
    prompts = np.tile([2, 2, 0, 1], (5000, 1))
    drawn = tl.generate(model, None, prompts, 1, rng=np.random.default_rng(0))[:, -1]
    says = [model.probabilities(np.array([0, 1, token]))[-1] for token in range(3)]
    assert np.bincount(drawn, minlength=3) / 5000 == pytest.approx(says, abs=0.03)
    likeliest = tl.generate(model, None, prompts[0], 1, temperature=0)[-1]
    assert likeliest == np.argmax(says)
    alone = tl.NGram(text, 1, 3)
    assert (
        tl.generate(alone, None, [0], 2, temperature=0)[1:].tolist()
        == [np.argmax(np.bincount(text))] * 2
    )


def test_codes_do_not_overflow():
    """Ten thousand kinds of tokens to the seventh power are more than 64 bits hold."""
    text = np.tile(np.random.default_rng(0).integers(9_000, 10_000, 30), 3)
    got = tl.NGram(text, 7, 10_000).probabilities(text)
    expected = kneser_ney(text.tolist(), 7, 10_000)
    for i in range(len(text)):
        assert got[i] == pytest.approx(expected(text[i], tuple(text[:i].tolist())), rel=1e-12)


def test_higher_orders_are_better_on_real_text():
    text = tl.corpus("python-docs")
    ids = tl.CharTokenizer.train(text).encode(text)
    training, held_out = ids[:200_000], ids[200_000:250_000]
    model = tl.NGram(training, 5, ids.max() + 1)
    measures = [model.perplexity(held_out, order).nll for order in (1, 2, 3, 5)]
    assert measures == sorted(measures, reverse=True)
    assert measures[0] == pytest.approx(3.3, abs=0.2)
    counts = np.bincount(training, minlength=ids.max() + 1) / len(training)
    by_counts = -np.mean(np.log(np.maximum(counts[held_out[1:]], 1e-9)))
    assert measures[0] == pytest.approx(by_counts, abs=0.01)


SHAKESPEARE = Path(os.environ.get("TINYSHAKESPEARE", "tinyshakespeare.txt"))


@pytest.mark.skipif(
    not SHAKESPEARE.exists(), reason="not ours to ship; $TINYSHAKESPEARE says where it is"
)
def test_the_published_figures_on_tiny_shakespeare():
    text = SHAKESPEARE.read_text()
    assert hashlib.sha256(text.encode()).hexdigest() == tl.text.corpora.TINYSHAKESPEARE.sha256
    ids = tl.CharTokenizer.train(text).encode(text)
    cut = len(ids) * 9 // 10
    model = tl.NGram(ids[:cut], 7, 65)
    for order, nats in ((1, 3.347), (2, 2.484), (3, 2.038), (4, 1.719), (5, 1.561), (7, 1.517)):
        assert model.perplexity(ids[cut:], order).nll == pytest.approx(nats, abs=1e-3)


@pytest.mark.parametrize(
    ("ids", "order", "message"),
    [
        ([0, 1], 0, "order=0, 2 tokens: wanted 1 <= order <= tokens"),
        ([0, 1], 3, "order=3, 2 tokens"),
        ([0, 5], 1, r"ids from 0 to 5: wanted \[0, 5\)"),
        ([0.0, 1.0], 1, "ids of float64"),
        ([[0, 1]], 1, r"shape \(1, 2\): wanted a row"),
    ],
)
def test_impossible_models(ids, order, message):
    with pytest.raises(ValueError, match=f"NGram: .*{message}"):
        tl.NGram(np.array(ids), order, 5)


def test_orders_above_its_own():
    with pytest.raises(ValueError, match="order=3: wanted 1 <= order <= 2"):
        tl.NGram(np.array([0, 1, 0]), 2, 2).perplexity(np.array([0, 1]), 3)


def test_perplexity_skips_the_first_token():
    model = tl.NGram(np.array([0, 1, 0, 1, 0, 0]), 2, 2)
    ids = np.array([1, 0, 1])
    measured = model.perplexity(ids)
    assert measured.tokens == 2
    assert measured.nll == pytest.approx(-math.log(math.prod(model.probabilities(ids)[1:])) / 2)
