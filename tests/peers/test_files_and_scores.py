"""Other libraries as witnesses: safetensors of our files, scikit-learn of our scores, matplotlib."""

import os

import numpy as np
import pytest
import safetensors.numpy
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl


def test_safetensors_reads_what_we_write(tmp_path, rng):
    path = tmp_path / "a.safetensors"
    params = {
        "W": rng.standard_normal((3, 5)).astype(np.float32),
        "blocks": [{"b": np.arange(3)}, {"b": np.array(True)}],
    }
    tl.save(path, params, steps=3)
    loaded = safetensors.numpy.load_file(path)
    assert loaded.keys() == {"W", "blocks.0.b", "blocks.1.b"}
    assert np.array_equal(loaded["W"], params["W"])
    assert np.array_equal(loaded["blocks.0.b"], [0, 1, 2])
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["steps"] == "3"


def test_we_read_what_safetensors_writes(tmp_path, rng):
    path = tmp_path / "a.safetensors"
    arrays = {
        f"x{i}": rng.standard_normal((2, i)).astype(dtype)
        for i, dtype in enumerate(("f8", "f4", "f2", "i8", "i4", "u1"))
    }
    safetensors.numpy.save_file(arrays, path, metadata={"format": "np"})
    loaded, metadata = tl.load(path)
    assert metadata == {"format": "np"}
    for key, array in arrays.items():
        assert loaded[key].dtype == array.dtype
        assert np.array_equal(loaded[key], array)


LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(LABELS)
def test_scores(pairs):
    predicted, actual = map(list, zip(*pairs, strict=True))
    assert tl.accuracy(predicted, actual) == pytest.approx(
        sklearn.metrics.accuracy_score(actual, predicted)
    )
    for ours, theirs in (
        (tl.precision, sklearn.metrics.precision_score),
        (tl.recall, sklearn.metrics.recall_score),
        (tl.f1, sklearn.metrics.f1_score),
    ):
        for average in ("macro", "micro"):
            expected = theirs(actual, predicted, average=average, zero_division=0)
            assert ours(predicted, actual, average) == pytest.approx(expected)
        each = theirs(actual, predicted, average=None, zero_division=0)
        assert list(ours(predicted, actual, None).values()) == pytest.approx(each)


def test_the_curve_is_drawn(tmp_path):
    from tinylm.cli import main

    text = tmp_path / os.fsdecode(b"b\xffd \xe6\x95\xb0.txt")  # what no font shows
    text.write_text("abcdefgh" * 200)
    sizes = ["--steps", "5", "--layers", "1", "--d-model", "8", "--context", "8"]
    assert main(["train", "--data", str(text), "--out", str(tmp_path / "run"), *sizes]) == 0
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_lists_of_more_than_ten_come_back(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({f"blocks.{i}": np.full(1, i) for i in range(12)}, path)
    assert np.concatenate(tl.load(path)[0]["blocks"]).tolist() == list(range(12))
