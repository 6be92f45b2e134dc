"""Byte-level BPE: what is cut, learned, merged, and never made of text."""

import json
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.text import TokenizerFileError, UnknownTokenError, load_tokenizer
from tinylm.text.bpe import BYTE_ALPHABET, pieces
from tinylm.text.byte_pairs import apply_merges, learn_merges

TEXT = st.text(st.characters(codec=None), max_size=60)
TRICKY = st.text(st.sampled_from("'sdtrevml aZé9²½Ⅷ一 \n\t\r\x0b\x1c\x85\xa0\u2028\u3000!_-\u0301😀\ud800\udc00"), max_size=30)  # fmt: skip
END = "<|endoftext|>"


# The pieces of a text.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world", ["Hello", ",", " world"]),
        ("it's we'll I'd", ["it", "'s", " we", "'ll", " I", "'d"]),
        ("IT'S '5 'sd", ["IT", "'", "S", " '", "5", " '", "sd"]),
        ("x'rest 'lly", ["x", "'re", "st", " '", "lly"]),
        ("l'été", ["l", "'", "été"]),
        ("a  b", ["a", " ", " b"]),
        ("a \n\n  b\n", ["a", " \n\n ", " b", "\n"]),
        ("a\n\tb", ["a", "\n", "\t", "b"]),
        ("tail   ", ["tail", "   "]),
        ("abc123 45", ["abc", "123", " 45"]),
        ("x²=½ Ⅷ", ["x", "²", "=", "½", " Ⅷ"]),
        ("snake_case(x)", ["snake", "_", "case", "(", "x", ")"]),
        ("東京 2020", ["東京", " 2020"]),
        ("cafe\u0301", ["cafe", "\u0301"]),
        ("\x1c\x85\xa0\xa0b", ["\x1c", "\x85\xa0", "\xa0", "b"]),
        ("\ud800a", ["\ud800", "a"]),
        ("", []),
    ],
)
def test_pieces(text, expected):
    assert pieces(text) == expected


def scanned(text):
    """GPT-2's pattern as loops: the first alternative that fits, each as long as it can be."""

    def kind(character):
        category = unicodedata.category(character)[0]
        space = category == "Z" or character in "\t\n\x0b\x0c\r\x85"
        return "space" if space else category if category in "LN" else "other"

    found, place = [], 0
    while place < len(text):
        ending = next((e for e in ("s", "t", "re", "ve", "m", "ll", "d") if text.startswith("'" + e, place)), None)  # fmt: skip
        if ending:
            end = place + 1 + len(ending)
        else:
            begin = place + (text[place] == " " and place + 1 < len(text))
            if kind(text[begin]) == "space":
                begin = place
            end = begin
            while end < len(text) and kind(text[end]) == kind(text[begin]):
                end += 1
            if kind(text[begin]) == "space" and end < len(text) and end - begin > 1:
                end -= 1
        found.append(text[place:end])
        place = end
    return found


@given(TEXT | TRICKY)
def test_pieces_are_those_of_the_pattern(text):
    assert pieces(text) == scanned(text)
    assert "".join(pieces(text)) == text


def test_the_byte_alphabet():
    assert len(set(BYTE_ALPHABET)) == 256
    assert [BYTE_ALPHABET[byte] for byte in b"\x00\t\n !~\x7f\x80\xa0\xa1\xad\xff"] == [
        *"ĀĉĊĠ!~ġĢł¡Ńÿ"
    ]
    assert not any(character.isspace() for character in BYTE_ALPHABET)


# Learning merges.


def learned(words, tokens, vocab_size):
    """Everything counted again for every merge."""
    words = [(list(word), count) for word, count in words.items()]
    tokens, merges = list(tokens), []
    while len(tokens) < vocab_size:
        counts = Counter()
        for word, count in words:
            for i in range(len(word) - 1):
                counts[word[i], word[i + 1]] += count
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        token = tokens[best[0]] + tokens[best[1]]
        tokens += [] if token in tokens else [token]
        merges.append(best)
        for word, _ in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [tokens.index(token)]
                i += 1
    return tokens, merges


def test_the_example_of_the_paper():
    """Sennrich et al. 2016, algorithm 1, worked by hand with our ties."""
    alphabet = [*"deilnorstw", "_"]
    counts = {"low_": 5, "lower_": 2, "newest_": 6, "widest_": 3}
    words = {tuple(alphabet.index(c) for c in word): n for word, n in counts.items()}
    tokens, merges = learn_merges(words, alphabet, 20, str.__add__)
    made = ["es", "t_", "est_", "lo", "low", "ew", "new", "newest_", "low_"]
    assert tokens == [*alphabet, *made]
    assert merges[:3] == [(1, 7), (8, 10), (11, 12)]
    assert (tokens, merges) == learned(words, alphabet, 20)


WORDS = st.dictionaries(st.lists(st.integers(0, 2), max_size=12).map(tuple), st.integers(1, 5))


@given(WORDS, st.integers(3, 40))
def test_merges_are_those_of_counting_again(words, vocab_size):
    assert learn_merges(words, "abc", vocab_size, str.__add__) == learned(words, "abc", vocab_size)


@pytest.mark.parametrize("seed", range(40))
def test_no_token_is_made_twice(seed):
    """Runs and repetitions, where aa + a and a + aa might both come."""
    rng = np.random.default_rng(seed)
    words = {tuple(np.tile(rng.integers(0, 2, rng.integers(1, 4)), 20)[: rng.integers(1, 20)].tolist()): int(rng.integers(1, 4)) for _ in range(9)}  # fmt: skip
    tokens, merges = learn_merges(words, "ab", 99, str.__add__)
    assert (tokens, merges) == learned(words, "ab", 99)
    assert len(set(tokens)) == len(tokens) == len(merges) + 2


def test_training_looks_at_changed_words_only(monkeypatch):
    """Twice the words of the same kind: about twice the words looked at, not four times."""
    from tinylm.text import byte_pairs

    looked_at = []
    true = byte_pairs.replaced
    monkeypatch.setattr(byte_pairs, "replaced", lambda *a: looked_at.append(len(a[0])) or true(*a))

    def cost(words, seed=0):
        looked_at.clear()
        rng = np.random.default_rng(seed)
        made = {tuple(rng.integers(0, 20, 6)): 1 for _ in range(words)}
        learn_merges(made, [*"abcdefghijklmnopqrst"], 220, str.__add__)
        return sum(looked_at)

    assert cost(4000) < 2.3 * cost(2000) < 2.3 * 6 * 6 * 2000


# Applying merges.


def merged(word, merges):
    """The pair of the lowest rank, the leftmost of them, one after the other."""
    word = list(word)
    while True:
        ranked = [
            (merges[word[i], word[i + 1]][0], i)
            for i in range(len(word) - 1)
            if (word[i], word[i + 1]) in merges
        ]
        if not ranked:
            return word
        _, i = min(ranked)
        word[i : i + 2] = [merges[word[i], word[i + 1]][1]]


@pytest.mark.parametrize("seed", range(40))
def test_words_are_merged_as_by_looking_everywhere(seed):
    """Merges of strings of two letters, in an order that no training need have made."""
    rng = np.random.default_rng(seed)
    symbols = ["".join(rng.choice(["a", "b"], rng.integers(2, 6))) for _ in range(20)]
    symbols = [*"ab", *dict.fromkeys(symbols)]
    ids = {symbol: i for i, symbol in enumerate(symbols)}
    pairs = [(x, y) for x in symbols for y in symbols if x + y in ids]
    merges = {
        (ids[x], ids[y]): (rank, ids[x + y])
        for rank, (x, y) in enumerate(pairs[i] for i in rng.permutation(len(pairs)))
    }
    for length in range(40):
        word = rng.integers(0, 2, length).tolist()
        before = list(word)
        assert apply_merges(word, merges) == merged(word, merges)
        assert word == before


class Counting(dict):
    def get(self, key):
        self.looked_up = getattr(self, "looked_up", 0) + 1
        return super().get(key)


@pytest.mark.parametrize("word", ["a", "ab", "aab"])
def test_the_work_grows_with_the_length(word):
    """Pairs looked up for 2n symbols: at most twice those for n, and a few for each symbol."""
    doubling = {(i, i): (i, i + 1) for i in range(2, 20)} | {(0, 0): (20, 2), (0, 1): (19, 2)}
    looked_up = []
    for n in (3000, 6000):
        merges = Counting(doubling)
        apply_merges([ord(c) - ord("a") for c in word * n], merges)
        looked_up.append(merges.looked_up)
    assert looked_up[1] <= 2.01 * looked_up[0] < 2.01 * 5 * 3000 * len(word)


# The tokenizer.


SMALL = tl.BPETokenizer.train("low lower lowest newest été 東京 " * 3 + "a" * 9, 280)


def test_ids_by_hand():
    tokens = [*sorted(BYTE_ALPHABET), "ab", "Ġab", "abc", END]
    tokenizer = tl.BPETokenizer(tokens, [("a", "b"), ("Ġ", "ab"), ("ab", "c")], [END])
    assert tokenizer.encode("ab abc b").tolist() == [256, 257, 66, 220, 65]
    assert tokenizer.encode("é\n").tolist() == [127, 102, 198]  # GPT-2's ids of C3 A9 and 0A
    assert tokenizer.decode([257, 66, 259, 127, 102]) == " abc<|endoftext|>é"
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.encode("").dtype == tokenizer.encode("a").dtype == np.int64
    assert tokenizer.vocab_size == 260
    spaced = tl.BPETokenizer(tokens, tokenizer.merges, [END], add_prefix_space=True)
    assert spaced.encode("ab").tolist() == spaced.encode(" ab").tolist() == [257]
    assert spaced.encode("\n").tolist() == [220, 198]
    assert spaced.encode("").size == 0


@given(TEXT | TRICKY | st.text("lowest é東京a"))
def test_every_text_comes_back(text):
    ids = SMALL.encode(text)
    assert SMALL.decode(ids) == SMALL.decode(ids.tolist()) == text
    assert np.array_equal(ids, SMALL.encode(text))  # from memory
    assert ids.size == 0 or ids.max() < SMALL.vocab_size - 1
    spelled = [
        [
            SMALL.vocabulary.ids[BYTE_ALPHABET[byte]]
            for byte in piece.encode("utf-8", "surrogatepass")
        ]
        for piece in scanned(text)
    ]
    assert ids.tolist() == [i for word in spelled for i in merged(word, SMALL._merges)]


def test_half_surrogate_pairs():
    for text in ("\ud800", "a\udfffé", "\ud83d\ude00", "\U0001f600"):
        assert SMALL.decode(SMALL.encode(text)) == text
    assert SMALL.encode("\ud800").tolist() == SMALL.encode("\ud800\ud800").tolist()[:3]
    assert SMALL.encode("\ud83d\ude00").size == 6


def test_what_is_remembered_is_bounded(monkeypatch):
    tokenizer = tl.BPETokenizer.from_state(SMALL.state())
    tokenizer.encode("a" * 65 + "!")
    assert list(tokenizer._known) == ["!"]
    monkeypatch.setattr("tinylm.text.bpe.MANY", 3)
    tokenizer.encode("one two three")
    assert list(tokenizer._known) == ["!", "one", " two"]


@given(st.lists(st.integers(0, SMALL.vocab_size - 1), max_size=12))
def test_any_ids_are_some_text(ids):
    raw = b"".join(
        END.encode()
        if SMALL.tokens[i] == END
        else bytes(BYTE_ALPHABET.index(character) for character in SMALL.tokens[i])
        for i in ids
    )
    try:
        expected = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        expected = raw.decode("utf-8", "replace")
    assert SMALL.decode(ids) == expected


@given(st.lists(TEXT | st.sampled_from([END, " " + END, END[:5], END[5:]]), max_size=5))
def test_no_text_makes_a_special_token(parts):
    text = "".join(parts)
    ids = SMALL.encode(text)
    assert SMALL.special_tokens == {END: 279}
    assert 279 not in ids
    assert SMALL.decode(ids) == text


def test_training():
    assert SMALL.vocab_size == 280
    assert SMALL.tokens[:256] == sorted(BYTE_ALPHABET)
    assert SMALL.tokens[279] == END
    assert SMALL.merges[:4] == [("l", "o"), ("w", "e"), ("a", "a"), ("Ġ", "lo")]  # 9, 9, 8, 8
    few = tl.BPETokenizer.train("ab ab", 999, special_tokens=())
    assert few.tokens[256:] == ["ab", "Ġab"]
    assert few.merges == [("a", "b"), ("Ġ", "ab")]
    assert few.special_tokens == {}
    two = tl.BPETokenizer.train("ab ab", 259, special_tokens=["<a>", "<b>"])
    assert two.tokens[256:] == ["ab", "<a>", "<b>"]
    assert two.special_tokens == {"<a>": 257, "<b>": 258}
    assert tl.BPETokenizer.train("ab", 256, ()).merges == []
    with pytest.raises(ValueError, match="vocab_size=256: wanted at least 257, the bytes and"):
        tl.BPETokenizer.train("ab", 256)
    with pytest.raises(ValueError, match="the text is empty"):
        tl.BPETokenizer.train("", 300)
    with pytest.raises(ValueError, match="special token 'ab': text can make it"):
        tl.BPETokenizer.train("ab ab", 300, special_tokens=["ab"])


@pytest.mark.parametrize(
    ("tokens", "merges", "special", "message"),
    [
        (["a", "a"], [], [], "the token 'a' stands in it twice"),
        (["a", "b"], [("a", "b")], [], "merge 0, of 'a' and 'b': 'ab' is not among the 2 tokens"),
        (["a", "ab"], [("a", "b")], [], "merge 0, of 'a' and 'b': 'b' is not among"),
        (["a", "b", "ab"], [("a", "b")] * 2, [], "merge 1, of 'a' and 'b', comes twice"),
        (["a", "b", "ab"], [("a", "b")], ["ab"], "special token 'ab': text can make it"),
        (["a"], [], ["a"], "special token 'a': text can make it"),
        (["a"], [], ["<s>"], "special token '<s>': it is not one of the tokens"),
        (["a b"], [], [], "the token 'a b' has the character ' ', which stands for no byte"),
    ],
)
def test_impossible_tokenizers(tokens, merges, special, message):
    with pytest.raises(ValueError, match=message):
        tl.BPETokenizer(tokens, merges, special)


def test_what_is_not_in_the_vocabulary():
    small = tl.BPETokenizer(["a", "Ġ", "aa", "a b"], [("a", "a")], ["a b"])
    assert small.encode("aaa a").tolist() == [2, 0, 1, 0]
    with pytest.raises(UnknownTokenError, match="the byte 0xc3 of 'aé' is not among the 4 tokens"):
        small.encode("aé")
    assert small.decode([3, 0]) == "a ba"
    for wrong in (-1, 4):
        with pytest.raises(
            UnknownTokenError, match=rf"id {wrong} is outside the vocabulary \[0, 4"
        ):
            small.decode([0, wrong])


def test_files(tmp_path):
    spaced = tl.BPETokenizer(SMALL.tokens, SMALL.merges, [END], add_prefix_space=True)
    for tokenizer in (SMALL, spaced):
        tokenizer.save(tmp_path / "own.json")
        assert tl.BPETokenizer.load(tmp_path / "own.json").state() == tokenizer.state()
        again = load_tokenizer(json.loads(json.dumps(tokenizer.labelled())))
        assert np.array_equal(again.encode("lowest été"), tokenizer.encode("lowest été"))
        tokenizer.write_files(tmp_path)
        files = tmp_path / "vocab.json", tmp_path / "merges.txt"
        read = tl.BPETokenizer.from_files(*files, add_prefix_space=tokenizer.add_prefix_space)
        assert read.state() == tokenizer.state()
    assert json.loads(files[0].read_text("utf-8"))["Ġlower"] == SMALL.vocabulary.id("Ġlower")
    lines = files[1].read_text("utf-8").split("\n")
    assert lines[0] == "#version: 0.2"
    assert lines[1] == " ".join(SMALL.merges[0])
    files[1].write_bytes("\r\n".join(lines[1:]).encode())
    assert tl.BPETokenizer.from_files(*files).merges == SMALL.merges
    assert tl.BPETokenizer.from_files(*files, special_tokens=[]).special_tokens == {}
    with pytest.raises(TokenizerFileError, match="no.json: No such file"):
        tl.BPETokenizer.from_files(tmp_path / "no.json", files[1])
