"""The files of Hugging Face: what is read and written, and files that are wrong in every way."""

import copy
import json
import tracemalloc

import numpy as np
import pytest

import tinylm as tl
from tinylm.text import (
    TokenizerFileError,
    read_tokenizer,
    read_tokenizer_json,
    write_tokenizer,
    write_tokenizer_json,
)

END = "<|endoftext|>"
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def sequence(name, segment):
    return {"Sequence": {"id": name, "type_id": segment}}


def special(name, segment):
    return {"SpecialToken": {"id": name, "type_id": segment}}


BPE = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": 4, "content": END, **FLAGS, "special": True}],
    "normalizer": None,
    "pre_tokenizer": {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    },
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [sequence("A", 0)],
        "pair": [sequence("A", 0), sequence("B", 1)],
        "special_tokens": {},
    },
    "decoder": {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    },
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, END: 4},
        "merges": [["a", "b"]],
    },
}
"""What transformers 5 writes for GPT-2, with a smaller vocabulary."""

WORDPIECE = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": i, "content": name, **FLAGS, "special": True} for i, name in enumerate(NAMES)
    ],
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
        "pair": [
            special("[CLS]", 0),
            sequence("A", 0),
            special("[SEP]", 0),
            sequence("B", 1),
            special("[SEP]", 1),
        ],
        "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
        },
    },
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {**{name: i for i, name in enumerate(NAMES)}, "a": 5, "##b": 6, "é": 7},
    },
}
"""What transformers 5 writes for BERT, with a smaller vocabulary."""

NOTHING = object()


def changed(base, *changes):
    """A file with some values put in their places, "model/vocab", or taken away."""
    whole = copy.deepcopy(base)
    for path, value in changes:
        *parents, last = path.split("/")
        place = whole
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        if value is NOTHING:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value
    return json.dumps(whole).encode()


# What is read.


def read(content, folder):
    (folder / "tokenizer.json").write_bytes(content)
    return read_tokenizer_json(folder / "tokenizer.json")


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [("model/merges", ["a b"])],
        [("model/type", NOTHING), ("model/byte_fallback", NOTHING), ("model/ignore_merges", NOTHING)],
        [("model/continuing_subword_prefix", None), ("model/end_of_word_suffix", None)],
        [("post_processor", None)],
        [("post_processor", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False})],
        [("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False})],
        [(f"model/vocab/{END}", NOTHING)],
        [("truncation", {"max_length": 5}), ("padding", {"strategy": {"Fixed": 5}})],
        [("added_tokens/0/normalized", True), ("added_tokens/0/lstrip", NOTHING)],
    ],
)  # fmt: skip
def test_byte_pairs(changes, tmp_path):
    tokenizer = read(changed(BPE, *changes), tmp_path)
    assert tokenizer.tokens == ["a", "b", "ab", "Ġ", END]
    assert tokenizer.merges == [("a", "b")]
    assert tokenizer.special_tokens == {END: 4}
    assert tokenizer.encode("ab a").tolist() == [2, 3, 0]


def test_byte_pairs_with_more(tmp_path):
    spaced = read(changed(BPE, ("pre_tokenizer/add_prefix_space", True)), tmp_path)
    assert spaced.encode("ab").tolist() == [3, 2]
    pad = {"id": 5, "content": "<pad>", **FLAGS, "special": True}
    more = [*BPE["added_tokens"], pad]
    assert read(changed(BPE, ("added_tokens", more)), tmp_path).special_tokens["<pad>"] == 5
    none = read(changed(BPE, ("added_tokens", [])), tmp_path)
    assert none.special_tokens == {}
    assert none.decode([4]) == END


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [("model/type", NOTHING)],
        [("post_processor", None)],
        [("post_processor", {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]})],
        [("decoder", None)],
        [("decoder/cleanup", False)],
        [("model/vocab/[PAD]", NOTHING)],
        [("added_tokens", [])],
    ],
)
def test_word_pieces(changes, tmp_path):
    tokenizer = read(changed(WORDPIECE, *changes), tmp_path)
    assert tokenizer.tokens == [*NAMES, "a", "##b", "é"]
    assert tokenizer.special_tokens == {name: i for i, name in enumerate(NAMES)}
    assert tokenizer.encode("AB é [PAD]").tolist() == [5, 6, 1, 1, 1, 1]


def test_word_pieces_with_other_rules(tmp_path):
    cased = changed(WORDPIECE, ("normalizer/lowercase", False), ("normalizer/handle_chinese_chars", False))  # fmt: skip
    assert read(cased, tmp_path).encode("AB é a東").tolist() == [1, 7, 1]
    accents = read(changed(WORDPIECE, ("normalizer/strip_accents", False)), tmp_path)
    assert accents.encode("É").tolist() == [7]


# What is written.


TOKENIZERS = [
    tl.BPETokenizer.train("low lower lowest été", 270),
    tl.BPETokenizer.train("low lower", 260, special_tokens=["<pad>", END]),
    tl.BPETokenizer.train("low lower", 259, special_tokens=[]),
    tl.BPETokenizer(["a", "Ġ", "aa"], [("a", "a")], add_prefix_space=True),
    tl.WordPieceTokenizer.train("low lower lowest été", 40),
    tl.WordPieceTokenizer([*"ab", *NAMES, "<e>"], False, True, False, ["<e>"]),
]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=range(len(TOKENIZERS)))
def test_what_is_written_is_read(tokenizer, tmp_path):
    write_tokenizer_json(tokenizer, tmp_path / "one.json")
    assert read_tokenizer_json(tmp_path / "one.json").state() == tokenizer.state()
    folder = tmp_path / "new" / "folder"
    write_tokenizer(tokenizer, folder)
    names = {"tokenizer.json", "tokenizer_config.json"}
    older = (
        {"vocab.json", "merges.txt"} if isinstance(tokenizer, tl.BPETokenizer) else {"vocab.txt"}
    )
    assert {path.name for path in folder.iterdir()} == names | older
    assert read_tokenizer(folder).state() == tokenizer.state()
    (folder / "tokenizer.json").unlink()
    assert read_tokenizer(folder).state() == tokenizer.state()
    (folder / "tokenizer_config.json").unlink()
    assert read_tokenizer(folder).tokens == tokenizer.tokens


def test_what_transformers_wrote_is_what_we_write(tmp_path):
    for base in (BPE, WORDPIECE):
        tokenizer = read(json.dumps(base).encode(), tmp_path)
        write_tokenizer_json(tokenizer, tmp_path / "ours.json")
        ours = json.loads((tmp_path / "ours.json").read_text("utf-8"))
        if base is WORDPIECE:
            assert ours["decoder"].pop("cleanup") is False  # as our decode
            ours["decoder"]["cleanup"] = True
        assert ours == base


def test_other_tokenizers_have_no_such_file(tmp_path):
    for write in (write_tokenizer_json, write_tokenizer):
        with pytest.raises(TypeError, match="a CharTokenizer: wanted a BPETokenizer or a WordP"):
            write(tl.CharTokenizer("ab"), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_the_configuration_says_how_text_is_read(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*NAMES, "a", "A", "é"]), "utf-8")
    assert read_tokenizer(tmp_path).encode("A É").tolist() == [5, 1]
    config = {"do_lower_case": False, "model_max_length": 10**30, "pad_token": {"content": "[PAD]"}, "never_split": None, "do_basic_tokenize": True, "extra_special_tokens": {"a": "a"}}  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    cased = read_tokenizer(tmp_path)
    assert cased.encode("A é").tolist() == [6, 7]
    assert cased.special_tokens["a"] == 5


# What is refused.

DEEP = 100_000
RAW = {
    "empty": (b"", "Expecting value"),
    "null": (b"null", "holds None: wanted a JSON object"),
    "list": (b"[]", "holds a list of 0: wanted a JSON object"),
    "number": (b"3", "holds 3: wanted"),
    "text": (b'"a"' * 1, "holds 'a': wanted"),
    "zeros": (bytes(100), "Expecting value"),
    "cut off": (changed(BPE)[:-40], "tokenizer.json: "),
    "goes on": (changed(BPE) + b"{}", "Extra data"),
    "no UTF-8": (changed(BPE).replace(b'"1.0"', b'"\xff"'), "can't decode byte 0xff"),
    "UTF-16": (changed(BPE).decode().encode("utf-16"), "can't decode byte"),
    "byte order mark": (b"\xef\xbb\xbf" + changed(BPE), "BOM"),
    "deep lists": (b"[" * DEEP, "nested too deep"),
    "deep objects": (b'{"a":' * DEEP, "nested too deep"),
    "deep inside": (
        changed(BPE).replace(b'"padding": null', b'"padding": ' + b"[" * DEEP + b"]" * DEEP),
        "nested too deep",
    ),
    "NaN": (
        changed(BPE).replace(b'"dropout": null', b'"dropout": NaN'),
        "holds NaN, which is no number",
    ),
    "infinite": (changed(BPE).replace(b'"dropout": null', b'"dropout": -Infinity'), "-Infinity"),
    "endless number": (
        changed(BPE).replace(b'"ab": 2', b'"ab": ' + b"9" * DEEP),
        "value has 100000 digits",
    ),
    "key twice": (changed(BPE).replace(b'"padding"', b'"version"'), "names 'version' twice"),
    "token twice": (changed(BPE).replace(b'"ab": 2', b'"a": 2'), "names 'a' twice"),
    "control character": (changed(BPE).replace(b'"1.0"', b'"\x01"'), "Invalid control character"),
}

ADDED = {"id": 4, "content": END, **FLAGS, "special": True}
DOUBLING = ["a" * 2**i for i in range(14)]

WRONG_BPE = {
    "no model": ("model", NOTHING, "the file: model is missing"),
    "model null": ("model", None, "the file: model is None: wanted dict"),
    "model list": ("model", [], "model is a list of 0"),
    "no added tokens": ("added_tokens", NOTHING, "added_tokens is missing"),
    "version 2": ("version", "2.0", "version is '2.0': wanted '1.0'"),
    "version number": ("version", 1.0, "version is 1.0: wanted '1.0'"),
    "more": ("extra", 1, "the file: 'extra': no such option"),
    "truncation": ("truncation", 3, "truncation is 3"),
    "padding": ("padding", "left", "padding is 'left'"),
    "unigram": ("model/type", "Unigram", "type is 'Unigram': wanted 'BPE' or 'WordPiece'"),
    "type list": ("model/type", [1], "type is a list of 1"),
    "type null": ("model/type", None, "type is None"),
    "no vocab": ("model/vocab", NOTHING, "model: vocab is missing"),
    "vocab list": ("model/vocab", ["a"], "vocab is a list of 1"),
    "vocab empty": ("model/vocab", {}, "has the id 4: wanted one in"),
    "negative id": ("model/vocab/ab", -1, "'ab' has the id -1: wanted one in"),
    "huge id": ("model/vocab/ab", 2**60, "'ab' has the id 1152921504606846976: wanted one in"),
    "float id": ("model/vocab/ab", 2.0, "'ab' has the id 2.0: wanted an integer"),
    "text id": ("model/vocab/ab", "2", "'ab' has the id '2': wanted an integer"),
    "true id": ("model/vocab/b", True, "'b' has the id True: wanted an integer"),
    "null id": ("model/vocab/ab", None, "'ab' has the id None"),
    "list id": ("model/vocab/ab", [2], "'ab' has the id a list of 1"),
    "gap": ("model/vocab/ab", 9, "'ab' has the id 9: wanted one in"),
    "id twice": ("model/vocab/ab", 1, "'b' and 'ab' have both the id 1"),
    "no token": ("model/vocab", {"": 0, "a": 1}, "the token '' with the id 0"),
    "half a pair": ("model/vocab/\ud800", 5, "wanted some Unicode text"),
    "no bytes": ("model/vocab/東", 5, "'東' has the character '東', which stands for no byte"),
    "space": ("model/vocab/a b", 5, "has the character ' ', which stands for no byte"),
    "no merges": ("model/merges", NOTHING, "merges is missing"),
    "merges null": ("model/merges", None, "merges is None: wanted list"),
    "merges text": ("model/merges", "a b", "merges is 'a b'"),
    "merges object": ("model/merges", {"a": "b"}, "merges is an object of 1"),
    "merge number": ("model/merges", [3], "merge 0 is 3: wanted two tokens"),
    "merge of one": ("model/merges", ["ab"], "merge 0 is 'ab': wanted two tokens"),
    "merge of three": ("model/merges", ["a b c"], "merge 0 is 'a b c'"),
    "merge of nothing": ("model/merges", [" b"], "merge 0 is ' b'"),
    "merge with two spaces": ("model/merges", ["a  b"], "merge 0 is 'a  b'"),
    "list of one": ("model/merges", [["a"]], "merge 0 is a list of 1"),
    "list of three": ("model/merges", [["a", "b", "c"]], "merge 0 is a list of 3"),
    "list of numbers": ("model/merges", [[0, 1]], "merge 0 is a list of 2"),
    "list of lists": ("model/merges", [[["a"], "b"]], "merge 0 is a list of 2"),
    "unknown left": ("model/merges", [["x", "b"]], "merge 0, of 'x' and 'b': 'x' is not among"),
    "unknown made": ("model/merges", [["b", "a"]], "merge 0, of 'b' and 'a': 'ba' is not among"),
    "merge twice": ("model/merges", ["a b", "a b"], "merge 1, of 'a' and 'b', comes twice"),
    "explodes": ("model/merges", [[x, x] for x in DOUBLING], "'aa' is not among the 5 tokens"),
    "dropout": ("model/dropout", 0.1, "dropout is 0.1: wanted None"),
    "unknown token": ("model/unk_token", "a", "unk_token is 'a': wanted None"),
    "prefix": ("model/continuing_subword_prefix", "##", "continuing_subword_prefix is '##'"),
    "suffix": ("model/end_of_word_suffix", "</w>", "end_of_word_suffix is '</w>'"),
    "byte fallback": ("model/byte_fallback", True, "byte_fallback is True: wanted False"),
    "byte fallback 0": ("model/byte_fallback", 0, "byte_fallback is 0: wanted False"),
    "regex 1": ("pre_tokenizer/use_regex", 1, "use_regex is 1: wanted True"),
    "ignored merges": ("model/ignore_merges", True, "ignore_merges is True: wanted False"),
    "fuse": ("model/fuse_unk", 1, "fuse_unk is 1: wanted bool"),
    "model more": ("model/cache", 2**60, "model: 'cache': no such option"),
    "no pre-tokenizer": ("pre_tokenizer", None, "pre_tokenizer is None: wanted an object"),
    "whitespace": ("pre_tokenizer", {"type": "Whitespace"}, "type is 'Whitespace': wanted 'Byt"),
    "sequence": ("pre_tokenizer/type", "Sequence", "type is 'Sequence': wanted 'ByteLevel'"),
    "space 1": ("pre_tokenizer/add_prefix_space", 1, "add_prefix_space is 1: wanted bool"),
    "no space": ("pre_tokenizer/add_prefix_space", NOTHING, "add_prefix_space is missing"),
    "no regex": ("pre_tokenizer/use_regex", False, "use_regex is False: wanted True"),
    "pre more": ("pre_tokenizer/x", 1, "pre_tokenizer: 'x': no such option"),
    "normalizer": ("normalizer", {"type": "NFC"}, "normalizer: wanted none"),
    "normalizer list": ("normalizer", [], "normalizer is a list of 0"),
    "post-processor": ("post_processor", {"type": "RobertaProcessing"}, "type is 'RobertaProc"),
    "post adds": ("post_processor/single", [special(END, 0), sequence("A", 0)], "it adds tokens"),
    "post text": ("post_processor", "ByteLevel", "post_processor is 'ByteLevel'"),
    "no decoder": ("decoder", None, "decoder is None: wanted an object"),
    "decoder": ("decoder", {"type": "WordPiece"}, "decoder: type is 'WordPiece'"),
    "added null": ("added_tokens", None, "added_tokens is None: wanted list"),
    "added object": ("added_tokens", {}, "added_tokens is an object of 0"),
    "added number": ("added_tokens", [3], "added token 0 is 3: wanted an object"),
    "added nothing": ("added_tokens", [{}], "added token 0: id is missing"),
    "added negative": ("added_tokens/0/id", -4, "has the id -4, and 4 in the vocabulary"),
    "added huge": ("added_tokens", [{**ADDED, "id": 2**60, "content": "<x>"}], "id 11529215046068"),
    "added elsewhere": ("added_tokens/0/id", 3, "has the id 3, and 4 in the vocabulary"),
    "added over": ("added_tokens/0", {**ADDED, "id": 0, "content": "<x>"}, "have both the id 0"),
    "added text id": ("added_tokens/0/id", "4", "id is '4': wanted int"),
    "added true id": ("added_tokens/0/id", True, "id is True: wanted int"),
    "added content": ("added_tokens/0/content", 4, "content is 4: wanted str"),
    "added empty": ("added_tokens/0", {**ADDED, "id": 5, "content": ""}, "the token '' with the"),
    "not special": ("added_tokens/0/special", False, "special is False: wanted True"),
    "added flag": ("added_tokens/0/lstrip", "yes", "lstrip is 'yes': wanted bool"),
    "added more": ("added_tokens/0/colour", 1, "added token 0: 'colour': no such option"),
    "made by text": ("added_tokens", [{**ADDED, "id": 2, "content": "ab"}], "text can make it"),
    "a byte": ("added_tokens", [{**ADDED, "id": 0, "content": "a"}], "text can make it"),
}

WRONG_WORDPIECE = {
    "unknown": ("model/unk_token", "<unk>", r"unk_token is '<unk>': wanted '\[UNK\]'"),
    "prefix": ("model/continuing_subword_prefix", "@@", "continuing_subword_prefix is '@@'"),
    "longest 2**60": ("model/max_input_chars_per_word", 2**60, "wanted 100"),
    "longest -1": ("model/max_input_chars_per_word", -1, "max_input_chars_per_word is -1"),
    "longest text": ("model/max_input_chars_per_word", "100", "max_input_chars_per_word is '100'"),
    "longest 100.0": ("model/max_input_chars_per_word", 100.0, "max_input_chars_per_word is 100.0"),
    "no longest": ("model/max_input_chars_per_word", NOTHING, "is missing"),
    "gap": ("model/vocab/a", 2**60, "'a' has the id 1152921504606846976"),
    "id twice": ("model/vocab/a", 4, r"'\[MASK\]' and 'a' have both the id 4"),
    "half a pair": ("model/vocab/\udfff", 8, "wanted some Unicode text"),
    "merges": ("model/merges", [], "model: 'merges': no such option"),
    "no normalizer": ("normalizer", None, "normalizer is None"),
    "lowercase": ("normalizer", {"type": "Lowercase"}, "type is 'Lowercase': wanted 'BertNorm"),
    "not cleaned": ("normalizer/clean_text", False, "clean_text is False: wanted True"),
    "accents": ("normalizer/strip_accents", "no", "strip_accents is 'no': wanted bool or None"),
    "case": ("normalizer/lowercase", None, "lowercase is None: wanted bool"),
    "chinese": ("normalizer/handle_chinese_chars", 1, "handle_chinese_chars is 1"),
    "normalizer more": ("normalizer/form", "NFKC", "normalizer: 'form': no such option"),
    "pre-tokenizer": ("pre_tokenizer", {"type": "Whitespace"}, "wanted 'BertPreTokenizer'"),
    "pre more": ("pre_tokenizer/x", 1, "pre_tokenizer: 'x': no such option"),
    "post ids": ("post_processor/special_tokens/[CLS]/ids", [3], "post_processor: wanted BERT's"),
    "post order": ("post_processor/single", [sequence("A", 0)], "post_processor: wanted BERT's"),
    "post list": ("post_processor", [[]], "post_processor is a list of 1"),
    "old post": ("post_processor", {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 3]}, "post_processor: wanted"),
    "decoder": ("decoder", {"type": "ByteLevel"}, "decoder: type is 'ByteLevel'"),
    "decoder prefix": ("decoder/prefix", "", "prefix is '': wanted '##'"),
    "added": ("added_tokens/0/special", False, "special is False"),
    "not there": ("added_tokens/4/content", "[M]", r"have both the id 4"),
}  # fmt: skip


@pytest.fixture
def small():
    """What is read here is small, and so is the memory that it takes, whatever it tells."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_json(name, tmp_path, small):
    content, message = RAW[name]
    with pytest.raises(TokenizerFileError, match=message) as error:
        read(content, tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'tokenizer.json'}: ")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("base", "path", "value", "message"),
    [
        pytest.param(base, *case, id=f"{kind} {name}")
        for kind, base, cases in (("bpe", BPE, WRONG_BPE), ("wp", WORDPIECE, WRONG_WORDPIECE))
        for name, case in cases.items()
    ],
)
def test_what_is_no_such_tokenizer(base, path, value, message, tmp_path, small):
    with pytest.raises(TokenizerFileError, match=message) as error:
        read(changed(base, (path, value)), tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'tokenizer.json'}: ")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("path", [*BPE, *(f"{k}/{x}" for k, v in BPE.items() if isinstance(v, dict) for x in v)])  # fmt: skip
@pytest.mark.parametrize("value", [0, -1, 2**60, 1e308, "", "a" * 9999, True, [[]], [None], {"a": {}}])  # fmt: skip
def test_wrong_types_everywhere(path, value, tmp_path):
    """Any value in any place: a tokenizer, where that value is right there, or a named error."""
    part, _, inner = path.partition("/")
    for base in (BPE, WORDPIECE):
        if inner and inner not in (base[part] or {}):
            continue
        found = outcome(changed(base, (path, value)), tmp_path)
        if isinstance(found, str):
            assert found.startswith(f"{tmp_path / 'tokenizer.json'}: ")
            assert len(found) < 300
        else:
            assert found.vocab_size in (5, 8)


def outcome(content, folder):
    try:
        return read(content, folder)
    except TokenizerFileError as error:
        return str(error)


FOLDERS = {
    "nothing": ({}, "wanted tokenizer.json, or vocab.json and merges.txt, or vocab.txt"),
    "no merges": ({"vocab.json": "{}"}, "merges.txt: No such file"),
    "vocab list": ({"vocab.json": "[]"}, "vocab.json: holds a list of 0"),
    "vocab gap": ({"vocab.json": '{"a": 1}', "merges.txt": ""}, "vocab.json: the token 'a' has"),
    "vocab twice": ({"vocab.json": '{"a": 0, "a": 0}'}, "vocab.json: the JSON names 'a' twice"),
    "vocab id": ({"vocab.json": '{"a": 1e400}'}, "vocab.json: the token 'a' has the id inf"),
    "one token": ({"merges.txt": "#version: 0.2\na"}, "merges.txt: line 2, 'a': wanted two tok"),
    "three tokens": ({"merges.txt": "a b c\n"}, "line 1, 'a b c': wanted two tokens"),
    "empty line": ({"merges.txt": "a b\n\n"}, "line 2, '': wanted two tokens"),
    "two spaces": ({"merges.txt": "a  b"}, "line 1, 'a  b': wanted two tokens"),
    "tab": ({"merges.txt": "a\tb"}, "wanted two tokens"),
    "version late": ({"merges.txt": "a b\n#version: 0.2"}, "merge 1, of '#version:' and '0.2'"),
    "merges no text": ({"merges.txt": b"a \xff"}, "merges.txt: .*can't decode byte 0xff"),
    "merges unknown": ({"merges.txt": "a c"}, "merges.txt: merge 0, of 'a' and 'c': 'c' is not"),
    "merges json": ({"merges.txt": '{"a": "b"}'}, "merges.txt: merge 0"),
    "explodes": ({"merges.txt": "\n".join(f"{x} {x}" for x in DOUBLING)}, "'aa' is not among"),
    "no words": ({"vocab.txt": ""}, r"vocab.txt: the special token '\[PAD\]' is not"),
    "word twice": ({"vocab.txt": "a\nb\na\n"}, "vocab.txt: the token 'a' stands in two lines"),
    "no word": ({"vocab.txt": "a\n\nb\n"}, "vocab.txt: the token '' with the id 1"),
    "words no text": ({"vocab.txt": b"\xff\xfe"}, "vocab.txt: .*can't decode byte"),
    "no special": ({"vocab.txt": "a\nb"}, r"vocab.txt: the special token '\[PAD\]' is not"),
    "config list": ({"tokenizer_config.json": "[]"}, "tokenizer_config.json: holds a list"),
    "config twice": ({"tokenizer_config.json": '{"a": 1, "a": 1}'}, "names 'a' twice"),
    "config deep": (
        {"tokenizer_config.json": "[" * DEEP},
        "tokenizer_config.json: the JSON is nested too",
    ),
}

CONFIGS = {
    "case": ({"do_lower_case": "yes"}, "do_lower_case is 'yes': wanted true or false"),
    "case 1": ({"do_lower_case": 1}, "do_lower_case is 1: wanted true or false"),
    "accents": ({"strip_accents": []}, "strip_accents is a list of 0"),
    "chinese": ({"tokenize_chinese_chars": None}, "tokenize_chinese_chars is None"),
    "class": ({"tokenizer_class": "CLIPTokenizer"}, "tokenizer_class is 'CLIPTokenizer': wanted"),
    "class list": ({"tokenizer_class": []}, "tokenizer_class is a list"),
    "pad": ({"pad_token": 3}, "pad_token is 3: wanted a token"),
    "pad object": ({"pad_token": {"content": []}}, "pad_token is an object of 1: wanted a token"),
    "cls": ({"cls_token": "[SEP]"}, r"cls_token is '\[SEP\]': wanted '\[CLS\]'"),
    "bos": ({"bos_token": "<s>"}, "bos_token is '<s>', which is no special token here"),
    "extra": ({"extra_special_tokens": 3}, "extra_special_tokens is 3: wanted a list"),
    "extra number": ({"extra_special_tokens": [3]}, "extra special token 0 is 3: wanted a token"),
    "extra unknown": ({"extra_special_tokens": ["<e>"]}, "the special token '<e>' is not among"),
    "words": ({"do_basic_tokenize": False}, "do_basic_tokenize is False: wanted True"),
    "never split": ({"never_split": ["a"]}, "never_split is a list of 1"),
    "begin": ({"add_bos_token": True}, "add_bos_token is True: wanted False"),
}


def write_files(folder, files):
    for name, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(raw)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_hold_no_tokenizer(name, tmp_path, small):
    files, message = FOLDERS[name]
    if "merges.txt" in files and "vocab.json" not in files:
        files = {"vocab.json": '{"a": 0, "b": 1, "ab": 2}', **files}
    write_files(tmp_path, files)
    with pytest.raises(TokenizerFileError, match=message) as error:
        read_tokenizer(tmp_path)
    assert str(error.value).startswith(str(tmp_path))


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_that_are_wrong(name, tmp_path, small):
    config, message = CONFIGS[name]
    files = {"vocab.txt": "\n".join([*NAMES, "a"]), "tokenizer_config.json": json.dumps(config)}
    write_files(tmp_path, files)
    with pytest.raises(TokenizerFileError, match=message) as error:
        read_tokenizer(tmp_path)
    assert str(error.value).startswith(str(tmp_path))


def test_files_that_contradict_each_other(tmp_path):
    files = {
        "tokenizer.json": changed(WORDPIECE),
        "tokenizer_config.json": '{"do_lower_case": false}',
    }
    write_files(tmp_path, files)
    with pytest.raises(
        TokenizerFileError, match="do_lower_case is False, and the tokenizer has True"
    ):
        read_tokenizer(tmp_path)
    files = {"tokenizer.json": changed(BPE), "tokenizer_config.json": '{"eos_token": "</s>"}'}
    write_files(tmp_path, files)
    with pytest.raises(TokenizerFileError, match="eos_token is '</s>', which is no special token"):
        read_tokenizer(tmp_path)


def test_no_file_at_all(tmp_path):
    with pytest.raises(TokenizerFileError, match="tokenizer.json: No such file"):
        read_tokenizer_json(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(TokenizerFileError, match="tokenizer.json: "):
        read_tokenizer(tmp_path)
    with pytest.raises(TokenizerFileError, match="wanted tokenizer.json, or"):
        read_tokenizer(tmp_path / "nowhere")


def test_a_file_that_is_read_can_be_used(tmp_path):
    """The ids of what was read are what the bytes of a text say, whatever was left out."""
    tokenizer = read(changed(BPE), tmp_path)
    assert np.array_equal(tokenizer.encode("abab"), [2, 2])
    assert tokenizer.decode([2, 4, 0]) == f"ab{END}a"
