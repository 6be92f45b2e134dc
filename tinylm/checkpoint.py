"""Checkpoints: a nest of arrays and some metadata in one file, in the safetensors layout.

The layout (https://github.com/huggingface/safetensors): eight bytes with the length of a header,
little-endian; the header, JSON that gives for each tensor its dtype, shape and place in the data,
and under ``__metadata__`` strings; then the data, little-endian and row by row. Nothing in such a
file is ever executed. Ours is written atomically and carries two checksums, the sha256 of the
data and that of the header. `save` and `load` know nests, `save_tensors` and `open_tensors` the
flat names of anybody's file.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.autograd import Nest, trees
from tinylm.files import strict_json, write_atomically

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
NAMES = {np.dtype(dtype): key for key, dtype in DTYPES.items()}
LONGEST_HEADER, MOST = 2**20, 2**15
"""Bytes, and objects and lists, in the header of a file from elsewhere: ten thousand tensors. One
of ours may hold more, such as the tokens of a tokenizer."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read; the message says which file and why."""


def save(path: str | os.PathLike[str], params: Nest, **metadata: Any) -> None:
    """Write a nest of arrays and some metadata to a file, whole or not at all.

    Parameters
    ----------
    path : str or path
    params : dict
        A nest of dicts, lists and arrays. Keys are strings without a dot and not numbers; a tuple
        comes back as a list.
    **metadata
        Whatever JSON can hold.

    Raises
    ------
    CheckpointError
        If the nest or the metadata cannot be held by such a file.
    OSError
        If the file cannot be written; what was there before is still there.

    Examples
    --------
    >>> import tempfile, numpy as np, tinylm as tl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tl.save(f"{folder}/a.safetensors", {"W": np.eye(2)}, steps=3)
    ...     tl.load(f"{folder}/a.safetensors")
    ({'W': array([[1., 0.],
           [0., 1.]])}, {'steps': 3})
    """
    _check_nest(params, "")
    arrays = _as_stored(path, dict(trees.paths(params)))
    try:
        strings = {key: json.dumps(value, allow_nan=False) for key, value in metadata.items()}
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: metadata that JSON cannot hold: {error}") from None
    if not strings.keys().isdisjoint(("sha256", "header_sha256")):
        raise CheckpointError(f"{path}: metadata called sha256 or header_sha256: that is ours")
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(array.tobytes())
    header = {**_places(arrays), "__metadata__": {"sha256": digest.hexdigest(), **strings}}
    header["__metadata__"]["header_sha256"] = _header_digest(header)
    _write(path, header, arrays)


def save_tensors(
    path: str | os.PathLike[str], tensors: dict[str, Any], metadata: dict[str, str]
) -> None:
    """Write arrays under flat names, as they are called elsewhere, without checksums."""
    arrays = _as_stored(path, tensors)
    _write(path, {"__metadata__": metadata, **_places(arrays)}, arrays)


def _as_stored(path: str | os.PathLike[str], tensors: dict[str, Any]) -> dict[str, Any]:
    """The arrays little-endian and row by row; copied only if they are not."""
    arrays = {}
    for key, tensor in tensors.items():
        dtype = np.asarray(tensor).dtype.newbyteorder("<")
        if dtype not in NAMES:
            raise CheckpointError(f"{path}: {key} holds {dtype}: wanted {', '.join(DTYPES)}")
        arrays[key] = np.asarray(tensor, dtype=dtype, order="C")
    return arrays


def _places(arrays: dict[str, Any]) -> dict[str, Any]:
    """What the header says of each array: they stand one after the other."""
    places, offset = {}, 0
    for key, array in arrays.items():
        places[key] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    return places


def _write(path: str | os.PathLike[str], header: dict[str, Any], arrays: dict[str, Any]) -> None:
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    pieces = (array.tobytes() for array in arrays.values())
    write_atomically(path, itertools.chain([len(encoded).to_bytes(8, "little"), encoded], pieces))


def load(path: str | os.PathLike[str]) -> tuple[Nest, dict[str, Any]]:
    """Read a file in the safetensors layout.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    params : dict
        The nest that was saved, its arrays owned by the caller. BF16, which NumPy lacks, comes
        as float32.
    metadata : dict

    Raises
    ------
    CheckpointError
        If the file is damaged or is something else.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile, numpy as np, tinylm as tl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tl.save(f"{folder}/a.safetensors", {"blocks": [{"W": np.ones(2)}]}, note="hello")
    ...     params, metadata = tl.load(f"{folder}/a.safetensors")
    >>> params["blocks"][0]["W"], metadata["note"]
    (array([1., 1.]), 'hello')
    """
    with _told(path):
        header, data = _parsed(_mapped(path))
        _check_digests(header, data)
        strings = header.pop("__metadata__", {})
        tensors = {key: stored.read() for key, stored in _stored(header, data).items()}
        return nested(tensors), {key: _from_json(value) for key, value in strings.items()}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: what the header says of it, and its bytes, not yet read."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    def read(self, dtype: Any = None) -> Any:
        """An array of one's own; BF16, which NumPy lacks, comes as float32."""
        if self.dtype == "BF16":  # the upper half of a float32
            bits = np.frombuffer(self.data, "<u2").astype("<u4")
            array = np.left_shift(bits, 16, out=bits).view("<f4")
        else:
            array = np.frombuffer(self.data, DTYPES[self.dtype])
        own = array.astype(array.dtype if dtype is None else dtype, copy=self.dtype != "BF16")
        return own.reshape(self.shape)


def open_tensors(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """The tensors of a file under their flat names; the header is checked, no data are read.

    Raises
    ------
    CheckpointError
        If the file is damaged or is something else.
    OSError
        If it cannot be read.
    """
    with _told(path):
        header, data = _parsed(_mapped(path), LONGEST_HEADER, MOST)
        header.pop("__metadata__", None)
        return _stored(header, data)


@contextlib.contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a whole checkpoint: {error}") from None


def _mapped(path: str | os.PathLike[str]) -> memoryview:
    """The bytes of a file, which the system reads when they are looked at."""
    with Path(path).open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _parsed(
    raw: memoryview, longest: int | None = None, most: int | None = None
) -> tuple[dict[str, Any], memoryview]:
    if len(raw) < 8:
        raise ValueError(f"{len(raw)} bytes are too few")
    length = int.from_bytes(raw[:8], "little")
    if length > len(raw) - 8:
        raise ValueError(f"the header should have {length} bytes, and {len(raw) - 8} are left")
    if longest is not None and length > longest:
        raise ValueError(f"the header has {length} bytes: wanted at most {longest}")
    header = strict_json(bytes(raw[8 : 8 + length]), most)
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError("the header is not a JSON object")
    return header, raw[8 + length :]


def _stored(header: dict[str, Any], data: memoryview) -> dict[str, Stored]:
    _check_coverage(header, len(data))
    return {key: _tensor(key, entry, data) for key, entry in header.items()}


def _tensor(key: str, entry: dict[str, Any], data: memoryview) -> Stored:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype != "BF16" and dtype not in DTYPES:
        raise ValueError(f"{key:.80} has the dtype {dtype!r:.80}, which is not known here")
    place = f"the shape {shape!r:.80} and the place {begin!r:.40} to {end!r:.40}"
    numbers = isinstance(shape, list) and len(shape) <= 32 and [*shape, begin, end]
    if not numbers or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise ValueError(f"{key:.80} has {place}")
    size = math.prod(shape) * np.dtype(DTYPES["U16" if dtype == "BF16" else dtype]).itemsize
    if end - begin != size:
        raise ValueError(f"{key:.80} needs {size} bytes, and has {place}")
    return Stored(dtype, tuple(shape), data[begin:end])


def _check_coverage(header: dict[str, Any], size: int) -> None:
    """Tensors stand one after the other and fill the data."""
    reached = 0
    for begin, end in sorted(tuple(entry["data_offsets"]) for entry in header.values()):
        if begin != reached:
            raise ValueError(f"the data have a gap or an overlap at byte {min(begin, reached)}")
        reached = end
    if reached != size:
        raise ValueError(f"the data have {size} bytes, and the tensors {reached}")


def _header_digest(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _check_digests(header: dict[str, Any], data: memoryview) -> None:
    """Compare the checksums that the file carries, if any, and take them out of the header."""
    strings = header.get("__metadata__", {})
    expected = strings.pop("header_sha256", None)
    if expected is not None and _header_digest(header) != expected:
        raise ValueError("the header does not have the sha256 that was written with it")
    expected = strings.pop("sha256", None)
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise ValueError("the data do not have the sha256 that was written with them")


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # a file from elsewhere holds plain strings


def _check_nest(nest: Nest, path: str) -> None:
    inside = trees.children(nest)
    if inside is None:
        return
    if not inside or (not path and not isinstance(nest, dict)):
        raise CheckpointError(f"{path or 'params'}: {nest!r}: wanted a dict with something in it")
    for key, child in inside:
        if isinstance(nest, dict) and (
            not isinstance(key, str) or not key or "." in key or key.isdigit() or key[:2] == "__"
        ):
            raise CheckpointError(f"the key {key!r} in {path or 'params'}: wanted a plain name")
        _check_nest(child, f"{path}.{key}" if path else str(key))


def nested(tensors: dict[str, Any]) -> Nest:
    """The nest of the paths: a dict, or a list where the keys are 0, 1, 2, ..."""
    nest: dict[str, Any] = {}
    for path, tensor in tensors.items():
        inside = nest
        *keys, last = path.split(".")
        for key in keys:
            inside = inside.setdefault(key, {})
            if not isinstance(inside, dict):
                raise ValueError(f"{path} stands inside of another tensor")
        if last in inside:
            raise ValueError(f"{path} is a tensor and holds others")
        inside[last] = tensor
    return {key: _with_lists(child) for key, child in nest.items()}


def _with_lists(nest: Nest) -> Nest:
    if not isinstance(nest, dict):
        return nest
    places = [str(i) for i in range(len(nest))]
    if set(nest) == set(places):
        return [_with_lists(nest[place]) for place in places]
    return {key: _with_lists(child) for key, child in nest.items()}
