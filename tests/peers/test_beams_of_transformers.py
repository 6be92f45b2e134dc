"""transformers as a witness: the tokens that GPT-2 writes, greedily and by beam search."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import tinylm as tl

SIZES = {"vocab_size": 23, "context_length": 19, "d_model": 12, "num_heads": 3, "num_layers": 2}


def gpt2(seed):
    """Their model of small sizes and large random weights, and the same as one of ours."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=23, n_positions=19, n_embd=12, n_head=3, n_layer=2,
        bos_token_id=None, eos_token_id=None, initializer_range=0.4,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    theirs = GPT2LMHeadModel(config).double().eval()
    for p in theirs.parameters():  # biases and gains that are not just 0 and 1
        p.data += 0.1 * torch.randn_like(p)
    w = {key: x.numpy() for key, x in theirs.transformer.state_dict().items()}

    def norm(key):
        return {"gain": w[f"{key}.weight"], "bias": w[f"{key}.bias"]}

    def layer(key):
        W, b = (np.split(w[f"{key}.attn.c_attn.{kind}"], 3, axis=-1) for kind in ("weight", "bias"))
        return {
            "norm_1": norm(f"{key}.ln_1"),
            "attention": {
                **{f"W_{k}": x for k, x in zip("QKV", W, strict=True)},
                **{f"b_{k}": x for k, x in zip("QKV", b, strict=True)},
                "W_O": w[f"{key}.attn.c_proj.weight"],
                "b_O": w[f"{key}.attn.c_proj.bias"],
            },
            "norm_2": norm(f"{key}.ln_2"),
            "feed_forward": {
                "W_1": w[f"{key}.mlp.c_fc.weight"],
                "b_1": w[f"{key}.mlp.c_fc.bias"],
                "W_2": w[f"{key}.mlp.c_proj.weight"],
                "b_2": w[f"{key}.mlp.c_proj.bias"],
            },
        }

    params = {
        "token_embedding": w["wte.weight"],
        "position_embedding": w["wpe.weight"],
        "blocks": [layer(f"h.{i}") for i in range(2)],
        "norm": norm("ln_f"),
    }
    return theirs, tl.GPT(**SIZES), params


def written(theirs, prompts, stops, max_new_tokens, **options):
    prompts = torch.tensor(prompts)
    with torch.no_grad():
        return theirs.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=stops or None,
            pad_token_id=stops[0] if stops else 22,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )


def cases(seed):
    """Models, prompts, and tokens that end a sequence and that the model likes to write."""
    theirs, ours, params = gpt2(seed)
    prompts = np.random.default_rng(seed).integers(0, 23, (3, 4))
    said = tl.generate(ours, params, prompts, 12, temperature=0)[:, 4:]
    liked = np.bincount(said[:, 2:].ravel(), minlength=23).argsort()[::-1].tolist()
    for stops in ([], liked[:1], liked[:3]):
        yield theirs, ours, params, prompts, stops


def assert_same_ids(ours, theirs, stops):
    """Theirs end with the longest, ours have one length."""
    theirs = theirs.numpy().reshape(*ours.shape[:-1], -1)
    length = theirs.shape[-1]
    assert ours[..., :length].tolist() == theirs.tolist()
    assert set(ours[..., length:].ravel().tolist()) <= {*stops[:1]}


@pytest.mark.parametrize("seed", range(4))
def test_logits_and_greedy(seed):
    for theirs, ours, params, prompts, stops in cases(seed):
        with torch.no_grad():
            logits = theirs(torch.tensor(prompts)).logits.numpy()
        np.testing.assert_allclose(ours(params, prompts), logits, rtol=1e-10, atol=1e-10)
        expected = written(theirs, prompts, stops, 13).sequences
        got = tl.generate(ours, params, prompts, 13, temperature=0, stop=stops)
        assert_same_ids(got, expected, stops)
        best = tl.beam_search(ours, params, prompts, 13, num_beams=1, stop=stops).best
        assert best.tolist() == got.tolist()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
def test_beam_search(seed, num_beams, length_penalty):
    early = 0
    for theirs, ours, params, prompts, stops in cases(seed):
        expected = written(
            theirs, prompts, stops, 13, num_beams=num_beams, early_stopping=False,
            length_penalty=length_penalty, num_return_sequences=num_beams,
        )  # fmt: skip
        found = tl.beam_search(ours, params, prompts, 13, num_beams, length_penalty, stops)
        assert_same_ids(found.ids, expected.sequences, stops)
        scores = expected.sequences_scores.numpy().reshape(found.scores.shape)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
        early += np.count_nonzero(np.isin(found.ids[..., 4:-1], stops))
    assert early or length_penalty > 1, "no sequence ended before all were as long as can be"
