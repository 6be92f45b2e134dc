"""Files written whole or not at all, folders that one process holds, JSON that is read strictly."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def write_atomically(path: str | os.PathLike[str], pieces: Iterable[Any]) -> None:
    """Write bytes to a file so that it holds either all of them or what it held before.

    They go to a temporary file beside it, to the disk (fsync), and only then to the name; the
    folder is synced as well, since it is the folder that holds the name.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with contextlib.suppress(OSError):  # Windows does not open folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def held(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder against others that would write into it, where the system can.

    If another holds it already that is an error, or with `wait` a reason to wait. The lock is the system's own (flock): a process that is killed leaves none behind.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ValueError(f"{folder}: another process is training here") from None
        yield
    finally:
        os.close(handle)


def strict_json(data: bytes, most: int | None = None) -> Any:
    """What JSON says, where it says one thing: no name twice, no NaN; else a ValueError.

    With `most`, of not more than so many objects and lists, which are counted before it is read:
    each takes twenty times as much memory as it has bytes.
    """
    if most is not None and data.count(b"{") + data.count(b"[") > most:
        raise ValueError(f"the JSON has more than {most} objects and lists")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once_each,
            parse_constant=_no_number,
        )
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    for name, _ in pairs:
        if name not in result:
            raise ValueError(f"the JSON names {name!r:.80} twice")
        del result[name]
    raise AssertionError("one of them stands there twice")


def _no_number(constant: str) -> Any:
    raise ValueError(f"the JSON holds {constant}, which is no number")
