"""Kernels of PyTorch and JAX: every format, every place in memory, and what they may not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from tinylm import oracle
from tinylm.oracle.adapters import DTYPES, from_jax, from_torch
from tinylm.oracle.answers import WrongAnswer, as_float64, called


@pytest.fixture
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def numbers(rng, io, *shape):
    """Exact in a format, in the dtype in which a kernel of it is handed them."""
    dtype = {"f64": np.float64, "f16": np.float16}.get(io, np.float32)
    return oracle.FORMATS[io].rounded(rng.standard_normal(shape)).astype(dtype)


def assert_exact(kernel, inputs, cotangent, value, grads):
    got = called(kernel, inputs, cotangent, grads)
    np.testing.assert_array_equal(got[0], value)
    for key, gradient in grads.items():
        np.testing.assert_array_equal(got[1][key], gradient)


class Twice(torch.autograd.Function):
    """2 x - 4 y; the order of its arguments is seen in the result."""

    @staticmethod
    def forward(ctx, x, y):
        return 2 * x - 4 * y

    @staticmethod
    def backward(ctx, g):
        return 2 * g, -4 * g


# PyTorch


@pytest.mark.parametrize("io", DTYPES)
def test_torch_in_every_format(io, rng):
    def twice(x):
        seen.append(x.dtype)
        return (2 * x.to(torch.float64)).to(x.dtype)

    seen, x, cotangent = [], numbers(rng, io, 3, 5), numbers(rng, io, 3, 5)
    kernel = from_torch(twice).declared(io)
    assert_exact(kernel, {"x": x}, cotangent, 2.0 * x, {"x": 2.0 * cotangent})
    assert seen == [getattr(torch, DTYPES[io])]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_torch_in_the_dtype_that_came(dtype, rng):
    def twice(x):
        seen.append(x.dtype)
        return 2 * x

    seen, x = [], rng.standard_normal(3).astype(dtype)
    assert_exact(from_torch(twice), {"x": x}, x, 2.0 * x, {"x": 2.0 * x})
    assert seen == [getattr(torch, dtype)]


@pytest.mark.parametrize("f", [Twice, Twice.apply, lambda y, x: Twice.apply(x, y)])
def test_a_function_of_autograd(f, rng):
    x, y, cotangent = rng.integers(-9, 9, (3, 5)) / 4
    expected = {"x": 2 * cotangent, "y": -4 * cotangent}
    assert_exact(from_torch(f), {"x": x, "y": y}, cotangent, 2 * x - 4 * y, expected)


def test_attention_of_torch(rng):
    Q, K, V, cotangent = rng.standard_normal((4, 2, 3, 7, 5))
    mask = rng.random((7, 7)) < 0.7
    mask[:, 0] = True
    for dtype in (np.float64, np.float32):
        arrays = [x.astype(dtype) for x in (Q, K, V, cotangent)]
        inputs = dict(zip("QKV", arrays, strict=False)) | {"mask": mask}
        kernel = from_torch(
            lambda Q, K, V, mask: F.scaled_dot_product_attention(Q, K, V, attn_mask=mask)
        )
        ref = oracle.reference("attention", **inputs, cotangent=arrays[3])
        value, grads = called(kernel, inputs, arrays[3], "QKV")
        tolerance = 1e3 * np.finfo(dtype).eps
        np.testing.assert_allclose(value, ref.value, rtol=0, atol=tolerance)
        for key in "QKV":
            np.testing.assert_allclose(grads[key], ref.grads[key], rtol=0, atol=tolerance)


def test_targets_and_ids(rng):
    ids = rng.integers(0, 5, 4)
    logits, table = rng.standard_normal((4, 5)), rng.standard_normal((5, 3))
    ref = oracle.reference("cross_entropy", logits=logits, targets=ids, cotangent=0.5)
    kernel = from_torch(lambda logits, targets: F.cross_entropy(logits, targets))
    value, grads = called(kernel, {"logits": logits, "targets": ids}, 0.5, ["logits"])
    assert value == pytest.approx(ref.value)
    np.testing.assert_allclose(grads["logits"], ref.grads["logits"], rtol=1e-13)

    cotangent = rng.standard_normal((4, 3))
    ref = oracle.reference("embedding", table=table, ids=ids, cotangent=cotangent)
    kernel = from_torch(lambda table, ids: F.embedding(ids, table))
    value, grads = called(kernel, {"table": table, "ids": ids[::-1]}, cotangent[::-1], ["table"])
    np.testing.assert_array_equal(value, ref.value[::-1])
    np.testing.assert_allclose(grads["table"], ref.grads["table"], rtol=1e-14)


WIDE = np.arange(30.0).reshape(5, 6) / 4
LAYOUTS = {
    "contiguous": (WIDE, (6, 1)),
    "transposed": (WIDE.T, (1, 6)),
    "strided": (WIDE[::2, 1::3], (12, 3)),
    "broadcast rows": (np.broadcast_to(WIDE[0], (5, 6)), (0, 1)),
    "broadcast columns": (np.broadcast_to(WIDE[:, :1], (5, 6)), (6, 0)),
    "one number": (np.broadcast_to(WIDE[1, 1], (5, 6)), (0, 0)),
    "windows": (np.lib.stride_tricks.sliding_window_view(WIDE[0], 3), (1, 1)),
    "backwards": (WIDE[::-1, ::-1], (6, 1)),
    "windows backwards": (np.lib.stride_tricks.sliding_window_view(WIDE[0], 3)[::-1], (3, 1)),
    "fields": (np.rec.fromarrays([WIDE, np.float32(WIDE)]).f0, (6, 1)),
    "no dimension": (WIDE[1, 1, ...], ()),
    "empty": (WIDE[:0], (6, 1)),
    "no columns": (np.broadcast_to(WIDE[:, :0], (2, 5, 0)), None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("io", ["f64", "bf16"])
def test_the_tensor_lies_as_the_array_does(layout, io):
    """And where it is repeated, each of its elements still has a gradient of its own."""

    def halved(x):
        seen.append(x.stride())
        return x / 2

    seen, (x, strides) = [], LAYOUTS[layout]
    cotangent = -np.arange(float(x.size)).reshape(x.shape)
    assert_exact(from_torch(halved).declared(io), {"x": x}, cotangent, x / 2, {"x": cotangent / 2})
    if strides is not None:
        assert seen == [strides]


def test_a_cotangent_lies_as_its_array_does_too():
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x / 2

        @staticmethod
        def backward(ctx, g):
            seen.append(g.stride())
            return g / 2

    seen = []
    for x, _ in list(LAYOUTS.values())[:6]:
        from_torch(Halved)(x=np.ones(x.shape), cotangent=x)
    assert seen == [strides for _, strides in list(LAYOUTS.values())[:6]]


def test_who_ignores_the_strides_finds_nan():
    """And not what happens to be there."""

    class Careless(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.as_strided(x.shape, (x.shape[1], 1)) * 1

        @staticmethod
        def backward(ctx, g):
            return g

    value, _ = from_torch(Careless)(x=WIDE[:, ::2], cotangent=np.ones((5, 3)))
    assert np.isnan(value).sum() == 7


@pytest.mark.parametrize(
    ("f", "missing"),
    [
        (lambda x, y: 2 * x, "y"),
        (lambda x, y: x.detach() * y, "x"),
        (lambda x, y: torch.tensor(x.detach().numpy()), "x"),
        (torch.no_grad()(lambda x, y: x * y), "x"),
    ],
)
def test_no_gradient_is_no_zero(f, missing):
    with pytest.raises(WrongAnswer, match=f"the value does not depend on '{missing}', or was det"):
        from_torch(f)(x=np.ones(3), y=np.ones(3), cotangent=np.ones(3))


def test_a_backward_that_returns_none():
    class Half(Twice):
        @staticmethod
        def backward(ctx, g):
            return 2 * g, None

    with pytest.raises(
        WrongAnswer, match=r"from_torch\(test_torch_and_jax.Half\): .* depend on 'y'"
    ):
        from_torch(Half.apply)(x=np.ones(3), y=np.ones(3), cotangent=np.ones(3))


def in_place(tensor):
    tensor.data.add_(1)  # what autograd does not see


class Writing(torch.autograd.Function):
    where = ""

    @staticmethod
    def forward(ctx, x, ids):
        if Writing.where in ("x", "ids"):
            (x if Writing.where == "x" else ids).add_(1)
        ctx.save_for_backward(x)
        return x * 1

    @staticmethod
    def backward(ctx, g):
        if Writing.where == "cotangent":
            g.mul_(2)
        elif Writing.where == "x in backward":
            ctx.saved_tensors[0].data.zero_()
        return g * 1, None


@pytest.mark.parametrize("where", ["", "x", "ids", "cotangent", "x in backward"])
@pytest.mark.parametrize("io", ["f32", "bf16"])
def test_what_writes_into_its_inputs(where, io, monkeypatch):
    monkeypatch.setattr(Writing, "where", where)
    x, ids = np.float32([1, np.nan]), np.arange(2)
    cotangent = np.float32([3, 4])
    kernel = from_torch(Writing).declared(io)
    if where:
        with pytest.raises(WrongAnswer, match=f"it wrote into {where.split()[0]}$"):
            kernel(x=x, ids=ids, cotangent=cotangent)
    else:
        kernel(x=x, ids=ids, cotangent=cotangent)
    np.testing.assert_array_equal(x, [1, np.nan])
    assert ids.tolist() == [0, 1]
    assert cotangent.tolist() == [3, 4]


def test_autograd_does_not_see_this_write():
    def f(x):
        in_place(x)
        return 2 * x

    with pytest.raises(WrongAnswer, match="it wrote into x"):
        from_torch(f)(x=np.ones(3), cotangent=np.ones(3))


def test_what_is_returned_is_not_what_was_given():
    x, cotangent = np.ones(3), np.ones(3)
    value, grads = from_torch(lambda x: x)(x=x, cotangent=cotangent)
    value += 1
    grads["x"] += 1
    assert np.all(x == 1)
    assert np.all(cotangent == 1)


def test_it_works_where_gradients_are_off(rng):
    x = rng.standard_normal(3)
    with torch.no_grad():
        assert_exact(from_torch(lambda x: 2 * x), {"x": x}, x, 2 * x, {"x": 2 * x})


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: (x, x), "the value: came a tuple of 2, wanted an array of floats"),
        (lambda x: None, "the value: came a NoneType"),
        (lambda x: x.long(), "the value: came a Tensor of torch.int64"),
        (lambda x: x.sum(), r"the value: came shape \(\), wanted \(3,\)"),
        (lambda x: x[:1], r"the value: came shape \(1,\), wanted \(3,\)"),
    ],
)
def test_wrong_values_of_torch(f, message):
    with pytest.raises(
        WrongAnswer, match=rf"^from_torch\(test_torch_and_jax\.<lambda>\): {message}"
    ):
        from_torch(f)(x=np.ones(3), cotangent=np.ones(3))


def test_wrong_calls():
    for adapter in (from_torch, from_jax):
        with pytest.raises(TypeError, match=f"{adapter.__name__}: f: came a float, wanted a call"):
            adapter(2.0)
        with pytest.raises(ValueError, match=r"io='half': wanted f64, f32, tf32, f16, bf16, e4m3"):
            adapter(len).declared("half")
        with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
            adapter(lambda x: x)(y=np.float32([1]), cotangent=np.float32([1]))
    with pytest.raises(RuntimeError, match="leaf Variable"):
        from_torch(lambda x: x.mul_(2))(x=np.ones(3), cotangent=np.ones(3))


def test_where_it_computes(rng):
    x = rng.standard_normal(3)
    seen = []
    from_torch(lambda x: seen.append(x.device.type) or 2 * x, device="cpu")(x=x, cotangent=x)
    assert seen == ["cpu"]
    with pytest.raises(WrongAnswer, match="x: came a Tensor of torch.float64"):
        from_torch(lambda x: 2 * x, device="meta")(x=x, cotangent=x)  # has no numbers


def of_torch(x):
    return torch.softmax(x, -1)


def of_torch_without_its_last_term(x):
    y = torch.softmax(x, -1)
    return y.detach() * (1 + x - x.detach())


def of_jax(x):  # which computes in the dtype that it is given
    return jax.nn.softmax(x.astype(jnp.float32)).astype(x.dtype)


@pytest.mark.parametrize("io", ["f32", "bf16"])
def test_the_check_takes_it(io, rng):
    x, cotangent = rng.standard_normal((2, 16, 50))
    inputs, model = {"x": x, "cotangent": cotangent}, oracle.Rounding(io=io)
    for kernel in (from_torch(of_torch), from_jax(of_jax)):
        assert oracle.check(kernel, "softmax", inputs, rounding=model).ok
    for wrong in (
        from_torch(of_torch_without_its_last_term),
        from_jax(lambda x: (1.05 * of_jax(x)).astype(x.dtype)),
    ):
        with pytest.raises(oracle.GradientMismatch):
            oracle.check(wrong, "softmax", inputs, rounding=model)


# JAX


@pytest.mark.parametrize("io", DTYPES)
def test_jax_in_every_format(io, rng, x64):
    def twice(x):
        seen.append(x.dtype.name)
        return (2 * x.astype("float32" if io != "f64" else "float64")).astype(x.dtype)

    seen, x, cotangent = [], numbers(rng, io, 3, 5), numbers(rng, io, 3, 5)
    kernel = from_jax(twice).declared(io)
    assert_exact(kernel, {"x": x}, cotangent, 2.0 * x, {"x": 2.0 * cotangent})
    assert seen == [DTYPES[io]]


def test_float64_of_jax_is_off():
    message = r"from_jax\(.*\): float64 is off, wanted jax.config.update\('jax_enable_x64', True\)"
    for kernel in (from_jax(jnp.sin), from_jax(jnp.sin).declared("f64")):
        with pytest.raises(ValueError, match=message):
            kernel(x=np.ones(3), cotangent=np.ones(3))


def test_a_custom_vjp(rng):
    @jax.custom_vjp
    def scaled(x, ids):
        return 2 * x[ids]

    def forward(x, ids):
        return scaled(x, ids), (x, ids)

    def backward(saved, g):
        x, ids = saved
        return jnp.zeros_like(x).at[ids].add(3 * g), None  # 3, and not 2: that it is called

    scaled.defvjp(forward, backward)
    x, ids = np.float32([1, 2, 3, 4]), np.array([2, 0, 2])
    cotangent = np.float32([5, 6, 7])
    expected = [18, 0, 36, 0]
    for f in (scaled, jax.jit(scaled)):
        assert_exact(from_jax(f), {"x": x, "ids": ids}, cotangent, 2 * x[ids], {"x": expected})


def test_what_jax_does_not_depend_on_is_zero():
    x = np.float32([1, 2])
    assert_exact(from_jax(lambda x, y: 2 * x), {"x": x, "y": x}, x, 2 * x, {"x": 2 * x, "y": 0 * x})


def test_targets_and_masks_of_jax(rng, x64):
    logits, targets = rng.standard_normal((4, 5)), rng.integers(0, 5, 4)
    ref = oracle.reference("cross_entropy", logits=logits, targets=targets, cotangent=0.5)

    def loss(logits, targets):
        assert not isinstance(targets, jax.core.Tracer)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), targets])

    value, grads = called(from_jax(loss), {"logits": logits, "targets": targets}, 0.5, ["logits"])
    assert value == pytest.approx(ref.value)
    np.testing.assert_allclose(grads["logits"], ref.grads["logits"], rtol=1e-13)
    mask, x = np.array([True, False]), np.ones(2)
    kernel = from_jax(lambda x, mask: jnp.where(mask, 2 * x, 0))
    assert_exact(kernel, {"x": x, "mask": mask}, x, [2, 0], {"x": [2, 0]})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_jax_is_given_the_same_numbers(layout):
    x = LAYOUTS[layout][0].astype(np.float32, order="K")
    assert_exact(from_jax(lambda x: x / 2), {"x": x}, x, x / 2, {"x": x / 2})


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: (x, x), "the value: came a tuple of 2, wanted an array of floats"),
        (lambda x: x.astype(int), "the value: came a ArrayImpl of int32"),
        (lambda x: x.sum(), r"the value: came shape \(\), wanted \(3,\)"),
    ],
)
def test_wrong_values_of_jax(f, message):
    with pytest.raises(WrongAnswer, match=rf"^from_jax\(test_torch_and_jax\.<lambda>\): {message}"):
        from_jax(f)(x=np.ones(3, np.float32), cotangent=np.ones(3, np.float32))


# What comes back


def test_arrays_of_both_as_float64():
    for x in (
        torch.tensor([1, 2.5], dtype=torch.bfloat16, requires_grad=True),
        torch.tensor([1, 2.5], dtype=torch.float8_e5m2),
        torch.tensor([1, 0, 2.5])[::2],
        [torch.tensor(1.0), torch.tensor(2.5)],
        jnp.array([1, 2.5], dtype=jnp.bfloat16),
        jnp.array([1, 2.5], dtype=jnp.float8_e4m3fn),
        np.asarray(jnp.array([1, 2.5], dtype=jnp.bfloat16)),
    ):
        got = as_float64(x, "x")
        assert got.dtype == np.float64
        assert got.tolist() == [1, 2.5]
    tensor = torch.zeros(2, dtype=torch.float64)
    as_float64(tensor, "x")[...] = 1
    assert tensor.tolist() == [0, 0]
    for x in (
        torch.zeros(2, dtype=torch.complex64),
        jnp.zeros(2, dtype=complex),
        torch.zeros(2).to_sparse(),
        [torch.zeros(2, requires_grad=True)],
    ):
        with pytest.raises(TypeError, match="^x: came a .*, wanted an array of real numbers"):
            as_float64(x, "x")
