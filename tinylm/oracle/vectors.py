"""Golden vectors: what every op gives at fixed inputs, in files for programs in any language.

`docs/golden-vectors.md` describes the format. The manifest is written last, and an earlier one is
deleted first, so that a folder with a manifest is whole.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.autograd import trees
from tinylm.files import write_atomically
from tinylm.oracle.cases import CASES, Vectors, vectors_of
from tinylm.oracle.vector_files import KINDS, Stored, plain, read, write
from tinylm.version import __version__

LAYOUT = "tinylm golden vectors 1"
MANIFEST = "manifest.json"

HIGHER = {"gpt": "tinylm.golden"}
"""Cases of rooms above the oracle, which is loaded without them."""

OPS = tuple(dict.fromkeys([*(case.op for case in CASES.values()), *HIGHER]))

JSON_LIMIT = 2500
"""A case of more numbers is not written as JSON."""

_LIST = re.compile(r"\[\n[^][{}]*\n *\]")
"""A list of numbers in JSON, which is to stand on one line."""

DIGITS = 2.0**-40
"""How much of a tensor's largest number an intermediate, an error or an allowed error may differ by
from one machine to another; of the results it is the error itself that tells."""


def export(
    directory: str | os.PathLike[str],
    ops: Iterable[str] | None = None,
    formats: Iterable[str] = KINDS,
    seed: int = 0,
) -> dict[str, Any]:
    """Write golden vectors: inputs, values, gradients, intermediates, errors and what is allowed.

    Parameters
    ----------
    directory : str or path
        A new folder, an empty one, or one with an earlier export, which is replaced.
    ops : iterable of str, optional
        Names of ops of tinylm, or "gpt": a small model with one step of AdamW. All if not given.
    formats : iterable of {"npz", "safetensors", "json"}
        JSON, with hexadecimal floats, for small cases only.
    seed : int
        Another seed, other inputs.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ValueError
        If there is no such op or format, or the folder holds anything else.
    OSError
        If the files cannot be written.

    Examples
    --------
    >>> import tempfile, tinylm as tl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = tl.oracle.export(folder, ops=["relu"], formats=["npz", "json"])
    ...     tl.oracle.verify(folder)
    >>> manifest["cases"]["relu"]["tensors"]["grads.x"]
    {'dtype': 'float64', 'shape': [3, 11], 'strides': [11, 1]}
    """
    names, settings = _asked(ops, formats, seed)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _clear(directory)
    cases = {}
    for name in names:
        vectors = _vectors(name, seed)
        files = _file_names(name, vectors, settings["formats"])
        for file in files:
            write(directory / file, vectors.tensors)
        if files:
            sums = {file: _sha256((directory / file).read_bytes()) for file in files}
            cases[name] = {**_entry(vectors), "files": sums}
    if not cases:
        raise ValueError(
            f"export: formats={settings['formats']}: no case of {', '.join(settings['ops'])} has as "
            f"few as {JSON_LIMIT} numbers: wanted npz or safetensors, too"
        )
    manifest = {"layout": LAYOUT, "version": __version__, **settings, "cases": cases}
    write_atomically(directory / MANIFEST, [_encoded(manifest)])
    return manifest


def verify(directory: str | os.PathLike[str]) -> None:
    """Whether a folder holds what was exported, and that is what this machine computes.

    Every file has to be there with the sha256 of the manifest, and nothing else. Inputs are drawn
    again and have to be equal; values and gradients are computed again and have to agree within
    the errors of both.

    Parameters
    ----------
    directory : str or path

    Raises
    ------
    ValueError
        If anything is wrong; the message names the files.
    OSError
        If the folder cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile, tinylm as tl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tl.oracle.export(folder, ops=["relu"], formats=["npz"])
    ...     _ = pathlib.Path(folder, "relu.npz").write_bytes(b"")
    ...     tl.oracle.verify(folder)
    Traceback (most recent call last):
        ...
    ValueError: .../relu.npz: its sha256 is not that of the manifest
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    problems = list(_problems(directory, manifest))
    if problems:
        first, others = "; ".join(problems[:5]), len(problems) - 5
        of = manifest.get("version")
        raise ValueError(
            first
            + (f"; and {others} more" if others > 0 else "")
            + (f" (made by tinylm {of}, and this is {__version__})" if of != __version__ else "")
        )


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of golden vectors.

    Raises
    ------
    ValueError
        If it is none, or does not have the sha256 that it carries.
    OSError
        If there is none.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: wanted a folder of golden vectors")
    raw = path.read_bytes()
    try:
        manifest = json.loads(raw)
        manifest.pop("sha256")
        mine = manifest["layout"] == LAYOUT
        mine &= all(isinstance(case["files"], dict) for case in manifest["cases"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        mine = False
    if not mine:
        raise ValueError(f"{path}: not a manifest of {LAYOUT!r}")
    if raw != _encoded(manifest):
        raise ValueError(f"{path}: its sha256 is not that of what it says")
    return manifest  # type: ignore[no-any-return]


def golden_tensors(directory: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a case of the manifest, by name."""
    file = min(entry["files"], key=lambda file: file.endswith(".json"))
    if _sha256((directory / file).read_bytes()) != entry["files"][file]:
        raise ValueError(f"{directory / file}: its sha256 is not that of the manifest")
    return {name: stored.array for name, stored in read(directory / file).items()}


# What is asked for, and where it goes.


def _asked(ops: Any, formats: Any, seed: Any) -> tuple[list[str], dict[str, Any]]:
    """The cases to be written, and the settings as the manifest has them."""
    settings = {
        "seed": seed,
        "ops": _some("ops", OPS if ops is None else ops, OPS),
        "formats": _some("formats", formats, KINDS),
    }
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"export: {seed=}: wanted a whole number, at least 0")
    settings["seed"] = int(seed)
    names = [name for name, case in CASES.items() if case.op in settings["ops"]]
    return names + [name for name in HIGHER if name in settings["ops"]], settings


def _some(what: str, given: Any, known: tuple[str, ...]) -> list[str]:
    names = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else []
    if not names or any(name not in known for name in names):
        raise ValueError(f"export: {what}={names or given!r}: wanted some of {', '.join(known)}")
    return [name for name in known if name in names]


def _clear(directory: Path) -> None:
    """Delete an earlier export, its manifest first; nothing if there is anything else."""
    there = {path.name for path in directory.iterdir()}
    if not there:
        return
    try:
        cases = read_manifest(directory)["cases"]
    except (OSError, ValueError):
        raise ValueError(
            f"{directory} is not empty, and holds no whole export: wanted a new or an empty folder"
        ) from None
    files = {file for entry in cases.values() for file in entry["files"]}
    if others := there - files - {MANIFEST}:
        raise ValueError(f"{directory} holds {min(others)} besides an earlier export: move it away")
    (directory / MANIFEST).unlink()
    for file in there & files:
        (directory / file).unlink()


def _vectors(name: str, seed: int) -> Vectors:
    if name in HIGHER:
        return importlib.import_module(HIGHER[name]).vectors(seed)  # type: ignore[no-any-return]
    return vectors_of(name, seed)


def _file_names(name: str, vectors: Vectors, kinds: list[str]) -> list[str]:
    count = sum(np.size(x) for x in trees.leaves(vectors.tensors))
    return [f"{name}.{kind}" for kind in kinds if kind != "json" or count <= JSON_LIMIT]


def _entry(vectors: Vectors) -> dict[str, Any]:
    """What the manifest says of a case, but for its files."""
    tensors = {
        name: {
            "dtype": x.dtype.name,
            "shape": list(x.shape),
            "strides": [n // x.itemsize for n in x.strides],
        }
        for name, x in trees.paths(plain(vectors.tensors))
    }
    return {**vectors.about, "tensors": tensors}


def _encoded(manifest: dict[str, Any]) -> bytes:
    """The manifest as bytes, with the sha256 of what it would be without."""

    def text(content: dict[str, Any]) -> bytes:
        lines = json.dumps(content, indent=1, sort_keys=True)
        return (_LIST.sub(lambda found: " ".join(found[0].split()), lines) + "\n").encode()

    return text({**manifest, "sha256": _sha256(text(manifest))})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# What is wrong with a folder.


def _problems(directory: Path, manifest: dict[str, Any]) -> Iterator[str]:
    names, settings = _asked(*(manifest.get(key) for key in ("ops", "formats", "seed")))
    known = {MANIFEST}
    for name in names:
        vectors = _vectors(name, settings["seed"])
        files = _file_names(name, vectors, settings["formats"])
        said = dict(manifest["cases"].get(name, {}))
        sums = said.pop("files", {})
        wanted = json.loads(json.dumps(_entry(vectors) if files else {}))
        for key in sorted(wanted.keys() | said.keys()):
            if wanted.get(key) != said.get(key):
                yield f"{directory / MANIFEST}: {key} of {name} is not what it should be"
        for file in files:
            known.add(file)
            found = _file_problems(directory / file, sums.get(file), vectors)
            if found:
                more = f"; and {len(found) - 1} more of its tensors" if found[1:] else ""
                yield f"{directory / file}: {found[0]}{more}"
    for name in sorted(manifest["cases"].keys() - set(names)):
        yield f"{directory / MANIFEST}: there is no case {name!r} of these ops"
    for path in sorted(directory.iterdir()):
        if path.name not in known:
            yield f"{path}: not in the manifest"


def _file_problems(path: Path, sha256: str | None, vectors: Vectors) -> list[str]:
    if not path.is_file():
        return ["missing"]
    if _sha256(path.read_bytes()) != sha256:
        return ["its sha256 is not that of the manifest"]
    return list(_differences(read(path), dict(trees.paths(plain(vectors.tensors)))))


def _differences(got: dict[str, Stored], wanted: dict[str, Any]) -> Iterator[str]:
    """How the tensors of a file differ from those computed here."""
    if got.keys() != wanted.keys():
        yield f"the tensors {', '.join(sorted(got.keys() ^ wanted.keys()))}: in one of both only"
        return
    for name in sorted(wanted, key=lambda name: not _is_drawn(name)):
        array, x = got[name].array, wanted[name]
        if array.dtype != x.dtype or array.shape != x.shape:
            yield f"{name}: it is {array.dtype} of shape {array.shape}, not {x.dtype} of {x.shape}"
        elif _is_drawn(name) and array.tobytes() != x.tobytes():
            yield f"{name}: not what the seed draws"
        elif not _is_drawn(name):
            error = wanted.get(f"error.{name}")
            margin = DIGITS * np.max(np.abs(x), initial=0.0) if error is None else 2 * error
            off = np.abs(array - x)
            if not np.all(off <= margin):
                yield f"{name}: up to {np.max(off):.3g} from what is computed here"


def _is_drawn(name: str) -> bool:
    """Whether the seed alone determines a tensor, to the last bit."""
    return name == "cotangent" or name.startswith("inputs.")
