"""BERT: its config.json, and the names of its tensors, those of the heads of its tasks among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tinylm.hub.fields import ACTIVATIONS, Fields, their_activation
from tinylm.hub.renaming import Family, Tensor
from tinylm.models import BERT


def _read(config: Fields, task: str) -> BERT:
    for field in ("is_decoder", "add_cross_attention"):
        config.only(field, possible=False)
    config.only("position_embedding_type", "absolute")
    if task == "masked-lm":
        config.only("tie_word_embeddings", possible=True)
    config.rate("attention_probs_dropout_prob")
    config.multiple("hidden_size", "num_attention_heads")
    pad_id, vocab_size = (
        config.size_or_none("pad_token_id", least=0) or 0,
        config.size("vocab_size"),
    )
    if pad_id >= vocab_size:
        raise config.wrong("pad_token_id", f"below vocab_size={vocab_size}")
    return BERT(
        vocab_size=vocab_size,
        context_length=config.size("max_position_embeddings"),
        d_model=config.size("hidden_size"),
        num_heads=config.size("num_attention_heads"),
        num_layers=config.size("num_hidden_layers", least=0),
        d_ff=config.size("intermediate_size"),
        num_segments=config.size("type_vocab_size"),
        pad_id=pad_id,
        activation=config.choice("hidden_act", ACTIVATIONS, "gelu"),
        dropout=config.rate("hidden_dropout_prob"),
        norm_eps=config.eps("layer_norm_eps", 1e-12),
        task=None if task == "encoder" else task,
        num_labels=len(config.labels()),
    )


def _write(model: BERT) -> dict[str, Any]:
    return {
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.context_length,
        "hidden_size": model.d_model,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "intermediate_size": model.d_ff or 4 * model.d_model,
        "type_vocab_size": model.num_segments,
        "hidden_act": their_activation(model.activation),
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": None,
        "layer_norm_eps": model.norm_eps,
        "pad_token_id": model.pad_id,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "is_decoder": False,
        "add_cross_attention": False,
        "position_embedding_type": "absolute",
        "use_cache": True,
    }


def _linear(name: str, W: str, b: str, d_in: int, d_out: int) -> Iterator[Tensor]:
    """The two tensors of one of PyTorch's linear maps."""
    yield Tensor(f"{name}.weight", (W,), (d_in, d_out), transposed=True)
    yield Tensor(f"{name}.bias", (b,), (d_out,))


def _norm(name: str, path: str, width: int) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (f"{path}.gain",), (width,))
    yield Tensor(f"{name}.bias", (f"{path}.bias",), (width,))


def _tensors(model: BERT) -> Iterator[Tensor]:
    V, C, F = model.vocab_size, model.d_model, model.d_ff or 4 * model.d_model
    embeddings = "embeddings"
    yield Tensor(f"{embeddings}.word_embeddings.weight", ("token_embedding",), (V, C))
    yield Tensor(
        f"{embeddings}.position_embeddings.weight",
        ("position_embedding",),
        (model.context_length, C),
    )
    yield Tensor(
        f"{embeddings}.token_type_embeddings.weight",
        ("segment_embedding",),
        (model.num_segments, C),
    )
    yield from _norm(f"{embeddings}.LayerNorm", "embedding_norm", C)
    for i in range(model.num_layers):
        layer, block = f"encoder.layer.{i}", f"blocks.{i}"
        attention, think = f"{block}.attention", f"{block}.feed_forward"
        for kind, name in zip("QKV", ("query", "key", "value"), strict=True):
            theirs = f"{layer}.attention.self.{name}"
            yield from _linear(theirs, f"{attention}.W_{kind}", f"{attention}.b_{kind}", C, C)
        output = f"{layer}.attention.output"
        yield from _linear(f"{output}.dense", f"{attention}.W_O", f"{attention}.b_O", C, C)
        yield from _norm(f"{output}.LayerNorm", f"{block}.norm_1", C)
        yield from _linear(f"{layer}.intermediate.dense", f"{think}.W_1", f"{think}.b_1", C, F)
        yield from _linear(f"{layer}.output.dense", f"{think}.W_2", f"{think}.b_2", F, C)
        yield from _norm(f"{layer}.output.LayerNorm", f"{block}.norm_2", C)
    if model.task in (None, "sequence-classification"):
        yield from _linear("pooler.dense", "pooler.W", "pooler.b", C, C)
    if model.task == "masked-lm":
        yield from _linear("cls.predictions.transform.dense", "head.W", "head.b", C, C)
        yield from _norm("cls.predictions.transform.LayerNorm", "head.norm", C)
        yield Tensor("cls.predictions.bias", ("head.bias",), (V,))
    elif model.task == "question-answering":
        yield from _linear("qa_outputs", "head.W", "head.b", C, 2)
    elif model.task is not None:
        yield from _linear("classifier", "head.W", "head.b", C, model.num_labels)


def _aliases(model: BERT) -> dict[str, str]:
    """The decoder of the masked tokens is the embedding, and its bias has two names."""
    if model.task != "masked-lm":
        return {}
    return {
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }


FAMILY = Family(
    model_type="bert",
    model=BERT,
    architectures={
        "BertModel": "encoder",
        "BertForMaskedLM": "masked-lm",
        "BertForPreTraining": "masked-lm",
        "BertForSequenceClassification": "sequence-classification",
        "BertForTokenClassification": "token-classification",
        "BertForQuestionAnswering": "question-answering",
    },
    prefix="bert.",
    trunk=("embeddings.", "encoder."),
    buffers=re.compile(r"^embeddings\.(position_ids|token_type_ids)$"),
    read=_read,
    write=_write,
    tensors=_tensors,
    aliases=_aliases,
    task=lambda model: model.task or "encoder",
)
