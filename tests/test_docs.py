"""README and docs: their code runs, their commands parse, their links lead somewhere."""

import doctest
import re
import runpy
import shlex
from pathlib import Path

import pytest

import tinylm as tl
from tinylm.arguments import parse

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@PAGE
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In order, in one namespace; those with prompts as doctests."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks(page, "python"):
        if ">>> " in block:
            test = doctest.DocTestParser().get_doctest(block, namespace, page.name, str(page), 0)
            runner = doctest.DocTestRunner(
                optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
            )
            runner.run(test, clear_globs=False)
            assert not runner.failures, f"{page.name}: {block}"
            namespace = test.globs
        else:
            exec(compile(block, str(page), "exec"), namespace)  # noqa: S102


def test_the_readme_shows_code():
    assert len(blocks(ROOT / "README.md", "python")) >= 3


@PAGE
def test_commands_parse(page):
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for name in ("tinylm", ".venv/bin/tinylm"):
                if name in words and "-m" not in words[: words.index(name)]:
                    arguments = words[words.index(name) + 1 :]
                    if "--help" not in arguments:
                        parse(arguments)


@PAGE
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_reading_order_names_every_file():
    text = (ROOT / "docs" / "reading-order.md").read_text()
    package = ROOT / "tinylm"
    for path in package.rglob("*.py"):
        if path.name != "__init__.py":
            assert f"(../tinylm/{path.relative_to(package).as_posix()})" in text, path.name


def test_the_notation_is_that_of_the_code():
    text = (ROOT / "docs" / "notation.md").read_text()
    rows = re.findall(r"^\| .* \| ([^|]*) \| `(\S+\.py)` \|$", text, re.MULTILINE)
    assert len(rows) > 10
    for names, file in rows:
        source = (ROOT / "tinylm" / file).read_text()
        for name in re.findall(r"`(\w+)`", names):
            stem = re.sub(r"^(W|b)_[QKVO]$", r"\1_", name)
            assert stem in source, f"{name} in {file}"


def test_every_decision_is_listed():
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))


def test_the_version_is_in_the_changelog():
    assert f"## {tl.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_gallery_is_what_the_runs_left():
    """Each example has a section, made by ``python docs/gallery.py`` of a full run's numbers."""
    made = runpy.run_path(str(ROOT / "docs" / "gallery.py"))
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert page == made["gallery"]()
    assert page.count("\n## ") == len(made["ORDER"])
    assert "--quick`:" not in page
    assert "which has changed since" not in page
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert examples == {*made["ORDER"], "common"}


def test_the_formulas_are_those_of_the_code():
    """Every line that the page quotes stands in its file, and every test that it names exists."""
    page = ROOT / "docs" / "formulas.md"
    rows = re.findall(r"^\| .* \| \$.*\$ \| (.*) \| (.*) \|$", page.read_text(), re.MULTILINE)
    assert len(rows) > 25
    for code, test in rows:
        *_, target = re.findall(r"\]\((\S+)\)", code)
        source = " ".join((page.parent / target).read_text().split())
        for line in re.findall(r"`(.+?)`", code):
            assert line in source, f"{line!r} in {target}"
        name, target = re.fullmatch(r"\[(\w+)\]\((\S+)\)", test).groups()
        assert f"def {name}(" in (page.parent / target).read_text(), f"{name} in {target}"
