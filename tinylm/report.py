"""What a run shows: its plan, its progress, its table, its curve."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.evaluation import NGram, perplexity
from tinylm.files import write_atomically
from tinylm.generation import generate
from tinylm.run import Corpus, Run
from tinylm.threads import cores
from tinylm.version import __version__

RIVALS = (1, 2, 3, 4, 5, 7)
"""Orders of the n-gram models that stand beside every figure."""

ENOUGH = 250_000
"""Tokens over which the table at the end of training is taken; `tinylm evaluate` takes them all."""


def plan(run: Run, folder: Path, step_seconds: float) -> str:
    """What training is going to do, and how long that takes."""
    settings, corpus = run.settings, run.corpus
    left = settings.steps - run.trainer.steps
    tokens = settings.steps * settings.batch * settings.context
    word = "characters" if settings.tokenizer == "char" else "tokens"
    optimizer = "AdamW" if settings.optimizer == "adamw" else f"SGD, momentum {settings.momentum}"
    documents = f"{corpus.documents} documents" if corpus.documents > 1 else "one document"
    peak, final = settings.rates()
    resumed = f"  resumed   after step {run.trainer.steps:,}\n" if run.trainer.steps else ""
    return (
        f"tinylm {__version__}\n"
        f"  corpus    {settings.data}, {documents}: "
        f"{len(corpus.training_text):,} characters to learn from, "
        f"{len(corpus.validation_text):,} held out\n"
        f"  model     GPT on {corpus.tokenizer.vocab_size:,} {word}: {settings.layers} layers, "
        f"{settings.heads} heads, d_model {settings.d_model}, context {settings.context}, "
        f"{run.parameters:,} parameters\n"
        f"  training  {settings.steps:,} steps of {settings.batch} x {settings.context} {word} "
        f"({tokens / corpus.training.size:.1f} times the text), {optimizer}, "
        f"learning rate {peak:.2g} to {final:.2g}\n"
        f"  time      about {duration(left * step_seconds * 1.1)}, "
        f"{step_seconds * 1e3:.0f} ms a step\n"
        f"  run       {folder}\n{resumed}"
        f"\n{'step':>7}  {'training':>8}  {'held out':>8}  nats a token"
    )


def duration(seconds: float) -> str:
    """A time as a person says it."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


class Status:
    """Progress: a line that moves on a terminal, plain lines elsewhere."""

    def __init__(self, run: Run) -> None:
        self.moving = sys.stdout is not None and sys.stdout.isatty()
        self.began = time.perf_counter()
        self.first = run.trainer.steps
        self.shown = 0.0

    def after_step(self, run: Run) -> None:
        """Move the line, a few times a second."""
        now = time.perf_counter()
        if self.moving and now - self.shown > 0.2:
            self.shown = now
            done, steps = run.trainer.steps, run.settings.steps
            left = (now - self.began) / (done - self.first) * (steps - done)
            line = f"step {done:,} of {steps:,}  loss {run.recent[-1]:.3f}  {duration(left)} left"
            print(f"\r\x1b[K{line}", end="", flush=True)

    def clear(self) -> None:
        """Take the moving line away."""
        if self.moving:
            print("\r\x1b[K", end="", flush=True)

    def after_evaluation(self, run: Run) -> None:
        """Print a row of the curve, and what the model writes by now."""
        self.clear()
        row = run.curve[-1]
        text = " ".join(written(run, tokens=60).split())
        shown = "".join(c if c.isprintable() else "?" for c in text)
        print(
            f"{row['step']:7,.0f}  {row['training']:8.3f}  {row['validation']:8.3f}  {shown}",
            flush=True,
        )


def written(run: Run, tokens: int) -> str:
    """A sample of the model, drawn with a generator of its own."""
    prompt = run.corpus.training[:1]
    rng = np.random.default_rng([run.settings.seed, run.trainer.steps])
    with np.errstate(all="ignore"):
        ids = generate(run.model, run.trainer.params, prompt, tokens, temperature=0.8, rng=rng)
    return run.corpus.tokenizer.decode(ids[1:])


def table(
    model: Any, params: Any, corpus: Corpus, limit: int | None = None, what: str = "held-out text"
) -> str:
    """Perplexity on the held-out text: the n-gram models, then the model."""
    ids = corpus.validation[:limit]
    shortened = f" (of {corpus.validation.size:,})" if ids.size < corpus.validation.size else ""
    text = corpus.tokenizer.decode(ids) if shortened else corpus.validation_text
    predicted = len(text) - len(corpus.tokenizer.decode(ids[:1]))
    orders = [n for n in RIVALS if n <= corpus.training.size]
    rival = NGram(corpus.training, max(orders), model.vocab_size)
    rows = [(f"{n}-gram, Kneser-Ney", rival.perplexity(ids, n)) for n in orders]
    context = model.context_length
    rows.append((f"GPT, windows of {context}", perplexity(model, params, ids, threads=cores())))
    if context > 1:
        half = context - context // 2
        measured = perplexity(model, params, ids, context // 2, threads=cores())
        rows.append((f"GPT, {half} or more before", measured))
    lines = [
        f"On {predicted:,} characters of {what}, {rows[0][1].tokens:,} tokens{shortened}:",
        "",
        f"{'':24}{'nats a token':>14}{'perplexity':>12}{'bits a character':>18}",
    ]
    lines += [
        f"{who:24}{measure.nll:14.4f}{measure.perplexity:12.3f}"
        f"{measure.bits_per_character(predicted):18.4f}"
        for who, measure in rows
    ]
    return "\n".join(lines)


def picture(run: Run, path: Path) -> bool:
    """Draw the curve, if the extra `plot` is installed; says whether it is."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    title = run.settings.data.encode("ascii", "replace").decode()  # what every font can show
    axes = figure.add_subplot(xlabel="step", ylabel="nats a token", title=title)
    steps = [row["step"] for row in run.curve]
    for part in ("training", "validation"):
        axes.plot(steps, [row[part] for row in run.curve], label=part)
    axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120)
    write_atomically(path, [drawn.getvalue()])
    return True
