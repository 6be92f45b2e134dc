"""The check: a kernel against the op that it claims to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.autograd import Array
from tinylm.oracle.answers import WrongAnswer, called
from tinylm.oracle.causes import likeliest
from tinylm.oracle.examples import SHAPES, axes_of
from tinylm.oracle.reference import differentiable, in_format, tolerances
from tinylm.oracle.report import Cause, GradientMismatch, Report, Run
from tinylm.oracle.rounding import Bounded, Rounding
from tinylm.oracle.variants import EDGES, LAYOUTS, edge, laid_out, repeated, shuffled
from tinylm.oracle.verdict import Verdict, judge


def check(
    kernel: Callable[..., Any],
    op: str | Callable[..., Array],
    inputs: Mapping[str, Any],
    *,
    rounding: Rounding | None = None,
    power: float = 0.02,
    seeds: int = 2,
    layouts: Sequence[str] = LAYOUTS,
    edges: Sequence[str] = EDGES,
    repeatable: bool = False,
    shapes: str | None = None,
    **attributes: Any,
) -> Report:
    """Hold a kernel's value and gradients to those of an op, as far as its precision allows.

    What a kernel of the declared precision may be off, element by element, is computed with the
    formula (`tinylm.oracle.Rounding`). Beside that test stand two that see what no element shows,
    of the root mean square of the errors and of a common gain (`tinylm.oracle.verdict`), and the
    check knows what it would have seen.

    Parameters
    ----------
    kernel : callable
        ``kernel(Q=, K=, V=, cotangent=) -> (value, {"Q": d_Q, "K": d_K, "V": d_V})``, with the
        names of the op. It is handed float64, float16 or float32 arrays (float32 also for formats
        that NumPy lacks, with numbers of that format), and integers and booleans as they are.
    op : str or callable
        The name of an op of tinylm, or a formula: plain NumPy code.
    inputs : mapping of str to array
        The arguments of the kernel; under "cotangent" that of the value.
    rounding : Rounding, optional
        What the kernel declares of its arithmetic; float32 in and out if not given.
    power : float
        The check fails as vacuous if it would not have seen a relative error of this size in the
        value and in each gradient.
    seeds : int
        How often the numbers of each input are shuffled, and the signs of the cotangent drawn
        anew, for another run.
    layouts : sequence of {"strided", "transposed", "broadcast"}
        Other places in memory for the inputs; "broadcast" repeats the first row of the first
        input, and then that of the cotangent, with stride 0.
    edges : sequence of {"length 1", "zero size", "masked row", "nan"}
        Inputs at which kernels break. A nan in an input may spread less far than in the formula,
        but must not vanish. A kernel may refuse a layout or an edge by raising: the report says so.
    repeatable : bool
        Whether other bits in a second call are a failure.
    shapes : str, optional
        The axes of the inputs of a formula, such as ``"x:...C gain:C -> ...C"``, without which
        lengths 0 and 1 are not tried.
    **attributes
        The other arguments of the op, such as ``causal=True``.

    Returns
    -------
    Report

    Raises
    ------
    GradientMismatch
        If the kernel is rejected: an AssertionError, whose `report` names the likeliest cause.
    TypeError, ValueError
        If the check is called wrongly.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm import oracle
    >>> def kernel(x, cotangent):
    ...     y = np.exp(x - x.max(axis=-1, keepdims=True))
    ...     y /= y.sum(axis=-1, keepdims=True)
    ...     return y, {"x": y * (cotangent - (cotangent * y).sum(axis=-1, keepdims=True))}
    >>> x, cotangent = np.random.default_rng(0).standard_normal((2, 16, 50))
    >>> report = oracle.check(kernel, "softmax", {"x": x, "cotangent": cotangent}, edges=["nan"])
    >>> report.ok, report.verdicts["x"].sees < 0.02
    (True, True)
    """
    _check_call(inputs, power, seeds, layouts, edges)
    subject = Subject.of(kernel, op, inputs, attributes, rounding or Rounding(), shapes)
    given = {name: subject.rounded(x) for name, x in inputs.items()}
    cases = _cases(given, seeds, layouts, edges, subject.shapes)
    judged = [(case, run) for case in cases if (run := subject.run(case)) is not None]
    runs = tuple(run for _, run in judged)
    same = subject.repeats(given)
    problems = _blind(runs[0], power, given["cotangent"])
    if repeatable and not same:
        problems.append("called twice with the same inputs, it gave other bits")
    report = Report(subject.title, subject.model, runs, power, same, tuple(problems))
    if report.ok:
        return report
    wrong = [case for case, run in judged if not all(verdict.ok for verdict in run.verdicts)]
    causes = subject.causes(wrong[0]) if wrong else ()
    raise GradientMismatch(dataclasses.replace(report, causes=causes))


def _check_call(
    inputs: Mapping[str, Any],
    power: float,
    seeds: int,
    layouts: Sequence[str],
    edges: Sequence[str],
) -> None:
    if "cotangent" not in inputs:
        raise ValueError(
            f"check: inputs has {', '.join(inputs) or 'nothing'}: wanted 'cotangent', too"
        )
    if not power > 0:
        raise ValueError(f"check: {power=}: wanted a positive number")
    if seeds < 0:
        raise ValueError(f"check: {seeds=}: wanted 0 or more")
    for what, given, known in (("layouts", layouts, LAYOUTS), ("edges", edges, EDGES)):
        unknown = [given] if isinstance(given, str) else set(given) - set(known)
        if unknown:
            raise ValueError(f"check: {what}={given!r}: wanted some of {known}")


def _blind(run: Run, power: float, cotangent: Any) -> list[str]:
    """What the check would not have seen, and why."""
    problems = []
    for verdict in run.verdicts:
        if verdict.sees > power and "shape" not in verdict.failures:
            seen = f"nothing smaller than {verdict.sees:.2g}" if verdict.sees < 1e6 else "nothing"
            constant = np.size(cotangent) > 1 and np.ptp(cotangent) == 0
            why = "; the cotangent is constant: give it random numbers" if constant else ""
            of = "the value" if verdict.name == "value" else f"the gradient of {verdict.name}"
            problems.append(
                f"vacuous: in {of} it would have seen {seen}, relative to what is expected, and "
                f"{power:g} is wanted{why}"
            )
    return problems


@dataclass(frozen=True)
class Case:
    """One question to the kernel."""

    label: str
    inputs: Mapping[str, Any]
    layout: str = "C"
    copies: int = 1
    may_refuse: bool = True


def _cases(
    given: Mapping[str, Any],
    seeds: int,
    layouts: Sequence[str],
    edges: Sequence[str],
    shapes: str | None,
) -> Iterator[Case]:
    yield Case("as given", given, may_refuse=False)
    rng = np.random.default_rng(0)
    for i in range(seeds):
        yield Case(f"shuffled {i + 1}", shuffled(given, rng), may_refuse=False)
    for layout in layouts:
        if layout == "broadcast":
            for name, inputs in repeated(given):
                yield Case(f"{name} broadcast", inputs, layout, copies=len(inputs[name]))
        else:
            yield Case(layout, given, layout)
    for name in edges:
        for label, inputs in edge(given, name, shapes):
            yield Case(label, inputs)


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

    def rounded(self, x: Any) -> Any:
        """An input as the kernel can be given it."""
        return in_format(x, self.model.io) if np.asarray(x).dtype.kind == "f" else np.asarray(x)

    def run(self, case: Case) -> Run | None:
        """One call, judged; None if the op itself is not defined there."""
        try:
            expected = self.expected(case.inputs)
        except (ValueError, TypeError):
            if case.may_refuse:
                return None
            raise
        try:
            got, problem = self.answer(case.inputs, case.layout)
        except WrongAnswer as error:
            return Run(case.label, problem=str(error))
        except Exception as error:
            if case.may_refuse:
                return Run(case.label, note=f"refused, {type(error).__name__}: {error}")
            raise
        verdicts = [
            _judged(name, got[name], x, axes=self.axes.get(name, ""), copies=case.copies)
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


def _judged(name: str, got: Any, expected: Bounded, **told: Any) -> Verdict:
    """The verdict on a tensor; where a nan is expected a number is no error, but one nan must be."""
    lost = np.isnan(expected.value)
    told |= {"io": expected.model.io, "apart": expected.undecided}
    if not np.any(lost) or np.shape(got) != lost.shape:
        return judge(name, got, expected.value, expected.allowed, **told)
    known = [np.where(lost, 0.0, x) for x in (got, expected.value, expected.allowed)]
    verdict = judge(name, *known, **told)
    if np.any(np.isnan(got[lost])):
        return verdict
    return dataclasses.replace(verdict, failures=(*verdict.failures, "nan"))
