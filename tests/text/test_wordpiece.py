"""WordPiece: what a word is, which pieces it has, and BERT's two segments."""

import json
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.text import TokenizerFileError, UnknownTokenError, load_tokenizer
from tinylm.text.bert_words import words
from tinylm.text.wordpiece import SPECIAL_TOKENS

TEXT = st.text(st.characters(codec=None), max_size=60)
TRICKY = st.text(st.sampled_from("aBßİΣé\u0301ñ\u0345 \t\n\x00\x07\x1c\x85\xa0\u2028\ufffd\u200d\ud800\ue000!$^`«。東가か😀\u0378"), max_size=30)  # fmt: skip
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


# Words.


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("Hello, World!", {}, ["hello", ",", "world", "!"]),
        ("Hello", {"lowercase": False}, ["Hello"]),
        ("don't stop--now", {}, ["don", "'", "t", "stop", "-", "-", "now"]),
        ("$5^2`~|<=>+", {}, ["$", "5", "^", "2", "`", "~", "|", "<", "=", ">", "+"]),
        ("5€ ±3 «oui» ¿", {}, ["5€", "±3", "«", "oui", "»", "¿"]),
        ("Café naïve", {}, ["cafe", "naive"]),
        ("Cafe\u0301", {}, ["cafe"]),
        ("Café", {"strip_accents": False}, ["café"]),
        ("Café", {"lowercase": False}, ["Café"]),
        ("Café", {"lowercase": False, "strip_accents": True}, ["Cafe"]),
        ("ΓΩΣ ΔΣ", {}, ["γω\u03c3", "δ\u03c3"]),
        ("İ", {}, ["i"]),
        ("İ", {"strip_accents": False}, ["i\u0307"]),
        ("Straße ﬁn", {}, ["straße", "ﬁn"]),
        ("日本語 text", {}, ["日", "本", "語", "text"]),
        ("日本語 text", {"split_cjk": False}, ["日本語", "text"]),
        ("ひらがな 한국어", {"strip_accents": False}, ["ひらがな", "한국어"]),
        ("a\u3400\U00020000\uf900b", {"strip_accents": False}, ["a", "\u3400", "\U00020000", "\uf900", "b"]),
        ("a\U0002b91fb\U0002b920c", {}, ["a\U0002b91fb", "\U0002b920", "c"]),
        ("a\x00b\x07c\ufffdd\u200de\x1cf\x85g\ue000h\ud800i", {}, ["abcdefghi"]),
        ("a\tb\nc\rd\u00a0e\u2028f\u3000g", {}, [*"abcdefg"]),
        ("a\u0378b", {}, ["a\u0378b"]),
        (" \n ", {}, []),
        ("", {}, []),
    ],
)  # fmt: skip
def test_words(text, options, expected):
    assert words(text, **options) == expected


def read_slowly(text, lowercase, strip_accents, split_cjk):
    """The rules of BERT, a character at a time."""
    ranges = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]  # fmt: skip
    cleaned = ""
    for c in text:
        if c in ("\t", "\n", "\r") or unicodedata.category(c) in ("Zs", "Zl", "Zp"):
            cleaned += " "
        elif ord(c) == 0xFFFD or unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs"):
            continue
        elif split_cjk and any(first <= ord(c) <= last for first, last in ranges):
            cleaned += " " + c + " "
        else:
            cleaned += c
    if strip_accents or (strip_accents is None and lowercase):
        decomposed = unicodedata.normalize("NFD", cleaned)
        cleaned = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    if lowercase:
        cleaned = "".join(c.lower() for c in cleaned)
    found, word = [], ""
    for c in cleaned + " ":
        mark = c in string.punctuation or unicodedata.category(c).startswith("P")
        if (c == " " or mark) and word:
            found.append(word)
            word = ""
        if mark:
            found.append(c)
        elif c != " ":
            word += c
    return found


@given(TEXT | TRICKY, st.booleans(), st.sampled_from([None, True, False]), st.booleans())
def test_words_are_those_of_the_rules(text, lowercase, strip_accents, split_cjk):
    assert words(text, lowercase, strip_accents, split_cjk) == read_slowly(
        text, lowercase, strip_accents, split_cjk
    )


# Pieces.


def test_pieces_by_hand():
    """ "unaffable" is the example of BERT's code; the [UNK] of a word is one for all of it."""
    pieces = ["want", "##want", "##ed", "wa", "un", "runn", "##ing", ",", "##aff", "##able", "able"]
    tokenizer = tl.WordPieceTokenizer([*NAMES, *pieces])
    ids = {token: i for i, token in enumerate(tokenizer.tokens)}

    def pieces_of(text):
        return [tokenizer.tokens[i] for i in tokenizer.encode(text)]

    assert pieces_of("UNwanted, running") == ["un", "##want", "##ed", ",", "runn", "##ing"]
    assert pieces_of("unaffable able") == ["un", "##aff", "##able", "able"]
    assert pieces_of("wanting unwantedX un") == ["want", "##ing", "[UNK]", "un"]
    assert pieces_of("##ed") == ["[UNK]", "[UNK]", "[UNK]"], "what begins a word has no ##"
    assert pieces_of("[MASK] [PAD]") == ["[UNK]"] * 6
    assert tokenizer.encode("").dtype == tokenizer.encode("un").dtype == np.int64
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id) == (0, 1, 2)
    assert (tokenizer.sep_id, tokenizer.mask_id) == (3, 4)
    assert tokenizer.decode([ids["un"], ids["##aff"], ids["##able"], ids[","]]) == "unaffable ,"
    assert tokenizer.decode([ids["##ed"], ids["##ed"], 4]) == "##eded [MASK]"
    assert tokenizer.decode([]) == ""
    for wrong in (-1, 16):
        with pytest.raises(UnknownTokenError, match=f"id {wrong} is outside the vocabulary"):
            tokenizer.decode([wrong])


def test_a_long_word_is_unknown():
    tokenizer = tl.WordPieceTokenizer([*NAMES, "a", "##a"])
    assert tokenizer.encode("a" * 100).tolist() == [5] + [6] * 99
    for _ in range(2):
        assert tokenizer.encode("a" * 101 + " a").tolist() == [1, 5]


def test_a_special_token_is_no_piece():
    tokens = [*NAMES, "note", "a", "##b", "##note"]
    assert tl.WordPieceTokenizer(tokens).encode("note anote ab").tolist() == [5, 6, 8, 6, 7]
    quiet = tl.WordPieceTokenizer(tokens, special_tokens=["note", "##b"])
    assert quiet.encode("note anote ab").tolist() == [1, 6, 8, 1]
    assert quiet.special_tokens == {
        **{name: i for i, name in enumerate(NAMES)},
        "note": 5,
        "##b": 7,
    }


@given(
    st.sets(st.text("ab", min_size=1, max_size=4)),
    st.sets(st.text("ab", min_size=1, max_size=4)),
    st.lists(st.text("ab", min_size=1, max_size=12)),
)
def test_the_longest_piece_first(heads, tails, spelled):
    tokenizer = tl.WordPieceTokenizer([*NAMES, *sorted(heads), *("##" + t for t in sorted(tails))])
    expected = []
    for word in spelled:
        found, rest = [], word
        while rest:
            prefix, known = ("##", tails) if found else ("", heads)
            fitting = [piece for piece in known if rest.startswith(piece)]
            if not fitting:
                found = ["[UNK]"]
                break
            longest = max(fitting, key=len)
            found.append(prefix + longest)
            rest = rest[len(longest) :]
        expected += found
    assert [tokenizer.tokens[i] for i in tokenizer.encode(" ".join(spelled))] == expected


@given(TEXT | TRICKY | st.sampled_from(SPECIAL_TOKENS))
def test_no_text_makes_a_special_token(text):
    tokenizer = tl.WordPieceTokenizer([*NAMES, "p", "##ad", "[", "]", "pad", "a", "[pad]"])
    assert not {0, 2, 3, 4} & set(tokenizer.encode(text).tolist())
    assert not {0, 2, 3, 4} & set(tokenizer.encode("[PAD] " + text + "[PAD]").tolist())


# Two segments.


LETTERS = tl.WordPieceTokenizer([*NAMES, *"abcdefghij"])


def ids_of(text):
    return [LETTERS.tokens.index(c) for c in text]


@pytest.mark.parametrize(
    ("first", "second", "max_length", "kept"),
    [
        ("abc", None, None, ("abc", None)),
        ("abc", "de", None, ("abc", "de")),
        ("", "", None, ("", "")),
        ("abcdef", None, 5, ("abc", None)),
        ("abc", None, 2, ("", None)),
        ("abcdef", "gh", 9, ("abcd", "gh")),
        ("ab", "cdefgh", 9, ("ab", "cdef")),
        ("abcde", "fghij", 9, ("abc", "fgh")),
        ("abcde", "fghij", 8, ("ab", "fgh")),
        ("abcdef", "ghij", 8, ("abc", "gh")),
        ("ab", "cd", 7, ("ab", "cd")),
        ("abc", "def", 3, ("", "")),
        ("abc", "def", 4, ("", "d")),
    ],
)
def test_segments(first, second, max_length, kept):
    spaced = [None if text is None else " ".join(text) for text in (first, second)]
    ids, segments = LETTERS.encode_pair(*spaced, max_length=max_length)
    expected = [2, *ids_of(kept[0]), 3]
    zeros = len(expected)
    if kept[1] is not None:
        expected += [*ids_of(kept[1]), 3]
    assert ids.tolist() == expected
    assert segments.tolist() == [0] * zeros + [1] * (len(expected) - zeros)
    assert ids.dtype == segments.dtype == np.int64


def test_too_short_for_special_tokens():
    with pytest.raises(ValueError, match="encode_pair: max_length=1: wanted at least 2"):
        LETTERS.encode_pair("a", max_length=1)
    with pytest.raises(ValueError, match="encode_pair: max_length=2: wanted at least 3"):
        LETTERS.encode_pair("a", "b", max_length=2)


# Training and files.


def test_training_by_hand():
    """Words hug 10, pug 5, pun 12, bun 4, hugs 5, with the counts of their pairs worked out."""
    text = "hug " * 10 + "Pug " * 5 + "pun " * 12 + "bun " * 4 + "hugs " * 5
    alphabet = [*NAMES, *"bghnpsu", "##g", "##n", "##s", "##u"]
    made = ["##ug", "##un", "hug", "pun"]  # 20, 16, 15, 12; then p ##ug and hug ##s, 5 each
    tokenizer = tl.WordPieceTokenizer.train(text, len(alphabet) + 4)
    assert tokenizer.tokens == [*alphabet, *made]
    more = tl.WordPieceTokenizer.train(text, 99).tokens[len(alphabet) + 4 :]
    assert more == ["pug", "hugs", "bun"]
    assert tokenizer.decode(tokenizer.encode("Bugs")) == "bugs"
    cased = tl.WordPieceTokenizer.train(text, 99, lowercase=False)
    assert "Pug" in cased.tokens
    assert (cased.lowercase, cased.strip_accents, cased.split_cjk) == (False, None, True)
    with pytest.raises(ValueError, match="vocab_size=15: wanted at least 16, the characters and"):
        tl.WordPieceTokenizer.train(text, 15)
    with pytest.raises(ValueError, match="the text has no words"):
        tl.WordPieceTokenizer.train(" \x00", 99)


@given(TEXT.filter(lambda text: words(text)))
def test_what_it_was_trained_on_is_known(text):
    tokenizer = tl.WordPieceTokenizer.train(text, 400)
    assert tokenizer.unk_id not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(words(text))


def test_impossible_tokenizers():
    with pytest.raises(ValueError, match=r"the special token '\[MASK\]' is not among the tokens"):
        tl.WordPieceTokenizer(NAMES[:4])
    with pytest.raises(ValueError, match="the special token '<e>' is not among the tokens"):
        tl.WordPieceTokenizer(NAMES, special_tokens=["<e>"])
    with pytest.raises(ValueError, match="the token 'a' stands in it twice"):
        tl.WordPieceTokenizer([*NAMES, "a", "a"])


def test_files(tmp_path):
    tokenizer = tl.WordPieceTokenizer([*NAMES, "é", "##b"], False, True, False, ["##b"])
    tokenizer.save(tmp_path / "own.json")
    assert tl.WordPieceTokenizer.load(tmp_path / "own.json").state() == tokenizer.state()
    assert load_tokenizer(json.loads(json.dumps(tokenizer.labelled()))).lowercase is False
    tokenizer.write_files(tmp_path)
    assert (tmp_path / "vocab.txt").read_text("utf-8").split("\n") == [*tokenizer.tokens, ""]
    options = {"lowercase": False, "strip_accents": True, "split_cjk": False}
    read = tl.WordPieceTokenizer.from_file(
        tmp_path / "vocab.txt", **options, special_tokens=["##b"]
    )
    assert read.state() == tokenizer.state()
    (tmp_path / "vocab.txt").write_text("\r\n".join(NAMES))
    assert tl.WordPieceTokenizer.from_file(tmp_path / "vocab.txt").tokens == NAMES
    with pytest.raises(TokenizerFileError, match="no.txt: No such file"):
        tl.WordPieceTokenizer.from_file(tmp_path / "no.txt")
