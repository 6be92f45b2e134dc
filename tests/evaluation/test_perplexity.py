"""Perplexity: against a literal loop, over every stride and length."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.evaluation import Perplexity


class Bigram:
    """A model that looks at every token it is given: its logits depend on the position and sum."""

    def __init__(self, context_length, vocab_size=5):
        self.context_length = context_length
        self.table = np.random.default_rng(1).standard_normal((vocab_size, 40, vocab_size))
        self.calls = []

    def __call__(self, params, ids):
        ids = np.asarray(ids)
        assert ids.shape[-1] <= self.context_length
        self.calls.append(ids.shape)
        seen = np.cumsum(ids, axis=-1) % 40
        return self.table[ids, seen]


def perplexity_in_loops(model, ids, stride):
    """Each token in turn, by the window that first reaches it."""
    length, losses, begin, reached = model.context_length, [], 0, 0
    while reached < len(ids) - 1:
        end = min(begin + length, len(ids) - 1)
        logits = model(None, ids[begin:end])
        for position in range(reached, end):
            row = logits[position - begin]
            total = math.fsum(math.exp(v) for v in row)
            losses.append(-math.log(math.exp(row[ids[position + 1]]) / total))
        begin, reached = begin + stride, end
    assert len(losses) == len(ids) - 1
    return math.fsum(losses) / len(losses)


@given(
    st.integers(2, 40), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99)
)
def test_perplexity_is_the_loop(size, length, stride, batch_size, seed):
    stride = min(stride, length)
    ids = np.random.default_rng(seed).integers(0, 5, size)
    measured = tl.perplexity(Bigram(length), None, ids, stride, batch_size)
    expected = perplexity_in_loops(Bigram(length), ids, stride)
    assert measured.nll == pytest.approx(expected, rel=1e-12)
    assert measured.tokens == size - 1
    if stride == length:
        assert tl.perplexity(Bigram(length), None, ids).nll == pytest.approx(expected, rel=1e-12)


def test_a_sequence_of_one_window_is_read_once():
    model = Bigram(8)
    tl.perplexity(model, None, np.array([1, 2, 3]), stride=1)
    assert model.calls == [(1, 2)]


def test_units():
    measured = Perplexity(nll=2 * math.log(2), tokens=30)
    assert measured.perplexity == pytest.approx(4)
    assert measured.bits_per_token == pytest.approx(2)
    assert measured.bits_per_character(20) == pytest.approx(3)
    assert Perplexity(nll=1e4, tokens=1).perplexity == math.inf


def test_uniform_and_certain_models():
    class Constant:
        context_length = 4

        def __init__(self, logits):
            self.logits = np.array(logits)

        def __call__(self, params, ids):
            return np.broadcast_to(self.logits, (*np.shape(ids), 3))

    assert tl.perplexity(Constant([0.0, 0, 0]), None, [0, 1, 2, 1]).perplexity == pytest.approx(3)
    assert tl.perplexity(Constant([99.0, 0, 0]), None, [0, 0, 0, 0]).perplexity == pytest.approx(1)


@pytest.mark.parametrize(
    ("ids", "stride", "message"),
    [
        ([1], None, r"ids has shape \(1,\): wanted two or more"),
        ([[1, 2]], None, r"ids has shape \(1, 2\)"),
        ([1, 2, 3], 0, "stride=0: wanted 1 <= stride <= 4"),
        ([1, 2, 3], 5, "stride=5"),
    ],
)
def test_impossible_measures(ids, stride, message):
    with pytest.raises(ValueError, match=f"perplexity: {message}"):
        tl.perplexity(Bigram(4), None, np.array(ids), stride)


def test_threads_change_nothing(rng):
    model = tl.GPT(vocab_size=5, context_length=6, d_model=8, num_heads=2, num_layers=1)
    params, ids = model.init(rng), rng.integers(0, 5, 200)
    measured = {tl.perplexity(model, params, ids, 3, 4, threads) for threads in (1, 2, 3)}
    assert len(measured) == 1
    with tl.record() as alone:
        tl.perplexity(model, params, ids, 3, 4)
    with tl.record() as seen:
        assert tl.perplexity(model, params, ids, 3, 4, 2).nll == pytest.approx(measured.pop().nll)
    assert len(seen["logits"]) == 18
    assert all(map(np.array_equal, seen["logits"], alone["logits"])), "in order"
