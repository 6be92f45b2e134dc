"""Workers and flat nests."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.autograd import trees
from tinylm.training.flat import Flat
from tinylm.workers import Workers


@given(st.lists(st.integers()), st.integers(1, 4))
def test_results_come_in_the_order_of_the_tasks(tasks, threads):
    assert Workers(threads).map(lambda x: x * x, tasks) == [x * x for x in tasks]


def test_a_failure_stops_the_others_after_the_task_at_hand():
    begun, failed = [], threading.Event()

    def work(i):
        if i == 0:
            failed.set()
            raise ZeroDivisionError
        begun.append(i)
        if i < 3:
            failed.wait(timeout=60)
            time.sleep(0.2)

    workers = Workers(3)
    with pytest.raises(ZeroDivisionError):
        workers.map(work, range(9))
    assert set(begun) <= {1, 2}
    with pytest.raises(ZeroDivisionError):
        workers.map(work, [1, 0])


def test_tasks_run_at_the_same_time():
    both = threading.Barrier(2)
    assert Workers(2).map(lambda i: both.wait(timeout=60) < 2, range(2)) == [True, True]


def test_packed_is_the_sum_and_unpacked_the_nest(rng):
    nest = {"W": rng.standard_normal((2, 3)), "deep": [rng.standard_normal(4), np.float32([1, 2])]}
    flat = Flat(nest, lambda path, x: "matrix" if x.ndim > 1 else "vector")
    packed = flat.packed(nest, nest, nest)
    assert {key: x.shape for key, x in packed.items()} == {
        "matrix float64": (6,), "vector float64": (4,), "vector float32": (2,),
    }  # fmt: skip
    for a, b in zip(trees.leaves(flat.unpacked(packed)), trees.leaves(nest), strict=True):
        np.testing.assert_allclose(a, 3 * b, rtol=1e-6)
        assert a.dtype == b.dtype
    flat.unpacked(packed)["W"][0, 0] = 7
    assert packed["matrix float64"][0] == 7
    assert not np.shares_memory(flat.packed(nest)["matrix float64"], nest["W"])
