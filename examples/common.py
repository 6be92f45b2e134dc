"""What every example has in common: its arguments, its tables, its pictures, and what is kept of a run.

An example is one function, ``main(run)``, called as ``common.start(main)``. Its docstring opens with
a line that says what it shows, then tells more; `docs/gallery.py` makes the gallery of both, and of
the JSON file that every run leaves beside its pictures.
"""

import argparse
import ast
import datetime as dt
import hashlib
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

import numpy as np

import tinylm as tl

DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef


class Run:
    """One run of an example: `quick`, `seed`, `data` and `out` as given, and a generator `rng`."""

    def __init__(self, source, arguments):
        self.name = source.stem
        self.quick, self.seed, self.out = arguments.quick, arguments.seed, arguments.out
        self.data = getattr(arguments, "data", None)
        self.rng = np.random.default_rng(self.seed)
        self.began = time.perf_counter()
        self.out.mkdir(parents=True, exist_ok=True)
        self.shown = []
        self.kept = {
            "command": f"python examples/{source.name}"
            + " --quick" * self.quick
            + f" --seed {self.seed}" * bool(self.seed)
            + f" --data {self.data}" * bool(self.data),
            "seed": self.seed,
            "quick": self.quick,
            "code": digest(source),
            "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
            "machine": machine(),
        }

    def say(self, text):
        """A sentence of the result: printed, and kept for the gallery."""
        print(f"\n{text}", flush=True)
        self.shown.append({"text": text})

    def progress(self, text):
        """A line that only tells that work goes on."""
        print(f"{time.perf_counter() - self.began:6.0f} s  {text}", flush=True)

    def table(self, title, rows):
        """Rows (dicts with the same keys, numbers or text) under a title: printed, and kept."""
        rows = [{key: written(value) for key, value in row.items()} for row in rows]
        columns = list(rows[0])
        widths = {c: max(len(str(c)), *(len(row[c]) for row in rows)) for c in columns}
        first, *rest = columns
        print(f"\n{title}\n")
        for row in [{c: str(c) for c in columns}, *rows]:
            cells = [row[first].ljust(widths[first]), *(row[c].rjust(widths[c]) for c in rest)]
            print("  ".join(cells).rstrip())
        sys.stdout.flush()
        self.shown.append({"title": title, "columns": [str(c) for c in columns], "rows": rows})

    def picture(self, figure, says, suffix=""):
        """A figure of matplotlib, and what it says to somebody who cannot see it: saved as PNG."""
        self.page(f"{self.name}{suffix}.png", says, lambda path: figure.savefig(path, dpi=100))

    def page(self, file, says, save):
        """A file of any kind that `save(path)` writes into `out`; kept under its name."""
        save(self.out / file)
        print(f"\n{self.out / file}: {says}", flush=True)
        self.shown.append({"file": file, "says": says})

    def end(self):
        """Keep what was shown as JSON, with what is needed to make it again."""
        seconds = round(time.perf_counter() - self.began)
        self.kept |= {"seconds": seconds, "shown": self.shown}
        text = json.dumps(self.kept, indent=1, ensure_ascii=False)
        (self.out / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"\n{seconds} s; the numbers are in {self.out / f'{self.name}.json'}")


def start(main):
    """Parse the command line by the example's docstring, run it, keep its numbers."""
    source = Path(sys.modules[main.__module__].__file__)
    description = sys.modules[main.__module__].__doc__
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="every step, too short to learn much")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    if re.search("--data|run.data", source.read_text(encoding="utf-8")):  # it reads text
        parser.add_argument("--data", help="your own text, in place of the usual one")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/examples"), help="where pictures and numbers go"
    )
    run = Run(source, parser.parse_args())
    main(run)
    run.end()


def pyplot():
    """Matplotlib without a screen, in one style; it needs the extra `examples`."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise SystemExit("this example draws: pip install 'tinylm[examples]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "legend.frameon": False,
        }
    )
    return plt


def enough(count, least, what):
    """End, and say so, if `--data` holds too little."""
    if count < least:
        raise SystemExit(f"the text has {count} {what}: wanted at least {least}")


def spread(values, digits=3):
    """Mean and standard deviation over seeds: ``0.514 ± 0.018``."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def written(value):
    """A cell: text as it is, whole numbers with commas, others to four digits."""
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def digest(source):
    """A hash of an example's code, and of what it takes from a folder beside it; of no docstring."""
    code, files = hashlib.sha256(), [source]
    for file in files:  # which grows
        text, told = file.read_text(encoding="utf-8"), set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                told.update(range(node.body[0].lineno - 1, node.body[0].end_lineno))
        lines = text.split("\n")
        code.update("\n".join(x for i, x in enumerate(lines) if i not in told).encode())
        for folder, name in re.findall(r"^from (\w+)\.(\w+) import", text, re.MULTILINE):
            part = source.parent / folder / f"{name}.py"
            files += [part] * (part.exists() and part not in files)
    return code.hexdigest()


def machine():
    """The processor, the cores and the versions that made the numbers."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [
            x.split(":")[1].strip() for x in info.read_text().splitlines() if "model name" in x
        ]
        name = named[0] if named else name
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    return f"{name}, {os.cpu_count()} cores, {versions}, tinylm {tl.__version__}"
