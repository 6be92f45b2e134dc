"""The likeliest cause: the error, regressed on what known mistakes would have made of the gradients.

Every candidate is the formula itself with one mistake: a named intermediate whose cotangent is
dropped, doubled, transposed or rounded, an argument changed (no scale, a mask that is one off), two
gradients swapped, a sum over repeated heads left out. If d is what the mistake changes and e the
error, both in units of the allowed error, then ``<e, d> / <d, d>`` is how much of the mistake was
made, and its share of ``<e, e>`` says how well that explains what is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinylm.oracle.mistakes import Mistake, Program, Tensors, mistakes
from tinylm.oracle.report import Cause
from tinylm.oracle.rounding import Bounded
from tinylm.oracle.verdict import judge, located, rms_limit

SHOWN = 3
"""How many causes are told at most."""

LEAST = 0.5
"""The share of the error that a cause must explain to be told."""


def likeliest(
    function: Any,
    inputs: dict[str, Any],
    given: dict[str, Any],
    cotangent: Any,
    expected: Mapping[str, Bounded],
    got: Mapping[str, Any],
    axes: Mapping[str, str],
) -> tuple[Cause, ...]:
    """The mistakes that explain the error best; none if none explains half of it."""
    model = next(iter(expected.values())).model
    program = Program(function, inputs, given, cotangent, model.stores)
    right = {name: x.value for name, x in expected.items()}
    errors = _Errors(right, got, {name: x.allowed for name, x in expected.items()})
    if not errors.total:
        return ()
    found = [
        cause
        for mistake in (*mistakes(program, right), *errors.in_regions(axes))
        for cause in errors.explained_by(mistake)
        if cause.share >= LEAST
    ]
    found.sort(key=_rank, reverse=True)
    return tuple({cause.text: cause for cause in reversed(found)}.values())[::-1][:SHOWN]


def _rank(cause: Cause) -> float:
    """Of two that explain as much, the one that needs no amount, and then the one made first."""
    fitted = cause.amount != 1 or "{amount}" in cause.text
    return round(cause.share - 0.02 * fitted, 5)


class _Errors:
    """The errors of all tensors, in units of what is allowed."""

    def __init__(self, right: Tensors, got: Mapping[str, Any], allowed: Tensors) -> None:
        self.right, self.allowed = right, allowed
        self.error = {name: self._unit(name, got[name]) for name in right}
        self.failing = [
            name for name in right if not judge(name, got[name], right[name], allowed[name]).ok
        ]

        self.total = sum(float(np.sum(self.error[name] ** 2)) for name in self.failing)

    def _unit(self, name: str, x: Any) -> Any:
        """How far x is from what is right, in units of what is allowed."""
        allowed = self.allowed[name]
        counted = (allowed > 0) & np.isfinite(allowed)
        unit = np.where(counted, allowed, np.max(allowed, initial=0.0, where=counted) or 1.0)
        off = (x - self.right[name]) / unit
        return np.where(np.isfinite(off), off, 0.0)

    def explained_by(self, mistake: Mistake) -> Iterator[Cause]:
        """The mistake as a cause: as a whole, on the way back only, and in one gradient only."""
        made = {name: self._unit(name, x) for name, x in mistake.tensors.items()}
        made = {name: d for name, d in made.items() if np.any(d)}
        back = {name: d for name, d in made.items() if name != "value"}
        parts = [(mistake.text, made)]
        if mistake.divisible and len(back) < len(made):
            parts.append((f"on the way back, {mistake.text}", back))
        if mistake.divisible and len(made) > 1:
            parts += [
                (f"in the gradient of {name}, {mistake.text}", {name: back[name]}) for name in back
            ]
        for text, part in parts:
            if part and set(part) <= set(self.failing):
                share, amount = self._fit(part, graded=mistake.graded)
                if "{amount}" in text or -1 <= amount <= 1:
                    yield Cause(text, share, amount)

    def _fit(self, made: Tensors, *, graded: bool) -> tuple[float, float]:
        """The share that a mistake explains of the errors in what fails, and how much of it."""

        def dot(a: Tensors, b: Tensors) -> float:
            return float(sum(np.sum(a[name] * b[name]) for name in a.keys() & b.keys()))

        along, size = dot(made, self.error), dot(made, made)
        whole, part = (2 * along - size) / self.total, along * along / size / self.total
        if not graded or whole > part - 0.02:
            return whole, 1.0
        return part, along / size

    def in_regions(self, axes: Mapping[str, str]) -> Iterator[Mistake]:
        """A tensor that is wrong in a part only: a block, a head, a row."""
        for name in self.failing:
            error, x = self.error[name], self.right[name]
            inside = np.ones(x.shape, dtype=bool)
            for axis in range(x.ndim):
                others = tuple(i for i in range(x.ndim) if i != axis)
                rms = np.sqrt(np.mean(error * error, axis=others, keepdims=True))
                wrong = np.flatnonzero(rms > rms_limit(x.size // x.shape[axis]))
                if wrong.size and wrong[-1] - wrong[0] < 2 * wrong.size:
                    places = np.arange(x.shape[axis])
                    near = (places >= wrong[0]) & (places <= wrong[-1])
                    inside &= np.reshape(near, rms.shape)
            if np.any(inside) and not np.all(inside):
                where = f"{_of(name)} where {located(inside, axes.get(name, ''))}"
                yield Mistake(f"{where} is zero", {name: np.where(inside, 0, x)}, graded=False)
                yield Mistake(
                    f"{where} has the wrong sign", {name: np.where(inside, -x, x)}, graded=False
                )
                yield Mistake(f"{where} is {{amount}}", {name: np.where(inside, 2 * x, x)})


def _of(name: str) -> str:
    return "the value" if name == "value" else f"the gradient of {name}"
