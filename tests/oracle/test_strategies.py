"""Strategies: what they draw, that nothing is missing from it, and what they need."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import tinylm as tl
import tinylm.ops
from tinylm import oracle
from tinylm.oracle import strategies
from tinylm.oracle.examples import SHAPES
from tinylm.oracle.strategies import axes_of_inputs, inputs_at
from tinylm.oracle.variants import laid_out

MANY = settings(max_examples=2000, database=None, phases=[Phase.generate])


def is_drawn(strategy, condition):
    """Raises if nothing of the kind is drawn."""
    find(strategy, condition, settings=MANY)
    return True


def test_lengths():
    for length in (0, 1, 2, 15, 16, 17, 33, 42, 64, 65):
        assert is_drawn(strategies.lengths(), lambda n, length=length: n == length)
    assert find(strategies.lengths(), lambda n: n > 20) == 21
    assert find(strategies.lengths(), lambda n: n != 7) == 1  # 0 comes last
    with pytest.raises(ValueError, match="lengths: max_length=0: wanted 1 or more"):
        strategies.lengths(0)


@given(st.data(), strategies.lengths(9))
def test_lengths_end_where_they_should(data, max_length):
    assert data.draw(strategies.lengths(max(max_length, 1))) <= max(max_length, 1)


KINDS = {
    "C": lambda x: x.flags.c_contiguous and x.flags.writeable,
    "transposed": lambda x: x.flags.f_contiguous,
    "strided": lambda x: x.strides == (80, 16),
    "reversed": lambda x: x.strides == (-40, 8),
    "read-only": lambda x: x.flags.c_contiguous and not x.flags.writeable,
    "broadcast": lambda x: x.strides == (0, 8),
}


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
def test_layouts(layout):
    x = np.arange(15.0).reshape(3, 5)
    x = x if layout != "broadcast" else np.ones((3, 5))
    y = laid_out(x, layout)
    assert KINDS[layout](y)
    np.testing.assert_array_equal(x, y)
    assert is_drawn(strategies.layouts(), lambda name: name == layout)
    assert is_drawn(strategies.arrays((3, 5)), KINDS[layout])
    assert is_drawn(strategies.inputs("softmax", sizes={"...": (3,), "V": 5}), lambda inputs: (
        layout == "broadcast" or KINDS[layout](inputs["x"])
    ))  # fmt: skip
    for shape in [(), (0,), (1,), (3,), (2, 0), (0, 2), (1, 1, 3)]:
        for y in (np.ones(shape), np.ones(shape, bool), np.ones(shape, int)):
            assert np.array_equal(laid_out(y, layout), y)
            assert laid_out(y, layout).dtype == y.dtype


@given(strategies.arrays((3, 5), -2, 3))
def test_arrays(x):
    assert x.shape == (3, 5)
    assert 1e-5 < np.max(np.abs(x)) < 1e4


def test_scales():
    for scale in (1e-6, 1e4):
        assert is_drawn(strategies.arrays((9,)), lambda x, scale=scale: _near(x, scale))
        for name in ("x", "gain", "cotangent"):
            drawn = strategies.inputs("rms_norm")
            assert is_drawn(drawn, lambda i, name=name, scale=scale: _near(i[name], scale))
    assert is_drawn(strategies.inputs("attention"), lambda inputs: _near(inputs["V"], 1e4))


def _near(x, scale):
    return x.size > 5 and 0.3 * scale < np.std(x) < 3 * scale


@given(strategies.inputs("attention"))
def test_exponents_stay_small(inputs):
    assert np.max(np.abs(inputs["Q"]), initial=0) < 10


@given(strategies.inputs("relu", powers=(2, 9)), strategies.inputs("silu", powers=(3, 3)))
def test_other_powers(large, small):
    assert np.max(np.abs(large["x"]), initial=1000) > 1e-2
    assert np.max(np.abs(small["x"]), initial=0) < 100  # within what silu is asked


def test_masks():
    for condition in (np.all, lambda mask: not np.any(mask), lambda mask: 5 < np.sum(mask) < 10):
        assert is_drawn(strategies.masks((3, 5)), condition)
    assert is_drawn(strategies.masks((3, 99)), lambda mask: _rows(mask) == {True, False})
    given_mask = strategies.inputs("attention", optional=["mask"])
    assert is_drawn(given_mask, lambda inputs: _rows(inputs["mask"]) == {True, False})
    assert is_drawn(given_mask, lambda inputs: _rows(inputs["mask"]) == {True})


def _rows(mask):
    return set(np.any(mask, axis=-1).ravel().tolist()) if mask.size > 9 else set()


@pytest.mark.parametrize("op", SHAPES)
@given(data=st.data())
def test_inputs_of_every_op(op, data):
    optional = data.draw(st.sets(st.sampled_from(["mask"]))) if op == "attention" else ()
    optional = data.draw(st.sets(st.sampled_from(["b"]))) if op == "linear" else optional
    inputs = data.draw(strategies.inputs(op, optional=optional, max_length=9))
    cotangent = inputs.pop("cotangent")
    assert np.shape(getattr(tl, op)(**inputs)) == cotangent.shape
    assert set(optional) <= set(inputs)
    assert ("mask" in inputs) == ("mask" in optional)
    assert max((max(x.shape, default=0) for x in inputs.values()), default=0) <= 9


@pytest.mark.parametrize("op", SHAPES)
def test_every_axis_is_1_and_0_and_long(op):
    drawn = strategies.inputs(op, max_length=17)
    for length in (1, 17):
        assert is_drawn(drawn, lambda inputs, length=length: _has(inputs, length))
    if op != "cross_entropy":  # of no targets there is no mean
        assert is_drawn(drawn, lambda inputs: any(0 in x.shape for x in inputs.values()))


def _has(inputs, length):
    return any(x.shape[-1:] == (length,) for x in inputs.values())


def test_sizes_and_shapes():
    alike = "Q:...TD K:...TD V:...TE -> ...TE"
    sizes = {"D": 4, "E": st.sampled_from([8, 16]), "...": (3,)}

    @given(strategies.inputs("attention", shapes=alike, sizes=sizes))
    def test(inputs):
        (b, t, d), (_, _, e) = inputs["Q"].shape, inputs["V"].shape
        assert inputs["K"].shape == (b, t, d)
        assert (b, d) == (3, 4)
        assert e in (8, 16)
        assert inputs["cotangent"].shape == (b, t, e)

    test()


@given(strategies.inputs(lambda x, gain: x * gain, shapes="x:...C gain:C -> ...C"))
def test_inputs_of_a_formula(inputs):
    assert inputs["gain"].shape == inputs["x"].shape[-1:]
    assert inputs["cotangent"].shape == inputs["x"].shape


def test_targets():
    drawn = strategies.inputs("cross_entropy", ignore_index=-7)
    assert is_drawn(drawn, lambda inputs: np.any(inputs["targets"] == -7))
    drawn = strategies.inputs("cross_entropy")
    assert is_drawn(drawn, lambda inputs: np.any(inputs["targets"] == tinylm.ops.IGNORED))


def test_given_sizes_and_numbers_of_scale_one():
    inputs = inputs_at(
        "attention",
        axes_of_inputs("attention", optional=["mask"]),
        {"...": (2,), "T": 30, "S": 50, "D": 7, "E": 11},
        np.random.default_rng(0),
    )
    assert {name: x.shape for name, x in inputs.items()} == {
        "Q": (2, 30, 7),
        "K": (2, 50, 7),
        "V": (2, 50, 11),
        "mask": (2, 30, 50),
        "cotangent": (2, 30, 11),
    }
    for name in ("Q", "K", "V", "cotangent"):
        assert abs(np.std(inputs[name]) - 1) < 0.2


def test_wrong_calls():
    for call, message in [
        (lambda: strategies.inputs("sofmax"), "there is no op 'sofmax': attention"),
        (lambda: strategies.inputs(np.exp), "of a formula, shapes is needed"),
        (lambda: strategies.inputs("linear", sizes={"T": 3}), "sizes has 'T': wanted 'I', 'O'"),
        (lambda: strategies.inputs("linear", optional="x"), "what is optional is b"),
        (lambda: strategies.inputs("linear", powers=(1, 0)), "wanted the least one first"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_hypothesis_is_loaded_when_it_is_used():
    code = (
        "import sys, tinylm as tl; assert 'hypothesis' not in sys.modules; s = tl.oracle.strategies\n"
        "sys.modules['hypothesis'] = None\n"
        "for call in (s.layouts, lambda: tl.oracle.find_failure(print, 'relu')):\n"
        "    try: call()\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message = (
        "tinylm.oracle.strategies and find_failure need hypothesis: pip install 'tinylm[oracle]'"
    )
    assert done.stdout.splitlines() == [message] * 2


def test_it_is_public():
    assert oracle.strategies is strategies
