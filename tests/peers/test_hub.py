"""transformers as a witness of the hub: it writes and we read, we write and it reads."""

import json
import logging
import warnings

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import tinylm as tl
from tinylm.hub import HubWarning

transformers.utils.logging.disable_progress_bar()
CLASSES = {
    "causal-lm": transformers.GPT2LMHeadModel,
    "encoder": transformers.BertModel,
    "masked-lm": transformers.BertForMaskedLM,
    "sequence-classification": transformers.BertForSequenceClassification,
    "token-classification": transformers.BertForTokenClassification,
    "question-answering": transformers.BertForQuestionAnswering,
}
BERT_TASKS = [task for task in CLASSES if task != "causal-lm"]
TASK = pytest.mark.parametrize("task", CLASSES)
SIZE = pytest.mark.parametrize("size", range(3))
DTYPES = {"float64": (torch.float64, 1e-10), "float32": (torch.float32, 1e-5)}
DTYPE = pytest.mark.parametrize("dtype", DTYPES)
GPT2_SIZES = [
    {"vocab_size": 300, "n_positions": 19, "n_embd": 12, "n_head": 3, "n_layer": 2},
    {"vocab_size": 277, "n_positions": 23, "n_embd": 10, "n_head": 1, "n_layer": 1, "n_inner": 13,
     "activation_function": "gelu", "layer_norm_epsilon": 1e-3},
    {"vocab_size": 290, "n_positions": 17, "n_embd": 24, "n_head": 4, "n_layer": 3,
     "activation_function": "relu", "tie_word_embeddings": False},
]  # fmt: skip
BERT_SIZES = [
    {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 48,
     "max_position_embeddings": 29},
    {"hidden_size": 10, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 13,
     "max_position_embeddings": 31, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 17,
     "max_position_embeddings": 37, "hidden_act": "silu", "type_vocab_size": 3},
]  # fmt: skip
PROSE = "The quick brown fox jumps over the lazy dog, and so did I. Time flies like an arrow. " * 9
WORD_PIECES = tl.WordPieceTokenizer.train(PROSE, 71)
TEXTS = ["The quick brown fox", "so did I", "like an arrow, lazy dog."]


def theirs(task, size, dtype="float64"):
    """A model of transformers with random weights, none of which hides what is exchanged."""
    torch.manual_seed(size)
    if task == "causal-lm":
        config = transformers.GPT2Config(**GPT2_SIZES[size], bos_token_id=1, eos_token_id=2)
    else:
        labels = {"id2label": {i: f"label {i}" for i in range(size + 2)}}
        labels = labels if "classification" in task else {}
        config = transformers.BertConfig(vocab_size=71, **BERT_SIZES[size], **labels)
    model = CLASSES[task](config).to(DTYPES[dtype][0]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3 + 0.1)
    return model


def inputs_of(model, rng):
    """Ids, segments and a mask of some texts of different lengths."""
    config = model.config
    ids = rng.integers(0, config.vocab_size, (3, 11))
    mask = np.arange(11) < np.array([[11], [7], [2]])
    segments = rng.integers(0, getattr(config, "type_vocab_size", 1), ids.shape)
    return ids, segments, mask


def logits_of(model, ids, segments=None, mask=None):
    """What transformers answers, in the form of ours."""
    arguments = {"input_ids": ids}
    if mask is not None:
        arguments["attention_mask"] = mask.astype(int)
    if segments is not None:
        arguments["token_type_ids"] = segments
    with torch.no_grad():
        answer = model(**{key: torch.tensor(x) for key, x in arguments.items()})
    if hasattr(answer, "pooler_output"):
        return [answer.last_hidden_state.numpy(), answer.pooler_output.numpy()]
    if hasattr(answer, "start_logits"):
        return [np.stack([answer.start_logits.numpy(), answer.end_logits.numpy()], -1)]
    return [answer.logits.numpy()]


def agree(ours, answers, tolerance):
    """All the answers, relative to the largest number in each."""
    ours = list(ours) if isinstance(ours, tuple) else [ours]
    for a, b in zip(ours, answers, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()
        assert np.std(b) > 1e-2


def our_answer(read, ids, segments, mask):
    if read.model.__class__ is tl.GPT:
        return read.model(read.params, ids)
    return read.model(read.params, ids, segments, mask)


def compare(read, model, rng, tolerance):
    ids, segments, mask = inputs_of(model, rng)
    if isinstance(model, transformers.GPT2LMHeadModel):
        segments = mask = None
    agree(our_answer(read, ids, segments, mask), logits_of(model, ids, segments, mask), tolerance)


@pytest.fixture
def told(caplog):
    """What transformers logs while it loads: nothing about weights may be there."""
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records]
    library.removeHandler(caplog.handler)


@TASK
@SIZE
@DTYPE
def test_we_read_what_it_writes_and_back(tmp_path, rng, told, task, size, dtype):
    model, tolerance = theirs(task, size, dtype), DTYPES[dtype][1]
    model.save_pretrained(tmp_path / "theirs")
    read = tl.from_pretrained(tmp_path / "theirs")
    compare(read, model, rng, tolerance)
    if "classification" in task:
        assert read.labels == tuple(model.config.id2label.values())

    tl.save_pretrained(tmp_path / "ours", read.model, read.params, labels=read.labels)
    back, info = CLASSES[task].from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    assert told() == []
    assert back.dtype == DTYPES[dtype][0]
    compare(read, back.eval(), rng, tolerance)
    for name, parameter in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], parameter), name
    if "classification" in task:
        assert back.config.id2label == model.config.id2label
    left_out = {"dtype", "transformers_version", "architectures", "_name_or_path", "label2id"}
    dropout = {key for key in model.config.to_dict() if "drop" in key}
    for key, value in model.config.to_dict().items():
        if key not in left_out | dropout:
            assert back.config.to_dict()[key] == value or key.endswith("token_id"), key


@TASK
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(tmp_path, rng, task, kind):
    """What is read is exactly what the file holds, in float32 or float64."""
    model = theirs(task, 0).to(kind)
    model.save_pretrained(tmp_path)
    compare(tl.from_pretrained(tmp_path), model.float(), rng, 1e-5)
    compare(tl.from_pretrained(tmp_path, dtype=np.float64), model.double(), rng, 1e-10)


@TASK
def test_shards(tmp_path, rng, task):
    model = theirs(task, 0)
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    compare(tl.from_pretrained(tmp_path), model, rng, 1e-10)


def renamed(folder, rename):
    path = folder / "model.safetensors"
    save_file({rename(k): x for k, x in load_file(path).items()}, path, {"format": "pt"})


@TASK
def test_old_names(tmp_path, rng, task):
    """gamma and beta, with and without the prefix; buffers; tied tensors a second time."""
    model = theirs(task, 0)
    model.save_pretrained(tmp_path)
    prefix = "transformer." if task == "causal-lm" else "bert."
    renamed(tmp_path, lambda name: name.removeprefix(prefix))
    compare(tl.from_pretrained(tmp_path), model, rng, 1e-10)
    if task == "encoder":
        renamed(tmp_path, lambda name: prefix + name)
        compare(tl.from_pretrained(tmp_path), model, rng, 1e-10)

    def old(name):
        if "LayerNorm" not in name:
            return name
        return name.replace("weight", "gamma").replace("bias", "beta")

    renamed(tmp_path, old)
    tensors = load_file(tmp_path / "model.safetensors")
    if task == "causal-lm":
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 19, 19).bool()
        tensors["h.1.attn.masked_bias"] = torch.tensor(-1e4)
        tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    else:
        at = prefix if task == "encoder" else ""
        tensors[f"{at}embeddings.position_ids"] = torch.arange(29)[None]
    if task == "masked-lm":
        word = tensors["embeddings.word_embeddings.weight"]
        tensors["cls.predictions.decoder.weight"] = word.clone()
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    compare(tl.from_pretrained(tmp_path), model, rng, 1e-10)


@SIZE
def test_a_gpt2_without_its_head(tmp_path, rng, size):
    model = theirs("causal-lm", size)
    model.transformer.save_pretrained(tmp_path)
    if model.config.tie_word_embeddings:
        compare(tl.from_pretrained(tmp_path), model, rng, 1e-10)
    else:
        with pytest.warns(HubWarning, match="has no lm_head.weight: freshly initialised"):
            tl.from_pretrained(tmp_path)


@pytest.mark.parametrize("task", BERT_TASKS[2:])
def test_a_head_on_an_encoder_that_has_none(tmp_path, rng, task):
    """As transformers does it: the same encoder, and a head that has to be trained."""
    model = theirs("encoder", 1)
    model.save_pretrained(tmp_path)
    with pytest.warns(HubWarning) as warned:
        read = tl.from_pretrained(tmp_path, task=task)
    assert "freshly initialised" in str(warned[0].message)
    tl.save_pretrained(tmp_path / "ours", read.model, read.params)
    back = CLASSES[task].from_pretrained(tmp_path / "ours").eval()
    compare(read, back, rng, 1e-10)
    for name, parameter in back.bert.state_dict().items():
        assert torch.equal(parameter, model.state_dict()[name])


def test_a_pre_trained_bert_for_all_tasks(tmp_path, rng):
    """BertForPreTraining, as bert-base-uncased is saved: two heads, of which we know one."""
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=71, **BERT_SIZES[0])
    model = transformers.BertForPreTraining(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    model.save_pretrained(tmp_path)
    ids, segments, mask = inputs_of(model, rng)
    with pytest.warns(HubWarning, match="not used: pooler.dense.bias, .*cls.seq_relationship"):
        read = tl.from_pretrained(tmp_path)
    with torch.no_grad():
        answer = model(torch.tensor(ids), torch.tensor(mask * 1), torch.tensor(segments))
    agree(our_answer(read, ids, segments, mask), [answer.prediction_logits.numpy()], 1e-10)
    with pytest.warns(HubWarning, match="not used: cls.predictions"):
        read = tl.from_pretrained(tmp_path, task="encoder")
    agree(our_answer(read, ids, segments, mask), logits_of(model.bert, ids, segments, mask), 1e-10)


@SIZE
@DTYPE
def test_the_same_tokens(tmp_path, rng, size, dtype):
    """Greedy, one by one, until the context is full or the end comes."""
    model = theirs("causal-lm", size, dtype)
    model.save_pretrained(tmp_path)
    read = tl.from_pretrained(tmp_path)
    assert read.generation.eos == (2,)
    for _ in range(5):
        prompt = rng.integers(3, model.config.vocab_size, 4)
        with torch.no_grad():
            tokens = model.generate(
                torch.tensor(prompt[None]), attention_mask=torch.ones(1, 4), do_sample=False,
                max_new_tokens=12, pad_token_id=0,
            )  # fmt: skip
        assert read.generate(prompt, 12).tolist() == tokens[0].tolist()


def test_the_end_that_the_directory_names(tmp_path, rng):
    model = theirs("causal-lm", 0)
    prompt = rng.integers(3, 300, 4)
    free = model.generate(torch.tensor(prompt[None]), do_sample=False, max_new_tokens=12,
                          pad_token_id=0, attention_mask=torch.ones(1, 4))[0].tolist()  # fmt: skip
    model.generation_config.eos_token_id = [free[9], 299]
    model.generation_config.max_new_tokens = 11
    model.save_pretrained(tmp_path)
    tokens = model.generate(
        torch.tensor(prompt[None]), pad_token_id=0, attention_mask=torch.ones(1, 4)
    )
    ours = tl.from_pretrained(tmp_path).generate(prompt)
    assert ours.tolist() == tokens[0].tolist()
    assert len(ours) < 15


AUTO = {
    "encoder": transformers.AutoModel,
    "masked-lm": transformers.AutoModelForMaskedLM,
    "sequence-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
    "question-answering": transformers.AutoModelForQuestionAnswering,
}


def their_tokenizer(folder):
    (folder / "vocab.txt").write_text("\n".join(WORD_PIECES.tokens) + "\n")
    return transformers.BertTokenizer(str(folder / "vocab.txt"))


def call(model, tokenizer, *texts):
    """The two lines of the model card."""
    inputs = tokenizer(*texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        return model(**inputs)


@pytest.mark.parametrize("task", BERT_TASKS)
def test_texts(tmp_path, told, task):
    """A directory with the files of its tokenizer: one text, several, pairs of them."""
    model = theirs(task, 0)
    model.save_pretrained(tmp_path / "theirs")
    (tmp_path / "old").mkdir()
    tokenizer = their_tokenizer(tmp_path / "old")
    tokenizer.save_pretrained(tmp_path / "theirs")
    read = tl.from_pretrained(tmp_path / "theirs", task=task)
    tl.save_pretrained(tmp_path / "ours", read.model, read.params, read.tokenizer, read.labels)
    auto = AUTO[task].from_pretrained(tmp_path / "ours").eval()
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert told() == []
    for texts in (["The quick brown fox"], [TEXTS], [TEXTS, TEXTS[::-1]], ["so did I", "the dog"]):
        for their_model, their_words in ((model, tokenizer), (auto, again)):
            answer = call(their_model, their_words, *texts)
            ours = read(*texts)
            if task == "encoder":
                agree(ours, [answer.last_hidden_state.numpy(), answer.pooler_output.numpy()], 1e-10)
            elif task == "question-answering":
                both = np.stack([answer.start_logits.numpy(), answer.end_logits.numpy()], -1)
                agree(ours.logits, [both], 1e-10)
            else:
                agree(ours.logits, [answer.logits.numpy()], 1e-10)


def test_the_line_of_the_source_document(tmp_path):
    """AutoModelForSequenceClassification, applied to "This is a sample text."."""
    model = theirs("sequence-classification", 0, "float32")
    model.save_pretrained(tmp_path)
    tokenizer = their_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    classifier = tl.from_pretrained(tmp_path, task="sequence-classification")
    logits = classifier("This is a sample text.").logits
    agree(logits, [call(model, tokenizer, "This is a sample text.").logits.numpy()], 1e-5)
    predicted = classifier.labels[logits[0].argmax()]
    assert predicted == model.config.id2label[int(logits[0].argmax())]


@pytest.mark.parametrize("older", [False, True])
def test_a_gpt2_with_its_tokenizer(tmp_path, told, older):
    """tokenizer.json, or vocab.json and merges.txt, written here and there."""
    bpe = tl.BPETokenizer.train(PROSE, 300)
    model = theirs("causal-lm", 0)
    tl.text.write_tokenizer(bpe, tmp_path / "bpe")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "bpe")
    model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    if older:
        bpe.write_files(tmp_path / "theirs")
        (tmp_path / "theirs" / "tokenizer.json").unlink()
    read = tl.from_pretrained(tmp_path / "theirs")
    tl.save_pretrained(tmp_path / "ours", read.model, read.params, read.tokenizer)
    auto = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert told() == []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert again(text)["input_ids"] == ids
        answer = read(text)
        assert answer.ids.tolist() == [ids]
        agree(answer.logits, logits_of(model, np.array([ids])), 1e-10)
        agree(answer.logits, logits_of(auto, np.array([ids])), 1e-10)
        tokens = auto.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False,
            max_new_tokens=5, pad_token_id=0,
        )[0]  # fmt: skip
        assert read.generate(np.array(ids), 5).tolist() == tokens.tolist()


def test_a_model_of_ours_walks_out(tmp_path, rng, told):
    """Trained here for a few steps, from the defaults of tl.GPT, and read there."""
    bpe = tl.BPETokenizer.train(PROSE, 300)
    model = tl.GPT(vocab_size=300, context_length=16, d_model=12, num_heads=2, num_layers=2)
    trainer = tl.Trainer(model, model.init(rng), tl.AdamW(lr=1e-2))
    ids = bpe.encode(PROSE)[: 17 * 4].reshape(4, 17)
    for _ in range(5):
        trainer.step(ids[:, :-1], ids[:, 1:])
    tl.save_pretrained(tmp_path, model, trainer.params, bpe)
    there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert told() == []
    agree(model(trainer.params, ids[:, :-1]), logits_of(there, ids[:, :-1]), 1e-5)
    with torch.no_grad():
        loss = there(torch.tensor(ids[:, :-1]), labels=torch.tensor(ids[:, :-1])).loss.item()
    ours = model.loss(trainer.params, ids[:, :-2], ids[:, 1:-1])
    assert float(ours) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", ["scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"])
def test_what_ours_does_not_do(tmp_path, name):
    model = theirs("causal-lm", 0)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {name: True}))
    with pytest.raises(ValueError, match=f"config.json: {name}=True: wanted False"):
        tl.from_pretrained(tmp_path)


def test_no_warning_where_none_is_due(tmp_path):
    for task in CLASSES:
        theirs(task, 0).save_pretrained(tmp_path / task)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tl.from_pretrained(tmp_path / task)
