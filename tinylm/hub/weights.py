"""The tensors of a directory, in one file or in several with an index; none is read yet."""

from __future__ import annotations

import re
import reprlib
from pathlib import Path

from tinylm.checkpoint import Stored, open_tensors
from tinylm.hub.fields import Fields, HubError, check_regular, reading

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PLAIN_NAME = re.compile(r"\w[\w.-]{0,200}", re.ASCII)
"""A name that cannot lead out of its folder."""


def open_weights(folder: Path) -> dict[str, Stored]:
    """The tensors under the names that the files give them."""
    if (folder / SINGLE).exists() or (folder / SINGLE).is_symlink():
        return _opened(folder / SINGLE)
    if (folder / INDEX).exists():
        return _sharded(folder)
    pickled = folder / "pytorch_model.bin"
    raise HubError(
        f"{folder}: wanted {SINGLE} or {INDEX}"
        f"{', and pytorch_model.bin is a pickle, which is never read' if pickled.exists() else ''}"
    )


def _opened(path: Path) -> dict[str, Stored]:
    with reading(path):
        check_regular(path)
        return open_tensors(path)


def _sharded(folder: Path) -> dict[str, Stored]:
    """Those of all shards; the index and the shards have to say the same."""
    index = Fields.read(folder / INDEX)
    places = index.values.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise index.wrong("weight_map", "an object with the file of each tensor")
    for name, shard in places.items():
        if not isinstance(shard, str) or not PLAIN_NAME.fullmatch(shard):
            raise HubError(
                f"{index.path}: weight_map has {name!r:.80} in {reprlib.repr(shard)}: "
                "wanted the name of a file in the same folder"
            )
    tensors: dict[str, Stored] = {}
    for shard in dict.fromkeys(places.values()):
        for name, stored in _opened(folder / shard).items():
            if places.get(name) != shard:
                raise HubError(
                    f"{folder / shard}: it holds {name:.80}, and {INDEX} has that in "
                    f"{places.get(name)!r:.80}"
                )
            tensors[name] = stored
    for name, shard in places.items():
        if name not in tensors:
            raise HubError(f"{folder / shard}: there is no {name:.80}, which {INDEX} has in it")
    return tensors
