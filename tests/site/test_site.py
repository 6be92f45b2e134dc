"""The pages become a site without a warning, and a reader of it needs no network."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

import tinylm as tl

ROOT = Path(__file__).parents[2]
LOADED = r"""<(?:script|img|iframe)\b[^>]*\bsrc="([^"]*)"|<link\b[^>]*\bhref="([^"]*)\""""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", ROOT / "docs", out]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {page.relative_to(out).as_posix(): page.read_text() for page in out.rglob("*.html")}, out


def test_nothing_is_loaded_from_elsewhere(site):
    pages, out = site
    assert len(pages) > 20
    for text in pages.values():
        for found in re.findall(LOADED, text):
            assert not re.match(r"(https?:)?//", "".join(found)), found
    for sheet in out.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text())


def test_formulas_are_drawn_by_the_browser(site):
    pages, _ = site
    rows = (ROOT / "docs" / "formulas.md").read_text().count("\n| ") - 1
    assert pages["formulas.html"].count("</math>") > rows * 0.8 > 20
    assert all(
        "$" not in re.sub(r"(?s)<(pre|code|script|style).*?</\1>", "", text)
        for text in pages.values()
    )


def test_every_public_name_is_in_the_reference(site):
    pages, _ = site
    anchors = set(re.findall(r'<dt [^>]*id="tinylm\.([\w.]+)"', pages["reference.html"]))
    ends = {anchor.rsplit(".", 1)[-1] for anchor in anchors}
    modules = {name for name in tl.__all__ if type(getattr(tl, name)) is type(tl)}
    assert set(tl.__all__) - modules - {"__version__"} <= ends


def test_links_lead_somewhere(site):
    pages, out = site
    for name, text in pages.items():
        for target in re.findall(r'<a\b[^>]*\bhref="([^"#]+)', text):
            if not re.match(r"\w+:", target):
                assert (out / name).parent.joinpath(unquote(target)).exists(), f"{name}: {target}"
