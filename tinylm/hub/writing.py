"""From a model to a directory that transformers loads."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from tinylm.autograd import Nest
from tinylm.checkpoint import save_tensors
from tinylm.files import write_atomically
from tinylm.hub import generation_config
from tinylm.hub.families import FAMILIES
from tinylm.hub.fields import Fields, HubError
from tinylm.hub.generation_config import GenerationConfig
from tinylm.hub.renaming import Family, write_params
from tinylm.hub.weights import INDEX, SINGLE
from tinylm.text import Tokenizer, write_tokenizer
from tinylm.text.hugging_face import END

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
NOT_THEIRS = ("recompute", "class_weights")
"""Options of ours that change nothing of what a call computes."""


def save_pretrained(
    directory: str | os.PathLike[str],
    model: Any,
    params: Nest,
    tokenizer: Tokenizer | None = None,
    labels: tuple[str, ...] = (),
    generation: GenerationConfig | None = None,
) -> None:
    """Write a directory that transformers loads, and that computes the same there.

    All files are written whole, in a folder beside the place where they belong, and only then put
    there. An older config.json goes before and the new one comes last, so that nobody reads a
    mixture of two models; files of a tokenizer that is no more go as well.

    Parameters
    ----------
    directory : str or path
        Made if it is not there.
    model : GPT or BERT
        With the options that GPT-2 and BERT have.
    params : dict
    tokenizer : BPETokenizer or WordPieceTokenizer, optional
    labels : sequence of str, optional
        The names of the classes, for a classification.
    generation : GenerationConfig, optional
        How tokens are drawn, of a GPT: the `.generation` of what `from_pretrained` gave. If not given,
        up to the tokenizer's end of text, if it has one.

    Raises
    ------
    HubError
        If the model has an option that theirs has not, which the message names, or the parameters
        are not those of the model.
    TypeError
        If the tokenizer is of another kind.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> import os, tempfile, numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=4, num_heads=2, num_layers=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tl.save_pretrained(folder, model, model.init(np.random.default_rng(0)))
    ...     sorted(os.listdir(folder))
    ['config.json', 'generation_config.json', 'model.safetensors']
    """
    family = next((f for f in FAMILIES.values() if f.model is type(model)), None)
    if family is None:
        wanted = " or ".join(family.model.__name__ for family in FAMILIES.values())
        raise HubError(f"save_pretrained: model is a {type(model).__name__}: wanted {wanted}")
    config = _config(family, model, labels)
    _check_nothing_lost(family, model, config)
    if tokenizer is not None and tokenizer.vocab_size > model.vocab_size:
        raise HubError(
            f"save_pretrained: tokenizer has {tokenizer.vocab_size} tokens: wanted at most the "
            f"model's {model.vocab_size}"
        )
    end = getattr(tokenizer, "special_tokens", {}).get(END)
    ends = {} if end is None else {"bos_token_id": end, "eos_token_id": end}
    draws = ends if generation is None else ends | generation.fields()
    arrays = write_params(family, model, params)
    config["dtype"] = next(iter(arrays.values())).dtype.name

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".writing.{secrets.token_hex(4)}"
    staged.mkdir()
    try:
        if tokenizer is not None:
            write_tokenizer(tokenizer, staged)
        if family.task(model) == "causal-lm":
            _write_json(staged / generation_config.NAME, draws)
        save_tensors(staged / SINGLE, arrays, {"format": "pt"})
        _write_json(staged / "config.json", config | ends)
        for name in ("config.json", INDEX, generation_config.NAME, *TOKENIZER_FILES):
            (folder / name).unlink(missing_ok=True)
        for path in sorted(staged.iterdir(), key=lambda path: path.name == "config.json"):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _config(family: Family, model: Any, labels: tuple[str, ...]) -> dict[str, Any]:
    """Their description of a model."""
    task = family.task(model)
    architecture = next(name for name, does in family.architectures.items() if does == task)
    config: dict[str, Any] = {"architectures": [architecture], "model_type": family.model_type}
    config |= family.write(model)
    if labels and (
        len(labels) != getattr(model, "num_labels", 0) or len(set(labels)) < len(labels)
    ):
        raise HubError(
            f"save_pretrained: labels={labels!r:.80}: wanted {getattr(model, 'num_labels', 0)} "
            "different names"
        )
    if hasattr(model, "num_labels") and (labels or model.num_labels != 2):
        labels = tuple(labels) or tuple(f"LABEL_{i}" for i in range(model.num_labels))
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
        config["label2id"] = {label: i for i, label in enumerate(labels)}
    return config


def _check_nothing_lost(family: Family, model: Any, config: dict[str, Any]) -> None:
    """What is read back from the config has to be the same model."""
    back = family.read(Fields(Path("save_pretrained"), config), family.task(model))
    for field in dataclasses.fields(model):
        ours, theirs = getattr(model, field.name), getattr(back, field.name)
        if field.name not in NOT_THEIRS and ours is not None and ours != theirs:
            raise HubError(
                f"save_pretrained: {type(model).__name__}: {field.name}={ours!r}: a model of type "
                f"{family.model_type} has {theirs!r}"
            )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    write_atomically(path, [json.dumps(values, indent=2, sort_keys=True).encode() + b"\n"])
