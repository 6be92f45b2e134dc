"""Golden vectors: the bytes, the numbers, what verify notices, and readers in other languages."""

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from registry import REGISTRY

import tinylm as tl
from tinylm import golden as golden_gpt
from tinylm.autograd import trees
from tinylm.oracle import FORMATS, drawing, vector_files, vectors
from tinylm.oracle.cases import CASES, cited
from tinylm.oracle.vectors import MANIFEST, OPS, export, verify

PAGE = Path(__file__).parents[2] / "docs" / "golden-vectors.md"
FEW = ["relu", "embedding"]


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    export(folder)
    return folder


@pytest.fixture
def few(tmp_path):
    """A small export, to be damaged."""
    export(tmp_path / "few", ops=FEW)
    return tmp_path / "few"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tensors(folder, case, kind="safetensors"):
    return {
        name: stored.array for name, stored in vector_files.read(folder / f"{case}.{kind}").items()
    }


def manifest_of(folder):
    return json.loads((folder / MANIFEST).read_text())


def sign(folder, change):
    """Change a manifest, and make its checksums anew, as if it had been written so."""
    manifest = manifest_of(folder)
    del manifest["sha256"]
    for entry in manifest["cases"].values():
        for file in entry["files"]:
            if (folder / file).exists():
                entry["files"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    change(manifest)
    (folder / MANIFEST).write_bytes(vectors._encoded(manifest))


# The bytes.


def test_exported_twice_the_bytes_are_equal(golden, tmp_path):
    """In another process, in another order, at another time, with another umask and hash seed."""
    code = (
        "import os, sys, tinylm.oracle as o, tinylm.oracle.vectors as v; os.umask(0o077);"
        "o.export(sys.argv[1], ops=reversed(v.OPS), formats=reversed(v.KINDS))"
    )
    other = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "again"], env=other, check=True)
    assert contents(tmp_path / "again") == contents(golden)
    export(tmp_path / "few", ops=FEW, formats=["npz"])
    mine = contents(tmp_path / "few")
    assert mine.keys() == {MANIFEST, "relu.npz", "embedding.npz"}
    assert mine["relu.npz"] == (golden / "relu.npz").read_bytes()


def test_an_archive_does_not_tell_the_system(golden, monkeypatch):
    stored, _ = tl.load(golden / "relu.safetensors")
    monkeypatch.setattr(sys, "platform", "win32")
    mine = vector_files._npz(vector_files.plain({"value": stored["value"]}))
    monkeypatch.undo()
    assert mine == vector_files._npz(vector_files.plain({"value": stored["value"]}))


def test_another_seed_draws_other_inputs(golden, tmp_path):
    export(tmp_path / "other", ops=FEW, seed=1)
    for case in FEW:
        a, b = tensors(golden, case), tensors(tmp_path / "other", case)
        for name in a:
            if name == "cotangent" or name.startswith("inputs."):
                assert not np.array_equal(a[name], b[name])
    verify(tmp_path / "other")


def test_the_stream_never_changes(golden):
    """The inputs of seed 0, as they were on the day on which this was written."""
    digest = hashlib.sha256()
    for case in (*CASES, "gpt"):
        for name, array in sorted(tensors(golden, case).items()):
            if name == "cotangent" or name.startswith("inputs."):
                digest.update(array.tobytes())
    assert digest.hexdigest() == (
        "a0da62420aa662e15c5298a1c04d3e8a2cb5f56e0b091a97d8b8f3f782a8ee01"
    )


def test_a_number_by_hand():
    """Four fields of six bits of a raw integer of PCG64, summed up."""
    raw = int(np.random.PCG64([5, *b"key"]).random_raw())
    total = sum(raw >> shift & 63 for shift in (0, 16, 32, 48))
    assert drawing.numbers((1,), 5, "key").tolist() == [(2 * total - 251) / 64]
    x = drawing.numbers((40_000,), 0, "many")
    assert abs(np.mean(x) - 1 / 64) < 0.03
    assert abs(np.std(x) - 1.155) < 0.02
    assert np.unique(x).size > 200
    ids = drawing.below(5, (40_000,), 0, "many")
    assert np.max(np.abs(np.bincount(ids) - 8000)) < 400


@pytest.mark.parametrize("case", [*CASES, "gpt"])
def test_inputs_are_exact_in_every_format(golden, case):
    for name, x in tensors(golden, case).items():
        assert np.all(np.isfinite(x))
        if x.dtype.kind == "f" and (name == "cotangent" or name.startswith("inputs.")):
            for io in ("f32", "f16", "bf16"):
                assert np.array_equal(FORMATS[io].rounded(x), x), (name, io)
            assert x.size == 1 or np.unique(x).size > 1
    if case == "relu":
        assert np.all(x != 0)


@pytest.mark.parametrize("case", [*CASES, "gpt"])
def test_every_file_holds_the_same(golden, case):
    entry = manifest_of(golden)["cases"][case]
    expected = tensors(golden, case)
    count = sum(x.size for x in expected.values())
    kinds = ["npz", "safetensors", *["json"] * (count <= 2500)]
    assert list(entry["files"]) == sorted(f"{case}.{kind}" for kind in kinds)
    for kind in kinds:
        got = tensors(golden, case, kind)
        assert got.keys() == expected.keys() == entry["tensors"].keys()
        for name, x in got.items():
            assert x.tobytes() == expected[name].tobytes()
            about = entry["tensors"][name]
            assert (x.dtype.name, list(x.shape)) == (about["dtype"], about["shape"])
            assert [8 * n if x.dtype != bool else n for n in about["strides"]] == list(x.strides)
    with np.load(golden / f"{case}.npz") as archive:
        assert {name: archive[name].tobytes() for name in archive.files} == {
            name: x.tobytes() for name, x in expected.items()
        }
    raw = (golden / f"{case}.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    for name, x in expected.items():
        assert (8 + int.from_bytes(raw[:8], "little") + header[name]["data_offsets"][0]) % (
            x.itemsize
        ) == 0


def test_what_the_manifest_says(golden):
    manifest = manifest_of(golden)
    assert (manifest["version"], manifest["seed"]) == (tl.__version__, 0)
    assert manifest["ops"] == list(OPS)
    assert {entry["op"] for entry in manifest["cases"].values()} == set(OPS)
    assert set(OPS) == {*REGISTRY, "gpt"}
    cases = manifest["cases"]
    assert cases["attention-causal"]["attributes"] == {"causal": True, "scale": None}
    assert cases["gelu"]["attributes"] == {"approximate": False}
    assert cases["gelu-tanh"]["attributes"] == {"approximate": True}
    assert cases["cross_entropy"]["attributes"] == {
        "ignore_index": -100, "label_smoothing": 0.0, "weights": None,
    }  # fmt: skip
    assert cases["gpt"]["attributes"]["adamw"] == {
        "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01,
    }  # fmt: skip
    assert cases["linear"]["axes"] == {"x": "...I", "W": "IO", "b": "O", "value": "...O"}
    model = cases["attention-plain"]["models"]["bf16"]
    assert model["stores"] == {"weights": "bf16", "d_scores": "bf16"}
    assert (model["io"], model["accumulate"], model["safety"]) == ("bf16", "f32", 4.0)
    for entry in cases.values():
        assert re.search(r"\b(19|20)\d\d\b", entry["citation"])
        assert entry["formula"].endswith(".")
    for op, (citation, formula) in {
        "attention": ("Vaswani et al. 2017", "softmax(Q K^T / sqrt(d_k)) V"),
        "relu": ("Nair and Hinton 2010", "max(0, x)"),
    }.items():
        said = cited(getattr(tl, op))
        assert said["citation"].startswith(citation)
        assert formula in said["formula"]
        assert said["citation"].endswith(".")


def test_the_cases_have_what_they_are_there_for(golden):
    mask = tensors(golden, "attention-mask")
    empty = ~mask["inputs.mask"].any(axis=-1)
    assert empty.any()
    assert not empty.all()
    assert not mask["value"][empty].any()
    assert not mask["allowed.f32.value"][empty].any()
    grouped = tensors(golden, "attention-grouped")
    assert grouped["inputs.Q"].shape[1] == 3 * grouped["inputs.K"].shape[1]
    assert (tensors(golden, "cross_entropy")["inputs.targets"] == -100).sum() == 1
    assert (tensors(golden, "gpt")["inputs.targets"] == -100).sum() == 1
    ids = tensors(golden, "embedding")["inputs.ids"]
    assert np.unique(ids).size < ids.size
    assert "inputs.b" in tensors(golden, "linear")
    assert "inputs.b" not in tensors(golden, "linear-without-b")


# The numbers.


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_loops_and_gradients_of_the_complex_step(golden, case, rng):
    got, op = tensors(golden, case), CASES[case].op
    inputs = {k.removeprefix("inputs."): x for k, x in got.items() if k.startswith("inputs.")}
    value = REGISTRY[op].loops(**inputs, **CASES[case].attributes)
    assert np.all(np.abs(value - got["value"]) <= 2 * got["error.value"] + 1e-15)
    grads = {name for name, x in inputs.items() if x.dtype.kind == "f"}
    assert {name for name in got if name.startswith("grads.")} == {f"grads.{k}" for k in grads}
    for name in grads:
        direction = rng.standard_normal(inputs[name].shape)
        moved = {**inputs, name: inputs[name] + 1e-30j * direction}
        y = REGISTRY[op].op.formula(**moved, **CASES[case].attributes)
        along = np.sum(got["cotangent"] * np.imag(y)) / 1e-30
        assert np.sum(got[f"grads.{name}"] * direction) == pytest.approx(along, rel=1e-12)


def test_intermediates_are_named_and_errors_small(golden):
    got = tensors(golden, "attention-plain")
    weights = got["intermediates.weights.0"]
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(weights @ got["inputs.V"], got["value"], rtol=1e-13, atol=1e-15)
    d_weights = got["cotangent"] @ got["inputs.V"].mT
    np.testing.assert_allclose(got["intermediates.d_weights.0"], d_weights, rtol=1e-13)
    for case in (*CASES, "gpt"):
        got = tensors(golden, case)
        results = [name for name in got if f"error.{name}" in got]
        assert {"value", *(name for name in got if name.startswith("grads."))} <= set(results)
        for name in results:
            largest = np.max(np.abs(got[name]))
            assert np.max(got[f"error.{name}"]) < 1e-12 * max(largest, 1) or "after" in name
            narrow = [got[f"allowed.{io}.{name}"] for io in ("f32", "f16", "bf16")]
            assert np.all(narrow[0] <= narrow[1])
            assert np.all(narrow[1] <= narrow[2] * (1 + 1e-12) + 2.0**-24)
            assert np.all(10 * got[f"error.{name}"] <= narrow[0])


def gpt_by_hand(params, ids):
    """The model of the case, in NumPy alone, which the complex step goes through."""

    def norm(p, x):
        d = x - x.mean(axis=-1, keepdims=True)
        return d / np.sqrt((d * d).mean(axis=-1, keepdims=True) + 1e-5) * p["gain"] + p["bias"]

    T = ids.shape[-1]
    x = params["token_embedding"][ids] + params["position_embedding"][:T]
    for p in params["blocks"]:
        a, f, h = p["attention"], p["feed_forward"], norm(p["norm_1"], x)
        Q, K, V = (
            np.moveaxis((h @ a[f"W_{k}"] + a[f"b_{k}"]).reshape(*h.shape[:2], 2, 4), -2, -3)
            for k in "QKV"
        )
        e = np.exp(Q @ np.swapaxes(K, -1, -2) / 2) * np.tri(T)
        mixed = np.moveaxis(e / e.sum(axis=-1, keepdims=True) @ V, -3, -2).reshape(h.shape)
        x = x + mixed @ a["W_O"] + a["b_O"]
        h = norm(p["norm_2"], x) @ f["W_1"] + f["b_1"]
        h = h / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + h @ f["W_2"] + f["b_2"]
    return norm(params["norm"], x) @ params["token_embedding"].T


def test_the_gpt_is_a_step_of_the_trainer_and_one_by_hand(golden, rng):
    stored, _ = tl.load(golden / "gpt.safetensors")
    params = {k: x for k, x in stored["inputs"].items() if k not in ("ids", "targets")}
    ids, targets = stored["inputs"]["ids"], stored["inputs"]["targets"]
    trainer = tl.Trainer(golden_gpt.MODEL, params, tl.AdamW(lr=0.01))
    assert trainer.step(ids, targets) == pytest.approx(float(stored["value"]), rel=1e-14)

    logits = gpt_by_hand(params, ids)
    np.testing.assert_allclose(stored["logits"], logits, rtol=1e-12, atol=1e-13)

    def loss(logits):
        e = np.exp(logits[targets != -100])
        chosen = e[np.arange(len(e)), targets[targets != -100]]
        return -np.log(chosen / e.sum(axis=-1)).mean()

    assert loss(logits) == pytest.approx(float(stored["value"]), rel=1e-13)
    for _ in range(3):
        direction = trees.map_leaves(lambda p: rng.standard_normal(p.shape), params)
        moved = trees.map_leaves(lambda p, d: p + 1e-30j * d, params, direction)
        along = np.imag(loss(gpt_by_hand(moved, ids))) / 1e-30
        dots = trees.map_leaves(lambda g, d: np.sum(g * d), stored["grads"], direction)
        assert sum(trees.leaves(dots)) == pytest.approx(along, rel=1e-11)
    for (path, p), g, after, trained, error in zip(
        trees.paths(params),
        *(trees.leaves(x) for x in (stored["grads"], stored["after"], trainer.params)),
        trees.leaves(stored["error"]["after"]),
        strict=True,
    ):
        by_hand = p - 0.01 * (g / (np.abs(g) + 1e-8) + 0.01 * p)  # the first moments, unbiased
        assert np.all(np.abs(after - by_hand) <= 1e-15 + 2 * error), path
        assert np.all(np.abs(after - trained) <= 1e-15 + 2 * error), path


def test_whoever_exports_an_op_loads_no_model(tmp_path):
    code = (
        "import sys, tinylm.oracle as o; o.export(sys.argv[1], ops=['relu']); o.verify(sys.argv[1]);"
        "print(*(m for m in sys.modules if m.startswith(('tinylm.models', 'tinylm.golden'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "d"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
    for path in Path(vectors.__file__).parent.glob("*.py"):  # SciPy loads it in any case
        assert "import argparse" not in path.read_text()


# What verify notices.


def test_what_is_whole_is_verified(golden):
    verify(golden)


@pytest.mark.parametrize("kind", vector_files.KINDS)
def test_every_byte_counts(few, kind):
    path = few / f"relu.{kind}"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"few/relu\.{kind}: its sha256 is not that of"):
        verify(few)


def test_files_that_are_swapped_gone_or_added(few):
    a, b = few / "relu.npz", few / "embedding.npz"
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)
    with pytest.raises(ValueError, match=r"embedding\.npz: its sha256.*relu\.npz: its sha256"):
        verify(few)
    a.write_bytes(one)
    b.unlink()
    with pytest.raises(ValueError, match=r"^\S*embedding\.npz: missing$"):
        verify(few)
    b.write_bytes(other)
    (few / "gelu.npz").write_bytes(one)
    (few / "notes").mkdir()
    with pytest.raises(ValueError, match=r"gelu\.npz: not in the manifest; \S*notes: not in the"):
        verify(few)


def test_the_manifest_counts(few):
    path = few / MANIFEST
    text = path.read_text()
    for damaged in (text.replace("Hinton", "Minton"), text.replace("\n", "\n\n", 1)):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"manifest\.json: its sha256 is not that of what it"):
            verify(few)
    for damaged in ("", "{}", "[]", '{"layout": "another", "sha256": ""}', text[:-20]):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"manifest\.json: not a manifest of 'tinylm golden"):
            verify(few)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        verify(few)


def relu(manifest):
    return manifest["cases"]["relu"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: relu(m).update(citation="me"), "citation of relu is not what it should be"),
        (lambda m: relu(m)["tensors"].pop("value"), "tensors of relu is not what it should be"),
        (lambda m: relu(m)["models"]["f32"].update(safety=5.0), "models of relu is not"),
        (lambda m: relu(m).update(more=1), "more of relu is not"),
        (lambda m: relu(m)["files"].pop("relu.npz"), r"relu\.npz: its sha256 is not that of"),
        (lambda m: m["cases"].pop("relu"), "citation of relu is not"),
        (lambda m: m["cases"].update(gelu=relu(m)), "there is no case 'gelu' of these ops"),
        (lambda m: m.update(seed=1), r"relu\.npz: cotangent: not what the seed draws; and \d"),
        (lambda m: m.update(seed=-1), "seed=-1: wanted a whole number"),
        (lambda m: m.update(ops=["relu"]), r"embedding\.json: not in the manifest"),
        (lambda m: m.update(formats=["npz"]), r"relu\.json: not in the manifest"),
        (lambda m: m.update(ops=["rule"]), r"ops=\['rule'\]: wanted some of attention"),
    ],
)
def test_a_forged_manifest_is_noticed(few, change, message):
    sign(few, change)
    with pytest.raises(ValueError, match=message):
        verify(few)


def forge(folder, case, change):
    """Change the tensors of a case, and sign it."""
    stored, _ = tl.load(folder / f"{case}.safetensors")
    change(stored)
    for kind in vector_files.KINDS:
        if (folder / f"{case}.{kind}").exists():
            vector_files.write(folder / f"{case}.{kind}", stored)
    sign(folder, lambda manifest: None)


def nudge(x, by):
    x += by * np.max(np.abs(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: nudge(t["inputs"]["x"], 2**-52), "inputs.x: not what the seed draws"),
        (lambda t: nudge(t["cotangent"], 2**-52), "cotangent: not what the seed draws"),
        (lambda t: nudge(t["value"], 1e-14), "value: up to .* from what is computed here"),
        (lambda t: nudge(t["grads"]["x"], 1e-14), r"grads\.x: up to"),
        (lambda t: t["value"].fill(np.nan), "value: up to nan"),
        (lambda t: nudge(t["error"]["value"], 1e-9), r"error\.value: up to"),
        (lambda t: nudge(t["allowed"]["f16"]["value"], 1e-9), r"allowed\.f16\.value: up to"),
        (lambda t: nudge(t["intermediates"]["normalizer"][0], 1e-11), r"normalizer\.0: up to"),
        (
            lambda t: t.update(value=t["value"].ravel()),
            r"value: it is float64 of shape \(165,\), not",
        ),
        (lambda t: t.update(more=t["value"]), "the tensors more: in one of both only"),
        (lambda t: t["error"].pop("value"), r"the tensors error\.value: in one of both only"),
    ],
)
def test_forged_tensors_are_noticed(tmp_path, change, message):
    folder = tmp_path / "softmax"
    export(folder, ops=["softmax"])
    forge(folder, "softmax", change)
    with pytest.raises(ValueError, match=message) as raised:
        verify(folder)
    assert len(re.findall("softmax/softmax", str(raised.value))) == 3, "in each of the files"


def test_last_digits_may_differ_and_ids_may_not(few, tmp_path):
    export(tmp_path / "softmax", ops=["softmax"])
    forge(tmp_path / "softmax", "softmax", lambda t: t["value"].__imul__(1 + 2**-52))
    verify(tmp_path / "softmax")

    def wrong(t):
        t["inputs"]["ids"][0, 0] += 1

    forge(few, "embedding", wrong)
    with pytest.raises(ValueError, match=r"inputs\.ids: not what the seed draws"):
        verify(few)


def test_another_version_is_named(few):
    sign(few, lambda m: m.update(version="0.0.1"))
    verify(few)
    sign(few, lambda m: relu(m).update(formula="max(x, 1)", more=1))
    with pytest.raises(ValueError, match=r"\(made by tinylm 0\.0\.1, and this is \d"):
        verify(few)


# Where it is written.


def test_an_interrupted_export_is_not_whole(few, monkeypatch):
    written = []

    def write(path, tensors):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        real(path, tensors)

    real = vector_files.write
    monkeypatch.setattr(vectors, "write", write)
    with pytest.raises(KeyboardInterrupt):
        export(few, ops=["relu"])
    assert contents(few).keys() == {"relu.npz", "relu.safetensors"}
    with pytest.raises(FileNotFoundError):
        verify(few)
    monkeypatch.undo()
    with pytest.raises(
        ValueError, match="few is not empty, and holds no whole export: wanted a new"
    ):
        export(few)


def test_an_earlier_export_is_replaced_and_nothing_else(few, tmp_path):
    export(few, ops=["gelu"], formats=["npz"])
    assert contents(few).keys() == {MANIFEST, "gelu.npz", "gelu-tanh.npz"}
    verify(few)
    (few / "notes.txt").write_text("mine")
    before = contents(few)
    with pytest.raises(ValueError, match=r"few holds notes\.txt besides an earlier export"):
        export(few)
    assert contents(few) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "relu.npz").write_text("mine")
    with pytest.raises(ValueError, match="mine is not empty, and holds no whole export"):
        export(tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"relu.npz": b"mine"}
    (tmp_path / "mine" / "relu.npz").unlink()
    export(tmp_path / "mine", ops=["relu"])
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        export(tmp_path / "file", ops=["relu"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ops": ["rule"]}, r"export: ops=\['rule'\]: wanted some of attention"),
        ({"ops": "relu"}, "export: ops='relu': wanted some of"),
        ({"ops": []}, r"export: ops=\[\]: wanted some of"),
        ({"formats": ["csv"]}, r"export: formats=\['csv'\]: wanted some of npz, safetensors, json"),
        ({"formats": ()}, r"export: formats=\(\)"),
        ({"seed": -1}, "export: seed=-1: wanted a whole number, at least 0"),
        ({"seed": True}, "export: seed=True: wanted"),
        ({"ops": ["gpt"], "formats": ["json"]}, "no case of gpt has as few as 2500"),
        ({"seed": 1.5}, "export: seed=1.5: wanted a whole number"),
        ({"ops": 3}, "export: ops=3: wanted some of"),
    ],
)
def test_wrong_calls(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "d", **arguments)
    assert not (tmp_path / "d" / MANIFEST).exists()


# Other languages, with the readers of the page.


def block(language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    assert found[0].count("\n") <= 30
    return found[0]


def compiled(folder, source):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (folder / "program.c").write_text(source)
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
    program = folder / "program"
    subprocess.run([compiler, *flags, folder / "program.c", "-o", program, "-lm"], check=True)
    return program


PRINTS = r"""
int main(int count, char **words) {
    size_t bytes = 0;
    void *data = count == 3 ? read_tensor(words[1], words[2], &bytes) : NULL;
    if (!data) return 3;
    fwrite(data, 1, bytes, stdout);
    return 0;
}
"""


def test_the_reader_in_c_reads_every_tensor(golden, tmp_path):
    program = compiled(tmp_path, block("c") + PRINTS)
    for case in ("attention-mask", "cross_entropy"):
        for name, x in tensors(golden, case).items():
            read = subprocess.run(
                [program, golden / f"{case}.safetensors", name], capture_output=True, check=True
            )
            assert read.stdout == x.tobytes()
    for wrong in ([golden / "relu.safetensors", "grads"], [golden / "none.safetensors", "value"]):
        assert subprocess.run([program, *wrong], check=False).returncode == 3


ATTENDS = r"""
#include <math.h>

enum { B = 2, T = 5, D = 3, E = 7 };
static float Q[B][T][D], K[B][T][D], V[B][T][E], dO[B][T][E], O[B][T][E], dQ[B][T][D], dK[B][T][D],
    dV[B][T][E];

static void load(const char *path, const char *name, float *x, size_t n) {
    size_t bytes = 0;
    double *data = read_tensor(path, name, &bytes);
    if (!data || bytes != 8 * n) exit(3);
    for (size_t i = 0; i < n; i++) x[i] = (float)data[i];
    free(data);
}

static void attend(int b) {
    const float scale = 1 / sqrtf(D);
    for (int t = 0; t < T; t++) {
        float P[T], top = -INFINITY, total = 0, delta = 0;
        for (int s = 0; s <= t; s++) {
            P[s] = 0;
            for (int d = 0; d < D; d++) P[s] += Q[b][t][d] * K[b][s][d];
            P[s] *= scale;
            top = fmaxf(top, P[s]);
        }
        for (int s = 0; s <= t; s++) total += P[s] = expf(P[s] - top);
        for (int s = 0; s <= t; s++) P[s] /= total;
        for (int s = 0; s <= t; s++)
            for (int e = 0; e < E; e++) O[b][t][e] += P[s] * V[b][s][e];
        for (int e = 0; e < E; e++) delta += O[b][t][e] * dO[b][t][e];
        for (int s = 0; s <= t; s++) {
            float dP = 0;
            for (int e = 0; e < E; e++) {
                dP += dO[b][t][e] * V[b][s][e];
                dV[b][s][e] += P[s] * dO[b][t][e];
            }
            const float dS = P[s] * (dP - DELTA) * scale;
            for (int d = 0; d < D; d++) {
                dQ[b][t][d] += dS * K[b][s][d];
                dK[b][s][d] += dS * Q[b][t][d];
            }
        }
    }
}

int main(int count, char **words) {
    if (count != 3) return 2;
    const char *path = words[1];
    load(path, "inputs.Q", &Q[0][0][0], B * T * D);
    load(path, "inputs.K", &K[0][0][0], B * T * D);
    load(path, "inputs.V", &V[0][0][0], B * T * E);
    load(path, "cotangent", &dO[0][0][0], B * T * E);
    for (int b = 0; b < B; b++) attend(b);
    char header[512];
    const unsigned n = sizeof O, m = sizeof dQ;
    uint64_t length = (uint64_t)snprintf(header, sizeof header,
        "{\"value\":{\"dtype\":\"F32\",\"shape\":[%d,%d,%d],\"data_offsets\":[0,%u]},"
        "\"grads.Q\":{\"dtype\":\"F32\",\"shape\":[%d,%d,%d],\"data_offsets\":[%u,%u]},"
        "\"grads.K\":{\"dtype\":\"F32\",\"shape\":[%d,%d,%d],\"data_offsets\":[%u,%u]},"
        "\"grads.V\":{\"dtype\":\"F32\",\"shape\":[%d,%d,%d],\"data_offsets\":[%u,%u]}}",
        B, T, E, n, B, T, D, n, n + m, B, T, D, n + m, n + 2 * m, B, T, E, n + 2 * m, 2 * n + 2 * m);
    FILE *file = fopen(words[2], "wb");
    if (!file) return 3;
    fwrite(&length, 8, 1, file);
    fwrite(header, 1, length, file);
    fwrite(O, sizeof O, 1, file);
    fwrite(dQ, sizeof dQ, 1, file);
    fwrite(dK, sizeof dK, 1, file);
    fwrite(dV, sizeof dV, 1, file);
    return fclose(file) ? 3 : 0;
}
"""


@pytest.mark.parametrize(
    ("delta", "rejected"), [("delta", []), ("0", ["Q", "K"]), ("0.999f * delta", ["Q", "K"])]
)
def test_attention_in_c(golden, tmp_path, delta, rejected):
    """Its own float32 forward and backward pass; the same with a row sum that is dropped or off."""
    program = compiled(tmp_path, block("c") + ATTENDS.replace("DELTA", delta))
    (tmp_path / "got").mkdir()
    result = tmp_path / "got" / "attention-causal.safetensors"
    subprocess.run([program, golden / "attention-causal.safetensors", result], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tinylm", "oracle", "compare", golden, tmp_path / "got"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = re.findall(r"^attention-causal +(\S+) +f32 +(\S+)", done.stdout, re.MULTILINE)
    names = ["value", "grads.Q", "grads.K", "grads.V"]
    wrong = [f"grads.{name}" for name in rejected]
    assert rows == [(name, "REJECTED" if name in wrong else "ok") for name in names]
    assert done.returncode == bool(rejected)
    if rejected:
        assert (
            "got: 2 of 4 tensors rejected: attention-causal: grads.Q as f32: element" in done.stderr
        )
        assert done.stderr.count("\n") == 1
    else:
        assert done.stderr == ""


DUMPS = """
const read = process.argv[2].endsWith(".json") ? readJson : readTensors;
const found = {};
for (const [name, x] of Object.entries(read(process.argv[2])))
  found[name] = [x.shape, Array.from(x.data, Number)];
console.log(JSON.stringify(found));
"""


@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_the_reader_in_javascript_reads_every_tensor(golden, tmp_path, kind):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js")
    (tmp_path / "read.js").write_text(block("js") + DUMPS)
    for case in ("attention-mask", "cross_entropy"):
        read = subprocess.run(
            [node, tmp_path / "read.js", golden / f"{case}.{kind}"], capture_output=True, check=True
        )
        got, expected = json.loads(read.stdout), tensors(golden, case)
        assert got.keys() == expected.keys()
        for name, x in expected.items():
            assert got[name] == [list(x.shape), x.ravel().tolist()]  # to the last bit
