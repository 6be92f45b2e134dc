"""Memory: what one training step frees, the next one uses again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_MMAP_THRESHOLD = 1 << 25


def reuse_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next array; whether it will.

    By default it maps memory for every larger array and unmaps it when the array is gone, so that
    each step of training has all its pages zeroed again by the system, which can take as long as
    the arithmetic. This sets two thresholds of GNU's malloc, for the whole process and for good:
    arrays up to 32 MiB come from its heaps, and the heaps do not shrink, so that the process keeps
    its largest size. The heaps are malloc's own, which is thread-safe, with one for each thread: a
    thread gets back memory that is in its own cache. Other C libraries have no such thresholds;
    then nothing is changed.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    )
