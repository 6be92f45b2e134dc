"""The search: planted bugs are found, and shrunk to a small test that fails; right kernels pass."""

import numpy as np
import pytest

import tinylm as tl
from tinylm import oracle
from tinylm.oracle import FORMATS, GradientMismatch, Report, Rounding, find_failure
from tinylm.oracle.shrinking import smallest


def kernel_of(op, bug=lambda **_: None, io="f32", **attributes):
    """The op's own kernel; the bug writes into the value and the gradients, given with the inputs."""

    def kernel(cotangent, **inputs):
        floats = {name: x for name, x in inputs.items() if x.dtype.kind == "f"}
        others = {**{name: x for name, x in inputs.items() if name not in floats}, **attributes}

        def f(*arrays):
            return op(**dict(zip(floats, arrays, strict=True)), **others)

        value, pullback = tl.vjp(f, *floats.values())
        value, grads = np.array(value), [np.array(x) for x in pullback(cotangent)]
        answer = {"value": value, **{f"d_{name}": g for name, g in zip(floats, grads, strict=True)}}
        bug(**inputs, **answer, cotangent=cotangent)
        value, *grads = (FORMATS[io].rounded(x) for x in answer.values())
        return value, dict(zip(floats, grads, strict=True))

    return kernel


def found(kernel, op, **options):
    """The failure; its text runs as it stands, with the kernel bound, and fails likewise."""
    failure = find_failure(kernel, op, **options)
    names = {"kernel": kernel} | ({} if isinstance(op, str) else {op.__name__: op})
    exec(str(failure), names)  # noqa: S102
    kind = GradientMismatch if isinstance(failure.report, Report) else type(failure.report)
    with pytest.raises(kind) as caught:
        names["test_kernel"]()
    if kind is GradientMismatch:
        assert str(caught.value.report) == str(failure.report)
    return failure


def shapes(failure):
    return {name: x.shape for name, x in failure.inputs.items()}


def wrong(failure):
    return [verdict.name for verdict in failure.report.runs[0].verdicts if not verdict.ok]


def block(Q, d_K, **_):
    if Q.shape[-2] > 16:
        d_K *= 1.5


def last_block(Q, d_Q, **_):
    T = Q.shape[-2]
    d_Q[..., T // 16 * 16 : T if T > 16 else 0, :] = 0


def multiple_of_16(Q, d_Q, **_):
    if Q.shape[-2] % 16 == 0:
        d_Q[..., -1:, :] = 0


@pytest.mark.parametrize(
    ("bug", "T", "name"), [(block, 17, "K"), (last_block, 17, "Q"), (multiple_of_16, 16, "Q")]
)
def test_bugs_of_blocks(bug, T, name):
    kernel = kernel_of(tl.attention, bug, causal=True)
    failure = found(kernel, "attention", causal=True, max_length=33)
    assert shapes(failure) == {"Q": (T, 1), "K": (2, 1), "V": (2, 1), "cotangent": (T, 1)}
    assert wrong(failure) == [name]
    for x in failure.inputs.values():
        assert set(x.ravel()) <= {-1, 0, 1}
        assert np.count_nonzero(x) <= 1


def test_an_empty_row_of_a_mask():
    def bug(value, V, mask=None, **_):
        if mask is not None and V.shape[-2]:
            value += np.where(np.any(mask, axis=-1, keepdims=True), 0, 1)

    kernel = kernel_of(tl.attention, bug)
    failure = found(kernel, "attention", optional=["mask"])
    assert failure.inputs["mask"].tolist() == [[False]]
    assert set(map(np.size, failure.inputs.values())) == {1}
    assert find_failure(kernel, "attention", max_length=20) is None  # no masks were drawn


def test_negative_numbers():
    def bug(x, d_x, **_):
        d_x[x < -2] = 0

    failure = found(kernel_of(tl.relu, lambda d_x, x, **_: d_x.__isub__(1.0 * (x < 0))), "relu")
    assert failure.inputs == {"x": -1, "cotangent": 0}
    failure = found(kernel_of(tl.gelu, bug), "gelu")
    assert failure.inputs == {"x": -3, "cotangent": 1}


@pytest.mark.parametrize("io", ["f32", "bf16"])
def test_one_gradient_is_a_hundredth_off(io):
    def bug(d_V, **_):
        d_V *= 1.01

    failure = found(kernel_of(tl.attention, bug, io), "attention", rounding=Rounding(io=io))
    assert wrong(failure) == ["V"]
    assert set(map(np.size, failure.inputs.values())) == {1}
    assert io != "f32" or failure.inputs["cotangent"] == 1


def test_crashes():
    def bug(Q, **_):
        if Q.shape[-2] == 1:
            raise IndexError("block of one")

    failure = found(kernel_of(tl.attention, bug), "attention")
    assert shapes(failure) == dict.fromkeys(["Q", "K", "V", "cotangent"], (1, 1))
    assert isinstance(failure.report, IndexError)
    assert "# IndexError" in str(failure)
    kernel, sizes = kernel_of(tl.attention, bug), {"T": 16, "...": (2,)}
    assert find_failure(kernel, "attention", sizes=sizes, max_length=20) is None


def test_a_failure_does_not_slip_into_another_while_it_shrinks():
    def bug(Q, d_K, **_):
        if Q.shape[-2] < 4:
            raise IndexError
        if Q.shape[-2] > 16:
            d_K *= 1.5

    sizes = {"T": 20}
    failure = found(kernel_of(tl.attention, bug), "attention", sizes=sizes, max_length=5)
    assert len(failure.inputs["Q"]) == 17


def test_zero_size_counts():
    def bug(x, **_):
        np.max(x, axis=-1)

    failure = found(kernel_of(tl.softmax, bug), "softmax", max_examples=300)
    assert isinstance(failure.report, ValueError)
    assert failure.inputs["x"].size == 0
    assert failure.inputs["x"].ndim <= 2


def test_large_numbers():
    def bug(x, value, **_):
        with np.errstate(over="ignore", invalid="ignore"):
            y = np.exp(x)
            value[...] = y / np.sum(y, axis=-1, keepdims=True)

    failure = found(kernel_of(tl.softmax, bug), "softmax")
    assert failure.inputs["x"].tolist() in ([89.0], [-104.0])  # e^89 > 3.4e38, e^-104 < 0.7e-45
    assert set(wrong(failure)) == {"value"}


def test_ids():
    def bug(ids, d_table, cotangent, **_):
        d_table[...] = 0
        d_table[ids] = cotangent  # not added

    failure = found(kernel_of(tl.embedding, bug), "embedding")
    assert failure.inputs["ids"].tolist() == [0, 0]
    assert shapes(failure) == {"table": (1, 1), "ids": (2,), "cotangent": (2, 1)}


def scaled(x, gain):
    return x * gain


def test_a_formula():
    def bug(d_gain, x, **_):
        if x.shape[-1] > 4:
            d_gain[4:] = 0

    options = {"shapes": "x:...C gain:C -> ...C"}
    failure = found(kernel_of(scaled, bug), scaled, **options, rounding=Rounding(bound="worst"))
    assert shapes(failure) == {"x": (5,), "gain": (5,), "cotangent": (5,)}
    assert "check(kernel, scaled, inputs" in str(failure)
    assert "Rounding(bound='worst', safety=1.0)" in str(failure)
    assert find_failure(kernel_of(scaled), scaled, **options) is None
    with pytest.raises(
        ValueError, match=r"of a formula, shapes is needed, such as 'x:\.\.\.C gain"
    ):
        find_failure(kernel_of(scaled, bug), scaled)


def test_axes_that_a_kernel_wants_alike():
    def bug(Q, K, **_):
        assert Q.shape == K.shape

    kernel = kernel_of(tl.attention, bug)
    assert isinstance(found(kernel, "attention").report, AssertionError)
    alike = "Q:...TD K:...TD V:...TE -> ...TE"
    assert find_failure(kernel, "attention", shapes=alike, max_length=20) is None


def test_a_kernel_that_writes_into_its_inputs():
    def bug(x, **_):
        x[...] = 0

    failure = found(kernel_of(tl.relu, bug), "relu")
    assert failure.report.runs[0].problem == "it wrote into x"
    assert failure.inputs["x"] == 1


@pytest.mark.parametrize("io", ["f32", "bf16", "e4m3"])
@pytest.mark.parametrize("op", ["softmax", "attention", "layer_norm", "cross_entropy", "linear"])
def test_right_kernels(op, io):
    optional = {"attention": ["mask"], "linear": ["b"]}.get(op, ())
    kernel = kernel_of(getattr(tl, op), io=io)
    options = {"rounding": Rounding(io=io), "optional": optional, "max_length": 33}
    assert find_failure(kernel, op, **options, max_examples=30) is None


def test_the_same_seed_finds_the_same():
    kernel = kernel_of(tl.gelu, lambda x, d_x, **_: d_x.__isub__(x > 1.23))
    first, again = (str(find_failure(kernel, "gelu", seed=5)) for _ in range(2))
    assert first == again


def test_it_is_bounded():
    calls = []

    def bug(x, **_):
        calls.append(x.shape)
        assert np.count_nonzero(x) < 20

    failure = find_failure(kernel_of(tl.relu, bug), "relu", max_examples=5)
    assert np.count_nonzero(failure.inputs["x"]) >= 20
    assert len(calls) <= 5 + 20 * 5 + 3
    calls.clear()
    assert find_failure(kernel_of(tl.relu, lambda x, **_: calls.append(x)), "relu") is None
    assert len(calls) <= 100


def test_a_kernel_that_fails_once():
    calls = []

    def bug(d_x, **_):
        calls.append(1)
        if len(calls) == 3:
            d_x += 1

    failure = find_failure(kernel_of(tl.relu, bug), "relu")
    assert not failure.report.ok
    assert "rejected at these inputs once, and now it is not" in str(failure.report)


@pytest.mark.parametrize("io", ["bf16", "e4m3", "f64"])
def test_shrunk_numbers_are_exact_in_the_format(io):
    x = FORMATS[io].rounded(np.random.default_rng(0).standard_normal(20) * 300)
    x = np.where(np.isfinite(x), x, 1)
    least = smallest({"x": x}, {"x": "N"}, io, lambda inputs: np.any(np.abs(inputs["x"]) > 100.3))
    assert np.abs(least["x"]).tolist() == [104.0 if io == "e4m3" else 101.0]


def test_every_kind_of_number_is_shrunk():
    def least(x, fails):
        return smallest({"x": np.array(x)}, {"x": "N"}, "f32", lambda i: fails(i["x"]))["x"]

    assert least([2.3], lambda x: np.any(x > 2)).tolist() == [3]
    assert least([-700.0], lambda x: np.any(x < -17)).tolist() == [-18]
    assert least([1.7e-5], lambda x: np.any((x > 0) & (x < 1e-3))) == 2.0**-16
    assert least([False, False, True], lambda x: x.size == 3).tolist() == [True] * 3
    assert np.isnan(least([np.nan, 1.0], lambda x: np.isnan(x).any())).tolist() == [True]
    assert least([4, 7], lambda x: x.size == 2).tolist() == [0, 0]


def test_numbers_are_finite_in_the_format():
    def bug(**arrays):
        assert all(np.isfinite(arrays[name]).all() for name in ("x", "W", "cotangent"))

    kernel = kernel_of(tl.linear, bug, io="e4m3")
    options = {"rounding": Rounding(io="e4m3"), "max_length": 9, "powers": (3, 4)}
    assert find_failure(kernel, "linear", **options) is None


def test_wrong_calls():
    kernel = kernel_of(tl.softmax)
    for options, message in [
        ({"max_examples": 0}, "max_examples=0: wanted 1 or more"),
        ({"max_length": 0}, "max_length=0: wanted 1 or more"),
        ({"sizes": {"T": 3}}, r"sizes has 'T': wanted 'V', '\.\.\.'"),
        ({"optional": ["mask"]}, r"optional=\('mask',\): what is optional is nothing"),
        ({"powers": (2, 1)}, r"powers=\(2, 1\): wanted the least one first"),
        ({"axis": 7, "max_examples": 5}, "the op is defined at none of the inputs drawn"),
        ({"shapes": "x"}, "shapes='x': wanted something like"),
    ]:
        with pytest.raises(ValueError, match=message):
            find_failure(kernel, "softmax", **options)
    with pytest.raises(ValueError, match="there is no op 'sofmax': attention, cross_entropy"):
        find_failure(kernel, "sofmax")
    with pytest.raises(TypeError, match="axes"):
        find_failure(kernel, "softmax", axes=1)


def test_it_is_public():
    assert oracle.find_failure is find_failure
    assert oracle.Failure.__doc__
