"""Documented functions of Python files, for the examples that learn from them; parsed, never run."""

import ast
import sysconfig
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy

LEFT_OUT = {"site-packages", "test", "tests", "idle_test", "lib2to3"}


class Function(NamedTuple):
    """A function, the class around it (or nothing), and its documentation."""

    file: str
    within: str
    name: str
    arguments: ast.arguments
    doc: str


def functions(run):
    """Of the folder `--data`, or of the standard library, NumPy and SciPy; no documentation twice."""
    if run.data and not Path(run.data).is_dir():
        raise SystemExit(f"--data must be a folder with Python files, got {run.data}")
    packages = [Path(package.__file__).parent for package in (np, scipy)]
    roots = [Path(run.data)] if run.data else [Path(sysconfig.get_paths()["stdlib"]), *packages]
    found = {}
    for root in roots:
        files = sorted(root.rglob("*.py"))
        files = [file for file in files if not LEFT_OUT & {*file.relative_to(root).parts}]
        for file in files[:: 12 if run.quick and not run.data else 1]:
            for one in documented(file):
                found.setdefault(" ".join(one.doc.split()), one)
    return enough(list(found.values()), 100, "documented functions")


def enough(rows, least, what):
    """The rows, if there are so many."""
    if len(rows) < least:
        raise SystemExit(f"found {len(rows)} {what}, need {least}: --data must have more of them")
    return rows


def documented(file):
    """The documented functions of a file; none if it is no Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []

    def below(node, within):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                doc = ast.get_docstring(child)
                if doc and doc.strip():
                    yield Function(str(file), within, child.name, child.args, doc)
            yield from below(child, child.name if isinstance(child, ast.ClassDef) else within)

    return list(below(tree, ""))


def split(found, rng):
    """Functions to learn from, and those of a tenth of the files, which are held out."""
    files = enough(sorted({one.file for one in found}), 2, "files with documented functions")
    held_out = set(rng.permutation(files)[: max(1, len(files) // 10)].tolist())
    train = [one for one in found if one.file not in held_out]
    return train, [one for one in found if one.file in held_out]
