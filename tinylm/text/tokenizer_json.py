"""`tokenizer.json`: byte-level BPE and WordPiece in the format of the library `tokenizers`.

What such a file asks for and these two do not do is an error that names it. Three things it says
are left aside, since they do not change what `encode` gives: how a batch is cut and padded, what
a special token looks for in a text (`encode` gives none), and how `decode` tidies spaces.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.files import write_atomically
from tinylm.text.bpe import BPETokenizer
from tinylm.text.tokenizer import Tokenizer
from tinylm.text.tokenizer_files import naming, ordered, read_json, short
from tinylm.text.wordpiece import CLS, LONGEST_WORD, PREFIX, SEP, UNK, WordPieceTokenizer

PARTS = {
    "version": ("1.0",),
    "truncation": (dict, None),
    "padding": (dict, None),
    "added_tokens": (list,),
    "normalizer": (dict, None),
    "pre_tokenizer": (dict, None),
    "post_processor": (dict, None),
    "decoder": (dict, None),
    "model": (dict,),
}
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), (bool,))
"""Of an added token: how it is looked for in a text."""

BYTE_LEVEL = {"type": ("ByteLevel",), "add_prefix_space": (bool,)}
BYTE_LEVEL_MORE = {"trim_offsets": (bool,), "use_regex": (True,)}
BYTE_PAIRS = {"vocab": (dict,), "merges": (list,)}
BYTE_PAIRS_MORE = {
    "type": ("BPE",),
    "dropout": (None, 0.0),
    "unk_token": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (bool,),
    "byte_fallback": (False,),
    "ignore_merges": (False,),
}
NORMALIZER = {
    "type": ("BertNormalizer",),
    "clean_text": (True,),
    "handle_chinese_chars": (bool,),
    "strip_accents": (bool, None),
    "lowercase": (bool,),
}
WORD_PIECES = {
    "vocab": (dict,),
    "unk_token": (UNK,),
    "continuing_subword_prefix": (PREFIX,),
    "max_input_chars_per_word": (LONGEST_WORD,),
}
"""What may stand in an object: for each key the values, or the types of value, that are known."""


def read_tokenizer_json(path: str | os.PathLike[str]) -> BPETokenizer | WordPieceTokenizer:
    """The tokenizer of a file `tokenizer.json`.

    Raises
    ------
    TokenizerFileError
        If the file cannot be read, or asks for what these tokenizers do not do.
    """
    found = read_json(path)
    with naming(path):
        _check("the file", found, PARTS)
        model = found["model"]
        kind = model.get("type", "BPE" if "merges" in model else "WordPiece")  # old files lack it
        if kind == "BPE":
            return _read_bpe(found)
        if kind == "WordPiece":
            return _read_wordpiece(found)
        raise ValueError(f"model: type is {short(kind)}: wanted 'BPE' or 'WordPiece'")


def write_tokenizer_json(tokenizer: Tokenizer, path: str | os.PathLike[str]) -> None:
    """Write `tokenizer.json`, whole or not at all.

    Raises
    ------
    TypeError
        If the tokenizer is of another kind than these two.
    """
    tokenizer = one_of_two(tokenizer)
    if isinstance(tokenizer, BPETokenizer):
        parts = _bpe_parts(tokenizer)
    else:
        parts = _wordpiece_parts(tokenizer)
    added = [
        {"id": i, "content": name, **dict.fromkeys(FLAGS, False), "special": True}
        for name, i in sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
    ]
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **parts}
    write_atomically(path, [json.dumps(whole, ensure_ascii=False, indent=1).encode()])


def one_of_two(tokenizer: Tokenizer) -> BPETokenizer | WordPieceTokenizer:
    """The tokenizer, if it is one of the two that Hugging Face's files can hold."""
    if isinstance(tokenizer, BPETokenizer | WordPieceTokenizer):
        return tokenizer
    raise TypeError(f"a {type(tokenizer).__name__}: wanted a BPETokenizer or a WordPieceTokenizer")


# Byte pairs.


def _read_bpe(found: dict[str, Any]) -> BPETokenizer:
    if found.get("normalizer") is not None:
        raise ValueError("normalizer: wanted none with byte pairs")
    before = _check("pre_tokenizer", found.get("pre_tokenizer"), BYTE_LEVEL, BYTE_LEVEL_MORE)
    after = found.get("post_processor")
    if isinstance(after, dict) and after.get("type") == "TemplateProcessing":
        if after != _template((), {}):
            raise ValueError("post_processor: it adds tokens to A, or to A B: wanted nothing more")
    elif after is not None:
        _check("post_processor", after, BYTE_LEVEL, BYTE_LEVEL_MORE)
    _check("decoder", found.get("decoder"), BYTE_LEVEL, BYTE_LEVEL_MORE)
    model = _check("model", found["model"], BYTE_PAIRS, BYTE_PAIRS_MORE)
    special = _added(found)
    tokens = ordered(_with(model["vocab"], special))
    merges = [_pair(rank, merge) for rank, merge in enumerate(model["merges"])]
    return BPETokenizer(tokens, merges, special, before["add_prefix_space"])


def _pair(rank: int, merge: Any) -> tuple[str, str]:
    """A merge, written as "a b" or as ["a", "b"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if (
        not isinstance(parts, list)
        or len(parts) != 2
        or not all(isinstance(part, str) and part for part in parts)
    ):
        raise ValueError(f"merge {rank} is {short(merge)}: wanted two tokens")
    return parts[0], parts[1]


def _bpe_parts(tokenizer: BPETokenizer) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "add_prefix_space": tokenizer.add_prefix_space},
        "post_processor": _template((), {}),
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": tokenizer.vocabulary.ids,
            "merges": [list(pair) for pair in tokenizer.merges],
        },
    }


# Word pieces.


def _read_wordpiece(found: dict[str, Any]) -> WordPieceTokenizer:
    normalizer = _check("normalizer", found.get("normalizer"), NORMALIZER)
    _check("pre_tokenizer", found.get("pre_tokenizer"), {"type": ("BertPreTokenizer",)})
    if found.get("decoder") is not None:
        known = {"type": ("WordPiece",), "prefix": (PREFIX,), "cleanup": (bool,)}
        _check("decoder", found["decoder"], known)
    model = _check("model", found["model"], WORD_PIECES, {"type": ("WordPiece",)})
    special = _added(found)
    tokenizer = WordPieceTokenizer(
        ordered(_with(model["vocab"], special)),
        normalizer["lowercase"],
        normalizer["strip_accents"],
        normalizer["handle_chinese_chars"],
        special,
    )
    ids = tokenizer.special_tokens
    old = {"type": "BertProcessing", "sep": [SEP, ids[SEP]], "cls": [CLS, ids[CLS]]}
    if found.get("post_processor") not in (None, old, _template((CLS, SEP), ids)):
        raise ValueError(f"post_processor: wanted BERT's, {CLS} A {SEP} B {SEP}, with their ids")
    return tokenizer


def _wordpiece_parts(tokenizer: WordPieceTokenizer) -> dict[str, Any]:
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": tokenizer.split_cjk,
            "strip_accents": tokenizer.strip_accents,
            "lowercase": tokenizer.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _template((CLS, SEP), tokenizer.special_tokens),
        "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": UNK,
            "continuing_subword_prefix": PREFIX,
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": tokenizer.vocabulary.ids,
        },
    }


# Both.


def _check(
    where: str,
    found: Any,
    known: Mapping[str, tuple[Any, ...]],
    optional: Mapping[str, tuple[Any, ...]] = {},
) -> dict[str, Any]:
    """An object that has the known keys, perhaps the optional ones, and only known values."""
    if not isinstance(found, dict):
        raise ValueError(f"{where} is {short(found)}: wanted an object")
    values = {**known, **optional}
    for key, value in found.items():
        if key not in values:
            raise ValueError(f"{where}: {short(key)}: no such option is known here")
        if not any(
            type(value) is x or (type(value) is type(x) and value == x) for x in values[key]
        ):
            names = [x.__name__ if isinstance(x, type) else repr(x) for x in values[key]]
            raise ValueError(f"{where}: {key} is {short(value)}: wanted {' or '.join(names)}")
    for key in known:
        if key not in found:
            raise ValueError(f"{where}: {key} is missing")
    return found


def _added(found: dict[str, Any]) -> dict[str, int]:
    """The special tokens and their ids; other added tokens are errors."""
    known = {"id": (int,), "content": (str,), "special": (True,)}
    special: dict[str, int] = {}
    for number, token in enumerate(found["added_tokens"]):
        _check(f"added token {number}", token, known, FLAGS)
        special[token["content"]] = token["id"]
    return special


def _with(vocab: dict[str, Any], special: dict[str, int]) -> dict[str, Any]:
    """A vocabulary with the special tokens that it may lack."""
    for name, i in special.items():
        if vocab.get(name, i) != i:
            raise ValueError(
                f"the added token {short(name)} has the id {i}, and {short(vocab[name])} in the "
                "vocabulary"
            )
    return {**vocab, **special}


def _template(names: Sequence[str], ids: Mapping[str, int]) -> dict[str, Any]:
    """What stands around one text and around two: nothing, or BERT's [CLS] A [SEP] B [SEP]."""

    def special(name: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": segment}}

    first = [{"Sequence": {"id": "A", "type_id": 0}}]
    second = [{"Sequence": {"id": "B", "type_id": 1}}]
    if names:
        begin, end = names
        first = [special(begin, 0), *first, special(end, 0)]
        second = [*second, special(end, 1)]
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first + second,
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in names
        },
    }
