"""A kernel and the op that it is held to: one question, its answer, and the verdict on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import record
from tinylm.oracle.answers import WrongAnswer, called
from tinylm.oracle.causes import likeliest
from tinylm.oracle.examples import SHAPES, axes_of
from tinylm.oracle.reference import differentiable, in_format, tolerances
from tinylm.oracle.report import Cause, Run
from tinylm.oracle.rounding import Bounded, Rounding
from tinylm.oracle.variants import laid_out
from tinylm.oracle.verdict import Verdict, judge


@dataclass(frozen=True)
class Case:
    """One question to the kernel."""

    label: str
    inputs: Mapping[str, Any]
    layout: str = "C"
    copies: int = 1
    one_row: bool = False
    may_refuse: bool = True

    @property
    def holds_nan(self) -> bool:
        """Whether there is a nan among the inputs."""
        return any(np.isnan(x).any() for x in self.inputs.values() if x.dtype.kind == "f")


@dataclass(frozen=True)
class Subject:
    """A kernel, and what it is held to."""

    kernel: Callable[..., Any]
    function: Any
    title: str
    arrays: list[str]
    attributes: Mapping[str, Any]
    model: Rounding
    shapes: str | None

    @classmethod
    def of(
        cls,
        kernel: Any,
        op: Any,
        inputs: Mapping[str, Any],
        attributes: Mapping[str, Any],
        model: Rounding,
        shapes: str | None,
    ) -> Subject:
        both = inputs.keys() & attributes.keys()
        if both:
            raise ValueError(f"check: {', '.join(both)} is among the inputs and the attributes")
        arguments = {k: x for k, x in inputs.items() if k != "cotangent"} | dict(attributes)
        function, arrays = differentiable(op, arguments)
        title = op if isinstance(op, str) else getattr(op, "__name__", "formula")
        if hasattr(kernel, "declared"):
            kernel = kernel.declared(model.io)
        shapes = shapes if shapes is not None else SHAPES.get(title)
        if shapes is not None:
            axes_of(shapes)  # raises
        return cls(kernel, function, title, arrays, attributes, model, shapes)

    @property
    def axes(self) -> dict[str, str]:
        """The letters of the axes of each tensor, where they are known."""
        return {} if self.shapes is None else axes_of(self.shapes)

    def rounded(self, name: str, x: Any) -> Any:
        """An input as the kernel can be given it."""
        x = np.asarray(x)
        if name in (*self.arrays, "cotangent") and x.dtype.kind not in "biuf":
            raise ValueError(f"check: {name} holds {x.dtype}: wanted real numbers")
        floats = x.dtype.kind == "f" or name in (*self.arrays, "cotangent")
        return in_format(x, self.model.io) if floats else x

    def check_names(self, inputs: Mapping[str, Any]) -> set[str]:
        """See that the model and the shapes name what there is; what can be stored."""
        with record() as seen:
            value = self.expected(inputs)["value"]
        if value.shape != np.shape(inputs["cotangent"]):
            raise ValueError(
                f"check: cotangent has shape {np.shape(inputs['cotangent'])}, and the value has "
                f"{value.shape}"
            )
        for what, given, known in (
            ("Rounding: stores", self.model.stores, seen),
            ("Rounding: tensors", self.model.tensors, ("value", *self.arrays)),
            ("check: shapes", self.axes if self.title not in SHAPES else (), (*inputs, "value")),
        ):
            unknown = set(given) - set(known)
            if unknown:
                raise ValueError(
                    f"{what} names {min(unknown)!r}: wanted some of {', '.join(known)}"
                )
        return set(seen)

    def wider_model(self, case: Case, names: list[str]) -> str:
        """A model that declares more roundings, under which the kernel would be accepted."""
        io = self.model.io
        everywhere = dict.fromkeys(names, io)
        for told, more in (
            (f"accumulate={io!r}", {"accumulate": io}),
            (f"stores={everywhere}", {"stores": everywhere}),
            (f"accumulate={io!r}, stores={everywhere}", {"accumulate": io, "stores": everywhere}),
        ):
            wider = dataclasses.replace(self, model=dataclasses.replace(self.model, **more))
            if wider.model != self.model and (run := wider.run(case)) is not None and run.ok:
                return told
        return ""

    def run(self, case: Case) -> Run | None:
        """One call, judged; None if the op itself is not defined there."""
        try:
            expected = self.expected(case.inputs)
        except Exception:
            if case.may_refuse:
                return None
            raise
        try:
            got, problem = self.answer(case.inputs, case.layout)
        except Exception as error:
            if not case.may_refuse:
                raise
            if isinstance(error, WrongAnswer):
                return Run(case.label, problem=str(error))
            return Run(case.label, note=f"refused, {type(error).__name__}: {error}")
        verdicts = [
            _judged(name, got[name], x, self.axes.get(name, ""), case)
            for name, x in expected.items()
        ]
        return Run(case.label, tuple(verdicts), problem)

    def expected(self, inputs: Mapping[str, Any]) -> dict[str, Bounded]:
        """Value and gradients, and what a kernel may be off."""
        with np.errstate(all="ignore"):
            return tolerances(self.function, *self.split(inputs), self.model)

    def split(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """All arguments of the op, the differentiable ones, and the cotangent."""
        arguments = {**inputs, **self.attributes}
        cotangent = arguments.pop("cotangent")
        return arguments, {name: arguments[name] for name in self.arrays}, cotangent

    def answer(self, inputs: Mapping[str, Any], layout: str = "C") -> tuple[dict[str, Any], str]:
        """What the kernel gives, and what it did to its inputs."""
        dtype = {"f64": np.float64, "f16": np.float16}.get(self.model.io, np.float32)
        handed = {
            name: laid_out(x.astype(dtype) if x.dtype.kind == "f" else x, layout)
            for name, x in inputs.items()
        }
        before = {name: x.tobytes() for name, x in handed.items()}
        cotangent = handed.pop("cotangent")
        value, grads = called(self.kernel, handed, cotangent, self.arrays)
        handed["cotangent"] = cotangent
        written = [name for name, x in handed.items() if x.tobytes() != before[name]]
        problem = f"it wrote into {', '.join(written)}" if written else ""
        return {"value": value, **grads}, problem

    def repeats(self, inputs: Mapping[str, Any]) -> bool:
        """Whether two calls give the same bits."""
        first, second = (self.answer(inputs)[0] for _ in range(2))
        return all(first[name].tobytes() == second[name].tobytes() for name in first)

    def causes(self, case: Case) -> tuple[Cause, ...]:
        """What would explain the errors."""
        plain = dataclasses.replace(case, layout="C")
        if case.layout != "C" and (run := self.run(plain)) is not None and run.ok:
            text = f"it reads {case.layout} arrays as if they were contiguous"
            return (Cause(text, 1.0, 1.0),)
        got, _ = self.answer(case.inputs)
        expected = self.expected(case.inputs)
        if any(np.shape(got[name]) != x.shape for name, x in expected.items()):
            return ()
        with np.errstate(all="ignore"):
            return likeliest(self.function, *self.split(case.inputs), expected, got, self.axes)


def _judged(name: str, got: Any, expected: Bounded, axes: str, case: Case) -> Verdict:
    """The verdict on a tensor; where a nan is expected a number is no error, but one nan must be.

    Where the inputs hold a nan, what stands behind a mask may be expected and yet have no error that
    is known: there, too, a kernel may have a nan or a number.

    Where rows are copies their errors are, too, and a sum of n of them has up to sqrt(n) times the
    error of independent ones. Where an axis has length 1 there may be a single row, whose elements
    share the error of its normalizer: each is judged, and not what they have in common.
    """
    nan, allowed = np.isnan(expected.value), math.sqrt(case.copies) * expected.allowed
    lost = nan | np.isnan(allowed) if case.holds_nan else nan
    apart = expected.undecided | case.one_row
    told: dict[str, Any] = {"axes": axes, "io": expected.model.io, "apart": apart}
    if not np.any(lost) or np.shape(got) != lost.shape:
        return judge(name, got, expected.value, allowed, **told)
    known = [np.where(lost, 0.0, x) for x in (got, expected.value, allowed)]
    verdict = judge(name, *known, **told)
    if not np.any(nan) or np.any(np.isnan(got[nan])):
        return verdict
    return dataclasses.replace(verdict, failures=(*verdict.failures, "nan"))
