"""Pseudo-perplexity: against a literal loop, one masked token after the other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees

MASK, SPECIAL = 3, [0, 1, 2]
MODEL = tl.BERT(9, 7, 4, 2, 1, task="masked-lm")


def some_params(rng):
    return trees.map_leaves(lambda p: rng.standard_normal(p.shape), MODEL.init(rng))


def nll_in_loops(params, texts):
    """The paper's sum, from the logits of one text at a time."""
    losses = []
    for text in texts:
        for t, token in enumerate(text):
            if token in SPECIAL:
                continue
            masked = [*text[:t], MASK, *text[t + 1 :]]
            row = MODEL(params, masked)[t]
            total = math.fsum(math.exp(score) for score in row)
            losses.append(-math.log(math.exp(row[token]) / total))
    return math.fsum(losses) / len(losses), len(losses)


TEXTS = st.lists(
    st.lists(st.integers(0, 8), max_size=5).map(lambda ids: [1, *ids, 2]), min_size=1, max_size=4
)


@given(TEXTS, st.integers(1, 6), st.integers(0, 99))
def test_it_is_the_loop(texts, batch_size, seed):
    params = some_params(np.random.default_rng(seed))
    if not any(set(text) - set(SPECIAL) for text in texts):
        with pytest.raises(ValueError, match="every token is special"):
            tl.pseudo_perplexity(MODEL, params, texts, MASK, SPECIAL)
        return
    measured = tl.pseudo_perplexity(MODEL, params, texts, MASK, SPECIAL, batch_size)
    expected, tokens = nll_in_loops(params, texts)
    assert measured.nll == pytest.approx(expected, rel=1e-12)
    assert measured.tokens == tokens
    assert measured.perplexity == pytest.approx(math.exp(expected))


def test_one_text_or_several(rng):
    params, texts = some_params(rng), rng.integers(4, 9, (3, 5))
    one = [tl.pseudo_perplexity(MODEL, params, text, MASK) for text in texts]
    assert [measured.tokens for measured in one] == [5, 5, 5]
    together = tl.pseudo_perplexity(MODEL, params, texts, MASK)
    assert together.nll == pytest.approx(np.mean([measured.nll for measured in one]), rel=1e-12)


def test_the_token_itself_is_not_seen(rng):
    """What stood where the mask stands has no part in its own prediction."""

    class Copies:
        context_length = 9
        seen = ()

        def loss(self, params, ids, targets):
            where = targets != -100
            assert np.array_equal(where.sum(axis=1), np.ones(len(ids)))
            assert np.array_equal(ids[where], np.full(len(ids), MASK))
            self.seen += tuple(targets[where])
            return 1.0

    model = Copies()
    measured = tl.pseudo_perplexity(model, None, [1, 5, 6, 7, 5, 2], MASK, SPECIAL, batch_size=3)
    assert model.seen == (5, 6, 7, 5)
    assert (measured.nll, measured.tokens) == (1.0, 4)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([4] * 8, r"a text has shape \(8,\): wanted \(T,\) with T <= context_length = 7"),
        ([[[4]]], r"a text has shape \(1, 1\)"),
        ([], "every token is special"),
        ([1, 2], "every token is special, and none is predicted"),
    ],
)
def test_impossible_measures(ids, message):
    with pytest.raises(ValueError, match=f"pseudo_perplexity: {message}"):
        tl.pseudo_perplexity(MODEL, MODEL.init(np.random.default_rng(0)), ids, MASK, SPECIAL)


def test_ids_of_one_byte():
    model = tl.BERT(10, 8, 8, 1, 1, task="masked-lm")
    params, text = model.init(np.random.default_rng(0)), np.array([1, 5, 6, 7, 2])
    wanted = tl.pseudo_perplexity(model, params, text, 3, special=[1, 2])
    assert tl.pseudo_perplexity(model, params, text.astype(np.uint8), 3, special=[1, 2]) == wanted
