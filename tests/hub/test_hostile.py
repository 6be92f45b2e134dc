"""Directories that were damaged or made to harm: a named error, soon, and without much memory."""

import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest

import tinylm as tl
from tinylm.autograd import trees
from tinylm.checkpoint import open_tensors, save_tensors
from tinylm.hub import HubError

GPT = tl.GPT(vocab_size=11, context_length=7, d_model=6, num_heads=3, num_layers=2, d_ff=13)
BERT = tl.BERT(
    vocab_size=11, context_length=7, d_model=6, num_heads=3, num_layers=2, d_ff=13,
    task="sequence-classification", num_labels=5,
)  # fmt: skip
MODELS = {"gpt2": GPT, "bert": BERT}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a whole directory of each family, and one in two shards."""
    root = tmp_path_factory.mktemp("whole")
    for name, model in MODELS.items():
        tl.save_pretrained(root / name, model, model.init(np.random.default_rng(0)))
    sharded = root / "sharded"
    shutil.copytree(root / "gpt2", sharded)
    tensors = {name: stored.read() for name, stored in open_tensors(sharded / WEIGHTS).items()}
    (sharded / WEIGHTS).unlink()
    places = {name: SHARDS[i % 2] for i, name in enumerate(tensors)}
    for shard in SHARDS:
        save_tensors(sharded / shard, {n: tensors[n] for n in tensors if places[n] == shard}, {})
    (sharded / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return root


@pytest.fixture
def directory(whole, tmp_path):
    """A copy of one of them, to be damaged."""

    def copied(name):
        shutil.copytree(whole / name, tmp_path / name)
        return tmp_path / name

    return copied


def refused(folder, match, **arguments):
    """It names what is wrong, in little memory, and soon (`pytest --durations=5` says how soon).

    The memory is that of the files twice, where three bytes of JSON count as the object that
    Python makes of them.
    """
    files = [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
    size = sum((32 if p.suffix == ".json" else 2) * p.stat().st_size for p in files)
    tracemalloc.start()
    try:
        with pytest.raises(HubError, match=match) as error:
            tl.from_pretrained(folder, **arguments)
        assert tracemalloc.get_traced_memory()[1] < size + 2**17
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("name", ["gpt2", "bert", "sharded"])
def test_undamaged_they_are_read(directory, name):
    read = tl.from_pretrained(directory(name))
    model = MODELS.get(name, GPT)
    assert read.model == model
    trees.map_leaves(
        np.testing.assert_array_equal, read.params, model.init(np.random.default_rng(0))
    )


def edit(folder, **fields):
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))


SIZES = {
    "gpt2": ["vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "n_inner"],
    "bert": [
        "vocab_size", "max_position_embeddings", "hidden_size", "num_attention_heads",
        "num_hidden_layers", "intermediate_size", "type_vocab_size",
    ],
}  # fmt: skip
SIZE = pytest.mark.parametrize(("name", "field"), [(n, f) for n in SIZES for f in SIZES[n]])
NO_SIZES = [-1, -(2**63), 2**31, 2**64, 10**39, True, False, "6", 6.0, float("inf"), [6], {"6": 6}]


@pytest.mark.parametrize("value", NO_SIZES, ids=repr)
@SIZE
def test_what_is_no_size(directory, name, field, value):
    folder = directory(name)
    edit(folder, **{field: value})
    refused(folder, rf"config.json: ({field}=.*: wanted an integer from|the JSON holds Infinity)")


@pytest.mark.parametrize("value", [5, 7, 12, 2**31 - 1])
@SIZE
def test_sizes_that_the_file_has_not(directory, name, field, value):
    """Some do not divide; the others ask for tensors of another shape, or for more of them."""
    folder = directory(name)
    edit(folder, **{field: 8 if value == 7 and "position" in field else value})
    refused(
        folder, "wanted a multiple of (n_head|num_attention_heads)=|and the shape .*: wanted F"
        r"|there is no tensor (h|encoder.layer)\.2\."
    )  # fmt: skip


@SIZE
def test_fields_that_are_missing(directory, name, field):
    folder = directory(name)
    for left_out in {field, "model_type"} - {"n_inner"}:
        config = json.loads((folder / "config.json").read_text())
        del config[left_out]
        (folder / "config.json").write_text(json.dumps(config))
        refused(folder, f"config.json: ({left_out}|model_type) is missing: wanted")


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("gpt2", "model_type", ["llama", "GPT2", 2, None, ["gpt2"], {}, "x" * 10**5]),
        ("gpt2", "architectures", ["GPT2LMHeadModel", [], [3], [[]], ["GPT2ForSequenceClassification"], {}]),
        ("gpt2", "activation_function", ["gelu_fast", "quick_gelu", 1, None, [], "GELU"]),
        ("gpt2", "layer_norm_epsilon", [0, -1e-5, "1e-5", None, True, float("nan"), [1e-5], 10**400]),
        ("gpt2", "resid_pdrop", [-0.1, 1, 1.5, "0.1", None, False]),
        ("gpt2", "attn_pdrop", [2, "x"]),
        ("gpt2", "tie_word_embeddings", ["true", 1, None, []]),
        ("gpt2", "scale_attn_weights", [False, None, 1]),
        ("gpt2", "scale_attn_by_inverse_layer_idx", [True, None, 0]),
        ("gpt2", "reorder_and_upcast_attn", [True, "no"]),
        ("gpt2", "add_cross_attention", [True]),
        ("bert", "hidden_act", ["gelu_fast", "tanh", None]),
        ("bert", "layer_norm_eps", [0, "x", float("inf"), -0.0]),
        ("bert", "hidden_dropout_prob", [1.0, -1, None]),
        ("bert", "is_decoder", [True, 1]),
        ("bert", "add_cross_attention", [True]),
        ("bert", "position_embedding_type", ["relative_key", None]),
        ("bert", "pad_token_id", [11, -1, "0", 0.0, True]),
        ("bert", "id2label", [{}, [], {"0": 1}, {"1": "a"}, {"0": "a", "2": "b"}, {"00": "a"}, "a", 2]),
    ],
)  # fmt: skip
def test_options_that_are_not_known(directory, name, field, values):
    folder = directory(name)
    for value in values:
        edit(folder, **{field: value})
        refused(folder, rf"config.json: ({field}=.*: wanted|the JSON holds (NaN|Infinity))")


def test_numbers_that_overflow(directory):
    folder = directory("gpt2")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("1e-05", "1e999"))
    refused(folder, "config.json: layer_norm_epsilon=inf: wanted a number above 0")


def test_labels_that_the_file_has_not(directory):
    folder = directory("bert")
    for labels in ({"0": "a"}, {str(i): "x" for i in range(10_000)}):
        edit(folder, id2label=labels)
        refused(folder, r"classifier.weight has the dtype F32 and the shape \(5, 6\): wanted")


def test_tied_to_another(directory):
    folder = directory("bert")
    edit(folder, tie_word_embeddings=False)
    refused(folder, "tie_word_embeddings=False: wanted True", task="masked-lm")


NO_JSON = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"model_type": "\xff"}',
    "UTF-16": '{"model_type": "gpt2"}'.encode("utf-16"),
    "a list": b"[]",
    "a number": b"1" * 4000,
    "a long number": b'{"vocab_size": ' + b"9" * 100_000 + b"}",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "twice": b'{"model_type": "gpt2", "model_type": "bert"}',
    "twice inside": b'{"model_type": "gpt2", "id2label": {"0": "a", "0": "b"}}',
    "NaN": b'{"model_type": "gpt2", "vocab_size": NaN}',
    "many objects": b"[" + b'{"a":0},' * (2**15 - 2) + b"{}]",
    "more objects": b"[" + b'{"a":0},' * (2**16 - 2) + b"{}]",
    "many lists": b"[" + b"[]," * (2**15 - 1) + b"0]",
    "more lists": b"[" + b"[]," * (2**17) + b"0]",
    "many numbers": b"[" + b"1," * (2**18 - 1) + b"0]",
    "many names": b"{" + b"".join(b'"%d":0,' % i for i in range(2**15)) + b'"0":1}',
    "zeros": bytes(1000),
    "a pickle": b"\x80\x04\x95",
}


@pytest.mark.parametrize("raw", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", INDEX])
def test_what_is_no_json(directory, file, raw):
    folder = directory("sharded")
    (folder / file).write_bytes(raw)
    refused(folder, f"{file}: .")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", INDEX])
def test_what_is_too_long(directory, file):
    folder = directory("sharded")
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole.ljust(2**19))
    tl.from_pretrained(folder)
    (folder / file).write_bytes(whole.ljust(2**19 + 1))
    refused(folder, f"{file}: 524289 bytes: wanted at most 524288")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", INDEX, SHARDS[0]])
def test_what_is_no_file(directory, file):
    folder = directory("sharded")
    path, no_file = folder / file, f"{file}: wanted a file, and this is a folder or something else"
    path.unlink()
    path.mkdir()
    refused(folder, no_file)
    path.rmdir()
    os.mkfifo(path)
    refused(folder, no_file)
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(folder, no_file)
    if file == "generation_config.json":  # which need not be there
        return
    for target in (folder / "nowhere", path):  # the second is a ring
        path.unlink()
        path.symlink_to(target)
        refused(folder, file)
    path.unlink()
    refused(folder, file)


def test_symlinks_to_files_are_followed(directory):
    """The cache of Hugging Face is made of them."""
    folder = directory("gpt2")
    for name in ("config.json", WEIGHTS):
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)
    assert tl.from_pretrained(folder).model == GPT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", ["config.json", WEIGHTS])
def test_what_may_not_be_read(directory, file):
    folder = directory("gpt2")
    (folder / file).chmod(0)
    refused(folder, f"{file}: Permission denied")


def test_no_weights(directory, tmp_path):
    folder = directory("gpt2")
    (folder / WEIGHTS).unlink()
    refused(folder, f"gpt2: wanted {WEIGHTS} or {INDEX}$")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    refused(folder, "pytorch_model.bin is a pickle, which is never read")
    refused(tmp_path / "nowhere", "nowhere: no such directory; tinylm.hub.download")
    refused(folder / "config.json", "config.json: no such directory")


def raw_weights(folder):
    raw = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_raw(folder, header, data):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


@pytest.mark.parametrize("length", [0, 2, 1000, 2**32, 2**60, 2**63, 2**64 - 1])
def test_headers_of_another_length(directory, length):
    folder = directory("gpt2")
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(length.to_bytes(8, "little") + raw[8:])
    refused(folder, f"{WEIGHTS}: not a whole checkpoint: .")


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.6, 0.99, -1])
def test_truncated_weights(directory, share):
    folder = directory("gpt2")
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[: int(share * len(raw)) if share >= 0 else -1])
    refused(folder, f"{WEIGHTS}: not a whole checkpoint: .")


@pytest.mark.parametrize(
    "raw", [b"[" * 100_000, b'{"a":1,"a":2}', b"null", b"\xff", b'{"__metadata__":[]}', b"{}"]
)
def test_headers_of_something_else(directory, raw):
    folder = directory("gpt2")
    write_raw(folder, raw, b"")
    refused(folder, f"{WEIGHTS}: not a whole checkpoint: .|there is no tensor wte.weight")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("gpt2", "transformer.wte.weight"),
        ("gpt2", "transformer.wpe.weight"),
        ("gpt2", "transformer.h.1.attn.c_attn.weight"),
        ("gpt2", "transformer.h.0.mlp.c_fc.bias"),
        ("gpt2", "transformer.ln_f.bias"),
        ("bert", "bert.embeddings.word_embeddings.weight"),
        ("bert", "bert.encoder.layer.1.attention.self.key.weight"),
        ("bert", "bert.encoder.layer.0.output.LayerNorm.weight"),
        ("bert", "bert.pooler.dense.weight"),
        ("bert", "classifier.weight"),
    ],
)
def test_tensors_that_are_not_those_of_the_config(directory, name, tensor):
    folder = directory(name)
    header, data = raw_weights(folder)
    short = tensor.removeprefix("transformer.").removeprefix("bert.")
    entry = header.pop(tensor)
    shape, count = entry["shape"], int(np.prod(entry["shape"]))
    for other in ([1, *shape], [*shape, 1], [count, 1, 1], [count, 1], [1, count]):
        write_raw(folder, header | {tensor: entry | {"shape": other}}, data)
        refused(folder, rf"{short} has the dtype F32 and the shape \(.*: wanted F64 or")
    for dtype in ("I32", "U32"):
        write_raw(folder, header | {tensor: entry | {"dtype": dtype}}, data)
        refused(folder, f"{short} has the dtype {dtype}")
    for other in (f"{tensor}.x", "x", tensor.upper()):
        write_raw(folder, header | {other: entry}, data)
        refused(folder, f"there is no tensor {short}")
    write_raw(folder, header | {tensor: entry, f"{tensor}.x": entry}, data)
    refused(folder, "a gap or an overlap")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("gpt2", "transformer.h.2.ln_1.weight", "h.2.ln_1.weight is no tensor of the model"),
        ("gpt2", "h.0.ln_1.weight", "h.0.ln_1.weight is there twice"),
        ("gpt2", "transformer.h.0.ln_1.gamma", "transformer.h.0.ln_1.gamma is there twice"),
        ("gpt2", "h.0.crossattention.c_attn.weight", "is no tensor of the model"),
        ("gpt2", "transformer.wte.adapter", "wte.adapter is no tensor of the model"),
        ("gpt2", "lm_head.weight", "lm_head.weight is not wte.weight, with which it should be"),
        ("bert", "bert.encoder.layer.2.output.dense.bias", "is no tensor of the model"),
        ("bert", "encoder.layer.0.output.LayerNorm.gamma", "LayerNorm.gamma is there twice"),
        ("bert", "bert.embeddings.LayerNorm.beta", "LayerNorm.beta is there twice"),
        ("bert", "embeddings.other.weight", "is no tensor of the model"),
    ],
)
def test_tensors_too_many(directory, name, tensor, message):
    folder = directory(name)
    header, data = raw_weights(folder)
    place = [len(data), len(data) + 4]
    header[tensor] = {"dtype": "F32", "shape": [1], "data_offsets": place}
    write_raw(folder, header, data + bytes(4))
    refused(folder, message)


@pytest.mark.parametrize("tensor", ["classifier.weight", "bert.pooler.dense.bias"])
def test_a_head_that_is_there_in_part(directory, tensor):
    folder = directory("bert")
    header, data = raw_weights(folder)
    header["more"] = header.pop(tensor)
    write_raw(folder, header, data)
    short = tensor.removeprefix("bert.")
    refused(folder, f"there is no tensor {short}, though others of its part")


def test_a_head_that_would_be_larger_than_all_the_rest(directory):
    folder = directory("bert")
    header, data = raw_weights(folder)
    for part in ("weight", "bias"):
        header[f"other.{part}"] = header.pop(f"classifier.{part}")
    write_raw(folder, header, data)
    edit(folder, id2label={str(i): "x" for i in range(10_000)})
    refused(folder, "classifier.weight is missing, and would be larger than the rest")


def weight_map(folder, **places):
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] |= places
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "shard",
    [
        "../x", "/etc/passwd", "..", ".", "", "a/b", "a\\b", ".hidden", "x\0y", "C:x", "~", "x\n",
        "\ud800", "é", 3, None, True, ["a"], {}, "x" * 10**5,
    ],
    ids=lambda shard: repr(shard)[:20],
)  # fmt: skip
def test_shards_outside_of_the_folder(directory, shard):
    folder = directory("sharded")
    weight_map(folder, **{"transformer.wte.weight": shard})
    refused(folder, f"{INDEX}: weight_map has .* wanted the name of a file in the same folder")


def test_objects_and_lists_are_counted_before_they_are_made(directory):
    folder = directory("gpt2")
    whole = (folder / "config.json").read_text().rstrip().removesuffix("}")
    for lists, match in (
        (2**15 - 4, None),
        (2**15, "the JSON has more than 32768 objects and lists"),
    ):
        (folder / "config.json").write_text(whole + ', "x": [' + "[]," * lists + "0]}")
        if match:
            refused(folder, match)
        else:
            assert tl.from_pretrained(folder).model == GPT


def test_what_is_deep_but_can_be_read(directory):
    """Just less than Python's recursion limit, which a message must not reach either."""
    folder = directory("sharded")
    deep = "[" * 900 + "]" * 900
    (folder / INDEX).write_text(f'{{"weight_map": {{"a": {deep}}}}}')
    refused(folder, f"{INDEX}: weight_map has 'a' in .*: wanted the name|nested too deep")
    (folder / "config.json").write_text(f'{{"model_type": "gpt2", "vocab_size": {deep}}}')
    refused(folder, r"config.json: .*=.*: wanted|is missing|nested too deep")


def test_indexes_that_disagree_with_the_shards(directory):
    folder = directory("sharded")
    weight_map(folder, more="nowhere.safetensors")
    refused(folder, "nowhere.safetensors: No such file")
    weight_map(folder, more=SHARDS[0])
    refused(folder, f"{SHARDS[0]}: there is no more, which {INDEX} has in it")
    weight_map(folder, more="config.json")
    refused(folder, "config.json: not a whole checkpoint")
    weight_map(folder, **{"more": SHARDS[0], "transformer.wte.weight": SHARDS[1]})
    refused(folder, f"{SHARDS[0]}: it holds transformer.wte.weight, and .* in '{SHARDS[1]}'")
    for wrong in ([], {}, 3, None, "x"):
        (folder / INDEX).write_text(json.dumps({"weight_map": wrong}))
        refused(folder, f"{INDEX}: weight_map=.*: wanted an object")
    (folder / INDEX).write_text("{}")
    refused(folder, f"{INDEX}: weight_map is missing")


def test_a_tensor_in_two_shards(directory):
    folder = directory("sharded")
    name = "transformer.wte.weight"
    tensors = {name: stored.read() for name, stored in open_tensors(folder / SHARDS[1]).items()}
    save_tensors(folder / SHARDS[1], tensors | {name: np.ones((11, 6), np.float32)}, {})
    refused(folder, f"{SHARDS[1]}: it holds {name}, and .* has that in '{SHARDS[0]}'")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_new_tokens", [0, -1, 2**31, "20", 1.5, True]),
        ("max_length", [0, [], 10**30]),
        ("do_sample", [1, "yes"]),
        ("temperature", [0, -1.0, "1", True, float("inf"), float("nan"), 10**400]),
        ("top_k", [-1, 2.5, "50"]),
        ("top_p", [0, -0.5, 1.1, "1"]),
        ("eos_token_id", [-1, "</s>", [1, "2"], [[1]], 2**31, True, {}]),
    ],
)
def test_how_to_generate(directory, field, values):
    folder = directory("gpt2")
    for value in values:
        (folder / "generation_config.json").write_text(json.dumps({field: value}))
        refused(
            folder, rf"generation_config.json: ({field}=.*: wanted|the JSON holds (NaN|Infinity))"
        )


@pytest.mark.parametrize(
    ("name", "task"), [("gpt2", "masked-lm"), ("gpt2", "encoder"), ("bert", "causal-lm"), ("bert", "x")]
)  # fmt: skip
def test_tasks_that_there_are_not(directory, name, task):
    refused(directory(name), f"from_pretrained: task='{task}': wanted", task=task)


@pytest.mark.parametrize("dtype", [int, "i8", bool, complex])
def test_dtypes_that_are_not_possible(directory, dtype):
    refused(directory("gpt2"), "from_pretrained: dtype=.*: wanted a float", dtype=dtype)
