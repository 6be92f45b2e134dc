"""Options: what the fields of a model may be, and the error that names one that may not."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from tinylm.ops import gelu, relu, silu

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "gelu": gelu,
    "gelu_tanh": functools.partial(gelu, approximate=True),
    "relu": relu,
    "silu": silu,
}
POSITIONS = ("learned", "sinusoidal", "rotary", "none")
NORMS = ("layer", "rms")

SIZES = (
    "vocab_size", "source_vocab_size", "context_length", "d_model", "num_heads", "d_ff",
    "num_segments", "num_labels",
)  # fmt: skip
COUNTS = ("num_layers", "num_encoder_layers", "num_decoder_layers")

INTEGERS = (*SIZES, *COUNTS, "num_kv_heads", "pad_id")
REALS = ("norm_eps", "dropout", "label_smoothing")

RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(SIZES, (lambda n: n >= 1, "at least 1")),
    **dict.fromkeys(COUNTS, (lambda n: n >= 0, "at least 0")),
    "positions": (POSITIONS.__contains__, " or ".join(POSITIONS)),
    "activation": (ACTIVATIONS.__contains__, " or ".join(ACTIVATIONS)),
    "norm": (NORMS.__contains__, " or ".join(NORMS)),
    "norm_eps": (lambda eps: 0 < eps < math.inf, "a number above 0"),
    "dropout": (lambda rate: 0 <= rate < 1, "0 <= dropout < 1"),
    "label_smoothing": (lambda part: 0 <= part <= 1, "0 <= label_smoothing <= 1"),
}
"""What fields of a name are in every model that has them; those that may be None beside that."""


def check_options(model: Any) -> None:
    """Raise ValueError at the first field that is not as it is in all models."""
    for field in fields(model):
        value = getattr(model, field.name)
        if value is None and field.default is None:
            continue
        if field.name in INTEGERS:
            check_option(model, field.name, isinstance(value, numbers.Integral), "an integer")
        if field.name in REALS:
            check_option(model, field.name, isinstance(value, numbers.Real), "a number")
        if field.name in RULES:
            fits, wanted = RULES[field.name]
            check_option(model, field.name, fits(value), wanted)
    divides = model.d_model % model.num_heads == 0
    check_option(model, "d_model", divides, f"a multiple of num_heads={model.num_heads}")


def check_option(model: Any, field: str, fits: bool, wanted: str) -> None:
    """Raise ValueError if a field does not fit."""
    if not fits:
        raise ValueError(
            f"{type(model).__name__}: {field}={getattr(model, field)!r}: wanted {wanted}"
        )
