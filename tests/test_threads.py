"""Threads of the matrix library, and what is set before NumPy is loaded."""

import os
import subprocess
import sys

import pytest

from tinylm import threads
from tinylm.training.memory import reuse_freed_memory


def python(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in threads.ONE_THREAD}
    out = subprocess.check_output([sys.executable, "-c", code], env=kept | environment, text=True)
    return out.split()


def test_the_command_asks_for_one_thread_before_numpy_is_loaded():
    code = (
        "import os, sys, tinylm.__main__ as command\n"
        "print('numpy' in sys.modules)\n"
        "try: sys.argv = ['tinylm', 'nonsense']; command.main()\n"
        "except SystemExit: print('numpy' in sys.modules, os.environ['OPENBLAS_NUM_THREADS'])"
    )
    assert python(code) == ["False", "True", "1"]
    assert python(code, OPENBLAS_NUM_THREADS="2") == ["False", "True", "2"]


def test_one_thread_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    threads._controller.cache_clear()
    try:
        with threads.one_thread() as nothing:
            assert nothing is None
    finally:
        threads._controller.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's malloc has these thresholds")
def test_freed_memory_is_used_again():
    """A second array of a megabyte costs no page faults."""
    code = (
        "import resource, numpy as np\n"
        "from tinylm.training.memory import reuse_freed_memory\n"
        "kept = reuse_freed_memory()\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): np.ones(1 << 20, np.uint8)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults()\n"
        "print(kept, faults() < 20 * 100)"
    )
    kept, few = python(code)
    assert few == "True" or kept == "False"


def test_elsewhere_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not reuse_freed_memory()
