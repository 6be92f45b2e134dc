"""What every tokenizer has in common: encode, decode, and a JSON file."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from tinylm.files import write_atomically

T = TypeVar("T", bound="Tokenizer")
KINDS: dict[str, type[Tokenizer]] = {}


class Tokenizer(ABC):
    """Text to ids and back.

    What `encode` returns, `decode` turns into the very same text again; where a tokenizer cannot
    promise that, `encode` raises `UnknownTokenError`. A tokenizer that drops or replaces words does so
    only when it was trained to, or says that it always does, as WordPiece.
    """

    kind: ClassVar[str]

    def __init_subclass__(cls) -> None:
        KINDS[cls.kind] = cls

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many ids there are: 0 to vocab_size - 1."""

    @abstractmethod
    def encode(self, text: str) -> Any:
        """The ids of a text, an array of int64; raises `UnknownTokenError`."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; raises `UnknownTokenError` for an id that there is not."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `from_state` needs, as JSON can hold it."""

    @classmethod
    @abstractmethod
    def from_state(cls: type[T], state: dict[str, Any]) -> T:
        """The tokenizer that had this state."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer to a JSON file, whole or not at all."""
        write_atomically(path, [json.dumps(self.labelled()).encode()])

    def labelled(self) -> dict[str, Any]:
        """The state with the kind of tokenizer, for `load_tokenizer`."""
        return {"kind": self.kind, **self.state()}

    @classmethod
    def load(cls: type[T], path: str | os.PathLike[str]) -> T:  # noqa: PYI019  # Self is 3.11
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file holds anything else.
        """
        try:
            tokenizer = load_tokenizer(json.loads(Path(path).read_bytes()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: not a tokenizer file: {error}") from None
        if not isinstance(tokenizer, cls):
            raise ValueError(f"{path}: holds a {type(tokenizer).__name__}: wanted {cls.__name__}")
        return tokenizer


def load_tokenizer(labelled: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a state that names its kind."""
    kind = labelled["kind"]
    if kind not in KINDS:
        raise ValueError(f"there is no tokenizer of the kind {kind!r}: {', '.join(KINDS)}")
    return KINDS[kind].from_state(labelled)
