"""GPT-2: its config.json, and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tinylm.hub.fields import ACTIVATIONS, Fields, their_activation
from tinylm.hub.renaming import Family, Tensor
from tinylm.models import GPT


def _read(config: Fields, task: str) -> GPT:
    config.only("scale_attn_weights", possible=True)
    for field in (
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
        "add_cross_attention",
    ):
        config.only(field, possible=False)
    for field in ("embd_pdrop", "attn_pdrop"):
        config.rate(field)
    config.multiple("n_embd", "n_head")
    return GPT(
        vocab_size=config.size("vocab_size"),
        context_length=config.size("n_positions"),
        d_model=config.size("n_embd"),
        num_heads=config.size("n_head"),
        num_layers=config.size("n_layer", least=0),
        d_ff=config.size_or_none("n_inner"),
        activation=config.choice("activation_function", ACTIVATIONS, "gelu_new"),
        tied=config.flag("tie_word_embeddings", default=True),
        dropout=config.rate("resid_pdrop"),
        norm_eps=config.eps("layer_norm_epsilon", 1e-5),
    )


def _write(model: GPT) -> dict[str, Any]:
    return {
        "vocab_size": model.vocab_size,
        "n_positions": model.context_length,
        "n_embd": model.d_model,
        "n_layer": model.num_layers,
        "n_head": model.num_heads,
        "n_inner": model.d_ff,
        "activation_function": their_activation(model.activation),
        "resid_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "attn_pdrop": 0.0,
        "layer_norm_epsilon": model.norm_eps,
        "tie_word_embeddings": model.tied,
        "initializer_range": 0.02,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _tensors(model: GPT) -> Iterator[Tensor]:
    """Their Conv1D multiplies as ours do, and its c_attn is W_Q, W_K and W_V side by side."""
    V, C, F = model.vocab_size, model.d_model, model.d_ff or 4 * model.d_model
    yield Tensor("wte.weight", ("token_embedding",), (V, C))
    yield Tensor("wpe.weight", ("position_embedding",), (model.context_length, C))
    for i in range(model.num_layers):
        h, block = f"h.{i}", f"blocks.{i}"
        W, b = ([f"{block}.attention.{letter}_{kind}" for kind in "QKVO"] for letter in "Wb")
        yield Tensor(f"{h}.ln_1.weight", (f"{block}.norm_1.gain",), (C,))
        yield Tensor(f"{h}.ln_1.bias", (f"{block}.norm_1.bias",), (C,))
        yield Tensor(f"{h}.attn.c_attn.weight", tuple(W[:3]), (C, C))
        yield Tensor(f"{h}.attn.c_attn.bias", tuple(b[:3]), (C,))
        yield Tensor(f"{h}.attn.c_proj.weight", (W[3],), (C, C))
        yield Tensor(f"{h}.attn.c_proj.bias", (b[3],), (C,))
        yield Tensor(f"{h}.ln_2.weight", (f"{block}.norm_2.gain",), (C,))
        yield Tensor(f"{h}.ln_2.bias", (f"{block}.norm_2.bias",), (C,))
        yield Tensor(f"{h}.mlp.c_fc.weight", (f"{block}.feed_forward.W_1",), (C, F))
        yield Tensor(f"{h}.mlp.c_fc.bias", (f"{block}.feed_forward.b_1",), (F,))
        yield Tensor(f"{h}.mlp.c_proj.weight", (f"{block}.feed_forward.W_2",), (F, C))
        yield Tensor(f"{h}.mlp.c_proj.bias", (f"{block}.feed_forward.b_2",), (C,))
    yield Tensor("ln_f.weight", ("norm.gain",), (C,))
    yield Tensor("ln_f.bias", ("norm.bias",), (C,))
    if not model.tied:
        yield Tensor("lm_head.weight", ("head",), (C, V), transposed=True)


FAMILY = Family(
    model_type="gpt2",
    model=GPT,
    architectures={"GPT2LMHeadModel": "causal-lm", "GPT2Model": "causal-lm"},
    prefix="transformer.",
    trunk=("wte.", "wpe.", "h.", "ln_f."),
    buffers=re.compile(r"^h\.\d+\.attn\.(bias|masked_bias)$"),
    read=_read,
    write=_write,
    tensors=_tensors,
    aliases=lambda model: {"lm_head.weight": "wte.weight"} if model.tied else {},
    task=lambda model: "causal-lm",
)
