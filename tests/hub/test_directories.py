"""Directories read and written: names, orientations, dtypes, warnings, and what is done with them."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm import hub
from tinylm.autograd import trees
from tinylm.checkpoint import CheckpointError, open_tensors, save_tensors
from tinylm.hub import HubError, HubWarning, writing

GPT = tl.GPT(vocab_size=11, context_length=7, d_model=6, num_heads=3, num_layers=1, d_ff=13)
BERT = tl.BERT(vocab_size=11, context_length=7, d_model=6, num_heads=3, num_layers=1, d_ff=13)
TASKS = (
    None, "masked-lm", "sequence-classification", "token-classification", "question-answering"
)  # fmt: skip
TEXT = "a rose is a rose is a rose, and so on until the last of all roses " * 3


def same(a, b):
    trees.map_leaves(np.testing.assert_array_equal, a, b)
    assert [x.dtype for _, x in sorted(trees.paths(a))] == [
        x.dtype for _, x in sorted(trees.paths(b))
    ]


def randomized(params, rng):
    """Biases and gains that are not 0 and 1, which would hide that two are exchanged."""
    return trees.map_leaves(lambda x: rng.standard_normal(x.shape).astype(x.dtype), params)


SIZES = st.fixed_dictionaries(
    {
        "vocab_size": st.integers(1, 11),
        "context_length": st.integers(1, 7),
        "num_layers": st.integers(0, 2),
        "d_ff": st.none() | st.integers(1, 5),
        "activation": st.sampled_from(["gelu", "gelu_tanh", "relu", "silu"]),
        "dropout": st.floats(0, 0.9),
        "norm_eps": st.sampled_from([1e-5, 1e-12, 0.1]),
    }
)
HEADS = st.sampled_from([(1, 1), (2, 6), (3, 6), (6, 6)])
DTYPE = st.sampled_from([np.float32, np.float64])


@given(sizes=SIZES, heads=HEADS, tied=st.booleans(), dtype=DTYPE)
def test_what_is_written_is_read_gpt(tmp_path_factory, sizes, heads, tied, dtype):
    model = tl.GPT(**sizes, num_heads=heads[0], d_model=heads[1], tied=tied)
    written_and_read(tmp_path_factory.mktemp("gpt"), model, dtype)


@given(
    sizes=SIZES, heads=HEADS, task=st.sampled_from(TASKS), dtype=DTYPE,
    segments=st.integers(1, 3), labels=st.integers(1, 4),
)  # fmt: skip
def test_what_is_written_is_read_bert(
    tmp_path_factory, sizes, heads, task, dtype, segments, labels
):
    model = tl.BERT(
        **sizes, num_heads=heads[0], d_model=heads[1], task=task, num_segments=segments,
        num_labels=labels, pad_id=sizes["vocab_size"] - 1,
    )  # fmt: skip
    written_and_read(tmp_path_factory.mktemp("bert"), model, dtype)


def written_and_read(folder, model, dtype):
    rng = np.random.default_rng(0)
    params = randomized(model.init(rng, dtype), rng)
    tl.save_pretrained(folder, model, params)
    read = tl.from_pretrained(folder)
    assert replace(read.model, d_ff=model.d_ff) == model
    assert read.model.d_ff in (model.d_ff, 4 * model.d_model)
    same(read.params, params)
    assert json.loads((folder / "config.json").read_text())["dtype"] == np.dtype(dtype).name


def write(folder, tensors, **config):
    """A directory as it might come from elsewhere."""
    folder.mkdir(exist_ok=True)
    save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


GPT_CONFIG = {
    "model_type": "gpt2", "vocab_size": 11, "n_positions": 7, "n_embd": 6, "n_head": 3, "n_layer": 1,
    "n_inner": 13, "activation_function": "gelu_new", "layer_norm_epsilon": 0.01, "n_ctx": 7,
}  # fmt: skip
BERT_CONFIG = {
    "model_type": "bert", "vocab_size": 11, "max_position_embeddings": 7, "hidden_size": 6,
    "num_attention_heads": 3, "num_hidden_layers": 1, "intermediate_size": 13,
    "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 0.01,
}  # fmt: skip


def gpt2_tensors(rng):
    """Shapes as in the module GPT2Model of transformers, by hand."""
    shapes = {
        "wte.weight": (11, 6), "wpe.weight": (7, 6), "ln_f.weight": (6,), "ln_f.bias": (6,),
        "h.0.ln_1.weight": (6,), "h.0.ln_1.bias": (6,), "h.0.ln_2.weight": (6,),
        "h.0.ln_2.bias": (6,), "h.0.attn.c_attn.weight": (6, 18), "h.0.attn.c_attn.bias": (18,),
        "h.0.attn.c_proj.weight": (6, 6), "h.0.attn.c_proj.bias": (6,),
        "h.0.mlp.c_fc.weight": (6, 13), "h.0.mlp.c_fc.bias": (13,),
        "h.0.mlp.c_proj.weight": (13, 6), "h.0.mlp.c_proj.bias": (6,),
    }  # fmt: skip
    return {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


def bert_tensors(rng):
    """Shapes as in the module BertModel, by hand; LayerNorm has the names of the first BERT."""
    layer = "encoder.layer.0"
    shapes = {
        "embeddings.word_embeddings.weight": (11, 6),
        "embeddings.position_embeddings.weight": (7, 6),
        "embeddings.token_type_embeddings.weight": (2, 6),
        "embeddings.LayerNorm.gamma": (6,), "embeddings.LayerNorm.beta": (6,),
        **{f"{layer}.attention.self.{x}.weight": (6, 6) for x in ("query", "key", "value")},
        **{f"{layer}.attention.self.{x}.bias": (6,) for x in ("query", "key", "value")},
        f"{layer}.attention.output.dense.weight": (6, 6),
        f"{layer}.attention.output.dense.bias": (6,),
        f"{layer}.attention.output.LayerNorm.gamma": (6,),
        f"{layer}.attention.output.LayerNorm.beta": (6,),
        f"{layer}.intermediate.dense.weight": (13, 6), f"{layer}.intermediate.dense.bias": (13,),
        f"{layer}.output.dense.weight": (6, 13), f"{layer}.output.dense.bias": (6,),
        f"{layer}.output.LayerNorm.gamma": (6,), f"{layer}.output.LayerNorm.beta": (6,),
        "pooler.dense.weight": (6, 6), "pooler.dense.bias": (6,),
    }  # fmt: skip
    return {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("head", [False, True])
def test_the_names_of_gpt2(tmp_path, rng, prefix, head):
    t = gpt2_tensors(rng)
    more = {f"{prefix}h.0.attn.bias": np.ones((1, 1, 7, 7), "u1")}
    more[f"{prefix}h.0.attn.masked_bias"] = np.float32(-1e4)
    if head:
        more["lm_head.weight"] = t["wte.weight"]
    write(tmp_path / "a", {prefix + name: x for name, x in t.items()} | more, **GPT_CONFIG)
    read = tl.from_pretrained(tmp_path / "a")
    assert read.model == replace(GPT, norm_eps=0.01, dropout=0.1)
    W, b = t["h.0.attn.c_attn.weight"], t["h.0.attn.c_attn.bias"]
    same(
        read.params,
        {
            "token_embedding": t["wte.weight"],
            "position_embedding": t["wpe.weight"],
            "blocks": [
                {
                    "norm_1": {"gain": t["h.0.ln_1.weight"], "bias": t["h.0.ln_1.bias"]},
                    "attention": {
                        "W_Q": W[:, :6], "W_K": W[:, 6:12], "W_V": W[:, 12:],
                        "b_Q": b[:6], "b_K": b[6:12], "b_V": b[12:],
                        "W_O": t["h.0.attn.c_proj.weight"], "b_O": t["h.0.attn.c_proj.bias"],
                    },
                    "norm_2": {"gain": t["h.0.ln_2.weight"], "bias": t["h.0.ln_2.bias"]},
                    "feed_forward": {
                        "W_1": t["h.0.mlp.c_fc.weight"], "b_1": t["h.0.mlp.c_fc.bias"],
                        "W_2": t["h.0.mlp.c_proj.weight"], "b_2": t["h.0.mlp.c_proj.bias"],
                    },
                }
            ],
            "norm": {"gain": t["ln_f.weight"], "bias": t["ln_f.bias"]},
        },
    )  # fmt: skip
    for leaf in trees.leaves(read.params):
        assert type(leaf) is np.ndarray
        assert leaf.flags.c_contiguous
        assert leaf.flags.writeable


def test_a_head_that_is_not_tied(tmp_path, rng):
    t, head = gpt2_tensors(rng), rng.standard_normal((11, 6)).astype("f4")
    write(tmp_path / "a", t | {"lm_head.weight": head}, **GPT_CONFIG, tie_word_embeddings=False)
    read = tl.from_pretrained(tmp_path / "a")
    assert not read.model.tied
    assert np.array_equal(read.params["head"], head.T)
    write(tmp_path / "b", t, **GPT_CONFIG, tie_word_embeddings=False)
    with pytest.warns(HubWarning, match=r"has no lm_head.weight: freshly initialised"):
        tl.from_pretrained(tmp_path / "b")


def test_an_embedding_that_stands_as_the_head_only(tmp_path, rng):
    t = gpt2_tensors(rng)
    head = t.pop("wte.weight")
    write(tmp_path / "a", t | {"lm_head.weight": head}, **GPT_CONFIG)
    assert np.array_equal(tl.from_pretrained(tmp_path / "a").params["token_embedding"], head)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_the_names_of_bert(tmp_path, rng, prefix):
    t = bert_tensors(rng)
    buffers = {f"{prefix}embeddings.position_ids": np.arange(7)[None]}
    write(tmp_path / "a", {prefix + n: x for n, x in t.items()} | buffers, **BERT_CONFIG)
    read = tl.from_pretrained(tmp_path / "a")
    assert read.model == replace(BERT, norm_eps=0.01)
    layer = {name.removeprefix("encoder.layer.0."): x for name, x in t.items()}

    def linear(name, letter):
        weight, bias = layer[f"{name}.weight"], layer[f"{name}.bias"]
        return {f"W{letter}": weight.T, f"b{letter}": bias}

    def norm(name):
        return {"gain": layer[f"{name}.LayerNorm.gamma"], "bias": layer[f"{name}.LayerNorm.beta"]}

    block = {
        "norm_1": norm("attention.output"),
        "attention": linear("attention.self.query", "_Q") | linear("attention.self.key", "_K")
        | linear("attention.self.value", "_V") | linear("attention.output.dense", "_O"),
        "norm_2": norm("output"),
        "feed_forward": linear("intermediate.dense", "_1") | linear("output.dense", "_2"),
    }  # fmt: skip
    same(
        read.params,
        {
            "token_embedding": t["embeddings.word_embeddings.weight"],
            "position_embedding": t["embeddings.position_embeddings.weight"],
            "segment_embedding": t["embeddings.token_type_embeddings.weight"],
            "embedding_norm": norm("embeddings"),
            "blocks": [block],
            "pooler": linear("pooler.dense", ""),
        },
    )


def head_tensors(rng, task):
    shapes = {
        "masked-lm": {
            "cls.predictions.transform.dense.weight": (6, 6),
            "cls.predictions.transform.dense.bias": (6,),
            "cls.predictions.transform.LayerNorm.weight": (6,),
            "cls.predictions.transform.LayerNorm.bias": (6,),
            "cls.predictions.bias": (11,),
        },
        "sequence-classification": {"classifier.weight": (3, 6), "classifier.bias": (3,)},
        "token-classification": {"classifier.weight": (3, 6), "classifier.bias": (3,)},
        "question-answering": {"qa_outputs.weight": (2, 6), "qa_outputs.bias": (2,)},
    }[task]
    return {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


@pytest.mark.parametrize("task", TASKS[1:])
def test_the_names_of_the_heads(tmp_path, rng, task):
    t, head = bert_tensors(rng), head_tensors(rng, task)
    if task != "sequence-classification":
        t = {name: x for name, x in t.items() if "pooler" not in name}
    more = {}
    if task == "masked-lm":
        more["cls.predictions.decoder.weight"] = t["embeddings.word_embeddings.weight"]
        more["cls.predictions.decoder.bias"] = head["cls.predictions.bias"]
    labels = {"2": "c", "0": "a", "1": "b"}
    write(tmp_path / "a", t | head | more, **BERT_CONFIG, id2label=labels)
    read = tl.from_pretrained(tmp_path / "a", task=task)
    assert read.labels == (("a", "b", "c") if "classification" in task else ())
    found = read.params["head"]
    if task == "masked-lm":
        dense, norm = "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"
        same(
            found,
            {
                "W": head[f"{dense}.weight"].T, "b": head[f"{dense}.bias"],
                "norm": {"gain": head[f"{norm}.weight"], "bias": head[f"{norm}.bias"]},
                "bias": head["cls.predictions.bias"],
            },
        )  # fmt: skip
    else:
        weight, bias = head.values()
        same(found, {"W": weight.T, "b": bias})


def test_a_head_that_is_missing_begins_afresh(tmp_path, rng):
    write(tmp_path / "a", bert_tensors(rng), **BERT_CONFIG)
    (tmp_path / "a" / "config.json").write_text(
        json.dumps(BERT_CONFIG | {"id2label": {str(i): f"label {i}" for i in range(5)}})
    )
    for task, unused in (
        ("sequence-classification", []),
        ("token-classification", ["not used: pooler.dense.weight, pooler.dense.bias"]),
    ):
        with pytest.warns(HubWarning) as told:
            read = tl.from_pretrained(tmp_path / "a", task=task)
        missing, *others = (str(w.message).removeprefix(str(tmp_path / "a")) for w in told)
        assert missing == (
            " has no classifier.weight, classifier.bias: freshly initialised, so train it before "
            "you use it"
        )
        assert [text.removeprefix(": ") for text in others] == unused
        assert all(w.filename == __file__ for w in told), "it points at the caller"
        assert read.params["head"]["W"].shape == (6, 5)
        assert 0.01 < read.params["head"]["W"].std() < 0.03
        assert not read.params["head"]["b"].any()
        with pytest.warns(HubWarning):
            same(tl.from_pretrained(tmp_path / "a", task=task).params, read.params)


def test_a_masked_head_that_is_missing(tmp_path, rng):
    write(tmp_path / "a", bert_tensors(rng), **BERT_CONFIG)
    with pytest.warns(HubWarning):
        head = tl.from_pretrained(tmp_path / "a", task="masked-lm").params["head"]
    assert head["norm"]["gain"].tolist() == [1] * 6
    assert head["bias"].tolist() == [0] * 11


@pytest.mark.parametrize(
    ("architectures", "task"),
    [
        (None, None), (["BertModel"], None), (["BertForMaskedLM"], "masked-lm"),
        (["BertForPreTraining"], "masked-lm"),
        (["BertForSequenceClassification"], "sequence-classification"),
        (["BertForTokenClassification"], "token-classification"),
        (["BertForQuestionAnswering"], "question-answering"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::tinylm.hub.HubWarning")
def test_the_task_is_that_of_the_class_that_was_saved(tmp_path, rng, architectures, task):
    write(tmp_path / "a", bert_tensors(rng), **BERT_CONFIG, architectures=architectures)
    assert tl.from_pretrained(tmp_path / "a").model.task == task
    assert tl.from_pretrained(tmp_path / "a", task="encoder").model.task is None


def bfloat16(x):
    """The upper half of a float32, cut off."""
    return (np.asarray(x, "<f4").view("<u4") >> 16).astype("<u2")


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32", "F64"])
@pytest.mark.parametrize("dtype", [None, np.float64, "float32", np.float16])
def test_dtypes(tmp_path, rng, kind, dtype):
    t = gpt2_tensors(rng)
    stored = {
        "F16": lambda x: x.astype("<f2"), "F32": lambda x: x, "F64": lambda x: x.astype("f8"),
        "BF16": bfloat16,
    }[kind]  # fmt: skip
    write(tmp_path / "a", {name: stored(x) for name, x in t.items()}, **GPT_CONFIG)
    if kind == "BF16":  # NumPy has no such dtype, under which it could be saved
        path = tmp_path / "a" / "model.safetensors"
        raw = path.read_bytes().replace(b'"U16"', b'"BF16"')
        length = raw.index(b"}}") + 2
        text = raw[8:length].ljust(length + 64)
        path.write_bytes(
            len(text).to_bytes(8, "little")
            + text
            + raw[8 + int.from_bytes(raw[:8], "little") + 16 :]
        )
    read = tl.from_pretrained(tmp_path / "a", dtype=dtype)
    wanted = np.dtype(dtype or ("f8" if kind == "F64" else "f4"))
    embedding = read.params["token_embedding"]
    assert embedding.dtype == wanted
    exact = t["wte.weight"]
    exact = {
        "F16": exact.astype("f2"),
        "BF16": (bfloat16(exact).astype("u4") << 16).view("f4"),
    }.get(kind, exact)
    assert np.array_equal(embedding, exact.astype(wanted))
    assert read(np.array([[1, 2]])).logits.dtype == wanted


BPE = tl.BPETokenizer.train(TEXT, 270)
WORD_PIECES = tl.WordPieceTokenizer.train(TEXT, 60)


def bert(task, folder, labels=()):
    model = tl.BERT(60, 16, 6, 3, 1, task=task, num_labels=3)
    rng = np.random.default_rng(1)
    params = randomized(model.init(rng, np.float64), rng)
    tl.save_pretrained(folder, model, params, WORD_PIECES, labels)
    return tl.from_pretrained(folder)


@pytest.mark.parametrize("task", TASKS)
def test_texts(tmp_path, task):
    """A text alone, and in a batch with a longer one, has the same answer."""
    read = bert(task, tmp_path, ("no", "yes", "perhaps") if task and "class" in task else ())
    assert read.tokenizer.tokens == WORD_PIECES.tokens

    def answer(*texts):
        found = read(*texts)
        return found.hidden if task is None else found.logits

    alone, batch = answer("a rose"), answer(["a rose", "is a rose, until"])
    assert len(alone) == 1
    assert len(batch) == 2
    ids, segments = WORD_PIECES.encode_pair("a rose")
    inputs = read.encode(["a rose", "is a rose, until"])
    assert inputs["ids"][0].tolist() == [
        *ids,
        *[WORD_PIECES.pad_id] * (inputs["ids"].shape[1] - len(ids)),
    ]
    assert inputs["mask"][0].sum() == len(ids)
    assert inputs["mask"][1].all()
    if task == "sequence-classification":
        assert alone.shape == (1, 3)
        assert read.labels == ("no", "yes", "perhaps")
        np.testing.assert_allclose(batch[0], alone[0], rtol=1e-12)
    else:
        assert alone.shape[:2] == (1, len(ids))
        np.testing.assert_allclose(batch[0, : len(ids)], alone[0], rtol=1e-12)
    ids, segments = WORD_PIECES.encode_pair("a rose", "is a")
    pair = answer("a rose", "is a")
    np.testing.assert_allclose(answer(["a rose"], ["is a"]), pair)
    expected = read.model(read.params, ids[None], segments[None])
    np.testing.assert_allclose(pair, expected.hidden if task is None else expected)
    assert abs(answer(ids[None]) - pair).max() > 1e-6, "without segments it is another question"


def test_shorter_texts_are_padded_with_what_the_model_says():
    read = hub.Pretrained(tl.BERT(60, 16, 6, 3, 1, pad_id=7), {}, WORD_PIECES)
    inputs = read.encode(["a", "a rose is a rose"])
    assert (inputs["ids"][0, 3:] == 7).all()
    assert inputs["ids"][0, 3:].size > 0


def gpt(folder, **generation):
    model = tl.GPT(270, 16, 6, 3, 1)
    rng = np.random.default_rng(2)
    tl.save_pretrained(folder, model, randomized(model.init(rng), rng), BPE)
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | generation))
    return tl.from_pretrained(folder)


def test_texts_for_gpt(tmp_path):
    read = gpt(tmp_path)
    alone, batch = read("a rose"), read(["a rose", "is a rose, until"])
    T = alone.ids.shape[1]
    assert alone.ids[0].tolist() == BPE.encode("a rose").tolist()
    np.testing.assert_allclose(batch.logits[0, :T], alone.logits[0], rtol=1e-5)
    assert batch.mask.sum(1).tolist() == [T, batch.ids.shape[1]]
    with pytest.raises(HubError, match="a pair of texts, for a BPETokenizer: wanted one"):
        read("a", "b")


def test_generation(tmp_path):
    read = gpt(tmp_path)
    ids = BPE.encode("a rose is")
    end = BPE.special_tokens["<|endoftext|>"]
    assert read.generation.eos == (end,)
    greedy = tl.generate(read.model, read.params, ids, 20, temperature=0.0)
    assert end not in greedy
    assert read.generate(ids).tolist() == greedy.tolist(), "20 more, the likeliest"
    assert read.generate(ids, 3).tolist() == greedy[: len(ids) + 3].tolist()
    assert read.generate("a rose is", 3) == BPE.decode(greedy[: len(ids) + 3])
    drawn = tl.generate(read.model, read.params, ids, 5, 2.0, 7, 0.9, np.random.default_rng(3))
    got = read.generate(ids, 5, 2.0, 7, 0.9, np.random.default_rng(3))
    assert got.tolist() == drawn.tolist()


def test_generation_as_the_directory_says(tmp_path):
    ids = BPE.encode("a rose is")
    settings = {"do_sample": True, "temperature": 2.0, "top_k": 7, "top_p": 0.9}
    read = gpt(tmp_path, **settings, max_length=len(ids) + 5, eos_token_id=None)
    drawn = tl.generate(read.model, read.params, ids, 5, 2.0, 7, 0.9, np.random.default_rng(3))
    assert read.generate(ids, rng=np.random.default_rng(3)).tolist() == drawn.tolist()
    greedy = tl.generate(read.model, read.params, ids, 20, temperature=0.0)
    third = int(greedy[len(ids) + 2])
    first = len(ids) + greedy[len(ids) :].tolist().index(third)
    for eos in (third, [third, 1]):
        read = gpt(tmp_path, eos_token_id=eos, max_new_tokens=9, top_k=0)
        assert read.generate(ids).tolist() == greedy[: first + 1].tolist()
        assert read.generate("a rose is") == BPE.decode(greedy[:first])
    with pytest.warns(HubWarning, match="generation_config.json: num_beams=4 is not done here"):
        gpt(tmp_path, num_beams=4)
    (tmp_path / "generation_config.json").unlink()
    assert tl.from_pretrained(tmp_path).generation.eos == (BPE.special_tokens["<|endoftext|>"],)


def test_without_a_tokenizer(tmp_path):
    tl.save_pretrained(tmp_path, GPT, GPT.init(np.random.default_rng(0)))
    read = tl.from_pretrained(tmp_path)
    assert read.tokenizer is None
    assert read(np.array([1, 2, 3])).logits.shape == (3, 11)
    assert read.generate([1, 2], 3).shape == (5,)
    for asked in (lambda: read("a"), lambda: read(["a", "b"]), lambda: read.generate("a")):
        with pytest.raises(HubError, match="the directory has no tokenizer: wanted ids"):
            asked()
    for first, second in (
        (np.ones(3), None),
        ([], None),
        ([1], "a"),
        (["a", 1], None),
        (None, None),
    ):
        with pytest.raises(HubError, match="wanted a text, texts, pairs of texts, or integers"):
            read(first, second)
    with pytest.raises(HubError, match="2 texts and 1 second texts: wanted pairs"):
        read(["a", "b"], ["a"])
    with pytest.raises(HubError, match=r"GPT and ids of shape \(1, 2\): wanted a GPT and one"):
        read.generate([[1, 2]])


def test_a_tokenizer_that_is_damaged(tmp_path):
    bert(None, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(HubError, match="tokenizer.json"):
        tl.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("positions", "rotary"), ("positions", "sinusoidal"), ("positions", "none"),
        ("norm", "rms"), ("pre_norm", False), ("bias", False),
    ],
)  # fmt: skip
def test_options_that_theirs_has_not(tmp_path, option, value):
    model = replace(GPT, **{option: value})
    params = model.init(np.random.default_rng(0))
    with pytest.raises(
        HubError, match=f"save_pretrained: GPT: {option}={value!r}: a model of type"
    ):
        tl.save_pretrained(tmp_path / "a", model, params)
    assert not list(tmp_path.iterdir())


def test_recompute_is_left_out(tmp_path):
    model = replace(GPT, recompute=True)
    tl.save_pretrained(tmp_path / "a", model, model.init(np.random.default_rng(0)))
    assert tl.from_pretrained(tmp_path / "a").model == GPT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("norm"), r"params: norm.gain is of object and shape \(\): wanted floats of"),
        (lambda p: p.update(head=np.ones(3)), "params: head: the model has no such leaf"),
        (lambda p: p.update(token_embedding=np.ones((11, 7))), r"token_embedding is of float64 and"),
        (lambda p: p.update(token_embedding=np.ones((11, 6), int)), "token_embedding is of int64"),
        (lambda p: p["blocks"].pop(), "params: blocks.0.norm_1.gain"),
        (lambda p: p["blocks"].append({"W": np.ones(3)}), "blocks.1.W: the model has no such leaf"),
    ],
)  # fmt: skip
def test_parameters_of_another_model(tmp_path, change, message):
    params = GPT.init(np.random.default_rng(0))
    change(params)
    with pytest.raises(HubError, match=message):
        tl.save_pretrained(tmp_path / "a", GPT, params)
    assert not list(tmp_path.iterdir())


def test_models_and_tokenizers_that_theirs_has_not(tmp_path):
    with pytest.raises(HubError, match="model is a dict: wanted GPT or BERT"):
        tl.save_pretrained(tmp_path / "a", {}, {})
    with pytest.raises(TypeError):
        tl.save_pretrained(
            tmp_path, GPT, GPT.init(np.random.default_rng(0)), tl.CharTokenizer.train("abc")
        )
    with pytest.raises(HubError, match="labels"):
        tl.save_pretrained(
            tmp_path, replace(BERT, task="token-classification"), {}, labels=("a", "b", "c")
        )
    params = trees.map_leaves(np.longdouble, GPT.init(np.random.default_rng(0)))
    with pytest.raises(CheckpointError, match="wanted F64"):
        tl.save_pretrained(tmp_path, GPT, params)
    assert not list(tmp_path.iterdir())


def test_what_fails_leaves_what_was_there(tmp_path, monkeypatch):
    model = replace(GPT, vocab_size=BPE.vocab_size)
    tl.save_pretrained(tmp_path, model, model.init(np.random.default_rng(0)), BPE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*args):
        raise OSError(28, "No space left on device")

    for part in ("save_tensors", "write_tokenizer", "_write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(writing, part, full)
            with pytest.raises(OSError, match="No space left"):
                tl.save_pretrained(tmp_path, model, model.init(np.random.default_rng(1)), BPE)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_is_interrupted_between_two_files_is_no_directory(tmp_path, monkeypatch):
    tl.save_pretrained(tmp_path, GPT, GPT.init(np.random.default_rng(0)))
    moved = []

    def once(self, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(target.name)
        return real(self, target)

    real = type(tmp_path).replace
    monkeypatch.setattr(
        writing, "write_atomically", lambda path, pieces: path.write_bytes(b"".join(pieces))
    )
    monkeypatch.setattr(writing, "save_tensors", lambda path, *rest: path.write_bytes(b""))
    monkeypatch.setattr(type(tmp_path), "replace", once)
    with pytest.raises(KeyboardInterrupt):
        tl.save_pretrained(tmp_path, GPT, GPT.init(np.random.default_rng(1)))
    assert moved
    with pytest.raises(HubError, match="config.json: No such file"):
        tl.from_pretrained(tmp_path)


def test_what_is_written(tmp_path):
    model = replace(GPT, vocab_size=BPE.vocab_size)
    tl.save_pretrained(tmp_path, model, model.init(np.random.default_rng(0)), BPE)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["model_type"] == "gpt2"
    assert config["activation_function"] == "gelu_new"
    assert config["eos_token_id"] == BPE.special_tokens["<|endoftext|>"]
    raw = (tmp_path / "model.safetensors").read_bytes()
    assert b'"__metadata__": {"format": "pt"}' in raw[:200]
    names = set(open_tensors(tmp_path / "model.safetensors"))
    assert names == {f"transformer.{name}" for name in gpt2_tensors(np.random.default_rng(0))}
    tl.save_pretrained(tmp_path / "bert", BERT, BERT.init(np.random.default_rng(0)))
    assert "embeddings.LayerNorm.weight" in open_tensors(tmp_path / "bert" / "model.safetensors")
    model = replace(BERT, task="sequence-classification")
    tl.save_pretrained(
        tmp_path / "c", model, model.init(np.random.default_rng(0)), labels=["x", "y"]
    )
    names = set(open_tensors(tmp_path / "c" / "model.safetensors"))
    assert {"bert.pooler.dense.weight", "classifier.weight"} < names
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    assert config["id2label"] == {"0": "x", "1": "y"}
    assert config["label2id"] == {"x": 0, "y": 1}


def test_gradients_go_through(tmp_path):
    read = bert("sequence-classification", tmp_path)
    inputs = read.encode(["a rose", "is a rose"])
    grads = tl.grad(lambda p: read.model.loss(p, inputs, np.array([0, 2])))(read.params)
    assert all(np.isfinite(leaf).all() for leaf in trees.leaves(grads))


def test_importing_tinylm_loads_no_hub():
    code = "import sys, tinylm; assert not [m for m in sys.modules if 'hub' in m]; tinylm.hub"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(hub.__all__) >= {"download", "from_pretrained", "save_pretrained"}


def test_what_samples_and_says_no_more_draws_among_fifty(tmp_path):
    assert gpt(tmp_path, do_sample=True).generation.top_k == 50  # as transformers does
    assert gpt(tmp_path, do_sample=True, top_k=0).generation.top_k is None
    assert gpt(tmp_path, do_sample=False).generation.top_k is None


@pytest.mark.parametrize(
    "field", ["min_new_tokens", "suppress_tokens", "typical_p", "stop_strings"]
)
def test_what_is_not_done_is_told(tmp_path, field):
    with pytest.warns(HubWarning, match=f"generation_config.json: {field}=.* is not done here"):
        gpt(tmp_path, **{field: [3]})


def test_how_to_generate_walks_out_again(tmp_path):
    settings = {"do_sample": True, "temperature": 2.0, "top_k": 7, "top_p": 0.9}
    read = gpt(tmp_path / "a", **settings, max_new_tokens=5, eos_token_id=[3, 4])
    tl.save_pretrained(
        tmp_path / "b", read.model, read.params, read.tokenizer, generation=read.generation
    )
    assert tl.from_pretrained(tmp_path / "b").generation == read.generation


def test_nothing_stays_of_another_model(tmp_path):
    bert = replace(BERT, vocab_size=WORD_PIECES.vocab_size)
    tl.save_pretrained(tmp_path, bert, bert.init(np.random.default_rng(0)), WORD_PIECES)
    tl.save_pretrained(tmp_path, GPT, GPT.init(np.random.default_rng(0)))
    assert tl.from_pretrained(tmp_path).tokenizer is None
    tl.save_pretrained(tmp_path, bert, bert.init(np.random.default_rng(0)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_labels_and_tokenizers_that_do_not_fit(tmp_path):
    model = replace(BERT, task="token-classification", num_labels=3)
    params = model.init(np.random.default_rng(0))
    for labels in (("a", "b"), ("a", "b", "a")):
        with pytest.raises(HubError, match="labels=.*: wanted 3 different names"):
            tl.save_pretrained(tmp_path, model, params, labels=labels)
    with pytest.raises(HubError, match="labels=.*: wanted 0 different names"):
        tl.save_pretrained(tmp_path, GPT, GPT.init(np.random.default_rng(0)), labels=("a",))
    with pytest.raises(HubError, match=r"tokenizer has \d+ tokens: wanted at most the model's 11"):
        tl.save_pretrained(tmp_path, GPT, GPT.init(np.random.default_rng(0)), BPE)
    assert not list(tmp_path.iterdir())
