"""Ranks: the processes of one training, on one machine or on many, which add up their gradients.

Each has all parameters and computes its share of a batch's shards; then everybody needs the sum.
All that they need of each other are messages. Communicators of mpi4py (extra `mpi`) carry them
between machines, and those of `in_threads` between threads, without MPI.
"""

from __future__ import annotations

import contextvars
import queue
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from tinylm.autograd import Nest, trees


class Communicator(Protocol):
    """What a rank needs of the others, by the names of mpi4py, such as ``MPI.COMM_WORLD``."""

    @property
    def rank(self) -> int:
        """Which one this is, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def Sendrecv(self, sendbuf: Any, dest: int, *, recvbuf: Any, source: int) -> Any:  # noqa: N802
        """Send bytes to a rank, and at the same time fill others with what comes from a rank."""


class Counted:
    """A communicator that counts the bytes which this rank sends.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.training.ranks import Counted, all_reduce, in_threads
    >>> def work(communicator):
    ...     counted = Counted(communicator)
    ...     all_reduce(counted, np.zeros(6))
    ...     return counted.bytes_sent
    >>> in_threads(3, work)  # 2 * 2/3 of 48 bytes
    [64, 64, 64]
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator, self.bytes_sent = communicator, 0
        self.rank, self.size = communicator.rank, communicator.size

    def Sendrecv(self, sendbuf: Any, dest: int, *, recvbuf: Any, source: int) -> Any:  # noqa: N802
        """Those of the communicator."""
        self.bytes_sent += sendbuf.nbytes
        return self.communicator.Sendrecv(sendbuf, dest, recvbuf=recvbuf, source=source)


def all_reduce(communicator: Communicator, x: Any) -> None:
    """Replace an array by its sum over all ranks, around a ring.

    The array is cut into P chunks. First each chunk goes once around the ring of the P ranks, which
    add what they have of it; then the finished chunks go around. A rank sends 2 (P - 1) chunks to its
    neighbour, ``2 (P - 1) / P`` times the bytes of the array, and no way needs less: Patarasuk and
    Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".
    Every chunk is added up in one order and in one place only: all ranks get the same bits.

    Parameters
    ----------
    communicator : Communicator
    x : ndarray
        In one piece of memory, of one shape and dtype on all ranks; written into.

    Raises
    ------
    ValueError
        If it is not in one piece.

    Examples
    --------
    >>> import numpy as np
    >>> from tinylm.training.ranks import all_reduce, in_threads
    >>> def work(communicator):
    ...     x = np.arange(6.0) * 10**communicator.rank
    ...     all_reduce(communicator, x)
    ...     return x.tolist()
    >>> in_threads(3, work)[2]
    [0.0, 111.0, 222.0, 333.0, 444.0, 555.0]
    """
    if not x.flags.c_contiguous:
        raise ValueError(f"all_reduce: x has strides {x.strides}: wanted one piece of memory")
    P, rank = communicator.size, communicator.rank
    chunks = np.array_split(x.reshape(-1), P)
    arriving = np.empty_like(chunks[0])

    def pass_on(mine: Any, its: Any) -> None:
        communicator.Sendrecv(
            mine.view(np.uint8),
            (rank + 1) % P,
            recvbuf=its.view(np.uint8),
            source=(rank - 1) % P,
        )

    for step in range(P - 1):
        grown = chunks[(rank - step - 1) % P]
        pass_on(chunks[(rank - step) % P], arriving[: grown.size])
        grown += arriving[: grown.size]
    for step in range(P - 1):
        pass_on(chunks[(rank - step + 1) % P], chunks[(rank - step) % P])


def check_same(communicator: Communicator, what: str, nest: Nest) -> None:
    """See that all ranks hold the same numbers, by their checksums; raises ValueError."""
    checksum = 0
    for path, x in trees.paths(nest):
        checksum = zlib.crc32(f"{path} {np.shape(x)}".encode(), checksum)
        checksum = zlib.crc32(np.asarray(x).tobytes(), checksum)
    checksums = np.zeros(communicator.size)
    checksums[communicator.rank] = checksum
    all_reduce(communicator, checksums)
    if len(set(checksums.tolist())) > 1:
        raise ValueError(
            f"Trainer: communicator: {what} differ between the {communicator.size} ranks: wanted "
            "the same on all"
        )


def in_threads(size: int, work: Callable[[Any], Any]) -> list[Any]:
    """Ranks that are threads of this process: a try of what MPI would run on several machines.

    Parameters
    ----------
    size : int
    work : callable
        ``work(communicator)``, run once for each rank.

    Returns
    -------
    list
        What each returned. If one raises, the others are woken and its error is raised.

    Examples
    --------
    >>> from tinylm.training.ranks import in_threads
    >>> in_threads(2, lambda communicator: (communicator.rank, communicator.size))
    [(0, 2), (1, 2)]
    """
    post = {(a, b): queue.SimpleQueue[Any]() for a in range(size) for b in range(size)}
    errors: list[BaseException] = []

    def run(rank: int) -> Any:
        try:
            return work(_ThreadRank(rank, size, post))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
            for box in post.values():
                box.put(None)
            return None

    with ThreadPoolExecutor(size) as pool:
        jobs = [pool.submit(contextvars.copy_context().run, run, rank) for rank in range(size)]
    if errors:
        raise errors[0]
    return [job.result() for job in jobs]


class _ThreadRank:
    def __init__(self, rank: int, size: int, post: dict[tuple[int, int], Any]) -> None:
        self.rank, self.size, self._post = rank, size, post

    def Sendrecv(self, sendbuf: Any, dest: int, *, recvbuf: Any, source: int) -> None:  # noqa: N802
        self._post[self.rank, dest].put(sendbuf.copy())
        came = self._post[source, self.rank].get()
        if came is None:
            raise ConnectionAbortedError("another rank has failed")
        recvbuf[...] = came
