"""Files of tokenizers, read strictly: JSON, lines of text, vocabularies."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tinylm.files import strict_json

SURROGATES = re.compile("[\ud800-\udfff]")


class TokenizerFileError(ValueError):
    """A file of a tokenizer that cannot be used; the message says which and why."""


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of an error in what a file holds which file that is."""
    try:
        yield
    except TokenizerFileError:
        raise
    except OSError as error:
        raise TokenizerFileError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise TokenizerFileError(f"{path}: {error}") from None


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file; one key twice or NaN are errors.

    Raises
    ------
    TokenizerFileError
        If there is no such file, or it holds anything else.
    """
    with naming(path):
        found = strict_json(Path(path).read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"holds {short(found)}: wanted a JSON object")
        return found


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    r"""The lines of a text file in UTF-8 that end in "\n" or "\r\n", without these ends.

    Raises
    ------
    TokenizerFileError
        If there is no such file, or it is no text.
    """
    with naming(path):
        text = Path(path).read_bytes().decode("utf-8").replace("\r\n", "\n")
        return text.removesuffix("\n").split("\n") if text else []


def ordered(ids: Mapping[str, Any]) -> list[str]:
    """The tokens of a vocabulary by their ids, which are 0, 1, 2 ..., each once.

    Raises
    ------
    ValueError
        If they are not, or a token is empty or no Unicode.
    """
    tokens: list[str] = [""] * len(ids)
    for token, i in ids.items():
        if not token or SURROGATES.search(token):
            raise ValueError(
                f"the token {short(token)} with the id {short(i)}: wanted some Unicode text"
            )
        if type(i) is not int:
            raise ValueError(f"the token {short(token)} has the id {short(i)}: wanted an integer")
        if not 0 <= i < len(ids):
            raise ValueError(
                f"the token {short(token)} has the id {i}: wanted one in [0, {len(ids)}), since "
                f"there are {len(ids)} tokens"
            )
        if tokens[i]:
            raise ValueError(f"{short(tokens[i])} and {short(token)} have both the id {i}")
        tokens[i] = token
    return tokens


def short(value: Any, longest: int = 60) -> str:
    """What a value is, for a message, which stays readable whatever the value."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, str) and len(value) > longest:
        return f"{value[:longest]!r}... ({len(value)} characters)"
    return repr(value)
