"""Batches of pairs: who follows whom, which segment a token is of, and what is hidden."""

import itertools

import numpy as np
import pytest

import tinylm as tl
from tinylm.text import pad, sentence_pairs, sentences

TEXTS = [[f"{chr(97 + t)}{s} x y" for s in range(5)] for t in range(4)]
TOKENIZER = tl.WordPieceTokenizer.train("\n".join(s for text in TEXTS for s in text) * 5, 80)


def test_pad():
    made = pad([[1, 2, 3], np.array([4])], 9)
    assert made["ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert made["mask"].tolist() == [[True] * 3, [True, False, False]]
    with pytest.raises(ValueError, match="pad: no rows"):
        pad([], 0)


def test_sentences():
    text = "One  two\nthree. No! Is it so? It is: a b c\n\nNo full stop here\n\nVersion 3.5 of it."
    expected = ["One two three.", "Is it so?", "a b c", "No full stop here", "Version 3.5 of it."]
    assert sentences(text) == expected
    assert sentences("") == []


def batches(count, length=40, size=8, seed=0):
    stream = sentence_pairs(TEXTS, TOKENIZER, length, size, np.random.default_rng(seed))
    return itertools.islice(stream, count)


def test_a_pair_is_what_its_target_says():
    answers, firsts = [], []
    for inputs, targets in batches(20):
        hidden = targets["tokens"] != -100
        ids = np.where(hidden, targets["tokens"], inputs["ids"])
        for row, segments, mask, follows in zip(
            ids, inputs["segments"], inputs["mask"], targets["follows"], strict=True
        ):
            assert row[0] == TOKENIZER.cls_id
            assert not segments[~mask].any()
            first = TOKENIZER.decode(row[mask & (segments == 0)][1:-1])
            second = TOKENIZER.decode(row[mask & (segments == 1)][:-1])
            assert row[mask][-1] == row[mask & (segments == 0)][-1] == TOKENIZER.sep_id
            text = " ".join(TEXTS["abcd".index(first[0])])
            firsts.append(first)
            answers.append(follows)
            if follows:
                assert text.endswith(f"{first} {second}")
    assert 0.35 < np.mean(answers) < 0.65
    assert len(set(firsts)) == 16, "every sentence that another follows"
    assert len(set(firsts[:16])) == 16, "each once an epoch"
    assert firsts[:16] != sorted(firsts[:16]), "in an order that is drawn"
    assert firsts[:16] != firsts[16:32], "another each epoch"


def test_it_fits_and_hides_no_special_token():
    for inputs, targets in batches(10, length=12):
        assert inputs["ids"].shape[1] <= 12
        hidden = targets["tokens"][targets["tokens"] != -100]
        assert not np.isin(hidden, list(TOKENIZER.special_tokens.values())).any()
        assert hidden.size


def test_the_generator_decides():
    for (a, b), (c, d) in zip(batches(3), batches(3), strict=True):
        for x, y in ((a, c), (b, d)):
            assert all(np.array_equal(x[key], y[key]) for key in x)


@pytest.mark.parametrize("size", [0, 17])
def test_impossible_batches(size):
    with pytest.raises(ValueError, match=f"batch_size={size}: wanted from 1 to the 16"):
        next(batches(1, size=size))
