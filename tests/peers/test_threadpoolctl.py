"""Products in one thread, as threadpoolctl sees it."""

import numpy as np
import threadpoolctl

from tinylm.threads import one_thread


def test_one_thread():
    (np.ones((2, 2)) @ np.ones((2, 2))).sum()
    with one_thread():
        blas = [lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]
        assert blas
        assert {lib["num_threads"] for lib in blas} == {1}
