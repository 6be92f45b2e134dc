"""The command line: train, evaluate, sample.

Exit codes: 0 done; 1 the work failed, and one line says why; 2 a bad command line; 130
interrupted, and what was trained is saved.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinylm.arguments import parse
from tinylm.generation import generate
from tinylm.planning import fit_to_budget, seconds_per_step
from tinylm.report import Status, picture, plan, table, written
from tinylm.run import CHECKPOINT, CURVE, Corpus, Run, load_model
from tinylm.settings import Settings
from tinylm.text import JOIN, documents

DEFAULT_BUDGET = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that lacks a character shows a ?
        sys.stdout.reconfigure(errors="replace")
    arguments = parse(sys.argv[1:] if argv is None else argv)
    command = {"train": train, "evaluate": evaluate, "sample": sample}[arguments.command]
    try:
        command(arguments)
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
    folder = arguments.out or _default_folder(arguments.settings.data, arguments.resume)
    there = (folder / CHECKPOINT).exists()
    if there and not arguments.resume:
        raise ValueError(f"{folder} holds a run already: --resume goes on with it")
    if there:
        run, step_seconds = _resumed(folder, arguments)
    else:
        run, step_seconds = _begun(arguments)
    print(plan(run, folder, step_seconds), flush=True)
    status = Status(run)
    try:
        run.train(folder, status.after_step, status.after_evaluation)
    except KeyboardInterrupt:
        status.clear()
        run.save(folder)
        print(
            f"Interrupted after step {run.trainer.steps:,} of {run.settings.steps:,}, and saved. "
            f"Go on with: tinylm train --resume --out {folder}"
        )
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        status.clear()
        why = error.strerror or error
        raise OSError(f"cannot write to {folder}: {why}{_what_stays(folder)}") from None
    except ArithmeticError as error:
        status.clear()
        raise ArithmeticError(f"{error}{_what_stays(folder)}") from None
    status.clear()
    print(f"\n{table(run.model, run.trainer.params, run.corpus)}")
    print(f"\nA sample:\n{written(run, tokens=500)}\n")
    drawn = ", curve.png" if picture(run, folder / "curve.png") else ""
    print(f"The run lies in {folder} ({CHECKPOINT}, {CURVE}{drawn}). It writes more with:")
    print(f"  tinylm sample {folder} --prompt 'The '")


def _what_stays(folder: Path) -> str:
    """What a failure leaves to go on with."""
    with contextlib.suppress(OSError, ValueError):
        steps = Run.resume(folder).trainer.steps
        return f"; the last good checkpoint, of step {steps}, stays in {folder}"
    return ""


def _default_folder(data: str, resume: bool) -> Path:
    """The run to go on with, or the first of runs/NAME, runs/NAME-2, ... that is free."""
    name = Path(data).stem or "run"
    folders = [Path("runs") / name]
    while folders[-1].exists():
        folders.append(Path("runs") / f"{name}-{len(folders) + 1}")
    return folders[-2] if resume and len(folders) > 1 else folders[-1]


def _begun(arguments: argparse.Namespace) -> tuple[Run, float]:
    """A new run, and the time of one of its steps."""
    settings: Settings = arguments.settings
    corpus = Corpus.read(settings)
    if "steps" in arguments.given:
        return Run(settings, corpus), seconds_per_step(settings, corpus)
    settings, step_seconds = fit_to_budget(
        settings, corpus, arguments.budget or DEFAULT_BUDGET, arguments.given
    )
    if "evaluate_every" not in arguments.given:
        every = -(-settings.steps // 10)
        settings = dataclasses.replace(settings, evaluate_every=every, save_every=every)
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
        text = JOIN.join(documents(arguments.data))
        ids = tokenizer.encode(text)
        if ids.size < 2:
            raise ValueError(f"{arguments.data}: {ids.size} tokens: wanted two or more")
        corpus = dataclasses.replace(corpus, validation_text=text, validation=ids)
    print(table(model, params, corpus))


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
