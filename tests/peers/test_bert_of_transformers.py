"""transformers as a witness: every BERT with random weights, its logits and all its gradients."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers
from bert_names import mapped
from helpers import assert_close, distance

import tinylm as tl
from tinylm.autograd import trees

CLASSES = {
    None: transformers.BertModel,
    "masked-lm": transformers.BertForMaskedLM,
    "sequence-classification": transformers.BertForSequenceClassification,
    "token-classification": transformers.BertForTokenClassification,
    "question-answering": transformers.BertForQuestionAnswering,
}
MODELS = [
    tl.BERT(vocab_size=23, context_length=11, d_model=12, num_heads=3, num_layers=2),
    tl.BERT(37, 7, 10, 1, 1, d_ff=13, activation="gelu_tanh", norm_eps=1e-5, num_labels=5),
    tl.BERT(11, 9, 16, 4, 3, d_ff=24, num_segments=3, activation="relu", num_labels=3),
]


def their_model(model, dtype):
    """One of transformers with random weights of a size that matters."""
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=model.vocab_size,
        max_position_embeddings=model.context_length,
        hidden_size=model.d_model,
        num_attention_heads=model.num_heads,
        num_hidden_layers=model.num_layers,
        intermediate_size=model.d_ff or 4 * model.d_model,
        type_vocab_size=model.num_segments,
        hidden_act={"gelu_tanh": "gelu_new"}.get(model.activation, model.activation),
        layer_norm_eps=model.norm_eps,
        num_labels=2 if model.task == "question-answering" else model.num_labels,
        pad_token_id=None,  # else the row of padding has no gradient there
        attn_implementation="eager",
    )
    theirs = CLASSES[model.task](config).eval().to(dtype)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            p.normal_(float(name.endswith("LayerNorm.weight")), 0.5 if p.ndim > 1 else 0.1)
    return theirs


def as_numpy(named):
    return {name: x.detach().numpy() for name, x in named}


def batch(model, rng):
    """Texts of different lengths, with segments, the rest padding."""
    T = model.context_length
    mask = np.arange(T) < np.array([T, T // 2, 1])[:, None]
    ids = np.where(mask, rng.integers(0, model.vocab_size, (3, T)), model.pad_id)
    return {"ids": ids, "segments": rng.integers(0, model.num_segments, (3, T)), "mask": mask}


def their_inputs(inputs):
    names = {"ids": "input_ids", "segments": "token_type_ids", "mask": "attention_mask"}
    return {names[key]: torch.tensor(x.astype(np.int64)) for key, x in inputs.items()}


def results(theirs, inputs, **targets):
    """What transformers answers, in our shapes, and its loss."""
    answer = theirs(**their_inputs(inputs), **targets)
    if hasattr(answer, "start_logits"):
        return [torch.stack([answer.start_logits, answer.end_logits], dim=-1)], answer.loss
    if hasattr(answer, "pooler_output"):
        return [answer.last_hidden_state, answer.pooler_output], None
    return [answer.logits], answer.loss


TASK = pytest.mark.parametrize("task", CLASSES)
MODEL = pytest.mark.parametrize("model", MODELS, ids=["gelu", "gelu_tanh", "relu"])


@TASK
@MODEL
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str
)
def test_values(task, model, dtype, tolerance, rng):
    model = dataclasses.replace(model, task=task)
    theirs = their_model(model, dtype)
    tensors = as_numpy(theirs.named_parameters())
    params = mapped(model, tensors)
    assert len(trees.leaves(params)) == len(tensors), "all of them are used"
    inputs = batch(model, rng)
    for given in (inputs, {"ids": inputs["ids"]}, {"ids": inputs["ids"][:, :2]}):
        got = trees.leaves(model(params, **given))
        expected = [x.detach().numpy() for x in results(theirs, given)[0]]
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == b.dtype
            assert distance(a, b) < tolerance


@TASK
@MODEL
def test_all_gradients(task, model, rng):
    model = dataclasses.replace(model, task=task)
    theirs = their_model(model, torch.float64)
    params = mapped(model, as_numpy(theirs.named_parameters()))
    inputs = batch(model, rng)
    T, V, labels = model.context_length, model.vocab_size, model.num_labels
    if task is None:
        expected, _ = results(theirs, inputs)
        cotangents = [rng.standard_normal(x.shape) for x in expected]
        sum(
            (x * torch.tensor(c)).sum() for x, c in zip(expected, cotangents, strict=True)
        ).backward()

        def loss(params):
            encoded = model(params, **inputs)
            return sum(np.sum(x * c) for x, c in zip(encoded, cotangents, strict=True))
    else:
        targets = {
            "masked-lm": np.where(rng.random((3, T)) < 0.5, -100, rng.integers(0, V, (3, T))),
            "sequence-classification": rng.integers(0, labels, 3),
            "token-classification": np.where(inputs["mask"], rng.integers(0, labels, (3, T)), -100),
            "question-answering": rng.integers(0, T, (3, 2)),
        }[task]
        given = {"labels": torch.tensor(targets)}
        if task == "question-answering":
            start, end = torch.tensor(targets).T
            given = {"start_positions": start, "end_positions": end}
        _, their_loss = results(theirs, inputs, **given)
        their_loss.backward()
        assert model.loss(params, inputs, targets) == pytest.approx(their_loss.item(), rel=1e-12)

        def loss(params):
            return model.loss(params, inputs, targets)

    expected = mapped(model, as_numpy((n, p.grad) for n, p in theirs.named_parameters()))
    gradient = tl.grad(loss)(params)
    floor = max(np.max(np.abs(g)) for g in trees.leaves(expected))
    assert_close(gradient, expected, 1e-10, floor=1e-3 * floor)
