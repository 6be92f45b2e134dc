"""The three kinds of files in which vectors stand: .npz, .safetensors and .json, named tensors all.

Each is written to the same bytes everywhere: no time, no name of a system, one order of the names.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinylm import checkpoint
from tinylm.autograd import Nest, trees
from tinylm.files import write_atomically

KINDS = ("npz", "safetensors", "json")
"""What the files are called behind the dot."""

NUMBER_FORMAT_OF = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16",
    "F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16",
}  # fmt: skip
"""The number format that a dtype stands for, as NumPy and as safetensors call it."""


class Stored(NamedTuple):
    """A tensor of a file, and the dtype that it has there; bfloat16 is read as float32."""

    array: Any
    dtype: str


def plain(tensors: Nest) -> Nest:
    """The same nest, all of its arrays row by row and of float64, int64 or bool."""
    wide = {"f": "<f8", "i": "<i8", "b": "?"}
    return trees.map_leaves(
        lambda x: np.asarray(x, dtype=wide[np.asarray(x).dtype.kind], order="C"), tensors
    )


def write(path: Path, tensors: Nest) -> None:
    """Write a nest of arrays to a file of the kind that its name says, whole or not at all."""
    tensors = plain(tensors)
    if path.suffix == ".safetensors":
        checkpoint.save(path, tensors)
    elif path.suffix == ".npz":
        write_atomically(path, [_npz(tensors)])
    else:
        write_atomically(path, [_json(tensors)])


def _npz(tensors: Nest) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, array in trees.paths(tensors):
            entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980, and not compressed
            entry.create_system = 3  # also on Windows
            data = io.BytesIO()
            np.lib.format.write_array(data, array, version=(1, 0), allow_pickle=False)
            file.writestr(entry, data.getvalue())
    return archive.getvalue()


def _json(tensors: Nest) -> bytes:
    def entry(array: Any) -> dict[str, Any]:
        floats = array.dtype.kind == "f"
        numbers = [x.hex() for x in array.ravel().tolist()] if floats else array.ravel().tolist()
        return {"dtype": array.dtype.name, "shape": list(array.shape), "data": numbers}

    lines = sorted(
        f"{json.dumps(name)}: {json.dumps(entry(x))}" for name, x in trees.paths(tensors)
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def read(path: Path) -> dict[str, Stored]:
    """The tensors of a file, by name.

    Raises
    ------
    ValueError
        If the file is damaged, or of no known kind.
    OSError
        If it cannot be read.
    """
    readers = {".npz": _from_npz, ".safetensors": _from_safetensors, ".json": _from_json}
    if path.suffix not in readers:
        raise ValueError(f"{path}: wanted a file called {', '.join(f'*.{kind}' for kind in KINDS)}")
    try:
        return dict(readers[path.suffix](path))
    except checkpoint.CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, EOFError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path}: not a whole archive: {error}") from None


def _from_npz(path: Path) -> Iterator[tuple[str, Stored]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            with archive.open(entry) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            yield entry.removesuffix(".npy"), Stored(array, array.dtype.name)


def _from_safetensors(path: Path) -> Iterator[tuple[str, Stored]]:
    tensors, _ = checkpoint.load(path)
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    for name, array in trees.paths(tensors):
        yield name, Stored(array, header[name]["dtype"])


def _from_json(path: Path) -> Iterator[tuple[str, Stored]]:
    for name, entry in json.loads(path.read_text("utf-8")).items():
        dtype, shape, numbers = entry["dtype"], entry["shape"], entry["data"]
        if dtype in ("int64", "bool"):
            array = np.asarray(numbers, dtype=dtype)
        elif dtype in NUMBER_FORMAT_OF:
            array = np.array([float.fromhex(x) if isinstance(x, str) else x for x in numbers], "f8")
        else:
            raise ValueError(f"{name} has the dtype {dtype!r}, which is not known here")
        if array.shape != (math.prod(shape),):
            raise ValueError(f"{name} has {array.size} numbers, and the shape {shape}")
        yield name, Stored(array.reshape(shape), dtype)
