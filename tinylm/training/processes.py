"""Processes: shards of a batch, computed by several interpreters at the same time.

Threads of one interpreter wait for each other between two NumPy calls, which small models notice.
Processes do not: each has the whole model, and reads the parameters from memory that all of them
share; there it also writes its gradient. Batches and losses go through pipes, pickled: both ends are
ours. (`multiprocessing` would run a user's script again in each process, or ask for its main guard.)
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.threads import ONE_THREAD
from tinylm.training.flat import Flat
from tinylm.training.shards import Shard, shard_gradients

IN_MEMORY = "/dev/shm"
"""Where Linux has files that are never written to a disk."""


class Helper:
    """One more process that computes gradients of a model.

    Parameters
    ----------
    model : object with ``loss(params, ids, targets)``
        One that can be pickled.
    flat : Flat
        How the parameters lie in memory.

    Raises
    ------
    TypeError
        If the model cannot be pickled.
    """

    def __init__(self, model: Any, flat: Flat) -> None:
        try:
            told = pickle.dumps((model, flat))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"Trainer: processes above 1 need a model that can be pickled: {error}"
            ) from None
        where = _file(2 * sum(_spans(flat).values()))
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tinylm.training.processes import help_out; help_out()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for who started it
            pass_fds=(where,) if isinstance(where, int) else (),
            env={**ONE_THREAD, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._stop = weakref.finalize(self, _stop, self._process, where)
        self._params, self._gradient = _shared(where, flat)
        self._busy = False
        self._send((told, where))
        self._answer()

    def begin(self, params: dict[str, Any], shards: list[Shard]) -> None:
        """Have it compute the loss and gradient of these shards."""
        if self._busy:  # nobody came for the last answer
            self._received()
        for key, x in params.items():
            self._params[key][:] = x
        self._send(shards)

    def end(self) -> tuple[Any, dict[str, Any]]:
        """Loss and packed gradient; the latter is overwritten by the next."""
        return self._answer(), self._gradient

    def _send(self, message: Any) -> None:
        self._busy = True
        try:
            _tell(self._process.stdin, message)
        except (OSError, ValueError):
            raise self._gone() from None

    def _answer(self) -> Any:
        failed, answer = self._received()
        if failed:
            raise answer
        return answer

    def _received(self) -> tuple[bool, Any]:
        try:
            message: tuple[bool, Any] = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            raise self._gone() from None
        self._busy = False
        return message

    def _gone(self) -> ChildProcessError:
        self._stop()
        return ChildProcessError(
            f"a process that computes gradients has ended, with exit code {self._process.wait()}"
        )


def _stop(process: subprocess.Popen[bytes], where: int | str) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    process.wait()
    if isinstance(where, str):
        Path(where).unlink(missing_ok=True)


def _file(size: int) -> int | str:
    """A new file of so many bytes, in memory if there is room for it."""
    if os.access(IN_MEMORY, os.W_OK):
        with contextlib.suppress(OSError):
            return _file_in(IN_MEMORY, size)
    return _file_in(None, size)


def _file_in(folder: str | None, size: int) -> int | str:
    """Its descriptor, and no name that a kill could leave behind; its name where files need one."""
    handle, name = tempfile.mkstemp(prefix="tinylm-", dir=folder)
    nameless = os.name == "posix"
    if nameless:
        Path(name).unlink()
    try:
        if hasattr(os, "posix_fallocate"):  # an error now, not a crash when it is written to
            os.posix_fallocate(handle, 0, size)
        else:
            os.truncate(handle, size)
    except OSError:
        os.close(handle)
        Path(name).unlink(missing_ok=True)
        raise
    if nameless:
        return handle
    os.close(handle)
    return name


def _spans(flat: Flat) -> dict[str, int]:
    """Bytes that each long array takes: whole cache lines."""
    return {
        key: -(-max(1, size * flat.dtypes[key].itemsize) // 64) * 64
        for key, size in flat.sizes.items()
    }


def _shared(where: int | str, flat: Flat) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and gradient in a file that several processes map into their memory."""
    spans = _spans(flat)
    with open(where, "r+b") as file:  # noqa: PTH123  # the map stays when it is closed
        memory = np.memmap(file, np.uint8, "r+", shape=(2, sum(spans.values())))

    def arrays(half: Any) -> dict[str, Any]:
        parts = np.split(np.asarray(half), np.cumsum(list(spans.values()))[:-1])
        return {
            key: part[: size * flat.dtypes[key].itemsize].view(flat.dtypes[key])
            for (key, size), part in zip(flat.sizes.items(), parts, strict=True)
        }

    return arrays(memory[0]), arrays(memory[1])


def help_out() -> None:
    """What the other process does: compute, until nothing more comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    come, go = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a model prints is no answer
    told, where = pickle.load(come)
    try:
        model, flat = pickle.loads(told)
        packed, gradient = _shared(where, flat)
    except Exception as error:  # noqa: BLE001
        _tell(go, (True, error))
        return
    params = flat.unpacked(packed)
    _tell(go, (False, None))
    while True:
        try:
            shards = pickle.load(come)
        except EOFError:
            return
        try:
            with np.errstate(all="ignore"):
                loss, gradients = shard_gradients(model, params, shards)
            flat.pack(gradients, gradient)
            answer = (False, loss)
        except Exception as error:  # noqa: BLE001
            answer = (True, error)
        _tell(go, answer)


def _tell(pipe: Any, message: Any) -> None:
    pickle.dump(message, pipe)
    pipe.flush()
