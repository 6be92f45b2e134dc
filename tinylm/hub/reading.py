"""From a directory to a model: what config.json asks for, and the tensors that fit it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.hub.families import FAMILIES
from tinylm.hub.fields import Fields, HubError, reading
from tinylm.hub.generation_config import GenerationConfig, read_generation_config
from tinylm.hub.pretrained import Pretrained
from tinylm.hub.renaming import Family, read_params
from tinylm.hub.weights import open_weights
from tinylm.text import Tokenizer, read_tokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


def from_pretrained(
    directory: str | os.PathLike[str], task: str | None = None, dtype: Any = None
) -> Pretrained:
    """Read a directory as Hugging Face's `save_pretrained` writes it: a GPT-2 or a BERT.

    Only what lies in the directory is read; nothing in it is executed, and nothing is fetched
    (`tinylm.hub.download` does that, on request). Everything is checked against config.json before
    any tensor is read.

    Parameters
    ----------
    directory : str or path
        With config.json, and model.safetensors or shards with model.safetensors.index.json.
        Tokenizer files and generation_config.json are read if they are there.
    task : {"causal-lm", "encoder", "masked-lm", "sequence-classification", \
"token-classification", "question-answering"}, optional
        What to do with the model; if not given, what the first of the "architectures" in
        config.json does. A head that the directory lacks is freshly initialised, the same at every
        call, with a `HubWarning`.
    dtype : dtype, optional
        Of the parameters. If not given, float64 stays so, and everything else becomes float32.

    Returns
    -------
    Pretrained
        Has `.model`, `.params` and `.tokenizer`, and can be called with a text.

    Raises
    ------
    HubError
        If a file is missing or damaged, or holds what the models here do not do; the message says
        which file and what was wanted.

    Examples
    --------
    >>> import tempfile, numpy as np, tinylm as tl
    >>> model = tl.GPT(vocab_size=9, context_length=8, d_model=4, num_heads=2, num_layers=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tl.save_pretrained(folder, model, model.init(np.random.default_rng(0)), None)
    ...     pretrained = tl.from_pretrained(folder)
    >>> pretrained.model == model
    True
    >>> pretrained(np.array([[1, 2, 3]])).logits.shape
    (1, 3, 9)
    """
    if dtype is not None and np.dtype(dtype).kind != "f":
        raise HubError(f"from_pretrained: dtype={dtype!r}: wanted a float")
    folder = Path(directory)
    if not folder.is_dir():
        raise HubError(f"{folder}: no such directory; tinylm.hub.download fetches one by its name")
    config = Fields.read(folder / "config.json")
    family = config.choice("model_type", FAMILIES)
    task = _task(config, family, task)
    with reading(config.path):
        model = family.read(config, task)
    params = read_params(family, model, open_weights(folder), dtype, folder)
    return Pretrained(
        model=model,
        params=params,
        tokenizer=_tokenizer(folder),
        labels=config.labels() if task.endswith("classification") else (),
        generation=(
            read_generation_config(folder, config) if task == "causal-lm" else GenerationConfig()
        ),
    )


def _task(config: Fields, family: Family, task: str | None) -> str:
    """The task that was asked for, or that of the class that was saved."""
    tasks = list(dict.fromkeys(family.architectures.values()))
    if task is not None:
        if task not in tasks:
            raise HubError(
                f"from_pretrained: task={task!r}: wanted {' or '.join(tasks)} for a model of type "
                f"{family.model_type}"
            )
        return task
    saved = config.values.get("architectures")
    if saved is None:
        return tasks[0]
    if not isinstance(saved, list) or not saved or saved[0] not in [*family.architectures]:
        raise config.wrong(
            "architectures", f"{' or '.join(family.architectures)}, or a task to be given"
        )
    return family.architectures[saved[0]]


def _tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a directory, if it has the files of one."""
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        return None
    with reading(folder):
        return read_tokenizer(folder)
