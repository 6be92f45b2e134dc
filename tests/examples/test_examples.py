"""Every example runs with ``--quick`` as its reader would run it, and leaves what it promises."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = {"many_machines": "mpi4py", "check_your_kernel": "torch"}
EXAMPLES = runpy.run_path(str(ROOT / "docs" / "gallery.py"))["ORDER"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What an example leaves of a quick run, by its name: its folder and its JSON; it runs once."""
    left = {}

    def ran(name):
        needed = NEEDS.get(name)
        if needed and importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}, of an extra that is installed later")
        if name not in left:
            out = tmp_path_factory.mktemp(name)
            example = ROOT / "examples" / f"{name}.py"
            done = subprocess.run(
                [sys.executable, "-W", "error", example, "--quick", "--out", out],
                check=False,
                cwd=out,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            left[name] = out, json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        return left[name]

    return ran


@pytest.mark.parametrize("name", EXAMPLES)
def test_quick(name, quick):
    out, kept = quick(name)
    files = [x["file"] for x in kept["shown"] if "file" in x]
    assert kept["quick"]
    assert any("rows" in x for x in kept["shown"])
    assert files
    assert all((out / file).stat().st_size for file in files)


def test_many_machines_are_as_one(quick):
    _, kept = quick("many_machines")
    ranks, killed = (
        [{key: cell.replace(",", "") for key, cell in row.items()} for row in x["rows"]]
        for x in kept["shown"]
        if "rows" in x
    )
    assert [row["ranks"] for row in ranks] == ["1", "2", "4"]
    for P, row in zip((1, 2, 4), ranks, strict=True):
        assert float(row["gradient off by"]) <= 1e-6
        assert float(row["losses off by"]) <= 1e-5
        formula = int(row["2 (P - 1)/P gradients"])
        assert formula <= int(row["bytes sent a step"]) <= formula + 100  # and a loss, a checksum
        assert int(row["sent by one that collects"]) * 2 == formula * P
    (row,) = killed
    reached, checkpoint, first, again = (
        int(row[key])
        for key in ("killed after step", "kept of step", "first step then", "made again")
    )
    assert 0 < checkpoint < reached
    assert first == checkpoint + 1
    assert again == reached - checkpoint <= 10  # steps between two checkpoints
    assert float(row["losses off by"]) <= 1e-5
