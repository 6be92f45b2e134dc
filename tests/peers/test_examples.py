"""The examples and the pages' blocks that need PyTorch or JAX run, and say what is said of them."""

import json
import re
import runpy
from pathlib import Path

import jax  # noqa: F401  # its import draws random numbers, which no test may
import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = [
    (page.name, language, block)
    for page in sorted((ROOT / "docs").glob("*.md"))
    for language, block in re.findall(
        r"^```python (torch|jax)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
    )
]


@pytest.mark.parametrize(("page", "language", "block"), BLOCKS, ids=lambda x: x[:20])
def test_blocks_run(page, language, block, capsys):
    exec(compile(block, page, "exec"), {})  # noqa: S102
    assert "accepted" in capsys.readouterr().out


def test_there_is_a_block_for_each():
    assert {"torch", "jax"} <= {language for _, language, _ in BLOCKS}


def test_the_bugs_of_the_example_are_named(capsys, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setattr("sys.argv", ["check_your_kernel.py", "--quick", "--out", str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / "check_your_kernel.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "the gradient through 'std' is dropped (the variance's share)" in printed
    assert printed.count("the gradient of logits is divided by all targets") == 2
    (table,) = (
        x
        for x in json.loads((tmp_path / "check_your_kernel.json").read_text())["shown"]
        if "rows" in x
    )
    columns = {judge: [row[judge] for row in table["rows"]] for judge in table["columns"]}
    assert columns["oracle"] == ["rejects", "accepts"] * 3
    # the usual rival: right four times, then one miss and one false alarm
    assert columns["assert_close"] == [*["rejects", "accepts"] * 2, "accepts", "rejects"]
    assert columns["allclose 1"] == ["accepts"] * 6
    assert columns["gradcheck"][1] == "rejects"
