"""Known mistakes, made from the formula itself: what each would turn value and gradients into."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinylm.autograd import patch, record
from tinylm.oracle.formats import FORMATS
from tinylm.oracle.reference import pulled
from tinylm.oracle.wrong_arguments import ARGUMENTS, scale_of

Tensors = dict[str, Any]
"""Under "value" the value, under the name of each input its gradient."""


@dataclass(frozen=True)
class Program:
    """A function at some inputs, to be run with changes.

    Parameters
    ----------
    function : callable
    inputs : dict
        All of its arguments.
    given : dict
        The differentiable ones.
    cotangent : ndarray
    stores : mapping of str to str
        Where rounding is declared, and so is no mistake.
    """

    function: Any
    inputs: dict[str, Any]
    given: dict[str, Any]
    cotangent: Any
    stores: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the op, or of the function."""
        return getattr(self.function, "__name__", "")

    def run(
        self,
        patches: Mapping[str, Callable[[Any], Any]] | None = None,
        *,
        cotangent: Any = None,
        **changed: Any,
    ) -> Tensors:
        """Value and gradients, with intermediates patched and arguments changed."""
        inputs = {**self.inputs, **changed}
        given = {name: inputs[name] for name in self.given}
        cotangent = self.cotangent if cotangent is None else cotangent
        with patch(patches or {}):
            value, grads = pulled(self.function, inputs, given, cotangent, lambda x: x)
        return {"value": value, **grads}

    def names(self) -> dict[str, Any]:
        """The named intermediates and their cotangents."""
        with record() as seen:
            self.run()
        return {label: np.asarray(values[0]) for label, values in seen.items()}


@dataclass(frozen=True)
class Mistake:
    """One thing that can be done wrong.

    Parameters
    ----------
    text : str
    tensors : dict of str to ndarray
        What it makes of some tensors; the others stay as they are.
    graded : bool
        Whether a part of the mistake can be made, 2% of it.
    divisible : bool
        Whether it can be made in some of the tensors only.
    """

    text: str
    tensors: Tensors
    graded: bool = True
    divisible: bool = True


def mistakes(program: Program, right: Tensors) -> Iterator[Mistake]:
    """Every known mistake that can be made with this program."""
    ones = program.run(cotangent=np.ones_like(program.cotangent))
    yield Mistake("the cotangent is taken as ones", ones, graded=False)
    for kind in (_in_gradients, _in_arguments, _in_names, _in_sums):
        yield from kind(program, right)


# Arguments.


def _in_arguments(program: Program, right: Tensors) -> Iterator[Mistake]:
    if program.name in ARGUMENTS:
        for text, changed in ARGUMENTS[program.name](program.inputs):
            yield Mistake(text, program.run(**changed))


# Named intermediates.

FACTORS = {"has the wrong sign": -1.0, "is doubled": 2.0, "is halved": 0.5}

MEANING = {
    "normalizer": "delta, the row sum of softmax's backward",
    "mean": "the mean's share",
    "std": "the variance's share",
    "rms": "the root mean square's share",
    "share": "the slope of Phi",
}
"""What the literature calls a gradient through a name."""


def _in_names(program: Program, right: Tensors) -> Iterator[Mistake]:
    seen = program.names()
    for label, x in seen.items():
        backward = label.startswith("d_")
        if backward:
            of = label[2:]
            means = f" ({MEANING[of]})" if of in MEANING else ""
            without = program.run({label: np.zeros_like})
            yield Mistake(f"the gradient through {of!r} is dropped{means}", without)
            alone = {name: right[name] - without[name] for name in program.given}
            yield Mistake(f"only the gradient through {of!r} is left", alone, graded=False)
            for text, factor in FACTORS.items():
                made = program.run({label: partial(np.multiply, factor)})
                yield Mistake(f"{label!r} {text}", made, graded=False)
                if factor == 2:
                    yield Mistake(f"{label!r} is {{amount}}", made)
        if x.ndim >= 2 and x.shape[-1] == x.shape[-2] > 1:
            yield Mistake(
                f"{label!r} is transposed",
                program.run({label: lambda c: np.swapaxes(c, -1, -2)}),
                graded=False,
            )
        yield from _rounded(program, label)
        if label == "std" and (C := np.shape(program.inputs["x"])[-1]) > 1:
            made = program.run({label: partial(np.multiply, math.sqrt(C / (C - 1)))})
            yield Mistake("the variance is divided by C - 1", made)


def _rounded(program: Program, label: str) -> Iterator[Mistake]:
    declared = FORMATS[program.stores.get(label, "f32")]
    for name in ("tf32", "f16", "bf16", "e4m3", "e5m2"):
        if FORMATS[name].precision < declared.precision:
            yield Mistake(
                f"{label!r} is rounded to {name}",
                program.run({label: FORMATS[name].rounded}),
                graded=False,
            )


# Sums over what was repeated.


def _in_sums(program: Program, right: Tensors) -> Iterator[Mistake]:
    """An input that broadcasts has a sum in its gradient, which a kernel can miss."""
    for name, x in program.given.items():
        for full in {np.shape(y) for y in program.given.values()}:
            shape = _repeated(np.shape(x), full)
            if shape is None:
                continue
            try:
                wide = _unsummed(program, name, np.broadcast_to(x, shape))
            except (ValueError, TypeError):
                continue
            if np.shape(wide) == shape:
                yield from _partial_sums(name, wide, np.shape(x))


def _repeated(shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[int, ...] | None:
    """A shape, repeated along the leading axes of another; None if that changes nothing."""
    if len(shape) == 1 < len(full) and shape[-1] == full[-1]:
        return full  # a bias or a gain: one for every row
    wide = (1,) * (len(full) - len(shape)) + shape
    if len(full) < 3 or len(wide) > len(full):
        return None
    leading = tuple(m if n == 1 else n for n, m in zip(wide[:-2], full[:-2], strict=True))
    return (*leading, *shape[-2:]) if leading != wide[:-2] else None


def _unsummed(program: Program, name: str, wide: Any) -> Any:
    function = getattr(program.function, "formula", program.function)
    defaults = getattr(program.function, "defaults", {})
    inputs = {**defaults, **program.inputs, name: wide}
    _, grads = pulled(function, inputs, {name: wide}, program.cotangent, lambda x: x)
    return grads[name]


def _partial_sums(name: str, wide: Any, shape: tuple[int, ...]) -> Iterator[Mistake]:
    extra = wide.ndim - len(shape)
    axes = tuple(
        axis
        for axis, n in enumerate(wide.shape)
        if axis < extra or (shape[axis - extra] == 1 and n > 1)
    )
    flat = np.moveaxis(wide, axes, range(len(axes)))
    flat = flat.reshape(-1, *flat.shape[len(axes) :])
    for text, part in (
        ("only the first of them counts", flat[0]),
        ("only the last of them counts", flat[-1]),
        ("the mean is taken", np.mean(flat, axis=0)),
        ("half of them are left out", np.sum(flat[: len(flat) // 2], axis=0)),
    ):
        yield Mistake(
            f"the gradient of {name} is not summed over what shares it: {text}",
            {name: part.reshape(shape)},
            graded=False,
        )


# Gradients as a whole.


def _in_gradients(program: Program, right: Tensors) -> Iterator[Mistake]:
    names = list(program.given)
    if len(names) > 1:
        for text, factor in FACTORS.items():
            every = {name: factor * right[name] for name in names}
            yield Mistake(f"every gradient {text}", every, graded=False, divisible=False)
    for name in ["value", *names]:
        x, of = right[name], "the value" if name == "value" else f"the gradient of {name}"
        yield Mistake(f"{of} is {{amount}}", {name: 2 * x})
        for text, factor in _factors(program).items():
            yield Mistake(f"{of} {text}", {name: factor * x}, graded=False)
        if x.ndim >= 2 and x.shape[-1] == x.shape[-2] > 1:
            yield Mistake(f"{of} is transposed", {name: np.swapaxes(x, -1, -2)}, graded=False)
        for axis in range(-min(x.ndim, 2), 0):
            for step in (1, -1):
                text = f"{of} is shifted by {step} along axis {axis}"
                yield Mistake(text, {name: np.roll(x, step, axis)}, graded=False)
    if program.name == "embedding":
        ids = np.reshape(program.inputs["ids"], -1)
        last = np.zeros_like(right["table"])
        last[ids] = np.reshape(program.cotangent, (ids.size, -1))
        yield Mistake(
            "of an id that is there twice only the last one counts", {"table": last}, graded=False
        )
    if program.name == "log_softmax":
        yield Mistake("the probabilities are missing", {"x": program.cotangent + 0.0}, graded=False)
    if program.name == "cross_entropy":
        targets = program.names()["d_log_probabilities"]
        probabilities = {"logits": right["logits"] - targets}
        yield Mistake("the targets are not subtracted", probabilities, graded=False)
        yield Mistake("the probabilities are missing", {"logits": targets}, graded=False)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if np.shape(right[a]) == np.shape(right[b]):
                both = {a: right[b], b: right[a]}
                yield Mistake(f"the gradients of {a} and {b} are swapped", both, graded=False)
                yield Mistake(f"the gradient of {a} is that of {b}", {a: right[b]}, graded=False)
                yield Mistake(f"the gradient of {b} is that of {a}", {b: right[a]}, graded=False)


def _factors(program: Program) -> dict[str, float]:
    factors = {"is zero": 0.0, **FACTORS}
    if program.name == "attention":
        scale = scale_of(program.inputs) or 1.0
        factors |= {"lacks the scale": 1 / scale, "has the scale twice": scale}
    if program.name == "cross_entropy":
        targets = np.asarray(program.inputs["targets"])
        count = np.count_nonzero(targets != program.inputs.get("ignore_index", -100))
        factors |= {
            "is a sum, not a mean": float(count),
            "is divided by all targets": count / max(targets.size, 1),
        }
    return factors
