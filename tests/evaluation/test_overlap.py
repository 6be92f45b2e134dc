"""BLEU, ROUGE, exact match and F1 of answers: by hand, by their properties, and in loops."""

import itertools
import math
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.evaluation.rouge import longest_common_subsequence

SENTENCES = st.lists(
    st.sampled_from(["a", "b", "c", "d", "e", ".", ",", "3.5", "The", "x-y"]), max_size=12
).map(" ".join)
CORPORA = st.lists(
    st.tuples(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=3)), min_size=1, max_size=5
)


def test_bleu_by_hand():
    """Papineni et al. 2002, section 2: "the" counts twice, since no reference has it more often."""
    hypothesis = "the the the the the the the"
    references = ["the cat is on the mat", "there is a cat on the mat"]
    # 2/7, then nothing of 6, 5, 4: halves, quarters, eighths; seven words, and a reference of seven
    expected = 100 * (2 / 7 * (1 / 2) / 6 * (1 / 4) / 5 * (1 / 8) / 4) ** (1 / 4)
    assert tl.bleu([hypothesis], [references]) == pytest.approx(expected, rel=1e-12)
    # 5 of 6, 3 of 5, 1 of 4, and half of one of 3; as long as its reference
    expected = 100 * (5 / 6 * 3 / 5 * 1 / 4 * 0.5 / 3) ** (1 / 4)
    assert tl.bleu(["the cat is on the mat"], ["the cat sat on the mat"]) == pytest.approx(expected)
    # four of four, and eight words wanted: exp(1 - 8/4)
    assert tl.bleu(["a b c d"], ["a b c d e f g h"]) == pytest.approx(100 * math.exp(-1))
    # 3 and 5 are as near to 4: the shorter one counts
    assert tl.bleu(["a b c d"], [["a b c", "a b c d e"]]) == pytest.approx(100)


def test_bleu_of_a_corpus_is_no_mean():
    """Counts are summed before the logarithm: 8 of 8, 6 of 6, 4 of 4, 2 of 2 but for one text."""
    good, bad = "a b c d e f", "p q r s"
    expected = 100 * (6 / 10 * 5 / 8 * 4 / 6 * 3 / 4) ** (1 / 4)
    assert tl.bleu([good, bad], [good, "w x y z"]) == pytest.approx(expected)
    assert tl.bleu([bad], [good]) == 0
    assert tl.bleu(["a b c"], ["a b c"]) == 0, "three words have no run of four"
    assert tl.bleu([""], ["a b c d"]) == 0


def test_case_and_tokens_of_bleu():
    assert tl.bleu(["A B C D"], ["a b c d"]) == 0
    assert tl.bleu(["A B C D"], ["a b c d"], lowercase=True) == pytest.approx(100)
    assert tl.bleu(["Das, ist gut."], ["Das , ist gut ."]) == pytest.approx(100)
    assert tl.bleu(["Das, ist gut."], ["Das , ist gut ."], tokenize="none") < 40
    assert tl.bleu(["ab\u2003cd"], ["a b c d"], tokenize="char") == pytest.approx(100)
    assert tl.bleu(["&lt;a&gt; &amp; &quot;b&quot;"], ['<a> & "b"']) == pytest.approx(100)


@given(CORPORA)
def test_bleu_in_loops(pairs):
    """The definition, on tokens that white space separates."""
    matched, total, c, r = [0] * 5, [0] * 5, 0, 0
    for text, those in pairs:
        words = text.split()
        right = [one.split() for one in those]
        c += len(words)
        r += min((abs(len(one) - len(words)), len(one)) for one in right)[1]
        for n in range(1, 5):
            mine, *theirs = ([x[i : i + n] for i in range(len(x) - n + 1)] for x in (words, *right))
            total[n] += len(mine)
            for run, _ in itertools.groupby(sorted(mine)):
                matched[n] += min(mine.count(run), max(runs.count(run) for runs in theirs))
    product, k = 1.0, 0
    for n in range(1, 5):
        if matched[n]:
            product *= matched[n] / total[n]
        elif total[n]:
            k += 1
            product /= 2**k * total[n]
        else:
            product = 0
    brevity = 1 if c >= r else math.exp(1 - r / c) if c else 0
    expected = 100 * brevity * product**0.25 if any(matched) else 0
    texts, references = map(list, zip(*pairs, strict=True))
    assert tl.bleu(texts, references, tokenize="none") == pytest.approx(expected, rel=1e-12)


@given(CORPORA)
def test_properties(pairs):
    texts, references = map(list, zip(*pairs, strict=True))
    for measure, best in ((tl.bleu, 100), (tl.exact_match, 1), (tl.answer_f1, 1)):
        score = measure(texts, references)
        assert 0 <= score <= best * (1 + 1e-12)
        swapped = measure(texts[::-1], [those[::-1] for those in references[::-1]])
        assert swapped == pytest.approx(score)
        more = measure(texts, [[*those, text] for text, those in pairs])
        if measure is tl.bleu:
            assert more == pytest.approx(100) or not any(len(text.split()) > 3 for text in texts)
        else:
            assert more == 1 or not all(map(normalized, texts))
    assert tl.exact_match(texts, references) <= tl.answer_f1(texts, references) + 1e-12
    for kind, overlap in tl.rouge(texts, references).items():
        assert 0 <= min(overlap) <= max(overlap) <= 1, kind
        back = tl.rouge([those[0] for those in references], texts)[kind]
        forth = tl.rouge(texts, [those[0] for those in references])[kind]
        assert back.precision == pytest.approx(forth.recall)
        assert back.f1 == pytest.approx(forth.f1)


def test_rouge_by_hand():
    """Lin 2004, section 3.1: "police kill the gunman" and "the gunman kill police"."""
    reference = "police killed the gunman"
    second = tl.rouge(["police kill the gunman"], [reference])
    third = tl.rouge(["the gunman kill police"], [reference])
    assert second["rouge2"] == third["rouge2"], "ROUGE-2 cannot tell them apart"
    assert second["rouge2"].f1 == pytest.approx(1 / 3)
    assert second["rougeL"].f1 == 3 / 4
    assert third["rougeL"].f1 == 2 / 4
    short = tl.rouge(["The gunman!"], [reference])
    assert short["rouge1"] == short["rougeL"] == pytest.approx((1, 1 / 2, 2 / 3))
    both = tl.rouge(["the gunman", "x"], [[reference, "Gunman"], "y z"])["rouge1"]
    # of the two references either gives 2/3: the first; then a half of it, with nothing beside
    assert both == pytest.approx((1 / 2, 1 / 4, 1 / 3))
    assert tl.rouge(["漢字"], ["漢字"])["rouge1"] == (0, 0, 0), "words are of a to z and digits"


@given(*[st.lists(st.sampled_from("abcd"), max_size=9)] * 2)
def test_the_longest_common_subsequence_is_the_longest_there_is(a, b):
    common = {
        chosen
        for n in range(len(a) + 1)
        for chosen in itertools.combinations(a, n)
        if all(letter in rest for rest in [iter(b)] for letter in chosen)
    }
    assert longest_common_subsequence(a, b) == max(map(len, common))


def normalized(text):
    """Rajpurkar et al. 2016, section 6.1: ignoring punctuation and articles."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def f1_of(answer, right):
    words, wanted = normalized(answer).split(), normalized(right).split()
    if not words or not wanted:
        return float(words == wanted)
    common = sum(min(words.count(word), wanted.count(word)) for word in {*words})
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


ANSWERS = st.lists(
    st.sampled_from(["a", "The", "An", "cat", "Cat.", "42", "-", "l'été", "猫"]), max_size=5
).map(" ".join)


@given(
    st.lists(
        st.tuples(ANSWERS | st.text(max_size=9), st.lists(ANSWERS, max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_answers_in_loops(pairs):
    exact, f1 = 0.0, 0.0
    for answer, those in pairs:
        right = [one for one in those if normalized(one)] or [""]
        exact += any(normalized(answer) == normalized(one) for one in right)
        f1 += max(f1_of(answer, one) for one in right)
    answers, references = map(list, zip(*pairs, strict=True))
    assert tl.exact_match(answers, references) == pytest.approx(exact / len(pairs), rel=1e-12)
    assert tl.answer_f1(answers, references) == pytest.approx(f1 / len(pairs), rel=1e-12)


def test_answers_by_hand():
    assert tl.exact_match(["a U.S.A."], ["The USA"]) == 1
    assert tl.exact_match(["theatre"], ["atre"]) == 0, "an article is a whole word"
    # one cat of two, of three words: 1/3 and 1/2
    assert tl.answer_f1(["cat cat dog"], ["the cat sat"]) == pytest.approx(2 / 5)
    assert tl.answer_f1(["no idea"], [["right", "no"]]) == pytest.approx(2 / 3)
    assert tl.answer_f1([""], [[]]) == tl.exact_match(["The"], [[]]) == 1
    assert tl.answer_f1(["something"], [[]]) == tl.answer_f1([""], ["something"]) == 0


@pytest.mark.parametrize("measure", [tl.bleu, tl.rouge, tl.exact_match, tl.answer_f1])
def test_impossible_calls(measure):
    name = measure.__name__
    for texts, references in ([], []), (["a"], ["a", "b"]):
        with pytest.raises(ValueError, match=f"{name}: . texts, and references for ."):
            measure(texts, references)
    for texts, references in ("a b", ["a", "b", "c"]), (["a", "b"], "ab"):
        with pytest.raises(TypeError, match=f"{name}: one text alone"):
            measure(texts, references)
    for texts, references in ([b"a"], ["a"]), (["a"], [["a", 3]]):
        with pytest.raises(TypeError, match=f"{name}: (b'a'|3) among the texts: wanted str"):
            measure(texts, references)
    if measure in (tl.bleu, tl.rouge):
        with pytest.raises(ValueError, match=f"{name}: 'a' has no reference"):
            measure(["a"], [[]])
    with pytest.raises(ValueError, match="bleu: tokenize='zh': wanted '13a', 'char', 'none'"):
        tl.bleu(["a"], ["a"], tokenize="zh")
