"""Profiles of hypothesis, and a seal: a test that leaves a global changed fails."""

import os
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import tinylm as tl
from tinylm.autograd import rules

for _name in tl.__all__:
    getattr(tl, _name)  # loads its room now, and with it the rules of the table

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=30,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None, max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def sealed():
    """What is global here: NumPy's error state, its old generator, the table, the signal handler."""

    def state():
        generator = np.random.get_state()  # noqa: NPY002
        return (
            np.geterr(),
            generator[1].tobytes(),
            dict(rules.RULES),
            dict(rules.EXPANSIONS),
            signal.getsignal(signal.SIGINT),
            os.getcwd(),  # noqa: PTH109
        )

    before = state()
    yield
    assert state() == before, "the test left a global changed"


@pytest.fixture
def rng():
    return np.random.default_rng(20170612)
