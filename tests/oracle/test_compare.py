"""The comparison through files: honest results in every format pass, and no mistake does."""

import json
import re

import numpy as np
import pytest

import tinylm as tl
from tinylm import cli
from tinylm import golden as golden_gpt
from tinylm.autograd import trees
from tinylm.oracle import FORMATS, compare, export, vector_files
from tinylm.oracle.cases import CASES
from tinylm.oracle.vectors import MANIFEST

DTYPES = {"f32": np.float32, "f16": np.float16}


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    export(folder, formats=["safetensors"])
    return folder


def inputs_of(golden, case):
    """The inputs in float64, and the cotangent."""
    stored = {
        name: entry.array
        for name, entry in vector_files.read(golden / f"{case}.safetensors").items()
    }
    inputs = {k.removeprefix("inputs."): x for k, x in stored.items() if k.startswith("inputs.")}
    return inputs, stored["cotangent"], stored


def results(golden, case, dtype=np.float32):
    """What the kernels of tinylm compute of the inputs in a dtype."""
    inputs, cotangent, _ = inputs_of(golden, case)
    op, attributes = getattr(tl, CASES[case].op), CASES[case].attributes
    names = [name for name, x in inputs.items() if x.dtype.kind == "f"]
    others = {name: x for name, x in inputs.items() if name not in names}

    def of_arrays(*arrays):
        return op(**dict(zip(names, arrays, strict=True)), **others, **attributes)

    value, pullback = tl.vjp(of_arrays, *(inputs[name].astype(dtype) for name in names))
    grads = dict(zip(names, pullback(cotangent.astype(dtype)), strict=True))
    return {"value": np.asarray(value), "grads": grads}


def gpt_results(golden, dtype):
    """As `results`, of the model, with the update in float32."""
    stored, _ = tl.load(golden / "gpt.safetensors")
    narrow = trees.map_leaves(
        lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, stored["inputs"]
    )
    ids, targets = narrow.pop("ids"), narrow.pop("targets")
    with tl.formulas():
        loss, grads = tl.value_and_grad(golden_gpt.MODEL.loss)(narrow, ids, targets)
        logits = golden_gpt.MODEL(narrow, ids)
    wide = [trees.map_leaves(lambda x: x.astype(np.float32), nest) for nest in (narrow, grads)]
    adamw = tl.AdamW(lr=0.01)
    after, _ = adamw.update(*wide, adamw.init(wide[0]), step=0)
    after = trees.map_leaves(lambda x: x.astype(dtype), after)
    return {"value": loss.astype(dtype), "logits": logits, "grads": grads, "after": after}


def put(folder, case, nest, kind="safetensors"):
    """Write results as another program would."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{case}.{kind}"
    flat = {name: np.asarray(x) for name, x in trees.paths(nest)}
    if kind == "safetensors":
        tl.save(path, nest)
    elif kind == "npz":
        np.savez_compressed(path, **flat)
    else:
        entries = {
            name: {"dtype": x.dtype.name, "shape": list(x.shape), "data": x.ravel().tolist()}
            for name, x in flat.items()
        }
        path.write_text(json.dumps(entries, indent=2))
    return path


@pytest.fixture
def got(tmp_path):
    return tmp_path / "got"


@pytest.mark.parametrize("io", DTYPES)
@pytest.mark.parametrize("kind", vector_files.KINDS)
def test_honest_results_are_accepted(golden, got, io, kind):
    for case in CASES:  # computed in float32, as is declared
        put(got, case, trees.map_leaves(DTYPES[io], results(golden, case)), kind)
    put(got, "gpt", gpt_results(golden, DTYPES[io]), kind)
    comparison = compare(golden, got)
    assert comparison.ok, comparison.failed
    assert comparison.missing == ()
    assert {item.io for item in comparison.judged} == {io}
    names = {(item.case, item.verdict.name) for item in comparison.judged}
    assert {("attention-mask", "grads.V"), ("gpt", "logits"), ("linear", "value")} <= names
    assert {("gpt", "grads.norm.gain"), ("gpt", "after.blocks.1.attention.W_Q")} <= names
    assert ("attention-mask", "grads.mask") not in names


def test_sums_in_float16_are_not_what_is_declared(golden, got):
    put(got, "attention-block", results(golden, "attention-block", np.float16))
    comparison = compare(golden, got)
    assert not comparison.ok
    assert {item.io for item in comparison.judged} == {"f16"}


def bf16(nest):
    return trees.map_leaves(lambda x: FORMATS["bf16"].rounded(x).astype(np.float32), nest)


def put_bf16(folder, case, nest):
    """A file of the dtype BF16, which NumPy lacks: the upper halves of float32 numbers."""
    folder.mkdir(exist_ok=True)
    header, data = {}, b""
    for name, x in trees.paths(bf16(nest)):
        half = (np.asarray(x).view("<u4") >> 16).astype("<u2").tobytes()
        place = [len(data), len(data) + len(half)]
        header[name] = {"dtype": "BF16", "shape": list(np.shape(x)), "data_offsets": place}
        data += half
    text = json.dumps(header).encode()
    path = folder / f"{case}.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_bf16_is_known_by_its_dtype_or_by_what_is_said(golden, got):
    honest = results(golden, "attention-block")
    put_bf16(got, "attention-block", honest)
    comparison = compare(golden, got)
    assert comparison.ok
    assert {item.io for item in comparison.judged} == {"bf16"}
    put(got, "attention-block", bf16(honest))
    assert not compare(golden, got).ok, "as float32 it is far off"
    assert compare(golden, got, io="bf16").ok
    entries = {
        name: {"dtype": "bfloat16", "shape": list(x.shape), "data": x.ravel().tolist()}
        for name, x in trees.paths(bf16(honest))
    }
    (got / "attention-block.safetensors").unlink()
    (got / "attention-block.json").write_text(json.dumps(entries))
    assert {item.io for item in compare(golden, got).judged} == {"bf16"}
    assert compare(golden, got).ok
    put_bf16(got, "attention-block", trees.map_leaves(lambda x: 1.01 * x, honest))
    (got / "attention-block.json").unlink()
    assert {item.verdict.name for item in compare(golden, got).failed} == {
        "value", "grads.Q", "grads.K", "grads.V",
    }  # fmt: skip


def test_a_format_that_is_said_is_that_of_every_file(golden, got):
    put(got, "relu", trees.map_leaves(np.float64, results(golden, "relu")))
    with pytest.raises(ValueError, match=r"relu\.safetensors: value holds F64: wanted float32, fl"):
        compare(golden, got)
    assert {item.io for item in compare(golden, got, io="f16").judged} == {"f16"}


def swapped(x):
    x[..., :2, :] = x[..., 1::-1, :].copy()


def one_element(x):
    x[0, 3, 1] *= 1.01


MISTAKES = {
    "a gain of a hundredth": (lambda x: x.__imul__(1.01), "gain"),
    "one element": (one_element, "element"),
    "two rows": (swapped, "element"),
    "a sign": (lambda x: x.__imul__(-1), "gain"),
    "zeros": (lambda x: x.fill(0), "element"),
    "a nan": (lambda x: x.__setitem__((1, 2, 0), np.nan), "not finite"),
    "an infinity": (lambda x: x.__setitem__((1, 2, 0), np.inf), "not finite"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", ["value", "grads.Q", "grads.V"])
def test_a_mistake_is_rejected_in_its_tensor_only(golden, got, mistake, name):
    spoil, failure = MISTAKES[mistake]
    nest = results(golden, "attention-plain")
    spoil(nest["value"] if name == "value" else nest["grads"][name[-1]])
    put(got, "attention-plain", nest)
    (failed,) = compare(golden, got).failed
    assert failed.verdict.name == name
    assert failure in failed.verdict.failures
    assert str(failed).startswith(f"attention-plain: {name} as f32: ")


def test_the_message_says_where(golden, got):
    nest = results(golden, "attention-plain")
    one_element(nest["grads"]["K"])
    put(got, "attention-plain", nest)
    (failed,) = compare(golden, got).failed
    _, _, stored = inputs_of(golden, "attention-plain")
    expected = stored["grads.K"][0, 3, 1]
    assert failed.verdict.index == (0, 3, 1)
    assert failed.verdict.allowed == stored["allowed.f32.grads.K"][0, 3, 1]
    assert f"at (0, 3, 1) got {1.01 * expected:.5g}"[:18] in str(failed)
    assert f"expected {expected:.9g}" in str(failed)
    assert "S = 3; D = 1" in str(failed)


@pytest.mark.parametrize("case", [*CASES, "gpt"])
def test_every_case_sees_a_hundredth(golden, got, case):
    nest = gpt_results(golden, np.float32) if case == "gpt" else results(golden, case)
    put(got, case, trees.map_leaves(lambda x: x * np.float32(1.01), nest))
    comparison = compare(golden, got)
    seen = {item.verdict.name for item in comparison.failed}
    blind = {item.verdict.name for item in comparison.judged} - seen
    assert all("b_K" in name for name in blind), "whose gradient is zero, and its sign anything"
    for item in comparison.judged:
        assert item.verdict.sees < 1e-4 or "b_K" in item.verdict.name


def test_shapes_and_what_is_missing(golden, got):
    nest = results(golden, "attention-plain")
    nest["grads"]["K"] = np.swapaxes(nest["grads"]["K"], -1, -2)
    nest["value"] = nest["value"][None]
    del nest["grads"]["Q"]
    put(got, "attention-plain", nest)
    comparison = compare(golden, got)
    assert {item.verdict.name: item.verdict.failures for item in comparison.judged} == {
        "value": ("shape",), "grads.Q": ("missing",), "grads.K": ("shape",), "grads.V": (),
    }  # fmt: skip
    said = "; ".join(map(str, comparison.failed))
    assert "value as f32: shape: shape (1, 2, 5, 4), wanted (2, 5, 4)" in said
    assert "grads.Q as -: missing: not in attention-plain.safetensors" in said
    assert comparison.missing == tuple(sorted({*CASES, "gpt"} - {"attention-plain"}))
    assert re.search(
        r"not compared, .* of them: attention-block, attention-causal", str(comparison)
    )
    rows = [line.split() for line in str(comparison).splitlines()]
    assert rows[0] == ["case", "tensor", "format", "verdict", "worst", "rms", "sees"]
    assert rows[2][:4] == ["attention-plain", "grads.Q", "-", "REJECTED"]
    assert rows[4][:4] == ["attention-plain", "grads.V", "f32", "ok"]


def test_what_is_no_result_is_an_error(golden, got):
    got.mkdir()
    with pytest.raises(ValueError, match="got holds no results: wanted a file such as attention-b"):
        compare(golden, got)
    (got / "notes.txt").write_text("not looked at")
    nest = results(golden, "relu")
    put(got, "rule", nest)
    with pytest.raises(ValueError, match=r"rule\.safetensors: no such case among the golden vec"):
        compare(golden, got)
    (got / "rule.safetensors").unlink()
    put(got, "relu", {**nest, "d_x": nest["value"]})
    with pytest.raises(ValueError, match=r"relu\.safetensors holds 'd_x': wanted value, grads\.x$"):
        compare(golden, got)
    put(got, "relu", {**nest, "value": np.arange(3)})
    with pytest.raises(ValueError, match=r"relu\.safetensors: value holds I64: wanted floats"):
        compare(golden, got, io="f32")
    put(got, "relu", nest)
    put(got, "relu", nest, "npz")
    with pytest.raises(ValueError, match=r"holds relu\.npz and relu\.safetensors: wanted one"):
        compare(golden, got)
    with pytest.raises(ValueError, match="io='f64': wanted f32, f16, bf16"):
        compare(golden, got, io="f64")
    with pytest.raises(ValueError, match="holds golden vectors: wanted a folder with results"):
        compare(golden, golden)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        compare(golden, got / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        compare(got, got)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("relu.safetensors", b"\x00" * 4),
        ("relu.npz", b"not a zip"),
        ("relu.json", b"{"),
        ("relu.json", b"[1]"),
        ("relu.json", b'{"value": 3}'),
        ("relu.json", b'{"value": {"dtype": "float32", "shape": [3]}}'),
        ("relu.json", b'{"value": {"dtype": "float32", "shape": [3], "data": [1, 2]}}'),
        ("relu.json", b'{"value": {"dtype": "float32", "shape": [-1], "data": [1, 2]}}'),
        ("relu.json", b'{"value": {"dtype": "float32", "shape": [1], "data": ["one"]}}'),
        ("relu.json", b'{"value": {"dtype": "float8", "shape": [1], "data": [1]}}'),
        ("relu.json", b"\xff\xfe"),
    ],
)
def test_damaged_results_are_an_error_that_names_the_file(golden, got, name, content):
    got.mkdir()
    (got / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(got / name))):
        compare(golden, got)


def test_an_archive_that_is_cut_or_pickled(golden, got):
    path = put(got, "relu", results(golden, "relu"), "npz")
    raw = path.read_bytes()
    for damaged in (raw[:-40], raw[:100] + b"\x00\x01" + raw[102:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"relu\.npz: "):
            compare(golden, got)
    np.savez(path, value=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"relu\.npz: Object arrays cannot be loaded"):
        compare(golden, got)


def test_damaged_golden_vectors_judge_nothing(tmp_path, got):
    folder = tmp_path / "golden"
    export(folder, ops=["relu"])
    put(got, "relu", results(folder, "relu"))
    path = folder / "relu.npz"
    path.write_bytes(path.read_bytes().replace(b"\x00", b"\x01", 1))
    with pytest.raises(ValueError, match=r"relu\.npz: its sha256 is not that of the manifest"):
        compare(folder, got)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(ValueError, match="not a manifest of"):
        compare(folder, got)


def test_json_alone_is_enough(tmp_path, got):
    manifest = export(tmp_path / "golden", ops=["attention", "relu"], formats=["json"])
    assert "attention-block" not in manifest["cases"]
    tl.oracle.verify(tmp_path / "golden")
    put(got, "relu", {"value": np.zeros((3, 11), np.float32), "grads": {"x": np.ones(3)}})
    assert len(compare(tmp_path / "golden", got, io="f32").failed) == 2


# On the command line.


def test_exit_codes(golden, got, capsys):
    nest = results(golden, "attention-plain")
    put(got, "attention-plain", nest)
    command = ["oracle", "compare", str(golden), str(got)]
    assert cli.main(command) == 0
    output, errors = capsys.readouterr()
    assert re.search(r"^attention-plain +grads\.K +f32 +ok ", output, re.MULTILINE)
    assert errors == ""
    put(got, "attention-plain", trees.map_leaves(lambda x: x * np.float32(1.01), nest))
    assert cli.main(command) == 1
    output, errors = capsys.readouterr()
    assert len(re.findall(" REJECTED ", output)) == 4
    assert re.match(r"tinylm: \S*got: 4 of 4 tensors rejected: attention-plain: value as", errors)
    assert errors.endswith("; and 1 more\n")
    assert errors.count("\n") == 1
    put(got, "attention-plain", bf16(results(golden, "attention-plain")))
    assert cli.main(command) == 1
    assert cli.main([*command, "--format", "bf16"]) == 0
    (got / "relu.npz").write_bytes(b"")
    capsys.readouterr()
    assert cli.main(command) == 1
    assert re.match(r"tinylm: \S*relu\.npz: not a whole archive: .*\n$", capsys.readouterr().err)


def test_export_and_verify(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["oracle", "export", "g", "--ops", "gelu,relu", "--formats", "npz"]) == 0
    assert capsys.readouterr().out == "3 cases in 3 files and a manifest: g\n"
    assert cli.main(["oracle", "verify", "g"]) == 0
    assert capsys.readouterr().out.startswith("g: every file is what was exported")
    assert cli.main(["oracle", "export", "h", "--ops", "relu", "--seed", "3"]) == 0
    assert json.loads((tmp_path / "h" / MANIFEST).read_text())["seed"] == 3
    (tmp_path / "g" / "gelu.npz").unlink()
    capsys.readouterr()
    assert cli.main(["oracle", "verify", "g"]) == 1
    assert capsys.readouterr().err == "tinylm: g/gelu.npz: missing\n"
    assert cli.main(["oracle", "export", "."]) == 1
    assert capsys.readouterr().err.startswith("tinylm: . is not empty, and holds no whole export")
