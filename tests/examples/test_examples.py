"""Every example runs with ``--quick`` as its reader would run it, and leaves what it promises."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = {"many_machines": "mpi4py", "check_your_kernel": "torch"}
EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").glob("*.py")
    if path.stem not in ("common", "torch_function")
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_quick(path, tmp_path):
    needed = NEEDS.get(path.stem)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}, of an extra that is installed later")
    command = [sys.executable, "-W", "error", path, "--quick", "--out", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kept = json.loads((tmp_path / f"{path.stem}.json").read_text(encoding="utf-8"))
    files = [x["file"] for x in kept["shown"] if "file" in x]
    assert kept["quick"]
    assert any("rows" in x for x in kept["shown"])
    assert files
    assert all((tmp_path / file).stat().st_size for file in files)
