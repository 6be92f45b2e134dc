"""Threads of the matrix library: NumPy's products are made by one, which may have threads of its own.

Several processes or threads of ours, each with products in several threads, would stand in each
other's way.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""What tells a matrix library to compute in one thread."""


def one_from_the_start() -> None:
    """Matrix products in one thread, unless the user said otherwise; before NumPy is loaded."""
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)


def one_thread() -> contextlib.AbstractContextManager[Any]:
    """Within this context, products in one thread, if threadpoolctl (extra `threads`) is there."""
    controller = _controller()
    if controller is None:
        return contextlib.nullcontext()
    limited: contextlib.AbstractContextManager[Any] = controller.limit(limits=1, user_api="blas")
    return limited


def cores() -> int:
    """Threads worth having where the result does not depend on them."""
    return min(4, os.cpu_count() or 1)


@functools.cache
def _controller() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
