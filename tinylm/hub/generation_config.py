"""generation_config.json: how a model is used to write if nothing else is said."""

from __future__ import annotations

import math
import reprlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.hub.fields import Fields, HubWarning

NAME = "generation_config.json"
NOT_DONE: dict[str, Any] = {
    "num_beams": 1, "num_beam_groups": 1, "num_return_sequences": 1, "diversity_penalty": 0.0,
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0, "min_new_tokens": 0, "min_length": 0, "min_p": 0.0,
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "top_h": None,
    "penalty_alpha": None, "guidance_scale": None, "sequence_bias": None, "bad_words_ids": None,
    "suppress_tokens": [], "begin_suppress_tokens": [], "forced_bos_token_id": None,
    "forced_eos_token_id": None, "exponential_decay_length_penalty": None, "stop_strings": None,
}  # fmt: skip
"""What would change the tokens and is not done here, with the values that change nothing."""

TOP_K = 50
"""Of transformers, where a directory samples and says nothing; its 0 is all tokens."""


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

    def fields(self) -> dict[str, Any]:
        """What is written of it."""
        given: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "max_length": self.max_length,
            "eos_token_id": list(self.eos) or None,
        }
        if self.do_sample:
            given |= {
                "do_sample": True,
                "temperature": self.temperature,
                "top_k": self.top_k or 0,
                "top_p": self.top_p,
            }
        return {field: value for field, value in given.items() if value is not None}


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
    above, do_sample = math.ulp(0.0), given.flag("do_sample", default=False)
    top_k = given.size_or_none("top_k", least=0)
    if do_sample and top_k is None:
        top_k = TOP_K
    return GenerationConfig(
        max_new_tokens=given.size_or_none("max_new_tokens"),
        max_length=given.size_or_none("max_length"),
        do_sample=do_sample,
        temperature=given.number("temperature", 1.0, above, sys.float_info.max, "a number above 0"),
        top_k=top_k or None,
        top_p=given.number("top_p", 1.0, above, math.nextafter(1, 2), "above 0, at most 1"),
        eos=tuple(eos),
    )
