"""What a check found, as text and as JSON; and the error that carries it."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from tinylm.oracle.rounding import Rounding
from tinylm.oracle.verdict import Verdict


@dataclass(frozen=True)
class Run:
    """One call of the kernel, judged.

    Parameters
    ----------
    label : str
        How its inputs came about: "as given", "shuffled 1", "strided", "T = 1".
    verdicts : tuple of Verdict
        One for the value and one for each gradient; none if the kernel gave nothing.
    problem : str
        What is wrong besides: an input that was written into, an answer that is none.
    note : str
        What is to be known and is no failure: why a kernel refused.
    """

    label: str
    verdicts: tuple[Verdict, ...] = ()
    problem: str = ""
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem and all(verdict.ok for verdict in self.verdicts)


@dataclass(frozen=True)
class Cause:
    """A mistake that would explain the error.

    Parameters
    ----------
    text : str
    share : float
        The share of the error's sum of squares that it explains.
    amount : float
        How much of the mistake was made: 1 is all of it.
    """

    text: str
    share: float
    amount: float

    def __str__(self) -> str:
        text = self.text
        if "{amount}" in text:
            way = "large" if self.amount > 0 else "small"
            text = text.format(amount=f"{_percent(abs(self.amount))} too {way}")
        elif abs(self.amount - 1) >= 0.02:
            text = f"{text}, {_percent(self.amount)} of it"
        return f"{text} (explains {100 * self.share:.1f}% of the error)"


@dataclass(frozen=True)
class Report:
    """What a check of a kernel found.

    Parameters
    ----------
    op : str
    rounding : Rounding
    runs : tuple of Run
        The first is that of the inputs as they were given.
    power : float
        The relative error that has to be seen in every tensor.
    repeatable : bool
        Whether the kernel gave the same bits twice.
    problems : tuple of str
        What is wrong with the check as a whole: it sees too little, it is not repeatable.
    causes : tuple of Cause
        The likeliest first.
    hint : str
        A model under which the kernel would be accepted as given.
    """

    op: str
    rounding: Rounding
    runs: tuple[Run, ...]
    power: float
    repeatable: bool
    problems: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether the kernel was accepted."""
        return not self.problems and all(run.ok for run in self.runs)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each tensor, for the inputs as they were given."""
        return {verdict.name: verdict for verdict in self.runs[0].verdicts}

    def __str__(self) -> str:
        lines = [f"{self.op}: {'accepted' if self.ok else 'REJECTED'} ({self._model()})"]
        lines += [f"  {problem}" for problem in self.problems]
        wrong = [run for run in self.runs if not run.ok]
        shown = [self.runs[0], *(run for run in wrong[:1] if run is not self.runs[0])]
        for run in shown:
            lines += ["", *_table(run)]
        rest = [run for run in self.runs if run not in shown and not run.note]
        for said, right in (("also rejected", False), ("also accepted", True)):
            labels = [run.label for run in rest if run.ok is right]
            lines += ["", f"{said}: {', '.join(labels)}"] if labels else []
        lines += [f"{run.label}: {run.note} (not held against it)" for run in self.runs if run.note]
        again = "the same bits" if self.repeatable else "other bits"
        lines.append(f"called twice, it gave {again}")
        if self.causes:
            first, *others = map(str, self.causes)
            lines += ["", f"likeliest cause: {first}", *(f"  or: {other}" for other in others)]
        elif any(set(v.failures) - {"shape"} for run in self.runs for v in run.verdicts):
            lines += ["", "likeliest cause: none of the known mistakes explains half of the error"]
        if self.hint:
            lines.append(
                f"or it rounds more than was declared: with {self.hint} it would be accepted"
            )
        return "\n".join(lines)

    def _model(self) -> str:
        model = self.rounding
        stores = ", ".join(f"{label} in {fmt}" for label, fmt in model.stores.items())
        what = "standard deviations" if model.bound == "prob" else "times the worst case"
        return (
            f"io {model.io}, computed in {model.accumulate}{f', stores {stores}' * bool(stores)}; "
            f"allowed: {model.safety:g} {what}"
        )

    def to_json(self) -> str:
        """The report as JSON; numbers that are not finite are strings."""

        def plain(x: Any) -> Any:
            if isinstance(x, float) and not math.isfinite(x):
                return str(x)
            if isinstance(x, dict):
                return {key: plain(value) for key, value in x.items()}
            return [plain(item) for item in x] if isinstance(x, list | tuple) else x

        return json.dumps({"accepted": self.ok, **plain(dataclasses.asdict(self))})


class GradientMismatch(AssertionError):  # noqa: N818  # the name of the contract
    """A kernel was rejected; `report` says why."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


# The table of a run.


def _table(run: Run) -> list[str]:
    if run.problem and not run.verdicts:
        return [f"{run.label}: {run.problem}"]
    columns = ("verdict", "worst", "rms", "gain", "beyond", "sees")
    lines = [f"{run.label:20}" + "".join(f"{column:>12}" for column in columns)]
    for verdict in run.verdicts:
        name = verdict.name if verdict.name == "value" else f"d_{verdict.name}"
        cells = (
            "ok" if verdict.ok else "REJECTED",
            f"{verdict.worst:.3g}",
            f"{verdict.rms:.3g}",
            _percent(verdict.gain),
            _percent(verdict.share),
            _percent(verdict.sees) if verdict.sees < 10 else "nothing",
        )
        lines.append(f"  {name:18}" + "".join(f"{cell:>12}" for cell in cells))
        if not verdict.ok:
            lines += [f"    {line}" for line in _details(verdict)]
    return lines + ([f"  {run.problem}"] if run.problem else [])


def _details(verdict: Verdict) -> list[str]:
    if verdict.failures == ("shape",):
        return [verdict.where]
    worst = f"worst at {verdict.index}: got {verdict.got:.9g}, expected {verdict.expected:.9g}"
    lines = [f"{worst} within {verdict.allowed:.3g}"]
    if verdict.where:
        lines.append(f"beyond what is allowed: {verdict.where}")
    limits = {
        "not finite": "there are numbers that are not finite",
        "rms": "all errors together are too large (rms)",
        "gain": f"all of it is off by {_percent(verdict.gain)} in the mean (gain)",
        "nan": "a nan of the inputs has vanished",
    }
    return lines + [limits[failure] for failure in verdict.failures if failure in limits]


def _percent(x: float) -> str:
    if abs(x) >= 10:
        return f"{x:.2g} times"
    return f"{100 * x:.0f}%" if abs(x) >= 0.1 else f"{100 * x:.2g}%"
