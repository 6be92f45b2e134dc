"""One model under two sets of names: a family says which tensor of theirs is which of ours.

A family is one small file: how its config.json is read and written, and a table of its tensors.
Both are used in both directions.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.autograd import Nest, trees
from tinylm.checkpoint import Stored, nested
from tinylm.hub.fields import Fields, HubError, HubWarning
from tinylm.nn import normal

FRESH = ("pooler", "head")
"""Parts of our nest that may begin afresh if a directory lacks them: they belong to a task."""

FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """A tensor of theirs, without the prefix of its family, and where it stands in our nest.

    Several paths are matrices that stand side by side in theirs. PyTorch's linear maps multiply
    by the transposed matrix.
    """

    name: str
    paths: tuple[str, ...]
    shape: tuple[int, ...]
    transposed: bool = False

    @property
    def part(self) -> str:
        """The key in our nest under which all of it stands."""
        return self.paths[0].split(".")[0]

    @property
    def their_shape(self) -> tuple[int, ...]:
        """The shape in their file."""
        *leading, last = self.shape
        shape = (*leading, last * len(self.paths))
        return shape[::-1] if self.transposed else shape

    def ours(self, array: Any) -> dict[str, Any]:
        """The arrays of our nest in an array of theirs."""
        array = array.T if self.transposed else array
        parts = np.split(array, len(self.paths), axis=-1) if len(self.paths) > 1 else [array]
        return {
            path: np.ascontiguousarray(part) for path, part in zip(self.paths, parts, strict=True)
        }

    def theirs(self, parts: list[Any]) -> Any:
        """The array of theirs that arrays of our nest make."""
        array = np.concatenate(parts, axis=-1) if len(parts) > 1 else np.asarray(parts[0])
        return array.T if self.transposed else array

    def fresh(self, rng: np.random.Generator, dtype: Any) -> dict[str, Any]:
        """What a part begins with that no file has: gains 1, biases 0, weights of 0.02."""
        (path,) = self.paths
        if path.endswith(".gain"):
            return {path: np.ones(self.shape, dtype)}
        if len(self.shape) == 1:
            return {path: np.zeros(self.shape, dtype)}
        return {path: normal(rng, *self.shape, dtype=dtype)}


@dataclass(frozen=True)
class Family:
    """What Hugging Face calls a model type."""

    model_type: str
    model: type
    architectures: dict[str, str]
    """Their classes and our tasks; the first class of a task is the one that is written."""
    prefix: str
    """Stands before the names of what all tasks share, except in a file without a head."""
    trunk: tuple[str, ...]
    """How those names begin, of which none may be left over."""
    buffers: re.Pattern[str]
    """Names of what is no parameter."""
    read: Callable[[Fields, str], Any]
    """The model that a config.json asks for, for a task."""
    write: Callable[[Any], dict[str, Any]]
    """The config.json of a model."""
    tensors: Callable[[Any], Iterator[Tensor]]
    """The tensors of a model, one after the other: there may be as many layers as a file says."""
    aliases: Callable[[Any], dict[str, str]]
    """Tensors that are the same as others, and may stand in a file a second time."""
    task: Callable[[Any], str]
    """The task of a model."""


def read_params(
    family: Family, model: Any, stored: dict[str, Stored], dtype: Any, folder: Path
) -> Nest:
    """The parameters of a model from the tensors of a directory; all shapes are compared first."""
    found = _under_our_prefix(family, stored, folder)
    for name, original in family.aliases(model).items():
        copy = found.pop(name, None)
        if copy is not None and not _equal(copy, found.setdefault(original, copy)):
            raise HubError(f"{folder}: {name} is not {original}, with which it should be tied")
    present, missing = [], []
    for tensor in family.tensors(model):
        if tensor.name not in found and tensor.part not in FRESH:
            raise HubError(
                f"{folder}: there is no tensor {tensor.name}: wanted the shape {tensor.their_shape}"
            )
        if tensor.name in found:
            present.append((tensor, found.pop(tensor.name)))
        else:
            missing.append(tensor)
    for tensor, entry in present:
        if entry.shape != tensor.their_shape or entry.dtype not in FLOATS:
            raise HubError(
                f"{folder}: {tensor.name} has the dtype {entry.dtype} and the shape "
                f"{entry.shape!r:.80}: wanted {' or '.join(FLOATS)} and {tensor.their_shape}"
            )
    _check_missing(present, missing, folder)
    _check_left_over(family, found, folder)

    arrays: dict[str, Any] = {}
    for tensor, entry in present:
        arrays |= tensor.ours(entry.read(dtype or (None if entry.dtype == "F64" else np.float32)))
    rng = np.random.default_rng(0)
    for tensor in missing:
        arrays |= tensor.fresh(rng, next(iter(arrays.values())).dtype)
    params = nested(arrays)
    return params if "blocks" in params else {**params, "blocks": []}


def _under_our_prefix(family: Family, stored: dict[str, Stored], folder: Path) -> dict[str, Stored]:
    """The tensors without prefix and buffers, and with the names of today."""
    found: dict[str, Stored] = {}
    for name, entry in stored.items():
        short = name.removeprefix(family.prefix)
        short = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", short))
        if short in found:
            raise HubError(f"{folder}: {name:.80} is there twice, under two names")
        if not family.buffers.search(short):
            found[short] = entry
    return found


def _equal(a: Stored, b: Stored) -> bool:
    return a is b or (a.shape == b.shape and np.array_equal(a.read(), b.read()))


def _check_missing(present: list[Any], missing: list[Tensor], folder: Path) -> None:
    """Warn of parts that begin afresh; a part that is there in part is an error."""
    for tensor in missing:
        if any(other.part == tensor.part for other, _ in present):
            raise HubError(f"{folder}: there is no tensor {tensor.name}, though others of its part")
    if not missing:
        return
    if not present or sum(np.prod(t.shape, dtype=float) for t in missing) > sum(
        np.prod(t.their_shape, dtype=float) for t, _ in present
    ):
        raise HubError(f"{folder}: {missing[0].name} is missing, and would be larger than the rest")
    names = ", ".join(tensor.name for tensor in missing)
    warnings.warn(
        f"{folder} has no {names}: freshly initialised, so train it before you use it",
        HubWarning,
        stacklevel=4,
    )


def _check_left_over(family: Family, found: dict[str, Stored], folder: Path) -> None:
    """Warn of what belongs to other tasks; what belongs to the model is an error."""
    for name in found:
        if name.startswith(family.trunk):
            raise HubError(f"{folder}: {name:.80} is no tensor of the model in config.json")
    if found:
        names = ", ".join(list(found)[:20])
        warnings.warn(f"{folder}: not used: {names:.1000}", HubWarning, stacklevel=4)


def write_params(family: Family, model: Any, params: Nest) -> dict[str, Any]:
    """The tensors of a directory from the parameters of a model."""
    leaves = dict(trees.paths(params))
    names = list(family.architectures.values())
    base = family.task(model) == "encoder" and "encoder" in names
    arrays: dict[str, Any] = {}
    for tensor in family.tensors(model):
        parts = []
        for path in tensor.paths:
            leaf = np.asarray(leaves.pop(path, None))
            if leaf.shape != tensor.shape or leaf.dtype.kind != "f":
                raise HubError(
                    f"save_pretrained: params: {path} is of {leaf.dtype} and shape {leaf.shape}: "
                    f"wanted floats of shape {tensor.shape}"
                )
            parts.append(leaf)
        prefix = "" if base or tensor.part == "head" else family.prefix
        arrays[prefix + tensor.name] = tensor.theirs(parts)
    if leaves:
        raise HubError(f"save_pretrained: params: {next(iter(leaves))}: the model has no such leaf")
    return arrays
