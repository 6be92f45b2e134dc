"""The same question asked in other ways: numbers shuffled, arrays laid out otherwise, edges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinylm.oracle.examples import axes_of, resized

LAYOUTS = ("strided", "transposed", "broadcast")
EDGES = ("length 1", "zero size", "masked row", "nan")
SHORT = 32
"""Edges are looked at with no axis longer than this."""


def shuffled(inputs: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The floats of each array in another order, and the cotangent with other signs and sizes."""
    other = dict(inputs)
    for name, x in inputs.items():
        if np.asarray(x).dtype.kind == "f":
            other[name] = rng.permutation(np.ravel(x)).reshape(np.shape(x))
    factors = rng.choice([-2.0, -1.0, 2.0], np.shape(inputs["cotangent"]))
    return other | {"cotangent": other["cotangent"] * factors}


def repeated(inputs: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first input, and the cotangent, with its first row in the place of all.

    One at a time: where keys are all alike, say, so are their errors, and no model of independent
    ones holds.
    """
    first = next(name for name, x in inputs.items() if np.asarray(x).dtype.kind == "f")
    for name in (first, "cotangent"):
        x = inputs[name]
        if np.ndim(x) > 1 and len(x) > 1:
            yield name, {**inputs, name: np.repeat(x[:1], len(x), axis=0)}


def laid_out(x: Any, layout: str) -> Any:
    """An array of the same numbers, otherwise in memory.

    "strided" has nan between its elements, "transposed" is column by column, "reversed" has a
    negative stride and "read-only" cannot be written into; "broadcast" has stride 0 along its first
    axis if its rows are all equal.
    """
    if layout == "strided" and np.ndim(x) and x.dtype.kind == "f":
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "transposed":
        return np.array(x, order="F")
    if layout == "broadcast" and np.ndim(x) and len(x) > 1 and np.array_equal(x[1:], x[:-1]):
        return np.broadcast_to(x[:1].copy(), x.shape)
    if layout == "reversed" and np.ndim(x):
        return np.array(x[::-1], order="C")[::-1]
    y = np.array(x, order="C")
    y.setflags(write=layout != "read-only")
    return y


def edge(
    inputs: Mapping[str, Any], name: str, shapes: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Label and inputs of each case of an edge; none where it does not apply."""
    if name == "nan":
        first = next(key for key, x in inputs.items() if np.asarray(x).dtype.kind == "f")
        if np.size(inputs[first]):
            x = np.array(inputs[first])
            x.flat[x.size // 2] = np.nan
            yield f"nan in {first}", {**inputs, first: x}
    elif name == "masked row":
        if "mask" in inputs and "Q" in inputs:
            rows = (np.shape(inputs["Q"])[-2], 1)  # of a mask that may have one for all queries
            whole = np.broadcast_shapes(np.shape(inputs["mask"]), rows)
            mask = np.array(np.broadcast_to(inputs["mask"], whole))
            mask[..., :1, :] = False
            yield "a row masked", {**inputs, "mask": mask}
    elif shapes is not None:
        letters = sorted(set("".join(axes_of(shapes).values())) - {"."})
        letters += ["..."] if "..." in shapes else []
        short: Any = dict(inputs)
        for letter in letters:
            short = resized(shapes, short, letter, SHORT) or short
        for letter in letters:
            size = 1 if name == "length 1" else 0
            cut = resized(shapes, short, letter, size)
            if cut is not None:
                yield f"{letter} = {size}", cut
