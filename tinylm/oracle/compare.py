"""The comparison of what a program in another language computed with golden vectors, file by file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.oracle.cases import NUMBER_FORMATS
from tinylm.oracle.vector_files import KINDS, NUMBER_FORMAT_OF, Stored, read
from tinylm.oracle.vectors import MANIFEST, golden_tensors, read_manifest
from tinylm.oracle.verdict import Verdict, judge


@dataclass(frozen=True)
class Judged:
    """One tensor of a case, and the format as a kernel of which it was judged.

    Parameters
    ----------
    case, io : str
    verdict : Verdict
    """

    case: str
    io: str
    verdict: Verdict

    def __str__(self) -> str:
        verdict = self.verdict
        said = f"{self.case}: {verdict.name} as {self.io}: {', '.join(verdict.failures) or 'ok'}"
        if math.isnan(verdict.expected):
            return f"{said}: {verdict.where}"
        return (
            f"{said}: at {verdict.index} got {verdict.got:.9g}, expected {verdict.expected:.9g}, "
            f"allowed {verdict.allowed:.3g}{f' ({verdict.where})' if verdict.where else ''}"
        )


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; as text, a table.

    Parameters
    ----------
    judged : tuple of Judged
    missing : tuple of str
        Cases of the golden vectors of which there was no file.
    """

    judged: tuple[Judged, ...]
    missing: tuple[str, ...]

    @property
    def failed(self) -> tuple[Judged, ...]:
        """The tensors that were rejected."""
        return tuple(item for item in self.judged if not item.verdict.ok)

    @property
    def ok(self) -> bool:
        """Whether none was."""
        return not self.failed

    def __str__(self) -> str:
        rows = [("case", "tensor", "format", "verdict", "worst", "rms", "sees")]
        rows += [
            (
                item.case, item.verdict.name, item.io, "ok" if item.verdict.ok else "REJECTED",
                f"{item.verdict.worst:.2g}", f"{item.verdict.rms:.2g}", f"{item.verdict.sees:.1e}",
            )
            for item in self.judged
        ]  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        left = "<<<<>>>"
        lines = [
            "  ".join(f"{word:{left[i]}{widths[i]}}" for i, word in enumerate(row)).rstrip()
            for row in rows
        ]
        if self.missing:
            lines += [
                "",
                f"not compared, since there is no file of them: {', '.join(self.missing)}",
            ]
        return "\n".join(lines)


def compare(
    golden: str | os.PathLike[str], got: str | os.PathLike[str], io: str | None = None
) -> Comparison:
    """Judge what another program computed from the inputs of golden vectors.

    Parameters
    ----------
    golden : str or path
        The folder of `export`.
    got : str or path
        A folder with a file for each case that was computed, ``CASE.safetensors``, ``CASE.npz`` or
        ``CASE.json``, and in it every result of that case: "value", "grads.Q" and so on.
    io : {"f32", "f16", "bf16"}, optional
        The format of the kernel, whose errors are allowed; that of each tensor's dtype if not
        given.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If a folder or a file is not what it should be; the message names it.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile, numpy as np, tinylm as tl
    >>> with tempfile.TemporaryDirectory() as golden, tempfile.TemporaryDirectory() as got:
    ...     _ = tl.oracle.export(golden, ops=["relu"], formats=["npz"])
    ...     vectors = np.load(f"{golden}/relu.npz")
    ...     x, c = (vectors[name].astype(np.float32) for name in ("inputs.x", "cotangent"))
    ...     np.savez(f"{got}/relu.npz", **{"value": np.maximum(x, 0), "grads.x": c * (x > 0)})
    ...     tl.oracle.compare(golden, got).ok
    True
    """
    golden, got = Path(golden), Path(got)
    if io is not None and io not in NUMBER_FORMATS:
        raise ValueError(f"compare: {io=}: wanted {', '.join(NUMBER_FORMATS)}")
    cases = read_manifest(golden)["cases"]
    files = _files(got, cases)
    judged: list[Judged] = []
    for case, path in files.items():
        wanted = golden_tensors(golden, cases[case])
        judged += _judged(case, path, wanted, cases[case]["axes"], io)
    return Comparison(tuple(judged), tuple(case for case in cases if case not in files))


def _files(got: Path, cases: Mapping[str, Any]) -> dict[str, Path]:
    """The file of each case in a folder."""
    found: dict[str, Path] = {}
    if (got / MANIFEST).exists():
        raise ValueError(
            f"{got} holds golden vectors: wanted a folder with results of your program"
        )
    for path in sorted(got.iterdir()):
        if path.suffix[1:] not in KINDS:
            continue
        if path.stem not in cases:
            raise ValueError(f"{path}: no such case among the golden vectors: {', '.join(cases)}")
        if path.stem in found:
            raise ValueError(f"{got} holds {found[path.stem].name} and {path.name}: wanted one")
        found[path.stem] = path
    if not found:
        raise ValueError(f"{got} holds no results: wanted a file such as {min(cases)}.safetensors")
    return {case: found[case] for case in cases if case in found}


def _judged(
    case: str, path: Path, wanted: Mapping[str, Any], axes: Mapping[str, str], io: str | None
) -> list[Judged]:
    """The verdict on every result of a case."""
    results = [name[len("error.") :] for name in wanted if name.startswith("error.")]
    tensors = read(path)
    if unknown := sorted(tensors.keys() - set(results)):
        raise ValueError(f"{path} holds {unknown[0]!r}: wanted {', '.join(results)}")
    judged = []
    for name in results:
        if name not in tensors:
            gone = Verdict(name, ("missing",), math.inf, where=f"not in {path.name}")
            judged.append(Judged(case, io or "-", gone))
            continue
        chosen = _format_of(path, name, tensors[name], io)
        verdict = judge(
            name,
            tensors[name].array,
            wanted[name],
            wanted[f"allowed.{chosen}.{name}"],
            io=chosen,
            axes=axes.get(name.removeprefix("grads."), ""),
        )
        judged.append(Judged(case, chosen, verdict))
    return judged


def _format_of(path: Path, name: str, tensor: Stored, io: str | None) -> str:
    """As a kernel of which format a tensor is judged."""
    own = NUMBER_FORMAT_OF.get(tensor.dtype)
    if own is None:
        raise ValueError(f"{path}: {name} holds {tensor.dtype}: wanted floats")
    if io is None and own not in NUMBER_FORMATS:
        raise ValueError(
            f"{path}: {name} holds {tensor.dtype}: wanted float32, float16 or bfloat16, or to be "
            f"told the format: {', '.join(NUMBER_FORMATS)}"
        )
    return io or own
