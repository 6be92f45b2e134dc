"""A run: a model in training, and all that it takes to go on with it, in one folder.

The folder holds `checkpoint.safetensors` (parameters, optimizer, generators, the place in the
data, settings, tokenizer and curve: one file, so that a kill at any moment leaves a whole state)
and `curve.csv`, which is written from it.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.autograd import trees
from tinylm.checkpoint import CheckpointError, load, save
from tinylm.evaluation import perplexity
from tinylm.files import write_atomically
from tinylm.models import GPT
from tinylm.settings import Settings
from tinylm.text import (
    Batches,
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    clean,
    documents,
    fingerprint,
    load_tokenizer,
    split,
)
from tinylm.threads import cores
from tinylm.training import NonFiniteError, Trainer, first_not_finite

FORMAT = "tinylm run 1"
CHECKPOINT = "checkpoint.safetensors"
CURVE = "curve.csv"
COLUMNS = ("step", "seconds", "training", "validation")
"""Of the curve: steps made, seconds taken, mean training loss since the last row, held-out loss."""


@dataclass(frozen=True)
class Corpus:
    """Text, split and turned into ids."""

    fingerprint: str
    documents: int
    training_text: str
    validation_text: str
    tokenizer: Tokenizer
    training: Any = field(repr=False)
    validation: Any = field(repr=False)

    @classmethod
    def read(
        cls, settings: Settings, tokenizer: Tokenizer | None = None, expected: str | None = None
    ) -> Corpus:
        """Read the corpus of a run, and train its tokenizer unless there is one already.

        A tokenizer knows every character of the corpus, and the words of the training text or
        their pieces.
        Raises ValueError if a fingerprint is expected and the text has another.
        """
        texts = texts_of(settings.data, settings)
        training, validation = split(texts, settings.validation)
        found = fingerprint(training + validation)
        if expected not in (None, found):
            raise ValueError(
                f"{settings.data} is not the text that the run began with: the sha256 was "
                f"{expected}, and it is {found}"
            )
        if tokenizer is None and settings.tokenizer == "char":
            tokenizer = CharTokenizer.train(training + validation)
        elif tokenizer is None and settings.tokenizer == "bpe":
            tokenizer = BPETokenizer.train(training, settings.vocab_size, special_tokens=())
        elif tokenizer is None:
            tokenizer = WordTokenizer.train(training, settings.vocab_size, alphabet=validation)
        return cls(
            found,
            len(texts),
            training,
            validation,
            tokenizer,
            tokenizer.encode(training),
            tokenizer.encode(validation),
        )


def texts_of(data: str, settings: Settings) -> list[str]:
    """The documents of a corpus, as a run with these settings reads them."""
    texts = documents(data)
    return [clean(text) for text in texts] if settings.clean else texts


class Run:
    """A model in training: its trainer, its place in the data, its curve.

    Parameters
    ----------
    settings : Settings
    corpus : Corpus

    Raises
    ------
    ValueError
        If the text is too short for the context, or the settings are not possible.
    """

    def __init__(self, settings: Settings, corpus: Corpus) -> None:
        self.settings = settings
        self.corpus = corpus
        self.model = settings.model(corpus.tokenizer.vocab_size)
        rng = np.random.default_rng(settings.seed)
        for part, ids, least in (
            ("training", corpus.training, settings.context),
            ("validation", corpus.validation, 1),
        ):
            if ids.size <= least:
                raise ValueError(
                    f"{settings.data}: the {part} text has {ids.size} tokens: wanted more than "
                    f"{least} for a context of {settings.context}"
                )
        self.trainer = Trainer(
            self.model,
            self.model.init(rng),
            settings.build_optimizer(),
            clip_norm=settings.clip or None,
            shards=settings.shards,
            threads=settings.threads,
            processes=settings.processes,
            rng=rng.spawn(1)[0],
        )
        self.batches = Batches(corpus.training, settings.context, settings.batch, rng)
        self.curve: list[dict[str, float]] = []
        self.recent: list[float] = []
        self.seconds = 0.0

    @property
    def parameters(self) -> int:
        """How many numbers the model learns."""
        return sum(leaf.size for leaf in trees.leaves(self.trainer.params))

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """The run that was saved in a folder, where it was.

        Raises
        ------
        CheckpointError
            If there is none, or it is damaged, or not that of this model.
        ValueError
            If the corpus is not what it was.
        """
        nest, settings, told = read_checkpoint(folder)
        for name in (CHECKPOINT, CURVE):
            for partial in folder.glob(f".{name}.*"):  # of a save that was killed
                partial.unlink(missing_ok=True)
        path = folder / CHECKPOINT
        with _damage_named(path):
            tokenizer, expected = load_tokenizer(told["tokenizer"]), str(told["fingerprint"])
        run = cls(settings, Corpus.read(settings, tokenizer, expected))
        trainer = run.trainer
        trainer.params = _fitting(nest.get("params"), trainer.params, path)
        trainer.optimizer_state = _fitting(nest.get("optimizer", {}), trainer.optimizer_state, path)
        with _damage_named(path):
            trainer.steps = told["steps"]
            if trainer.rng is not None:
                trainer.rng.bit_generator.state = told["generator"]
            run.batches.restore(told["batches"])
            run.curve = [{column: row[column] for column in COLUMNS} for row in told["curve"]]
            run.recent, run.seconds = list(told["recent"]), float(told["seconds"])
        return run

    def save(self, folder: Path) -> None:
        """Write the checkpoint and the curve; each is whole at any moment."""
        folder.mkdir(parents=True, exist_ok=True)
        trainer = self.trainer
        nest = {"params": trainer.params}
        if trainer.optimizer_state:
            nest["optimizer"] = trainer.optimizer_state
        save(
            folder / CHECKPOINT,
            nest,
            format=FORMAT,
            settings=asdict(self.settings),
            tokenizer=self.corpus.tokenizer.labelled(),
            fingerprint=self.corpus.fingerprint,
            steps=trainer.steps,
            generator=None if trainer.rng is None else trainer.rng.bit_generator.state,
            batches=self.batches.state(),
            curve=self.curve,
            recent=self.recent,
            seconds=self.seconds,
        )
        rows = [",".join(COLUMNS)] + [
            ",".join(f"{row[column]:.6g}" for column in COLUMNS) for row in self.curve
        ]
        write_atomically(folder / CURVE, ["\n".join(rows).encode() + b"\n"])

    def train(
        self,
        folder: Path,
        after_step: Callable[[Run], None] = lambda run: None,
        after_evaluation: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """Train to the end, evaluating and saving in a folder as the settings say.

        A KeyboardInterrupt comes out between two steps, never within one, and nothing is lost:
        `save` then writes the state after the last whole step.
        """
        settings, trainer = self.settings, self.trainer
        evaluate_every, save_every = settings.intervals()
        evaluated = self.curve[-1]["step"] if self.curve else -1
        clock = time.perf_counter()
        if not (folder / CHECKPOINT).exists():  # from here on, there is something to resume
            with uninterrupted():
                self.save(folder)
        while True:
            due = trainer.steps % evaluate_every == 0 or trainer.steps == settings.steps
            if due and evaluated != trainer.steps:
                row = {"validation": self.quick_loss(), "step": trainer.steps}
                with uninterrupted():
                    row["training"] = (
                        float(np.mean(self.recent)) if self.recent else row["validation"]
                    )
                    row["seconds"] = self.seconds + time.perf_counter() - clock
                    self.curve.append(row)
                    self.recent = []
                    evaluated = trainer.steps
                    self.save(folder)
                after_evaluation(self)
            elif trainer.steps % save_every == 0:
                with uninterrupted():
                    self.save(folder)
            if trainer.steps >= settings.steps:
                return
            with uninterrupted():
                self.recent.append(trainer.step(*next(self.batches)))
                now = time.perf_counter()
                self.seconds, clock = self.seconds + now - clock, now
            after_step(self)

    def quick_loss(self, limit: int = 16_384) -> float:
        """Validation loss in nats a token, over the beginning of the validation text.

        Raises
        ------
        NonFiniteError
            If it is not finite.
        """

        def measured() -> float:
            ids = self.corpus.validation[:limit]
            return perplexity(self.model, self.trainer.params, ids, threads=cores()).nll

        with np.errstate(all="ignore"):  # what is not finite is looked for here
            loss = measured()
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"step {self.trainer.steps}: the loss on the held-out text is {loss}; "
                f"{first_not_finite(measured)}"
            )
        return loss


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], Settings, dict[str, Any]]:
    """The nest, the settings and the other metadata of the run in a folder."""
    path = folder / CHECKPOINT
    if not path.exists():
        raise CheckpointError(f"{folder}: there is no run here (no {CHECKPOINT})")
    nest, told = load(path)
    with _damage_named(path):
        known = {field.name for field in fields(Settings)}
        if told["format"] != FORMAT or not set(told["settings"]) <= known:
            raise ValueError("of another version")
        settings = Settings(**told["settings"])
        settings.model(vocab_size=1)
    return nest, settings, told


def load_model(folder: Path) -> tuple[GPT, Any, Tokenizer, Settings, str]:
    """Model, parameters, tokenizer and settings of the run in a folder, and its fingerprint.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged, or not that of this model.
    """
    nest, settings, told = read_checkpoint(folder)
    with _damage_named(folder / CHECKPOINT):
        tokenizer, fingerprint = load_tokenizer(told["tokenizer"]), str(told["fingerprint"])
        model = settings.model(tokenizer.vocab_size)
    fresh = model.init(np.random.default_rng(0))
    params = _fitting(nest.get("params"), fresh, folder / CHECKPOINT)
    return model, params, tokenizer, settings, fingerprint


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Say of a checkpoint whose metadata are not those of a run that they are not."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not the checkpoint of a {FORMAT}: {error}") from None


def _fitting(loaded: Any, wanted: Any, path: Path) -> Any:
    """What was loaded, if it has the names and shapes that the model wants."""

    def checked(name: str, x: Any, y: Any) -> Any:
        if np.shape(x) != np.shape(y):
            raise ValueError(f"{name} has shape {np.shape(y)}, and the model wants {np.shape(x)}")
        return y

    try:
        return trees.map_paths(checked, wanted, loaded)
    except ValueError as error:
        raise CheckpointError(f"{path}: the checkpoint of another model: {error}") from None


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off a Ctrl-C that comes inside until the end of this context."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
