"""The check: a kernel against the op that it claims to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinylm.autograd import Array
from tinylm.oracle.report import GradientMismatch, Report, Run
from tinylm.oracle.rounding import Rounding
from tinylm.oracle.subject import Case, Subject
from tinylm.oracle.variants import EDGES, LAYOUTS, edge, repeated, shuffled


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
    _check_call(kernel, rounding, inputs, power, seeds, layouts, edges)
    subject = Subject.of(kernel, op, inputs, attributes, rounding or Rounding(), shapes)
    given = {name: subject.rounded(name, x) for name, x in inputs.items()}
    names = subject.check_names(given)
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
    hint = subject.wider_model(wrong[0], sorted(names)) if wrong and not causes else ""
    raise GradientMismatch(dataclasses.replace(report, causes=causes, hint=hint))


def _check_call(
    kernel: Any,
    rounding: Any,
    inputs: Mapping[str, Any],
    power: float,
    seeds: int,
    layouts: Sequence[str],
    edges: Sequence[str],
) -> None:
    if not callable(kernel):
        raise TypeError(f"check: kernel is a {type(kernel).__name__}: wanted a callable")
    if not isinstance(inputs, Mapping):
        raise TypeError(f"check: inputs is a {type(inputs).__name__}: wanted a dict of arrays")
    if rounding is not None and not isinstance(rounding, Rounding):
        raise TypeError(f"check: {rounding=}: wanted a tinylm.oracle.Rounding")
    for name, x in inputs.items():
        if hasattr(x, "requires_grad"):
            raise TypeError(f"check: {name} is a {type(x).__name__}: wanted a NumPy array")
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
                f"{power:g} is wanted{why or ': give more rows, or another power='}"
            )
    return problems


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
            yield Case(label, inputs, one_row=name == "length 1")
