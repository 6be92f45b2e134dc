"""The search for inputs at which a kernel fails, and the smallest of them as a test."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
import re
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinylm.autograd import Array
from tinylm.oracle.check import check
from tinylm.oracle.formats import FORMATS
from tinylm.oracle.report import GradientMismatch, Report
from tinylm.oracle.rounding import Rounding
from tinylm.oracle.shrinking import smallest
from tinylm.oracle.strategies import MAX_LENGTH, POWERS, axes_of_inputs, inputs
from tinylm.oracle.subject import Case, Subject

SHRINKS = 20
"""How many times as many inputs may be tried to make one smaller as to find it."""

IN_THE_MEAN = {"rms", "gain"}
"""What does not count: of numbers that are nearly alike, means tell nothing."""

BARE: dict[str, Any] = {"power": math.inf, "seeds": 0, "layouts": (), "edges": ()}
"""A check of the inputs as they are, however little it sees."""


@dataclass(frozen=True)
class Failure:
    """The smallest inputs at which a kernel was seen to fail; as text, a test that shows it.

    In the test only the kernel has to be imported.

    Parameters
    ----------
    op : str or callable
    inputs : dict of str to ndarray
    attributes : dict
    rounding : Rounding
    shapes : str or None
    report : Report or Exception
        What the check says of them, or what the kernel raises.
    """

    op: str | Callable[..., Any]
    inputs: Mapping[str, Any]
    attributes: Mapping[str, Any]
    rounding: Rounding
    shapes: str | None
    report: Report | Exception

    def __str__(self) -> str:
        imported, op = "kernel", repr(self.op)
        if not isinstance(self.op, str):
            op = getattr(self.op, "__name__", "formula")
            op = op if op.isidentifier() else "formula"
            imported = f"kernel, {op}"
        shapes = {} if self.shapes is None else {"shapes": self.shapes}
        arguments = {**shapes, **self.attributes, **BARE}
        report = self.report
        summary = type(report).__name__ if isinstance(report, Exception) else str(report)
        lines = [f"    {name!r}: {_literal(x)}," for name, x in self.inputs.items()]
        return "\n".join(
            [
                "import numpy as np",
                "",
                "from tinylm.oracle import Rounding, check",
                "",
                f"# from ... import {imported}",
                "",
                "",
                "def test_kernel():",
                f"    # {summary.splitlines()[0]}",
                "    inputs = {",
                *(_wrapped(line) for line in lines),
                "    }",
                _wrapped(f"rounding = {_literal(self.rounding)}"),
                _wrapped(f"options = {_literal(arguments)}"),
                f"    check(kernel, {op}, inputs, rounding=rounding, **options)",
                "",
            ]
        )


def find_failure(
    kernel: Callable[..., Any],
    op: str | Callable[..., Array],
    *,
    rounding: Rounding | None = None,
    shapes: str | None = None,
    sizes: Mapping[str, Any] | None = None,
    optional: Collection[str] = (),
    powers: tuple[int, int] = POWERS,
    max_length: int = MAX_LENGTH,
    max_examples: int = 100,
    seed: int = 0,
    **attributes: Any,
) -> Failure | None:
    """Look for inputs at which a kernel is rejected, and make them as small as they can be.

    Inputs of many shapes and scales are drawn with hypothesis (the extra `oracle`). At the first
    at which the kernel raises and the op does not, or an element is further off than allowed, axes
    are cut and numbers replaced by zeros and small whole ones, for as long as the same value or
    gradients are wrong, or the same is raised. What only the mean of many errors shows is left to
    `check`.

    Parameters
    ----------
    kernel : callable
        As for `check`.
    op : str or callable
        The name of an op of tinylm, or a formula.
    rounding : Rounding, optional
        What the kernel declares of its arithmetic; float32 in and out if not given.
    shapes, sizes, optional, powers, max_length
        What is drawn, as for `tinylm.oracle.strategies.inputs`. A kernel that wants 64 features and
        as many keys as queries is asked about ``sizes={"D": 64, "E": 64}`` and
        ``shapes="Q:...TD K:...TD V:...TE -> ...TE"``.
    max_examples : int
        How many inputs are tried, and one in twenty of how many smaller ones.
    seed : int
        The same seed finds the same.
    **attributes
        The other arguments of the op, such as ``causal=True``.

    Returns
    -------
    Failure or None
        Printed, a test to be copied.

    Raises
    ------
    ValueError
        If something is unknown, or the op is not defined at any of the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm import oracle
    >>> def kernel(x, cotangent):  # of relu, in blocks of four, and the rest is forgotten
    ...     whole = np.arange(x.size).reshape(x.shape) < x.size // 4 * 4
    ...     return np.maximum(x, 0), {"x": np.where((x > 0) & whole, cotangent, 0)}
    >>> print(oracle.find_failure(kernel, "relu"))
    import numpy as np
    <BLANKLINE>
    from tinylm.oracle import Rounding, check
    <BLANKLINE>
    # from ... import kernel
    <BLANKLINE>
    <BLANKLINE>
    def test_kernel():
        # relu: REJECTED (io f32, computed in f32; allowed: 4 standard deviations)
        inputs = {
            'x': np.array(1.0),
            'cotangent': np.array(1.0),
        }
        rounding = Rounding()
        options = {'power': np.inf, 'seeds': 0, 'layouts': (), 'edges': ()}
        check(kernel, 'relu', inputs, rounding=rounding, **options)
    """
    if max_examples < 1:
        raise ValueError(f"find_failure: {max_examples=}: wanted 1 or more")
    model = rounding or Rounding()
    highest = int(math.log10(FORMATS[model.io].largest)) - 1
    strategy = inputs(
        op,
        shapes=shapes,
        sizes=sizes,
        optional=optional,
        powers=(min(powers[0], highest), min(powers[1], highest)),
        max_length=max_length,
        **attributes,
    )
    search = _Search(kernel, op, model, shapes, attributes, max_examples)
    found = _first(strategy, search, max_examples, seed)
    if found is None:
        return None
    least = search.rounded(found)
    if search.complaints(least):
        axes = axes_of_inputs(op, shapes, optional)
        search.left = SHRINKS * max_examples
        least = smallest(least, axes, model.io, search.fails)
    return Failure(op, least, attributes, model, shapes, search.report(least))


def _first(strategy: Any, search: _Search, max_examples: int, seed: int) -> dict[str, Any] | None:
    """The first inputs drawn at which the kernel fails; made smaller they are elsewhere."""
    import hypothesis

    settings = hypothesis.settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
    )
    try:
        found: _Drawn = hypothesis.find(
            strategy.map(_Drawn),
            lambda drawn: search.fails(drawn.inputs),
            settings=settings,
            random=random.Random(seed),  # noqa: S311
        )
    except hypothesis.errors.Unsatisfiable:
        raise ValueError("find_failure: the op is defined at none of the inputs drawn") from None
    except hypothesis.errors.NoSuchExample:
        return None
    return found.inputs


class _Drawn:
    """Inputs that hypothesis does not print: it warns of long texts."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        self.inputs = inputs


@dataclass
class _Search:
    """A kernel, and what is known of the inputs at which it fails."""

    kernel: Callable[..., Any]
    op: str | Callable[..., Array]
    model: Rounding
    shapes: str | None
    attributes: Mapping[str, Any]
    left: int
    known: dict[bytes, frozenset[str]] = field(default_factory=dict)
    first: frozenset[str] = frozenset()

    def rounded(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs as numbers of the kernel's format."""
        subject = self._subject(inputs)
        return {name: subject.rounded(name, x) for name, x in inputs.items()}

    def _subject(self, inputs: Mapping[str, Any]) -> Subject:
        return Subject.of(self.kernel, self.op, inputs, self.attributes, self.model, self.shapes)

    def fails(self, inputs: Mapping[str, Any]) -> bool:
        """Whether it fails there, and as it did first; False where no more may be tried."""
        told = [f"{name} {x.shape} ".encode() + x.tobytes() for name, x in inputs.items()]
        key = hashlib.sha256(b"".join(told)).digest()
        if key not in self.known:
            if not self.left:
                return False
            self.left -= 1
            self.known[key] = self.complaints(inputs)
        self.first = self.first or self.known[key]
        return bool(self.known[key]) and self.known[key] <= self.first

    def complaints(self, inputs: Mapping[str, Any]) -> frozenset[str]:
        """What is wrong there: names of tensors, or of an exception."""
        run = self._subject(inputs).run(Case("drawn", self.rounded(inputs)))
        if run is None:
            return frozenset()
        names = {verdict.name for verdict in run.verdicts if set(verdict.failures) - IN_THE_MEAN}
        return frozenset(
            names | {text.partition(":")[0] for text in (run.problem, run.note) if text}
        )

    def report(self, inputs: Mapping[str, Any]) -> Report | Exception:
        """What `check` says there."""
        options: dict[str, Any] = {**BARE, "shapes": self.shapes, **self.attributes}
        try:
            report = check(self.kernel, self.op, inputs, rounding=self.model, **options)
        except GradientMismatch as error:
            return error.report
        except Exception as error:  # noqa: BLE001  # whatever a kernel raises
            return error
        problem = "it was rejected at these inputs once, and now it is not"
        return dataclasses.replace(report, problems=(problem,))


# The test.


def _wrapped(line: str) -> str:
    margin = " " * (4 + len(line) - len(line.lstrip()))
    return textwrap.fill(
        line.strip(),
        96,
        initial_indent=margin,
        subsequent_indent=f"{margin}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _literal(x: Any) -> str:
    """Code that gives the very same."""
    if isinstance(x, Mapping):
        return "{" + ", ".join(f"{key!r}: {_literal(value)}" for key, value in x.items()) + "}"
    if isinstance(x, Rounding):
        names = [f.name for f in dataclasses.fields(x)]
        told = [name for name in names if getattr(x, name) != getattr(Rounding(), name)]
        return f"Rounding({', '.join(f'{name}={_literal(getattr(x, name))}' for name in told)})"
    if isinstance(x, np.ndarray):
        numbers = _literal(x.ravel()[:1].tolist())[1:-1]
        if not x.size:
            return f"np.zeros({x.shape}, {x.dtype.name!r})"
        if x.size > 4 and len(np.unique(x)) == 1:
            return f"np.full({x.shape}, {numbers})"
        return f"np.array({_literal(x.tolist())})"
    return repr(x) if isinstance(x, str) else re.sub(r"\b(?<!\.)(inf|nan)\b", r"np.\1", repr(x))
