"""Make docs/gallery.md of what full runs left in docs/gallery/: ``python docs/gallery.py``.

A full run is ``python examples/NAME.py --out docs/gallery``.
"""

import ast
import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

from common import digest  # noqa: E402

ORDER = [
    "attention_by_hand",
    "train_a_language_model",
    "translate",
    "summarize",
    "answer_questions",
    "write_code",
    "transfer",
    "emergence_in_context",
    "emergence_in_context_regression",
    "emergence_grokking",
    "emergence_or_metric",
    "look_inside",
    "make_it_small",
    "many_machines",
    "check_your_kernel",
]
"""From one formula to many machines."""

HEAD = """# Gallery

What language models do, each on a laptop, beside a classical rival that keeps it honest. Every
number here was printed by the example beside it, run as its command says; this page is made of what
the runs left (`python docs/gallery.py`).
"""


def gallery():
    """The page: a section for every example that was run."""
    sections = [section(name) for name in ORDER if (DOCS / "gallery" / f"{name}.json").exists()]
    return "\n".join([HEAD, *sections])


def section(name):
    """What the example says of itself, what it showed, and how to see it again."""
    source = EXAMPLES / f"{name}.py"
    kept = json.loads((DOCS / "gallery" / f"{name}.json").read_text(encoding="utf-8"))
    title, _, told = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))).partition(
        "\n"
    )
    minutes, seconds = divmod(kept["seconds"], 60)
    made = (
        f"`{kept['command']}`: {minutes} min {seconds} s on {kept['date']}, seed {kept['seed']}; "
        f"{kept['machine']}. Code: [{source.name}](../examples/{source.name})"
        f"{'' if kept['code'] == digest(source) else ', which has changed since'}."
    )
    parts = [f"## {title.rstrip('.')}", told.strip(), *(shown(x) for x in kept["shown"]), made]
    return "\n\n".join(parts) + "\n"


def shown(item):
    """A sentence, a table, a picture or a page."""
    if "text" in item:
        return item["text"]
    if "file" in item:
        link = f"[{item['says']}](gallery/{item['file']})"
        return f"!{link}" if item["file"].endswith(".png") else link
    columns = item["columns"]
    rows = [[plain(row[c]) for c in columns] for row in item["rows"]]
    lines = [[*map(plain, columns)], ["---", *["---:"] * (len(columns) - 1)], *rows]
    return f"{item['title']}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(cell):
    """A cell on one line, in which nothing is markup."""
    return re.sub(r"([\\`*_<>$|\[\]])", r"\\\1", " ".join(cell.split()))


if __name__ == "__main__":
    (DOCS / "gallery.md").write_text(gallery(), encoding="utf-8")
