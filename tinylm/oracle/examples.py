"""Inputs of every op: the axes that its arguments share, and numbers that excite it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

SHAPES = {
    "softmax": "x:...V -> ...V",
    "log_softmax": "x:...V -> ...V",
    "gelu": "x:... -> ...",
    "relu": "x:... -> ...",
    "silu": "x:... -> ...",
    "linear": "x:...I W:IO b:O -> ...O",
    "embedding": "table:VC ids:... -> ...C",
    "layer_norm": "x:...C gain:C bias:C -> ...C",
    "rms_norm": "x:...C gain:C -> ...C",
    "attention": "Q:...TD K:...SD V:...SE mask:...TS -> ...TE",
    "cross_entropy": "logits:...V targets:... ->",
}
"""One letter an axis; "..." for any number of leading axes, which broadcast."""

IDS = {"embedding": "ids", "cross_entropy": "targets"}
"""Arguments that hold whole numbers below V."""


def axes_of(shapes: str) -> dict[str, str]:
    """The axes of each argument, and under "value" those of the result.

    Raises
    ------
    ValueError
        If the text is not like those of `SHAPES`.
    """
    text = shapes.replace(" ", "")
    if not re.fullmatch(r"(\w+:(\.\.\.)?[A-Za-z]*?)+->(\.\.\.)?[A-Za-z]*", text):
        raise ValueError(f"shapes={shapes!r}: wanted something like {SHAPES['linear']!r}")
    arguments, _, value = shapes.partition("->")
    pairs = [item.split(":") for item in arguments.split()]
    return dict(pairs) | {"value": value.strip()}


def resized(
    shapes: str, arrays: Mapping[str, Any], letter: str, size: int
) -> dict[str, Any] | None:
    """The arrays, cut along an axis to a size; None if none of them has that axis or is so long.

    ``"..."`` stands for the first of the leading axes.
    """
    axes, cut = axes_of(shapes), {}
    for name, x in arrays.items():
        mine = axes.get("value" if name == "cotangent" else name, "")
        own = mine.replace("...", "")
        if letter == "...":
            place = 0 if "..." in mine and np.ndim(x) > len(own) and np.shape(x)[0] > 1 else None
        else:
            place = np.ndim(x) - len(own) + own.index(letter) if letter in own else None
        if place is not None and np.shape(x)[place] > size:
            cut[name] = np.take(x, np.arange(size), axis=place)
    return {**arrays, **cut} if cut else None


def example(
    op: str,
    sizes: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    optional: Collection[str] = (),
    scale: float = 1.0,
) -> dict[str, Any]:
    """Inputs of an op, normal numbers; gains are near one, and weights keep the scale.

    Parameters
    ----------
    op : str
    sizes : mapping of str to int
        The length of each axis; under ``"..."`` a tuple, the leading ones.
    rng : numpy.random.Generator
    optional : collection of str
        Which of "mask" and "b" are given, too.
    scale : float
        Of every array but gains.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.oracle.examples import example
    >>> inputs = example("linear", {"...": (2,), "I": 3, "O": 5}, np.random.default_rng(0))
    >>> {name: x.shape for name, x in inputs.items()}
    {'x': (2, 3), 'W': (3, 5)}
    """
    inputs: dict[str, Any] = {}
    for name, axes in axes_of(SHAPES[op]).items():
        if name == "value" or (name in ("mask", "b") and name not in optional):
            continue
        leading = tuple(sizes.get("...", ())) if "..." in axes else ()
        shape = leading + tuple(sizes[letter] for letter in axes.replace("...", ""))
        if name == IDS.get(op):
            inputs[name] = rng.integers(0, max(sizes["V"], 1), shape)
        elif name == "mask":
            inputs[name] = rng.random(shape) < 0.7
        elif name == "gain":
            inputs[name] = 1 + 0.2 * rng.standard_normal(shape)
        else:
            inputs[name] = scale * rng.standard_normal(shape)
            if name == "W":
                inputs[name] /= np.sqrt(max(shape[0], 1))
    return inputs
