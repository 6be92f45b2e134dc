"""The oracle's part of the command line: golden vectors out, verified, and compared with."""

from __future__ import annotations

import argparse

from tinylm.oracle import compare, export, verify


def oracle(arguments: argparse.Namespace) -> None:
    """Do what is asked; an error says why it failed, or what was rejected."""
    {"export": _export, "compare": _compare, "verify": _verify}[arguments.action](arguments)


def _export(arguments: argparse.Namespace) -> None:
    manifest = export(arguments.dir, arguments.ops, arguments.formats, arguments.seed)
    cases = manifest["cases"].values()
    files = sum(len(case["files"]) for case in cases)
    print(f"{len(cases)} cases in {files} files and a manifest: {arguments.dir}")


def _compare(arguments: argparse.Namespace) -> None:
    comparison = compare(arguments.golden, arguments.got, arguments.format)
    print(comparison, flush=True)
    failed = comparison.failed
    if failed:
        shown = "; ".join(map(str, failed[:3]))
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise ValueError(
            f"{arguments.got}: {len(failed)} of {len(comparison.judged)} tensors rejected: "
            f"{shown}{more}"
        )


def _verify(arguments: argparse.Namespace) -> None:
    verify(arguments.dir)
    print(f"{arguments.dir}: every file is what was exported, and what is computed here")
