"""The plugin of pytest: the fixture `grad_oracle` and the option `--oracle-seed`.

A run of pytest that does not use the fixture loads nothing else of the package, and no NumPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

MISMATCH = "tinylm.oracle.report.GradientMismatch"
PRIMES = (7, 11, 13, 17, 19, 23)
"""Usual lengths, one for each axis, so that axes that are mixed up cannot hide."""

LEADING = (3, 5)
"""The usual leading axes."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--oracle-seed`."""
    parser.getgroup("tinylm").addoption(
        "--oracle-seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the inputs that the fixture grad_oracle draws (0 if not given)",
    )


def pytest_report_header(config: pytest.Config) -> str:
    """The seed."""
    return f"tinylm: --oracle-seed={config.getoption('oracle_seed')}"


def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> pytest.TestReport | None:
    """What is shown of a rejected kernel: the report, and no traceback."""
    if call.excinfo is None:
        return None
    kind = call.excinfo.type
    if f"{kind.__module__}.{kind.__qualname__}" != MISMATCH:
        return None
    report = pytest.TestReport.from_item_and_call(item, call)
    report.longrepr = call.excinfo.getrepr(style="value", chain=False)
    return report


@pytest.fixture
def grad_oracle(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`tinylm.oracle.check`, which draws the inputs itself if none are given.

    ``grad_oracle(kernel, op, inputs=None, *, sizes=None, optional=(), **options)``: sizes has the
    lengths of some axes, under ``"..."`` a tuple, the leading ones; optional says whether "mask" or
    "b" is given; what else there is goes to `tinylm.oracle.check`, such as ``rounding=`` and
    ``causal=True``. Of a formula the axes are needed, ``shapes="x:...C gain:C -> ...C"``.

    Examples
    --------
    In a test file::

        def test_attention(grad_oracle):
            grad_oracle(my_kernel, "attention", sizes={"T": 64, "S": 64}, causal=True)
    """
    seed = request.config.getoption("oracle_seed")

    def checked(
        kernel: Callable[..., Any],
        op: str | Callable[..., Any],
        inputs: Mapping[str, Any] | None = None,
        *,
        sizes: Mapping[str, Any] | None = None,
        optional: Collection[str] = (),
        **options: Any,
    ) -> Any:
        import numpy as np

        from tinylm import oracle
        from tinylm.ops import IGNORED
        from tinylm.oracle.strategies import axes_of_inputs, inputs_at, with_sizes

        if inputs is not None:
            if sizes is not None or optional:
                raise ValueError("grad_oracle: came inputs, and sizes or optional: wanted one")
            return oracle.check(kernel, op, inputs, **options)
        axes = axes_of_inputs(op, options.get("shapes"), optional)
        letters = dict.fromkeys("".join(axes.values()).replace(".", ""))
        usual = {**dict(zip(letters, itertools.cycle(PRIMES), strict=False)), "...": LEADING}
        rng, ignored = np.random.default_rng(seed), options.get("ignore_index", IGNORED)
        drawn = inputs_at(op, axes, with_sizes(usual, sizes), rng, ignore_index=ignored)
        try:
            return oracle.check(kernel, op, drawn, **options)
        except oracle.GradientMismatch as error:
            error.args = (f"{error}\n\nthe inputs were drawn with --oracle-seed={seed}",)
            raise

    return checked
