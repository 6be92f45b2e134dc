"""Cleaning, vocabularies, tokenizers, batches."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.text import (
    STOP_WORDS,
    Batches,
    Tokenizer,
    UnknownTokenError,
    Vocabulary,
    clean,
    drop_near_duplicates,
    load_tokenizer,
)

TEXT = st.text(st.characters(codec=None), max_size=60)


# Cleaning.


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("e\u0301", {}, "é"),
        ("e\u0301", {"form": None}, "e\u0301"),
        ("\ufb01", {"form": "NFKC"}, "fi"),
        ("a\x00b\u200bc\x1b[0m", {}, "abc[0m"),
        ("a\r\nb\rc", {}, "a\nb\nc"),
        ("a\x00b", {"control": False}, "a\x00b"),
        ("a \t b   \n\n\n\nc", {}, "a b\n\nc"),
        ("a  b\n\n\n", {"whitespace": False}, "a  b\n\n\n"),
        ("Straße", {"case": True}, "strasse"),
        ("", {}, ""),
    ],
)
def test_clean(text, options, expected):
    assert clean(text, **options) == expected


JOINING = st.text(st.sampled_from("e\u0301\u200d\u030c jJ\u01f0 \r\n\tİß\u0345"), max_size=12)


@given(TEXT | JOINING, st.sampled_from(["NFC", "NFD"]), st.booleans())
def test_cleaning_twice_is_cleaning_once(text, form, case):
    once = clean(text, form, case=case)
    assert clean(once, form, case=case) == once
    assert unicodedata.is_normalized(form, once)


def test_clean_refuses_other_forms():
    with pytest.raises(ValueError, match="form='NFX': wanted NFC"):
        clean("a", form="NFX")


def test_duplicates(rng):
    words = np.array(["alpha", "beta", "gamma", "delta", "one", "two", "three", "four"])
    long = " ".join(rng.choice(words, 400))
    other = " ".join(rng.choice(words, 400))
    near = long[:900] + "X" + long[901:]
    part = long[100:600]
    mixed = other[:700] + long[:300]
    texts = ["short", long, near, part, "short", other, mixed, ""]
    assert drop_near_duplicates(texts) == ["short", long, other, ""]
    assert drop_near_duplicates(texts, threshold=1.0) == [
        "short",
        long,
        near,
        part,
        other,
        mixed,
        "",
    ]
    assert drop_near_duplicates([]) == []
    fresh = "".join(rng.choice([*"abcdefghij"], 4000))
    for share, threshold, kept in ((0.45, 0.5, 2), (0.55, 0.5, 1), (0.55, 0.6, 2)):
        copied = fresh[: int(4000 * share)]
        own = "".join(rng.choice([*"klmnopqrst"], 4000 - len(copied) - 100))
        assert len(drop_near_duplicates([fresh, copied + own], threshold)) == kept


def test_shingles_are_of_32_characters(rng):
    """What has 31 characters in common with another has no shingle in common with it."""
    from tinylm.text.cleaning import _shingles

    text = "".join(rng.choice([*"abcdefghij"], 10_000))
    pieces = [text[i : i + 31] for i in range(0, 10_000 - 31, 31)]
    assert not _shingles("#".join(pieces)) & _shingles(text)
    whole = [text[i : i + 47] for i in range(0, 10_000 - 47, 47)]
    assert len(_shingles("#".join(whole)) & _shingles(text)) > 200
    assert len(_shingles(text)) == pytest.approx(10_000 / 8, rel=0.1)


def test_stop_words_are_folded_words():
    assert all(word == word.casefold() and word.isalpha() for word in STOP_WORDS)
    assert {"the", "and", "of"} <= STOP_WORDS


# Vocabularies.


def test_vocabulary_by_counts():
    counts = {"b": 2, "a": 2, "c": 5, "d": 1, "<unk>": 9}
    assert Vocabulary.from_counts(counts).tokens == ["<unk>", "c", "a", "b", "d"]
    assert Vocabulary.from_counts(counts, size=3).tokens == ["<unk>", "c", "a"]
    assert Vocabulary.from_counts(counts, min_count=2, unknown=None).tokens == [
        "<unk>",
        "c",
        "a",
        "b",
    ]
    vocabulary = Vocabulary.from_counts(counts, size=2)
    assert (len(vocabulary), "c" in vocabulary, "a" in vocabulary) == (2, True, False)
    assert [vocabulary.id(t) for t in ("c", "a")] == [1, 0]
    assert vocabulary.decode([1, 0]) == ["c", "<unk>"]


def test_vocabulary_errors():
    with pytest.raises(ValueError, match="'a' stands in it twice"):
        Vocabulary(["a", "b", "a"])
    with pytest.raises(ValueError, match="unknown='<unk>' is not one of"):
        Vocabulary(["a"], unknown="<unk>")
    with pytest.raises(ValueError, match="size=0: wanted at least 1"):
        Vocabulary.from_counts({}, size=0)
    with pytest.raises(UnknownTokenError, match="'z' is not among the 1 tokens"):
        Vocabulary(["a"]).id("z")
    for wrong in (-1, 1):
        with pytest.raises(UnknownTokenError, match=f"id {wrong} is outside the vocabulary"):
            Vocabulary(["a"]).decode([wrong])


# Tokenizers.


@given(TEXT.filter(bool))
def test_characters_round_trip(text):
    tokenizer = tl.CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert tokenizer.vocab_size == len(set(text))
    assert sorted(set(ids.tolist())) == list(range(tokenizer.vocab_size))
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    again = load_tokenizer(json.loads(json.dumps({"kind": "characters", **tokenizer.state()})))
    assert again.decode(ids) == text


@given(TEXT.filter(bool), st.integers(0, 30), TEXT)
def test_words_round_trip(text, more, other):
    characters = len(set(text))
    tokenizer = tl.WordTokenizer.train(text, vocab_size=characters + more)
    assert tokenizer.vocab_size <= characters + more
    assert tokenizer.decode(tokenizer.encode(text)) == text
    if set(other) <= set(text):
        assert tokenizer.decode(tokenizer.encode(other)) == other
    else:
        with pytest.raises(UnknownTokenError, match="the character"):
            tokenizer.encode(other)


def test_words_take_the_frequent_ones_whole():
    text = "the cat sat on the mat, the end"
    tokenizer = tl.WordTokenizer.train(text, len(set(text)) + 2)
    tokens = tokenizer.vocabulary.tokens
    assert tokens[-2:] == [" the", " cat"]
    assert [tokens[i] for i in tokenizer.encode(" the them")] == [" the", " ", "t", "h", "e", "m"]
    with pytest.raises(ValueError, match=f"vocab_size=3: wanted at least {len(set(text))}"):
        tl.WordTokenizer.train(text, 3)
    assert "é" in tl.WordTokenizer.train(text, 99, alphabet="é").vocabulary
    frequent = tl.WordTokenizer.train("up up up go go", 99, min_count=2).vocabulary
    assert frequent.tokens == [" ", "g", "o", "p", "u", " go", " up"]
    assert "go" not in tl.WordTokenizer.train("up up go", 9, unknown="?", min_count=2).vocabulary


def test_stop_words_are_left_out():
    tokenizer = tl.WordTokenizer.train("The cat and THE hat", 40, stop_words=STOP_WORDS)
    assert tokenizer.decode(tokenizer.encode("The cat and the hat")) == " cat hat"
    assert " and" not in tokenizer.vocabulary


def test_unknown_words_if_asked_for():
    tokenizer = tl.WordTokenizer.train("a b b c c c", 3, unknown="<unk>")
    assert tokenizer.decode(tokenizer.encode(" c b q")) == " c b<unk>"
    assert tokenizer.encode("<unk>").tolist() == [0, 0, 0], "text never makes the token itself"


def test_unknown_characters_are_named():
    with pytest.raises(
        UnknownTokenError, match="the character 'z' at position 2 is not among the 2"
    ):
        tl.CharTokenizer.train("ab").encode("abz")
    with pytest.raises(UnknownTokenError, match=r"id 2 is outside the vocabulary \[0, 2\)"):
        tl.CharTokenizer.train("ab").decode([0, 2])
    assert tl.CharTokenizer.train("ab").encode("").size == 0
    with pytest.raises(UnknownTokenError, match="id -1 is outside"):
        tl.CharTokenizer.train("ab").decode([-1])
    with pytest.raises(TypeError, match="ids hold float64: wanted integers"):
        tl.CharTokenizer.train("ab").decode([1.7])
    words = tl.WordTokenizer.train("one two", 9)
    with pytest.raises(UnknownTokenError, match="the character 'x' at position 7 is not among"):
        words.encode("one twoxen")
    assert tl.CharTokenizer("cab").encode("abc").tolist() == [1, 2, 0], "any order of characters"
    for train in (tl.CharTokenizer.train, lambda text: tl.WordTokenizer.train(text, 5)):
        with pytest.raises(ValueError, match="the text is empty"):
            train("")
    with pytest.raises(ValueError, match="each once"):
        tl.CharTokenizer("aba")


@pytest.mark.parametrize(
    "tokenizer",
    [
        tl.CharTokenizer.train("héllo \ud800 wörld"),
        tl.CharTokenizer.train("\ud83d\ude00"),
        tl.WordTokenizer.train("the cat and the hat", 14, stop_words=["and"]),
        tl.WordTokenizer.train("the cat and the hat", 3, unknown="<unk>"),
    ],
)
def test_files(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    for again in (type(tokenizer).load(path), Tokenizer.load(path)):
        assert again.state() == tokenizer.state()
    other = tl.CharTokenizer if isinstance(tokenizer, tl.WordTokenizer) else tl.WordTokenizer
    with pytest.raises(
        ValueError, match=f"holds a {type(tokenizer).__name__}: wanted {other.__name__}"
    ):
        other.load(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "magic"}', '{"kind": "words"}', '{"kind": "characters", "characters": "aa"}', '{"kind": "characters", "characters": 3}', "\x00"])  # fmt: skip
def test_damaged_files(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="not a tokenizer file"):
        Tokenizer.load(path)


# Batches.


@given(st.integers(2, 40), st.integers(1, 10), st.integers(1, 9), st.integers(0, 99))
def test_every_window_once_an_epoch(size, context, batch, seed):
    ids = np.arange(size)
    if size <= context:
        with pytest.raises(
            ValueError, match=f"has {size} tokens: wanted more than the context_length of {context}"
        ):
            Batches(ids, context, batch, np.random.default_rng(seed))
        return
    batches = Batches(ids, context, batch, np.random.default_rng(seed))
    windows = size - context
    starts = []
    for _ in range(-(-3 * windows // batch)):
        inputs, targets = next(batches)
        assert inputs.shape == targets.shape == (batch, context)
        assert (targets == inputs + 1).all()
        assert (np.diff(inputs, axis=1) == 1).all()
        starts += inputs[:, 0].tolist()
    for epoch in range(3):
        assert sorted(starts[epoch * windows : (epoch + 1) * windows]) == list(range(windows))


@given(st.integers(0, 60), st.integers(0, 99))
def test_batches_go_on_where_they_were(before, seed):
    ids = np.arange(23)
    batches = Batches(ids, 4, 3, np.random.default_rng(seed))
    for _ in range(before):
        next(batches)
    state = json.loads(json.dumps(batches.state()))
    resumed = Batches(ids, 4, 3, np.random.default_rng(seed + 1))
    resumed.restore(state)
    for _ in range(20):
        for a, b in zip(next(batches), next(resumed), strict=True):
            assert np.array_equal(a, b)


def test_impossible_batches():
    with pytest.raises(ValueError, match="batch_size=0: wanted at least 1"):
        Batches(np.arange(9), 2, 0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="has 4 tokens"):
        Batches(np.zeros((2, 2)), 1, 1, np.random.default_rng(0))
