"""generation_config.json: how a model is used to write if nothing else is said."""

from __future__ import annotations

import math
import reprlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from tinylm.hub.fields import Fields, HubWarning

NAME = "generation_config.json"
NOT_DONE = {"num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_p": 0.0}
"""What would change the tokens and is not done here, with the values that change nothing."""


@dataclass(frozen=True)
class GenerationConfig:
    """How tokens are drawn; the names are Hugging Face's, and so are the meanings."""

    max_new_tokens: int | None = None
    max_length: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    eos: tuple[int, ...] = ()

    def room(self, length: int) -> int:
        """How many tokens follow a prompt of some length; 20 if nothing says so."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        return 20 if self.max_length is None else max(0, self.max_length - length)


def read_generation_config(folder: Path, config: Fields) -> GenerationConfig:
    """That of a directory; of its config.json, as in older ones, if it has no file of its own."""
    fields = Fields.read(folder / NAME) if (folder / NAME).exists() else config
    given = Fields(fields.path, {k: v for k, v in fields.values.items() if v is not None})
    for field, nothing in NOT_DONE.items():
        if given.values.get(field, nothing) != nothing:
            warnings.warn(
                f"{given.path}: {field}={reprlib.repr(given.values[field])} is not done here",
                HubWarning,
                stacklevel=3,
            )
    eos = given.values.get("eos_token_id", [])
    eos = eos if isinstance(eos, list) else [eos]
    if not all(type(token) is int and 0 <= token < 2**31 for token in eos):
        raise given.wrong("eos_token_id", "a token or a list of them")
    above = math.ulp(0.0)
    return GenerationConfig(
        max_new_tokens=given.size_or_none("max_new_tokens"),
        max_length=given.size_or_none("max_length"),
        do_sample=given.flag("do_sample", default=False),
        temperature=given.number("temperature", 1.0, above, sys.float_info.max, "a number above 0"),
        top_k=given.size_or_none("top_k", least=0) or None,
        top_p=given.number("top_p", 1.0, above, math.nextafter(1, 2), "above 0, at most 1"),
        eos=tuple(eos),
    )
