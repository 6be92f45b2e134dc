"""What can be wrong with the arguments of each op: no scale, a mask that is one off, another eps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def scale_of(inputs: dict[str, Any]) -> float:
    """What the scores of attention are multiplied by."""
    scale = inputs.get("scale")
    return 1 / math.sqrt(max(np.shape(inputs["Q"])[-1], 1)) if scale is None else float(scale)


def _of_attention(inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    T = np.shape(inputs["Q"])[-2]
    S = np.shape(inputs["K"])[-2]
    scale = scale_of(inputs)
    mask = inputs.get("mask")
    yield "the scale is missing", {"scale": 1.0}
    yield "the scale is applied twice", {"scale": scale * scale}
    if inputs.get("causal"):
        for shift, text in (
            (1, "the causal mask is off by one: it lets each query see the next key"),
            (-1, "the causal mask is off by one: it hides from each query its own key"),
            (S - T, "the causal mask is aligned with the last key instead of the first"),
        ):
            if shift:
                lower = np.tri(T, S, shift, dtype=bool)
                lower = lower if mask is None else lower & np.asarray(mask)
                yield text, {"causal": False, "mask": lower}
        yield "the causal mask is missing", {"causal": False}
    if mask is not None:
        yield "the mask is missing", {"mask": None}
        yield "the mask is inverted", {"mask": ~np.asarray(mask)}
    if inputs.get("causal") is not True:
        yield "a causal mask is applied", {"causal": True}


def _of_norm(inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "the gain is missing", {"gain": np.ones_like(inputs["gain"])}
    for eps in (0.0, 1e-12, 1e-6, 1e-5, 1e-3):
        if eps != inputs.get("eps", 1e-5):
            yield f"eps is {eps:g}", {"eps": eps}


def _of_softmax(inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    axis = inputs.get("axis", -1)
    for other in range(-np.ndim(inputs["x"]), 0):
        if other != (axis if axis < 0 else axis - np.ndim(inputs["x"])):
            yield f"the axis is {other}", {"axis": other}


def _of_cross_entropy(inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    targets, ignored = np.asarray(inputs["targets"]), inputs.get("ignore_index", -100)
    V = np.shape(inputs["logits"])[-1]
    if np.any(targets == ignored):
        shown = np.where(targets == ignored, 0, targets)
        yield "ignored targets count, as if they were 0", {"targets": shown, "ignore_index": -1}
    if inputs.get("label_smoothing"):
        yield "the targets are not smoothed", {"label_smoothing": 0.0}
    if inputs.get("weights") is not None:
        yield "the weights of the classes are missing", {"weights": None}
    yield (
        "the targets are one off",
        {"targets": np.where(targets == ignored, ignored, (targets + 1) % V)},
    )


def _of_linear(inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if inputs.get("b") is not None:
        yield "the bias is missing", {"b": np.zeros_like(inputs["b"])}
    if np.shape(inputs["W"])[0] == np.shape(inputs["W"])[1]:
        yield "W is transposed", {"W": np.transpose(inputs["W"])}


ARGUMENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "attention": _of_attention,
    "layer_norm": _of_norm,
    "rms_norm": _of_norm,
    "softmax": _of_softmax,
    "log_softmax": _of_softmax,
    "cross_entropy": _of_cross_entropy,
    "gelu": lambda inputs: [("the other form of gelu is computed", {"approximate": not inputs.get("approximate")})],
    "linear": _of_linear,
}  # fmt: skip
"""What can be wrong with the arguments of an op."""
