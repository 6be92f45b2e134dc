"""Checkpoints: round trips, damage of every kind, and writing that fails."""

import errno
import json
import stat
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinylm as tl
from tinylm.autograd import trees
from tinylm.checkpoint import DTYPES, CheckpointError, open_tensors, save_tensors

NAMES = st.text("abcWQ_é", min_size=1, max_size=4).filter(lambda s: s[:2] != "__")
ARRAYS = st.sampled_from(sorted(DTYPES.values())).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
)
NESTS = st.recursive(
    ARRAYS, lambda n: st.lists(n, min_size=1, max_size=3) | st.dictionaries(NAMES, n, min_size=1, max_size=3), max_leaves=5
)  # fmt: skip


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(params=st.dictionaries(NAMES, NESTS, min_size=1, max_size=3), note=st.text(max_size=5))
def test_what_is_saved_is_loaded(tmp_path_factory, params, note):
    path = tmp_path_factory.mktemp("checkpoint") / "a.safetensors"
    tl.save(path, params, note=note, numbers=[1, 2.5, None, {"a": True}])
    loaded, metadata = tl.load(path)
    assert [p for p, _ in trees.paths(loaded)] == [p for p, _ in trees.paths(params)]
    for a, b in zip(trees.leaves(loaded), trees.leaves(params), strict=True):
        assert same(a, b)
        assert a.flags.writeable
        assert a.flags.c_contiguous
    trees.map_leaves(lambda a, b: None, params, loaded)  # raises if a list is now a dict
    assert metadata == {"note": note, "numbers": [1, 2.5, None, {"a": True}]}


def test_layout(tmp_path):
    """Read by hand, as the description of the format says."""
    path = tmp_path / "a.safetensors"
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    tl.save(path, {"x": x.T, "deep": [{"y": np.int64(7)}]}, steps=3)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    header = json.loads(raw[8 : 8 + length])
    assert header["x"] == {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]}
    assert header["deep.0.y"] == {"dtype": "I64", "shape": [], "data_offsets": [24, 32]}
    assert header["__metadata__"]["steps"] == "3"
    assert len(header["__metadata__"]["sha256"]) == 64
    data = raw[8 + length :]
    assert np.frombuffer(data[:24], "<f4").tolist() == [0, 3, 1, 4, 2, 5]
    assert np.frombuffer(data[24:], "<i8").tolist() == [7]


def test_layouts_and_byte_orders(tmp_path, rng):
    path = tmp_path / "a.safetensors"
    base = rng.standard_normal((4, 6))
    arrays = {
        "F": np.asfortranarray(base),
        "strided": base[::2, ::-1],
        "big": base.astype(">f8"),
        "repeated": np.broadcast_to(base[0], (3, 6)),
    }
    tl.save(path, arrays)
    loaded, _ = tl.load(path)
    for key, array in arrays.items():
        assert np.array_equal(loaded[key], array)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a": np.ones(2, complex)}, "a holds complex128: wanted F64, F32"),
        ({"a": np.array(["x"])}, "a holds <U1"),
        ({"a": {}}, "a: {}: wanted a dict with something in it"),
        ({}, "params: {}: wanted a dict"),
        ([np.ones(2)], "params: .*: wanted a dict"),
        ({"a.b": np.ones(2)}, "the key 'a.b' in params: wanted a plain name"),
        ({"a": {"0": np.ones(2)}}, "the key '0' in a"),
        ({"": np.ones(2)}, "the key ''"),
        ({"__metadata__": np.ones(2)}, "the key '__metadata__'"),
        ({3: np.ones(2)}, "the key 3"),
    ],
)
def test_what_cannot_be_saved(tmp_path, params, message):
    with pytest.raises(CheckpointError, match=message):
        tl.save(tmp_path / "a.safetensors", params)
    assert not list(tmp_path.iterdir())


def test_metadata_that_json_cannot_hold(tmp_path):
    for wrong in (object(), float("nan")):
        with pytest.raises(CheckpointError, match="metadata that JSON cannot hold"):
            tl.save(tmp_path / "a.safetensors", {"a": np.ones(2)}, wrong=wrong)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.safetensors"
    tl.save(path, {"W": np.arange(12.0).reshape(3, 4), "b": np.arange(3)}, steps=3)
    return path


def test_every_truncation_is_noticed(saved):
    raw = saved.read_bytes()
    for size in range(len(raw)):
        saved.write_bytes(raw[:size])
        with pytest.raises(CheckpointError, match="not a whole checkpoint"):
            tl.load(saved)


def test_every_flipped_bit_is_noticed(saved):
    raw = saved.read_bytes()
    kept, metadata = tl.load(saved)
    unnoticed = 0
    for position in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[position] ^= 1 << bit
            saved.write_bytes(flipped)
            try:
                loaded, told = tl.load(saved)
            except CheckpointError:
                continue
            unnoticed += 1  # in the name of the checksum, which then counts as more metadata
            assert told.keys() - {"sha256", "header_sha256"} >= metadata.keys()
            assert loaded.keys() == kept.keys()
            for a, b in zip(trees.leaves(loaded), trees.leaves(kept), strict=True):
                assert same(a, b)
    assert unnoticed <= 8 * len("header_sha256")


def header(entries, data=b"", **metadata):
    encoded = (
        json.dumps({**entries, "__metadata__": metadata}).encode()
        if isinstance(entries, dict)
        else entries
    )
    return len(encoded).to_bytes(8, "little") + encoded + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"1234567",
        (2**60).to_bytes(8, "little") + b"{}",
        header(b"not json"),
        header(b"[1, 2]"),
        header(b"\xff\xfe"),
        header(b'{"a": 1}'),
        header(b'{"a": {"dtype": "F32"}}'),
        header(b'{"__metadata__": 3}'),
        header(b'{"a": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}, "a": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"12345678"),
        header({"a": entry("F8")}, b"12345678"),
        header({"a": entry(shape=[3])}, b"12345678"),
        header({"a": entry(shape=[-2])}, b"12345678"),
        header({"a": entry(shape=[2.0])}, b"12345678"),
        header({"a": entry(shape=[True, 2])}, b"12345678"),
        header({"a": entry(shape="2")}, b"12345678"),
        header({"a": entry(shape=[2**62, 4])}, b"12345678"),
        header({"a": entry(offsets=[0, 80])}, b"12345678"),
        header({"a": entry(offsets=[8, 0])}, b"12345678"),
        header({"a": entry(offsets=[-8, 0])}, b"12345678"),
        header({"a": entry(offsets=[0])}, b"12345678"),
        header({"a": entry()}, b"12345678and more"),
        header({"a": entry(), "b": entry()}, b"12345678"),
        header({"a": entry(), "b": entry(offsets=[12, 20])}, b"12345678____12345678"),
        header({"a": entry(), "a.b": entry(offsets=[8, 16])}, b"1234567812345678"),
        header({"a": entry()}, b"12345678", sha256="0" * 64),
        header(b"[" * 100_000),
        header(b'{"a": {"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', b"12345678"),
        header(b'{"a": {"dtype":"F32","shape":[' + b"9" * 4000 + b'],"data_offsets":[0,8]}}'),
        header({"a": entry(shape=[2] + [1] * 64)}, b"12345678"),
        header({"a": entry(shape=[2**63, 0], offsets=[0, 0])}),
        header({"a": entry(shape={}, offsets=[0, 4])}, b"1234"),
        header({"a" * 10**6: entry("F" * 10**6)}, b"12345678"),
    ],
)  # fmt: skip
def test_hostile_files(tmp_path, raw):
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="a.safetensors: not a whole checkpoint: .") as error:
        tl.load(path)
    assert len(str(error.value)) < 1000


def test_more_axes_than_numpy_has_are_noticed_before_reading(tmp_path):
    (tmp_path / "a").write_bytes(header({"a": entry(shape=[2] + [1] * 64)}, b"12345678"))
    with pytest.raises(CheckpointError, match=r"a has the shape \[2, 1, 1"):
        open_tensors(tmp_path / "a")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{}".ljust(2**20 + 1), "the header has 1048577 bytes: wanted at most 1048576"),
        (b'{"__metadata__": {"a": [' + b"[]," * 2**15 + b"0]}}", "more than 32768 objects"),
    ],
    ids=["long", "full"],
)
def test_headers_that_would_take_much_memory(tmp_path, raw, message):
    (tmp_path / "a").write_bytes(header(raw))
    with pytest.raises(CheckpointError, match=message):
        open_tensors(tmp_path / "a")


def test_metadata_of_ours_may_be_long(tmp_path):
    merges = [["a" * 20, "b"]] * 50_000  # as a large tokenizer has them
    tl.save(tmp_path / "a", {"W": np.ones(2)}, merges=merges)
    assert tl.load(tmp_path / "a")[1] == {"merges": merges}


def test_files_from_elsewhere(tmp_path):
    """No sha256, plain strings as metadata, tensors in another order."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(
        header({"b": entry(offsets=[8, 16]), "a": entry("I32")}, bytes(range(16)), format="pt")
    )
    loaded, metadata = tl.load(path)
    assert loaded["a"].tolist() == np.frombuffer(bytes(range(8)), "<i4").tolist()
    assert metadata == {"format": "pt"}


class FullDisk:
    """A file that takes a few bytes and then has no room."""

    def __init__(self, file):
        self.file, self.room = file, 100

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.file.close()

    def write(self, data):
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        return self.file.write(data)


def test_a_full_disk_leaves_what_was_there(saved, monkeypatch):
    before = saved.read_bytes()
    real = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: FullDisk(real(path, mode)))
        with pytest.raises(OSError, match="No space left"):
            tl.save(saved, {"W": np.zeros(1000)})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        tl.save(tmp_path / "none" / "a.safetensors", {"a": np.ones(2)})
    with pytest.raises(FileNotFoundError):
        tl.load(tmp_path / "a.safetensors")


def test_permissions_are_those_of_any_new_file(tmp_path):
    tl.save(tmp_path / "a", {"a": np.ones(2)})
    (tmp_path / "b").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "b").stat().st_mode
    )
    (tmp_path / "a").chmod(0o600)
    tl.save(tmp_path / "a", {"a": np.zeros(2)})
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_the_names_of_the_checksums_are_taken(tmp_path):
    for key in ("sha256", "header_sha256"):
        with pytest.raises(CheckpointError, match="metadata called sha256 or header_sha256"):
            tl.save(tmp_path / "a", {"a": np.ones(2)}, **{key: "x"})
    assert not list(tmp_path.iterdir())


def test_lists_in_any_order(tmp_path):
    """Another library may write the tensors of a list in the order of their names."""
    path = tmp_path / "a.safetensors"
    names = sorted(f"blocks.{i}" for i in range(12))
    places = {key: entry("F64", [1], [8 * i, 8 * i + 8]) for i, key in enumerate(names)}
    numbers = np.array([float(key[7:]) for key in names])
    path.write_bytes(header(places, numbers.tobytes()))
    assert np.concatenate(tl.load(path)[0]["blocks"]).tolist() == list(range(12))


def test_bfloat16_is_read_as_float32(tmp_path):
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    data = np.array([0x3F80, 0xC049], "<u2").tobytes()  # 1, and -3.140625
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + data)
    params, _ = tl.load(tmp_path / "a")
    assert params["x"].dtype == np.float32
    assert params["x"].tolist() == [1.0, -3.140625]


def test_flat_names(tmp_path, rng):
    """Names with dots, as elsewhere; the data are read one by one, when they are asked for."""
    path = tmp_path / "a.safetensors"
    arrays = {"h.0.W": rng.standard_normal((3, 5)), "h": np.arange(3, dtype=np.float32)}
    save_tensors(path, arrays, {"format": "pt"})
    stored = open_tensors(path)
    assert {key: (entry.dtype, entry.shape) for key, entry in stored.items()} == {
        "h.0.W": ("F64", (3, 5)),
        "h": ("F32", (3,)),
    }
    for key, array in arrays.items():
        assert same(stored[key].read(), array)
        assert stored[key].read(np.float16).dtype == np.float16
        assert type(stored[key].read()) is np.ndarray
        assert stored[key].read().flags.owndata or stored[key].read().base.flags.owndata
    raw = path.read_bytes()
    assert b'"__metadata__": {"format": "pt"}' in raw


def test_opening_reads_no_data(tmp_path):
    """Of a file of 64 MB, the header; of a tensor of 64 MB, itself and no copy."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"W": np.zeros(2**23, np.float64)}, {})
    tracemalloc.start()
    stored = open_tensors(path)
    opening = tracemalloc.get_traced_memory()[1]
    stored["W"].read()
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert opening < 2**18
    assert reading < 2**26 + 2**18


@pytest.mark.parametrize("dtype", [None, np.float64, np.float16])
def test_bfloat16_as_asked_for(tmp_path, dtype):
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    data = np.array([0x3F80, 0xC049], "<u2").tobytes()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + data)
    x = open_tensors(tmp_path / "a")["x"].read(dtype)
    assert x.dtype == (dtype or np.float32)
    assert x.tolist() == [1.0, -3.140625]
    x += 1  # it is one's own
