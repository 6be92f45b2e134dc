"""tinylm: Transformer language models in NumPy, as formulas that run.

Everything public stands here; `docs/reading-order.md` says what to read first. The shape letters
of all docstrings: B batch, T query positions, S key positions, H heads, D head_dim, C d_model,
V vocabulary.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tinylm.version import __version__

if TYPE_CHECKING:
    from tinylm import compress, interpret, oracle
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
    from tinylm.beam import beam_search
    from tinylm.checkpoint import load, save
    from tinylm.evaluation import (
        NGram,
        accuracy,
        answer_f1,
        bleu,
        confusion_matrix,
        exact_match,
        f1,
        fit_power_law,
        matthews,
        perplexity,
        precision,
        pseudo_perplexity,
        recall,
        rouge,
    )
    from tinylm.generation import generate
    from tinylm.hub import from_pretrained, save_pretrained
    from tinylm.models import BERT, GPT, LoRA, Transformer
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
    from tinylm.text import BPETokenizer, CharTokenizer, WordPieceTokenizer, WordTokenizer, corpus
    from tinylm.training import SGD, AdamW, Trainer, balanced_weights, fit, transfer

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
    "beam": ["beam_search"],
    "checkpoint": ["load", "save"],
    "evaluation": [
        "NGram",
        "accuracy",
        "answer_f1",
        "bleu",
        "confusion_matrix",
        "exact_match",
        "f1",
        "fit_power_law",
        "matthews",
        "perplexity",
        "precision",
        "pseudo_perplexity",
        "recall",
        "rouge",
    ],
    "generation": ["generate"],
    "hub": ["from_pretrained", "save_pretrained"],
    "models": ["BERT", "GPT", "LoRA", "Transformer"],
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
    "text": ["BPETokenizer", "CharTokenizer", "WordPieceTokenizer", "WordTokenizer", "corpus"],
    "training": ["SGD", "AdamW", "Trainer", "balanced_weights", "fit", "transfer"],
    "interpret": [],
    "compress": [],
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
    "LoRA",
    "NGram",
    "Trainer",
    "Transformer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "__version__",
    "accuracy",
    "answer_f1",
    "attention",
    "balanced_weights",
    "beam_search",
    "bleu",
    "compress",
    "confusion_matrix",
    "corpus",
    "cross_entropy",
    "derivative",
    "dropout",
    "embedding",
    "exact_match",
    "f1",
    "fit",
    "fit_power_law",
    "formulas",
    "from_pretrained",
    "gelu",
    "generate",
    "grad",
    "hvp",
    "interpret",
    "jacobian",
    "jvp",
    "layer_norm",
    "linear",
    "load",
    "log_softmax",
    "matthews",
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
    "rouge",
    "save",
    "save_pretrained",
    "silu",
    "sinusoidal_encoding",
    "softmax",
    "stop_gradient",
    "transfer",
    "value_and_grad",
    "vjp",
]
