"""Workers: a list of independent tasks, shared among threads.

NumPy lets go of the interpreter's lock in its loops and matrix products, so that threads compute at
the same time. Results come in the order of the tasks, whoever did them, and what a task computes
does not depend on how many threads there are.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any


class Workers:
    """So many threads, the caller's own among them.

    Parameters
    ----------
    threads : int

    Examples
    --------
    >>> from tinylm.workers import Workers
    >>> Workers(threads=2).map(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def map(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> list[Any]:
        """The results of all tasks; each thread takes one in every `threads`."""
        tasks = list(tasks)
        if self._pool is None or len(tasks) < 2:
            return [function(task) for task in tasks]
        shares = [tasks[i :: self.threads] for i in range(min(self.threads, len(tasks)))]
        stopped = threading.Event()

        def done(share: list[Any]) -> list[Any]:
            results = []
            for task in share:
                if stopped.is_set():
                    break
                results.append(function(task))
            return results

        jobs = [
            self._pool.submit(contextvars.copy_context().run, done, share) for share in shares[1:]
        ]
        try:
            mine = done(shares[0])
        except BaseException:
            stopped.set()
            raise
        finally:
            wait(jobs)
        results: list[Any] = [None] * len(tasks)
        for i, share in enumerate([mine, *(job.result() for job in jobs)]):
            results[i :: self.threads] = share
        return results


ALONE = Workers(1)
