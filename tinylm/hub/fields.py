"""The fields of a JSON file from elsewhere, each checked before anything is made of it."""

from __future__ import annotations

import contextlib
import math
import os
import reprlib
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tinylm.checkpoint import MOST
from tinylm.files import strict_json

LONGEST = 2**19
"""Of a JSON file, in bytes, which is room for five thousand tensors in an index."""

LARGEST = 2**31 - 1
"""Of a size."""


ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Theirs and ours; for each of ours the first is written."""


def their_activation(ours: str) -> str:
    """The name that an activation of ours has there."""
    return next(theirs for theirs, name in ACTIVATIONS.items() if name == ours)


class HubError(ValueError):
    """A directory that cannot be read or written as asked; the message says which file and why."""


class HubWarning(UserWarning):
    """Something that a directory lacks, or has and is not used."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Have whatever goes wrong with a file told as a `HubError` that names it."""
    try:
        yield
    except HubError:
        raise
    except OSError as error:
        raise HubError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        message = str(error)
        raise HubError(message if str(path) in message else f"{path}: {message}") from None


def check_regular(path: Path) -> os.stat_result:
    """The status of a file, which is no folder, device or pipe; symlinks are followed.

    The cache of Hugging Face is made of symlinks, so that they cannot be refused.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise HubError(f"{path}: wanted a file, and this is a folder or something else")
    return status


class Fields:
    """A JSON object in a file; what is asked of it is right, or a `HubError` says what is wrong."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values

    @classmethod
    def read(cls, path: Path) -> Fields:
        """Those of a file."""
        with reading(path):
            size = check_regular(path).st_size
            if size > LONGEST:
                raise HubError(f"{path}: {size} bytes: wanted at most {LONGEST}")
            values = strict_json(path.read_bytes(), MOST)
        if not isinstance(values, dict):
            raise HubError(f"{path}: {reprlib.repr(values)}: wanted a JSON object")
        return cls(path, values)

    def wrong(self, field: str, wanted: str) -> HubError:
        """The error that names a field, what it holds, and what was wanted."""
        if field not in self.values:
            return HubError(f"{self.path}: {field} is missing: wanted {wanted}")
        return HubError(f"{self.path}: {field}={reprlib.repr(self.values[field])}: wanted {wanted}")

    def size(self, field: str, least: int = 1) -> int:
        """A size, which has no default."""
        value = self.values.get(field)
        if type(value) is not int or not least <= value <= LARGEST:
            raise self.wrong(field, f"an integer from {least} to {LARGEST}")
        return value

    def size_or_none(self, field: str, least: int = 1) -> int | None:
        """A size, or None if it is null or not there."""
        return None if self.values.get(field) is None else self.size(field, least)

    def number(self, field: str, default: float, low: float, high: float, wanted: str) -> float:
        """A number in [low, high)."""
        value = self.values.get(field, default)
        if type(value) not in (int, float) or not low <= value < high:
            raise self.wrong(field, wanted)
        return float(value)

    def rate(self, field: str) -> float:
        """The rate of a dropout, 0.1 if not given."""
        return self.number(field, 0.1, 0.0, 1.0, "a number from 0 to below 1")

    def eps(self, field: str, default: float) -> float:
        """What stands beside a variance."""
        return self.number(field, default, math.ulp(0.0), sys.float_info.max, "a number above 0")

    def choice(self, field: str, names: Mapping[str, Any], default: str | None = None) -> Any:
        """What a name of theirs stands for."""
        value = self.values.get(field, default)
        if not isinstance(value, str) or value not in names:
            raise self.wrong(field, " or ".join(names))
        return names[value]

    def flag(self, field: str, *, default: bool) -> bool:
        """True or false."""
        value = self.values.get(field, default)
        if not isinstance(value, bool):
            raise self.wrong(field, "true or false")
        return value

    def only(self, field: str, possible: Any) -> None:
        """Refuse what the models here do not do: any value but the possible one."""
        value = self.values.get(field, possible)
        if type(value) is not type(possible) or value != possible:
            raise self.wrong(field, f"{possible!r}, which is all that is done here")

    def labels(self) -> tuple[str, ...]:
        """The names of the classes: those of id2label, or Hugging Face's of two."""
        names = self.values.get("id2label")
        if names is None:
            return ("LABEL_0", "LABEL_1")
        wanted = "an object with names under 0, 1, ..."
        if not isinstance(names, dict) or not names:
            raise self.wrong("id2label", wanted)
        found = (names.get(str(i)) for i in range(len(names)))
        labels = tuple(label for label in found if isinstance(label, str))
        if len(labels) != len(names):
            raise self.wrong("id2label", wanted)
        return labels

    def multiple(self, field: str, divisor: str) -> None:
        """Refuse a size that another does not divide."""
        if self.size(field) % self.size(divisor):
            raise self.wrong(field, f"a multiple of {divisor}={self.values[divisor]}")
