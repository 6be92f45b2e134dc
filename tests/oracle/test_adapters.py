"""What any kernel answers, read as float64; a wrong answer, and a missing extra, say what is wrong."""

import fractions
import inspect
import subprocess
import sys

import numpy as np
import pytest

from tinylm.oracle.adapters import from_jax, from_torch
from tinylm.oracle.answers import WrongAnswer, as_float64, called


class Exporting:
    """Only `__dlpack__`."""

    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


class Refusing(Exporting):
    """As an array on a graphics card."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion is not allowed")


class Converting:
    def __array__(self, dtype=None, copy=None):
        return np.float32([1, 2])


@pytest.mark.parametrize(
    "x",
    [
        [1, 2], (1.0, 2.0), np.array([1, 2]), np.float16([1, 2]), np.longdouble([1, 2]),
        np.array([0, 1, 0, 2])[1::2], Exporting(np.float32([1, 2])), Converting(), range(1, 3),
        [np.float32(1), np.array(2)],
    ],
    ids=lambda x: type(x).__name__,
)  # fmt: skip
def test_numbers_of_any_kind(x):
    got = as_float64(x, "x")
    assert type(got) is np.ndarray
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, [1, 2])


def test_scalars_and_no_numbers():
    for x in (2.5, np.float32(2.5), np.array(2.5)):
        assert as_float64(x, "x").shape == ()
        assert as_float64(x, "x") == 2.5
    assert as_float64(np.array([True, False]), "x").tolist() == [1, 0]
    assert as_float64([], "x").shape == (0,)
    assert as_float64(np.zeros((0, 3)), "x").shape == (0, 3)
    assert np.isinf(as_float64(np.finfo(np.longdouble).max, "x"))
    signalling = np.array([0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(as_float64(signalling, "x"))


def test_the_numbers_are_a_copy():
    """A kernel may use its buffers again."""
    x = np.zeros(3)
    for came in (x, Exporting(x), x[::-1]):
        as_float64(came, "x")[...] = 1
        assert not np.any(x)
    x.setflags(write=False)
    assert as_float64(x, "x").flags.writeable


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (np.zeros(2, complex), "a ndarray of complex128"), (1j, "a complex"), ("1", "a str"),
        (None, "a NoneType"), ({"x": 1.0}, "a dict"), ([[1.0], [1.0, 2.0]], "a list of 2"),
        ([1.0, None], "a list of 2"), (np.array([1.0], object), "a ndarray of object"),
        (fractions.Fraction(1, 2), "a Fraction"), (np.zeros(1, "f8,f8"), "a ndarray of "),
        (np.array("2020-01-01", "M8[D]"), "a ndarray of datetime64"), (b"1", "a bytes"),
        ((x for x in [1.0]), "a generator"), (Exporting(np.zeros(2, complex)), "a Exporting"),
        (Refusing(np.zeros(2)), r"a Refusing, .*\(implicit conversion is not allowed\)$"),
    ],
)  # fmt: skip
def test_what_is_no_number(x, kind):
    with pytest.raises(TypeError, match=f"^the value: came {kind}") as caught:
        as_float64(x, "the value")
    assert ", wanted an array of real numbers" in str(caught.value)


def square(x, cotangent):
    return x * x, {"x": 2 * x * cotangent}


def answering(answer):
    def kernel(x, cotangent):
        return answer

    return kernel


def test_a_call_hands_over_the_very_arrays():
    x, cotangent = np.float32([1, 3]), np.float32([1, -1])
    value, grads = called(square, {"x": x}, cotangent, ["x"])
    assert value.tolist() == [1, 9]
    assert grads["x"].tolist() == [2, -6]
    assert value.dtype == grads["x"].dtype == np.float64

    def writing(x, cotangent):
        x += 1
        cotangent *= 2
        return [x, {"x": cotangent}]

    called(writing, {"x": x}, cotangent, {"x": 0})
    assert x.tolist() == [2, 4]
    assert cotangent.tolist() == [2, -2]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (1.0, "came a float, wanted a pair: the value, the gradients"),
        (np.zeros(2), "came a ndarray of float64, wanted a pair"),
        ((1.0, {}, {}), "came a tuple of 3, wanted a pair"),
        (None, "came a NoneType, wanted a pair"),
        ((1.0, [1.0]), "the gradients: came a list of 1, wanted a dict"),
        ((1.0, 2.0), "the gradients: came a float, wanted a dict"),
        ((1.0, {}), "the gradients: came nothing, wanted 'x'"),
        ((1.0, {"X": 1.0}), "the gradients: came 'X', wanted 'x'"),
        ((1.0, {"x": 1.0, "y": 2.0}), "the gradients: came 'x', 'y', wanted 'x'"),
        ((1.0, {"x": None}), "the gradient of 'x': came a NoneType, wanted an array"),
        (("1", {"x": 1.0}), "the value: came a str, wanted an array"),
    ],
)
def test_what_is_no_answer(answer, message):
    with pytest.raises(WrongAnswer, match=rf"^test_adapters\.kernel: {message}"):
        called(answering(answer), {"x": np.zeros(2)}, np.zeros(2), ["x"])


def test_what_a_kernel_raises_is_let_through():
    with pytest.raises(ZeroDivisionError):
        called(lambda x, cotangent: 1 / 0, {"x": np.zeros(2)}, np.zeros(2), ["x"])
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'") as caught:
        called(square, {"y": np.zeros(2)}, np.zeros(2), ["y"])
    assert not isinstance(caught.value, WrongAnswer)


@pytest.mark.parametrize(("adapter", "library"), [(from_torch, "torch"), (from_jax, "jax")])
def test_without_the_extra(adapter, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"{adapter.__name__} needs {library}: pip install 'tinylm\[peers\]'"
    with pytest.raises(ImportError, match=message):
        adapter(square)


def test_the_oracle_loads_no_extra():
    code = (
        "import sys, tinylm.oracle.adapters; print({'torch', 'jax', 'mpmath'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_the_contract_stands():
    assert list(inspect.signature(from_torch).parameters) == ["f", "device"]
    assert list(inspect.signature(from_jax).parameters) == ["f"]
