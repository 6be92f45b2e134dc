"""The arguments of the command line: every value is checked here, before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tinylm.models.options import ACTIVATIONS, NORMS, POSITIONS
from tinylm.oracle.cases import NUMBER_FORMATS
from tinylm.oracle.vector_files import KINDS
from tinylm.oracle.vectors import OPS
from tinylm.settings import PRESETS, Settings
from tinylm.version import __version__

COMMANDS = "train, evaluate, sample or oracle"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    @property
    def flags(self) -> list[str]:
        """Every flag that it knows."""
        return [flag for action in self._actions for flag in action.option_strings]

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(2)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command; exits with 2 if there is anything wrong with them."""
    parser = Parser(
        prog="tinylm",
        description="Train, measure and use small Transformer language models in NumPy, and hold "
        "the gradients of other programs to theirs.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tinylm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar=COMMANDS, parser_class=Parser)
    subparsers = {
        "train": _train(commands),
        "evaluate": _evaluate(commands),
        "sample": _sample(commands),
        "oracle": _oracle(commands),
    }
    first = argv[0] if argv else ""
    if first and not first.startswith("-") and first not in subparsers:
        parser.error(f"unknown command {first!r}{_nearest(first, subparsers)}")
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.command is None:
        parser.error(f"wanted a command: {COMMANDS}; --help says more")
    subparser = getattr(arguments, "parser", subparsers[arguments.command])
    if unknown:
        flag = unknown[0].split("=")[0]
        near = _nearest(flag, subparser.flags) if flag.startswith("-") else ""
        subparser.error(f"unknown argument {unknown[0]!r}{near}")
    if arguments.command == "train":
        arguments.settings, arguments.given = _settings(subparser, arguments)
    return arguments


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


# Kinds of values.


def _number(kind: Any, fits: Callable[[Any], bool], wanted: str) -> Callable[[str], Any]:
    def parsed(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r}: wanted {wanted}")
        return value

    return parsed


POSITIVE = _number(int, lambda n: n >= 1, "a whole number, at least 1")
COUNT = _number(int, lambda n: n >= 0, "a whole number, at least 0")
RATE = _number(float, lambda x: 0 <= x < math.inf, "a finite number, not negative")
SHARE = _number(float, lambda x: 0 <= x < 1, "a number in [0, 1)")
FRACTION = _number(float, lambda x: 0 < x < 1, "a number in (0, 1)")
PROBABILITY = _number(float, lambda x: 0 < x <= 1, "a number in (0, 1]")


def duration(text: str) -> float:
    """Seconds of a duration such as 90s, 2m, 1h or 90."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)([smh]?)", text)
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a time such as 90s, 2m or 1h")
    return seconds


def some(text: str) -> str:
    """A text that is not empty, such as a path."""
    if not text:
        raise argparse.ArgumentTypeError("wanted a name or a path, not nothing")
    return text


def folder(text: str) -> Path:
    """The path of a folder."""
    return Path(some(text))


def listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Some of these names, with commas between them."""

    def parsed(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r}: wanted some of {', '.join(known)}")
        return text.split(",")

    return parsed


# Commands.


def _train(commands: Any) -> Parser:
    parser: Parser = commands.add_parser(
        "train",
        help="train a language model",
        description="Train a language model, and print its perplexity beside n-gram models.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--out", metavar="DIR", type=folder, help="where the run lies; a new folder in runs/")
    add(
        "--budget",
        metavar="TIME",
        type=duration,
        help="choose sizes and steps that take so long: 90s, 2m (the default), 1h",
    )
    add(
        "--preset",
        choices=list(PRESETS),
        help="sizes and steps of a known recipe, see docs/recipes.md; what other flags say counts more",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --out, or the newest in runs/; begin it if there is none",
    )
    _add_settings(parser)
    return parser


def _add_settings(parser: Parser) -> None:
    """A flag for every field of `Settings`; None where it is not given."""
    defaults = Settings()

    def setting(name: str, kind: Any, what: str, **more: Any) -> None:
        default = getattr(defaults, name)
        hidden = default is None or default is False or name.endswith("_every")
        shown = what if hidden else f"{what} ({default})"
        kind = {"action": "store_true", "default": None} if kind is bool else {"type": kind}
        parser.add_argument(f"--{name.replace('_', '-')}", help=shown, **kind, **more)

    setting(
        "data", some, "python-docs, python-code, tinyshakespeare, or the path of a text file or "
        "folder", metavar="NAME|PATH",
    )  # fmt: skip
    setting("validation", FRACTION, "largest share of the text held out")
    setting("tokenizer", str, "what a token is", choices=["char", "word", "bpe"])
    setting(
        "vocab_size",
        POSITIVE,
        "how many tokens at most, if they are words or, with bpe, pieces of words",
    )
    setting("clean", bool, "normalize characters, line ends and white space first")
    setting("layers", POSITIVE, "number of layers")
    setting("heads", POSITIVE, "number of attention heads")
    setting("d_model", POSITIVE, "width of the model, a multiple of --heads")
    setting("context", POSITIVE, "context length in tokens")
    setting("positions", str, "how the model is told positions", choices=POSITIONS)
    setting("activation", str, "of the feed-forward networks", choices=list(ACTIVATIONS))
    setting("norm", str, "normalization", choices=NORMS)
    setting("post_norm", bool, "normalize after each sublayer instead of before")
    setting("untied", bool, "a head of its own instead of the token embedding")
    setting("no_bias", bool, "linear maps without biases")
    setting("dropout", SHARE, "dropout rate")
    setting("recompute", bool, "compute each layer again on the way back: slower, in less memory")
    setting("batch", POSITIVE, "windows in a step")
    setting("steps", POSITIVE, "how many steps, instead of a budget")
    setting("optimizer", str, "adamw, or sgd with momentum", choices=["adamw", "sgd"])
    setting("lr", RATE, "peak learning rate; 0.64 / d_model for adamw, 0.3 for sgd")
    setting("final_lr", RATE, "learning rate at the end of the cosine; a hundredth of --lr")
    setting("warmup", COUNT, "steps of linear warm-up")
    setting("beta1", SHARE, "of AdamW")
    setting("beta2", SHARE, "of AdamW")
    setting("momentum", SHARE, "of SGD")
    setting("weight_decay", RATE, "on matrices")
    setting("clip", RATE, "largest norm of the gradient, 0 for any")
    setting("shards", POSITIVE, "parts in which a batch is computed")
    setting("threads", POSITIVE, "how many parts a process computes at the same time")
    setting("processes", POSITIVE, "among which the parts are shared")
    setting("evaluate_every", POSITIVE, "steps; a tenth of all if not given")
    setting("save_every", POSITIVE, "steps; as often as it evaluates if not given")
    setting("seed", COUNT, "of everything that is random")


def _evaluate(commands: Any) -> Parser:
    parser: Parser = commands.add_parser(
        "evaluate",
        help="perplexity of a run on its held-out text, or on another",
        description="Perplexity of a trained model, beside n-gram models.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", type=folder, help="the folder of a run")
    parser.add_argument(
        "--data", metavar="NAME|PATH", type=some, help="another corpus; all of it is measured"
    )
    return parser


def _sample(commands: Any) -> Parser:
    parser: Parser = commands.add_parser(
        "sample",
        help="let a run write",
        description="Let a trained model continue a prompt.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", type=folder, help="the folder of a run")
    add("--prompt", metavar="TEXT", help="what it continues; a new line if not given")
    add("--tokens", type=COUNT, default=400, help="how many tokens it writes (400)")
    add("--temperature", type=RATE, default=0.8, help="0 takes the likeliest token (0.8)")
    add("--top-k", type=POSITIVE, help="draw among the k likeliest tokens only")
    add("--top-p", type=PROBABILITY, help="draw among the likeliest of this probability together")
    add("--seed", type=COUNT, help="to draw the same again")
    return parser


def _oracle(commands: Any) -> Parser:
    parser: Parser = commands.add_parser(
        "oracle",
        help="golden vectors for programs in other languages",
        description="Write golden vectors, compare with them what another program computed, or "
        "verify that they are whole and right: see docs/golden-vectors.md.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(
        dest="action", metavar="export, compare or verify", required=True
    )

    def action(name: str, what: str, *folders: tuple[str, str]) -> Parser:
        chosen: Parser = actions.add_parser(name, help=what, description=what, allow_abbrev=False)
        chosen.set_defaults(parser=chosen)
        for metavar, holds in folders:
            chosen.add_argument(metavar.lower(), metavar=metavar, type=folder, help=holds)
        return chosen

    export = action("export", "write golden vectors", ("DIR", "a new folder, or an earlier export"))
    add = export.add_argument
    add("--ops", type=listed(OPS), metavar="A,B", help=f"some of {', '.join(OPS)}; all")
    kinds = f"some of {', '.join(KINDS)}; all"
    add("--formats", type=listed(KINDS), default=KINDS, metavar="A,B", help=kinds)
    add("--seed", type=COUNT, default=0, help="another one, other inputs (0)")
    compare = action(
        "compare",
        "judge what another program computed",
        ("GOLDEN", "the folder of an export"),
        ("GOT", "a folder with the results of the other program"),
    )
    compare.add_argument(
        "--format", choices=NUMBER_FORMATS, help="of the kernel; that of its files if not given"
    )
    action("verify", "look whether golden vectors are whole", ("DIR", "the folder of an export"))
    return parser


def _settings(parser: Parser, arguments: argparse.Namespace) -> tuple[Settings, set[str]]:
    """The settings that the arguments ask for, and which of them were given."""
    names = [field.name for field in dataclasses.fields(Settings)]
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    for other in ("steps", "preset"):
        if arguments.budget and getattr(arguments, other):
            parser.error(f"--{other} and --budget: give one of them")
    given = {**PRESETS.get(arguments.preset, {}), **given}
    if "data" in given and os.path.exists(given["data"]):  # noqa: PTH110  # never raises
        given["data"] = str(Path(given["data"]).resolve())  # so that it is found from elsewhere
    settings = Settings(**given)
    try:
        settings.model(vocab_size=1)
    except ValueError as error:
        parser.error(str(error))
    return settings, set(given)
