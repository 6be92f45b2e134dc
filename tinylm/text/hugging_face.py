"""The tokenizer in a folder of Hugging Face's transformers: whichever of its files are there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tinylm.files import write_atomically
from tinylm.text.bpe import BPETokenizer
from tinylm.text.tokenizer import Tokenizer
from tinylm.text.tokenizer_files import TokenizerFileError, naming, read_json, short
from tinylm.text.tokenizer_json import one_of_two, read_tokenizer_json, write_tokenizer_json
from tinylm.text.wordpiece import CLS, MASK, PAD, SEP, UNK, WordPieceTokenizer

CONFIG = "tokenizer_config.json"
END = "<|endoftext|>"
"""GPT-2's one special token: where a text ends, and so the next one begins."""
BERT_ROLES: dict[str, str | None] = {
    "pad_token": PAD, "unk_token": UNK, "cls_token": CLS, "sep_token": SEP, "mask_token": MASK,
}  # fmt: skip

USUAL = {
    "add_bos_token": False,
    "add_eos_token": False,
    "do_basic_tokenize": True,
    "never_split": [],
}
"""Options of `tokenizer_config.json` that are known in one setting only."""


def read_tokenizer(folder: str | os.PathLike[str]) -> BPETokenizer | WordPieceTokenizer:
    """The tokenizer of a folder that `save_pretrained` of transformers wrote.

    It is read from `tokenizer.json`, or else from `vocab.json` and `merges.txt`, or else from
    `vocab.txt`; `tokenizer_config.json` says how text is normalized where the other files do not,
    and may not say otherwise where they do.

    Raises
    ------
    TokenizerFileError
        If there are no such files, one cannot be read, or one asks for what is not known here.

    Examples
    --------
    >>> import tempfile, tinylm as tl
    >>> from tinylm.text import read_tokenizer, write_tokenizer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tokenizer(tl.BPETokenizer.train("low lower lowest", 260), folder)
    ...     read_tokenizer(folder).encode("slow").tolist()
    [82, 257]
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
    with naming(folder / CONFIG):
        if (folder / "tokenizer.json").exists():
            tokenizer = read_tokenizer_json(folder / "tokenizer.json")
        else:
            tokenizer = _read_older(folder, config)
        _check_config(config, tokenizer)
    return tokenizer


def _read_older(folder: Path, config: dict[str, Any]) -> BPETokenizer | WordPieceTokenizer:
    """The tokenizer of the files of GPT-2 or of BERT."""

    def chosen(option: str, default: bool | None) -> Any:
        value = config.get(option, default)
        if type(value) is not bool and value is not default:
            raise ValueError(f"{option} is {short(value)}: wanted true or false")
        return value

    kind = config.get("tokenizer_class", "")
    if (folder / "vocab.json").exists():
        if kind not in ("", "GPT2Tokenizer", "GPT2TokenizerFast"):
            raise ValueError(f"tokenizer_class is {short(kind)}: wanted GPT2Tokenizer")
        space = chosen("add_prefix_space", False)
        files = folder / "vocab.json", folder / "merges.txt"
        return BPETokenizer.from_files(*files, add_prefix_space=space)
    if (folder / "vocab.txt").exists():
        if kind not in ("", "BertTokenizer", "BertTokenizerFast"):
            raise ValueError(f"tokenizer_class is {short(kind)}: wanted BertTokenizer")
        return WordPieceTokenizer.from_file(
            folder / "vocab.txt",
            lowercase=chosen("do_lower_case", True),
            strip_accents=chosen("strip_accents", None),
            split_cjk=chosen("tokenize_chinese_chars", True),
            special_tokens=_more_special(config),
        )
    raise TokenizerFileError(
        f"{folder}: wanted tokenizer.json, or vocab.json and merges.txt, or vocab.txt"
    )


def _more_special(config: dict[str, Any]) -> list[str]:
    """Special tokens beside the usual ones: a list, or an object of them by role."""
    told = config.get("extra_special_tokens", config.get("additional_special_tokens")) or []
    if not isinstance(told, list | dict):
        raise ValueError(f"extra_special_tokens is {short(told)}: wanted a list")
    named = told.items() if isinstance(told, dict) else enumerate(told)
    names = [_named(f"extra special token {role}", token) for role, token in named]
    return [name for name in names if name is not None]


def _check_config(config: dict[str, Any], tokenizer: BPETokenizer | WordPieceTokenizer) -> None:
    """Hold what the configuration says to the tokenizer that was read."""
    _, options = _options(tokenizer)
    for option, value in options.items():
        told = config.get(option, value)
        if told != value:
            raise ValueError(f"{option} is {short(told)}, and the tokenizer has {short(value)}")
    for option, usual in USUAL.items():
        if config.get(option) not in (None, usual):
            raise ValueError(f"{option} is {short(config[option])}: wanted {usual!r}")
    roles = BERT_ROLES if isinstance(tokenizer, WordPieceTokenizer) else {}
    for role in ("bos_token", "eos_token", *BERT_ROLES):
        name = _named(role, config.get(role))
        if name is not None and name != roles.get(role, name):
            raise ValueError(f"{role} is {short(name)}: wanted {roles[role]!r}")
        if name is not None and name not in tokenizer.special_tokens:
            raise ValueError(f"{role} is {short(name)}, which is no special token here")


def _named(role: str, told: Any) -> str | None:
    """A special token, which may stand as a text or as an object that has it as its content."""
    name = told.get("content") if isinstance(told, dict) else told
    if name is None or isinstance(name, str):
        return name
    raise ValueError(f"{role} is {short(told)}: wanted a token")


def write_tokenizer(tokenizer: Tokenizer, folder: str | os.PathLike[str]) -> None:
    """Write the files from which `AutoTokenizer` of transformers makes this tokenizer.

    They are `tokenizer.json`, `tokenizer_config.json`, and the older `vocab.json` and
    `merges.txt`, or `vocab.txt`.

    Parameters
    ----------
    tokenizer : BPETokenizer or WordPieceTokenizer
    folder : str or path
        It is made if there is none.

    Raises
    ------
    TypeError
        If the tokenizer is of another kind.
    """
    tokenizer, folder = one_of_two(tokenizer), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer_json(tokenizer, folder / "tokenizer.json")
    roles, options = _options(tokenizer)
    kind = "GPT2Tokenizer" if isinstance(tokenizer, BPETokenizer) else "BertTokenizer"
    more = [name for name in tokenizer.special_tokens if name not in roles.values()]
    config = {"tokenizer_class": kind, **options, **roles, "extra_special_tokens": more}
    write_atomically(folder / CONFIG, [json.dumps(config, ensure_ascii=False, indent=1).encode()])
    tokenizer.write_files(folder)


def _options(
    tokenizer: BPETokenizer | WordPieceTokenizer,
) -> tuple[dict[str, str | None], dict[str, bool | None]]:
    """What `tokenizer_config.json` says of a tokenizer: its special tokens, and how it reads text."""
    if isinstance(tokenizer, WordPieceTokenizer):
        return BERT_ROLES, {
            "do_lower_case": tokenizer.lowercase,
            "strip_accents": tokenizer.strip_accents,
            "tokenize_chinese_chars": tokenizer.split_cjk,
        }
    end = END if END in tokenizer.special_tokens else None
    roles: dict[str, str | None] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), end)
    return roles, {"add_prefix_space": tokenizer.add_prefix_space}
