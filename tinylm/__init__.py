"""tinylm: Transformer language models in NumPy, as formulas that run.

Everything public stands here; `docs/reading-order.md` says what to read first. The shape letters
of all docstrings: B batch, T query positions, S key positions, H heads, D head_dim, C d_model,
V vocabulary.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tinylm.version import __version__

if TYPE_CHECKING:
    from tinylm import oracle
    from tinylm.autograd import (
        derivative,
        formulas,
        grad,
        hvp,
        jacobian,
        jvp,
        name,
        patch,
        recompute,
        record,
        stop_gradient,
        value_and_grad,
        vjp,
    )
    from tinylm.checkpoint import load, save
    from tinylm.evaluation import (
        NGram,
        accuracy,
        f1,
        perplexity,
        precision,
        pseudo_perplexity,
        recall,
    )
    from tinylm.generation import generate
    from tinylm.hub import from_pretrained, save_pretrained
    from tinylm.models import BERT, GPT
    from tinylm.nn import multi_head_attention, rotary, sinusoidal_encoding
    from tinylm.ops import (
        attention,
        cross_entropy,
        dropout,
        embedding,
        gelu,
        layer_norm,
        linear,
        log_softmax,
        relu,
        rms_norm,
        silu,
        softmax,
    )
    from tinylm.text import (
        BPETokenizer,
        CharTokenizer,
        WordPieceTokenizer,
        WordTokenizer,
        corpus,
    )
    from tinylm.training import SGD, AdamW, Trainer

_ROOMS = {
    "autograd": [
        "derivative",
        "formulas",
        "grad",
        "hvp",
        "jacobian",
        "jvp",
        "name",
        "patch",
        "recompute",
        "record",
        "stop_gradient",
        "value_and_grad",
        "vjp",
    ],
    "checkpoint": ["load", "save"],
    "evaluation": [
        "NGram",
        "accuracy",
        "f1",
        "perplexity",
        "precision",
        "pseudo_perplexity",
        "recall",
    ],
    "generation": ["generate"],
    "hub": ["from_pretrained", "save_pretrained"],
    "models": ["BERT", "GPT"],
    "nn": ["multi_head_attention", "rotary", "sinusoidal_encoding"],
    "ops": [
        "attention",
        "cross_entropy",
        "dropout",
        "embedding",
        "gelu",
        "layer_norm",
        "linear",
        "log_softmax",
        "relu",
        "rms_norm",
        "silu",
        "softmax",
    ],
    "text": [
        "BPETokenizer",
        "CharTokenizer",
        "WordPieceTokenizer",
        "WordTokenizer",
        "corpus",
    ],
    "training": ["SGD", "AdamW", "Trainer"],
    "oracle": [],
}
"""What is loaded when it is first asked for: whoever checks a kernel needs no model."""


def __getattr__(name: str) -> Any:
    for room, things in _ROOMS.items():
        if name == room or name in things:
            module = importlib.import_module(f"tinylm.{room}")
            globals()[name] = found = module if name == room else getattr(module, name)
            return found
    raise AttributeError(f"module 'tinylm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "BERT",
    "GPT",
    "SGD",
    "AdamW",
    "BPETokenizer",
    "CharTokenizer",
    "NGram",
    "Trainer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "__version__",
    "accuracy",
    "attention",
    "corpus",
    "cross_entropy",
    "derivative",
    "dropout",
    "embedding",
    "f1",
    "formulas",
    "from_pretrained",
    "gelu",
    "generate",
    "grad",
    "hvp",
    "jacobian",
    "jvp",
    "layer_norm",
    "linear",
    "load",
    "log_softmax",
    "multi_head_attention",
    "name",
    "oracle",
    "patch",
    "perplexity",
    "precision",
    "pseudo_perplexity",
    "recall",
    "recompute",
    "record",
    "relu",
    "rms_norm",
    "rotary",
    "save",
    "save_pretrained",
    "silu",
    "sinusoidal_encoding",
    "softmax",
    "stop_gradient",
    "value_and_grad",
    "vjp",
]
