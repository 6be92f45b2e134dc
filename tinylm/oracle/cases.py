"""The cases of the golden vectors: an op each, at what sizes, and what it gives there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tinylm.ops
from tinylm.autograd import Array, Nest
from tinylm.ops import IGNORED
from tinylm.oracle import drawing
from tinylm.oracle.examples import IDS, SHAPES, axes_of
from tinylm.oracle.reference import OWN, differentiable, in_format, reference, tolerances
from tinylm.oracle.rounding import Rounding

NUMBER_FORMATS = ("f32", "f16", "bf16")
"""The formats for which an error is allowed."""

STORES = {"attention": ("weights", "d_scores")}
"""Named intermediates that a kernel of an op is taken to keep in the format of its inputs."""


@dataclass(frozen=True)
class Case:
    """An op and the sizes of its inputs.

    Parameters
    ----------
    op : str
    shapes : dict of str to tuple of int
    attributes : dict
        Arguments of the op that are no arrays, where they are not the default.
    """

    op: str
    shapes: dict[str, tuple[int, ...]]
    attributes: dict[str, Any] = field(default_factory=dict)


CASES = {
    "attention-plain": Case("attention", {"Q": (2, 5, 3), "K": (2, 7, 3), "V": (2, 7, 4)}),
    "attention-causal": Case(
        "attention", {"Q": (2, 5, 3), "K": (2, 5, 3), "V": (2, 5, 7)}, {"causal": True}
    ),
    "attention-mask": Case(  # query 1 may attend to nothing
        "attention", {"Q": (2, 5, 3), "K": (2, 7, 3), "V": (2, 7, 4), "mask": (2, 5, 7)}
    ),
    "attention-grouped": Case(  # three heads of queries share one of keys and values
        "attention",
        {"Q": (2, 3, 5, 4), "K": (2, 1, 5, 4), "V": (2, 1, 5, 7)},
        {"causal": True, "scale": 0.25},
    ),
    "attention-block": Case(
        "attention", {"Q": (64, 64), "K": (64, 64), "V": (64, 64)}, {"causal": True}
    ),
    "cross_entropy": Case("cross_entropy", {"logits": (3, 5, 11), "targets": (3, 5)}),
    "embedding": Case("embedding", {"table": (7, 5), "ids": (3, 4)}),  # so that ids repeat
    "gelu": Case("gelu", {"x": (3, 11)}),
    "gelu-tanh": Case("gelu", {"x": (3, 11)}, {"approximate": True}),
    "layer_norm": Case("layer_norm", {"x": (3, 5, 11), "gain": (11,), "bias": (11,)}),
    "linear": Case("linear", {"x": (2, 5, 3), "W": (3, 7), "b": (7,)}),
    "linear-without-b": Case("linear", {"x": (2, 5, 3), "W": (3, 7)}),
    "log_softmax": Case("log_softmax", {"x": (3, 5, 11)}),
    "relu": Case("relu", {"x": (3, 11)}),
    "rms_norm": Case("rms_norm", {"x": (3, 5, 11), "gain": (11,)}),
    "silu": Case("silu", {"x": (3, 11)}),
    "softmax": Case("softmax", {"x": (3, 5, 11)}),
}


@dataclass(frozen=True)
class Vectors:
    """What is stored of one case.

    Parameters
    ----------
    about : dict
        What the manifest says of it.
    tensors : dict
        A nest of arrays. Each array under "error", the most by which the oracle may itself be off,
        stands for a result, which others are to compute: ``error.grads.Q`` for ``grads.Q``.
    """

    about: dict[str, Any]
    tensors: dict[str, Nest]


def vectors_of(name: str, seed: int) -> Vectors:
    """Inputs of a case, and all that follows from them."""
    case = CASES[name]
    function, axes = getattr(tinylm.ops, case.op), axes_of(SHAPES[case.op])
    inputs = {argument: _input(name, argument, seed) for argument in case.shapes}
    shape = np.shape(function(**inputs, **case.attributes))
    cotangent = drawing.numbers(shape, seed, f"{name}.cotangent")
    models = {
        io: Rounding(io=io, accumulate="f32", stores=dict.fromkeys(STORES.get(case.op, ()), io))
        for io in NUMBER_FORMATS
    }
    attributes = {key: x for key, x in function.defaults.items() if key not in axes}
    about = {
        "op": case.op,
        **cited(function),
        "attributes": attributes | case.attributes,
        "axes": {key: axes[key] for key in (*inputs, "value")},
        "models": described({"error": OWN, **models}),
    }
    return Vectors(about, evaluated(function, inputs, case.attributes, cotangent, models))


def _input(name: str, argument: str, seed: int) -> Any:
    """An array for an argument, of numbers that suit it."""
    case, key = CASES[name], f"{name}.{argument}"
    shape = case.shapes[argument]
    if argument == IDS.get(case.op):
        rows = case.shapes["table"][0] if case.op == "embedding" else case.shapes["logits"][-1]
        ids = drawing.below(rows, shape, seed, key)
        if argument == "targets":
            ids.flat[1] = IGNORED
        return ids
    if argument == "mask":
        mask = drawing.below(4, shape, seed, key) > 0
        mask[..., 1, :] = False
        return mask
    draw = {"gain": drawing.gains, "W": drawing.weights}.get(argument, drawing.numbers)
    return draw(shape, seed, key)


def evaluated(
    function: Callable[..., Array],
    inputs: Mapping[str, Any],
    attributes: Mapping[str, Any],
    cotangent: Any,
    models: Mapping[str, Rounding],
) -> dict[str, Nest]:
    """The nest of a case: what its formula gives, how exactly, and the inputs once more."""
    arguments = {**inputs, **attributes}
    ref = reference(function, cotangent=cotangent, **arguments)
    return {
        "value": ref.value,
        "grads": ref.grads,
        **({"intermediates": ref.intermediates} if ref.intermediates else {}),
        "error": by_result(ref.error),
        "allowed": {
            key: by_result(allowed(function, arguments, cotangent, model))
            for key, model in models.items()
        },
        "cotangent": cotangent,
        "inputs": dict(inputs),
    }


def allowed(
    function: Callable[..., Array], arguments: dict[str, Any], cotangent: Any, model: Rounding
) -> dict[str, Any]:
    """How far a kernel of a declared arithmetic may be off, in the value and each gradient."""
    function, arrays = differentiable(function, arguments)
    given = {name: in_format(arguments[name], model.io) for name in arrays}
    known = tolerances(function, arguments, given, in_format(cotangent, model.io), model)
    return {name: x.allowed for name, x in known.items()}


def by_result(errors: Mapping[str, Any]) -> dict[str, Nest]:
    """Errors under the names of the results: "value", and in "grads" all others."""
    return {
        "value": errors["value"],
        "grads": {argument: error for argument, error in errors.items() if argument != "value"},
    }


def described(models: Mapping[str, Rounding]) -> dict[str, Any]:
    """The declared arithmetics, as the manifest has them."""
    return {key: dataclasses.asdict(model) for key, model in models.items()}


def cited(thing: Any) -> dict[str, str]:
    """The formula and where it comes from: title of the docstring, and its sentence with a year."""
    title, *paragraphs = (" ".join(text.split()) for text in thing.__doc__.split("\n\n"))
    sentences = [s for text in paragraphs for s in re.split(r"(?<=\.) (?=[A-Z])", text)]
    source = next(sentence for sentence in sentences if re.search(r"\b(19|20)\d\d\b", sentence))
    return {"formula": title, "citation": source}
