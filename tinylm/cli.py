"""The command line: train, evaluate, sample, oracle.

Exit codes: 0 done; 1 the work failed, and one line says why; 2 a bad command line; 130
interrupted, and what was trained is saved.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinylm.arguments import parse
from tinylm.files import held
from tinylm.generation import generate
from tinylm.oracle_cli import oracle
from tinylm.planning import fit_to_budget, seconds_per_step
from tinylm.report import ENOUGH, Status, picture, plan, table, written
from tinylm.run import (
    CHECKPOINT,
    CURVE,
    Corpus,
    Run,
    load_model,
    read_checkpoint,
    texts_of,
    uninterrupted,
)
from tinylm.settings import Settings
from tinylm.text import JOIN

DEFAULT_BUDGET = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that lacks a character shows a ?
        sys.stdout.reconfigure(errors="replace")
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        commands = {"train": train, "evaluate": evaluate, "sample": sample, "oracle": oracle}
        commands[arguments.command](arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("tinylm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError, ArithmeticError, MemoryError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        print(f"tinylm: {said}", file=sys.stderr)
        return 1
    return 0


def train(arguments: argparse.Namespace) -> None:
    """Train a model, or go on with one; print how it does beside its rivals."""
    folder = arguments.out or _default_folder(arguments)
    there = (folder / CHECKPOINT).exists()
    if there and not arguments.resume:
        raise ValueError(f"{folder} holds a run already: --resume goes on with it")
    if not there:
        _check_folder(folder, arguments.settings.data)
        run, step_seconds = _begun(arguments)
        folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        if there:
            run, step_seconds = _resumed(folder, arguments)
        elif (folder / CHECKPOINT).exists():
            raise ValueError(f"{folder}: another process has trained here meanwhile")
        print(plan(run, folder, step_seconds), flush=True)
        _to_the_end(run, folder)
        print(f"\n{table(run.model, run.trainer.params, run.corpus, ENOUGH)}")
        print(f"\nA sample:\n{written(run, tokens=500)}\n")
        drawn = ", curve.png" if picture(run, folder / "curve.png") else ""
    print(f"The run lies in {folder} ({CHECKPOINT}, {CURVE}{drawn}). It writes more with:")
    print(f"  tinylm sample {shlex.quote(str(folder))}")


def _to_the_end(run: Run, folder: Path) -> None:
    """Train; whatever stops it, what was trained so far is saved or was before."""
    status = Status(run)
    try:
        run.train(folder, status.after_step, status.after_evaluation)
    except (KeyboardInterrupt, BrokenPipeError) as stopped:
        with contextlib.suppress(KeyboardInterrupt), uninterrupted():  # whoever asks twice
            run.save(folder)
        if isinstance(stopped, KeyboardInterrupt):
            status.clear()
            print(
                f"Interrupted after step {run.trainer.steps:,} of {run.settings.steps:,}, and "
                f"saved. Go on with: tinylm train --resume --out {shlex.quote(str(folder))}"
            )
        raise
    except ChildProcessError as error:
        status.clear()
        raise ChildProcessError(f"{error}{_what_stays(folder)}") from None
    except OSError as error:
        status.clear()
        why = error.strerror or error
        raise OSError(f"cannot write to {folder}: {why}{_what_stays(folder)}") from None
    except ArithmeticError as error:
        status.clear()
        raise ArithmeticError(f"{error}{_what_stays(folder)}") from None
    status.clear()


def _what_stays(folder: Path) -> str:
    """What a failure leaves to go on with."""
    with contextlib.suppress(OSError, ValueError):
        steps = read_checkpoint(folder)[2]["steps"]
        return f"; the last good checkpoint, of step {steps}, stays in {folder}"
    return ""


def _default_folder(arguments: argparse.Namespace) -> Path:
    """The newest run to go on with, or the first of runs/NAME, runs/NAME-2, ... that is free."""
    name = Path(arguments.settings.data).stem or "run"
    if arguments.resume:
        pattern = rf"{re.escape(name)}(-\d+)?" if "data" in arguments.given else ".*"
        runs = [
            path.parent
            for path in sorted(Path("runs").glob(f"*/{CHECKPOINT}"), key=os.path.getmtime)
            if re.fullmatch(pattern, path.parent.name)
        ]
        if runs:
            return runs[-1]
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _check_folder(folder: Path, data: str) -> None:
    """Whether a run can lie in a folder, before anything is computed for it."""
    above = folder.absolute()
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise NotADirectoryError(f"cannot write to {folder}: {above} is not a folder")
    if not os.access(above, os.W_OK):
        raise PermissionError(f"cannot write to {folder}: no permission in {above}")
    if folder.resolve().is_relative_to(Path(data).resolve()) and Path(data).is_dir():
        raise ValueError(f"{folder} lies in {data}, which would change it: wanted another --out")


def _begun(arguments: argparse.Namespace) -> tuple[Run, float]:
    """A new run, and the time of one of its steps."""
    settings: Settings = arguments.settings
    corpus = Corpus.read(settings)
    if "steps" in arguments.given:
        return Run(settings, corpus), seconds_per_step(settings, corpus)
    settings, step_seconds = fit_to_budget(
        settings, corpus, arguments.budget or DEFAULT_BUDGET, arguments.given
    )
    return Run(settings, corpus), step_seconds


def _resumed(folder: Path, arguments: argparse.Namespace) -> tuple[Run, float]:
    """The run in a folder, and the time of one of its steps."""
    run = Run.resume(folder)
    for name in sorted(arguments.given):
        asked, is_so = getattr(arguments.settings, name), getattr(run.settings, name)
        if asked != is_so:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{folder} was begun with {flag} {is_so}, not {asked}")
    return run, run.seconds / max(run.trainer.steps, 1)


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure a run on its held-out text, or on all of another text."""
    model, params, tokenizer, settings, fingerprint = load_model(arguments.run)
    corpus = Corpus.read(settings, tokenizer, fingerprint)
    if arguments.data is not None:
        text = JOIN.join(texts_of(arguments.data, settings))
        ids = tokenizer.encode(text)
        if ids.size < 2:
            raise ValueError(f"{arguments.data}: {ids.size} tokens: wanted two or more")
        corpus = dataclasses.replace(corpus, validation_text=text, validation=ids)
    print(table(model, params, corpus, what=arguments.data or "held-out text"))


def sample(arguments: argparse.Namespace) -> None:
    """Let a run continue a prompt."""
    model, params, tokenizer, *_ = load_model(arguments.run)
    if arguments.prompt is None:
        with contextlib.suppress(ValueError):
            arguments.prompt = "\n" if tokenizer.encode("\n").size else None
    prompt = tokenizer.encode(arguments.prompt or tokenizer.decode([0]))
    if arguments.prompt == "":
        raise ValueError("--prompt is empty: wanted at least one character")
    ids = generate(
        model,
        params,
        prompt,
        arguments.tokens,
        arguments.temperature,
        arguments.top_k,
        arguments.top_p,
        np.random.default_rng(arguments.seed),
    )
    print(tokenizer.decode(ids))
