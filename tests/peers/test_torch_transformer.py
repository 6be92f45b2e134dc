"""PyTorch's Transformer as a witness, in float64: values, every gradient, and trajectories."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import tinylm as tl
from tinylm.autograd import trees
from tinylm.nn import block, decoder_block, normalize

# their encoder says so where it cannot use its fast path
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")

CHOICES = pytest.mark.parametrize(
    ("pre_norm", "bias", "activation"),
    [*itertools.product([False, True], [False, True], ["relu", "gelu"])],
)
ACTIVATIONS = {"relu": tl.relu, "gelu": tl.gelu}
SIZES = [  # of heads, C, d_ff, B, T, S
    (1, 3, 7, 2, 5, 11),
    (3, 6, 5, 3, 7, 2),
]


def value(p):
    return p.detach().numpy()


def gradient(p):
    return p.grad.numpy()


def affine(W, b, read, names):
    """Theirs multiply from the left."""
    named = {names[0]: read(W).T}
    return named if b is None else named | {names[1]: read(b)}


def attention_of(m, read):
    """The parameters of a MultiheadAttention, or their gradients, under our names."""
    params = affine(m.out_proj.weight, m.out_proj.bias, read, ("W_O", "b_O"))
    if m.in_proj_weight is None:
        W = [read(p) for p in (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)]
    else:
        W = np.split(read(m.in_proj_weight), 3)
    params |= {f"W_{k}": x.T for k, x in zip("QKV", W, strict=True)}
    if m.in_proj_bias is not None:
        b = np.split(read(m.in_proj_bias), 3)
        params |= {f"b_{k}": x for k, x in zip("QKV", b, strict=True)}
    return params


def norm_of(m, read):
    """Without a bias, theirs is still a layer norm."""
    bias = np.zeros(len(m.weight)) if m.bias is None else read(m.bias)
    return {"gain": read(m.weight), "bias": bias}


def layer_of(m, read):
    params = {
        "attention": attention_of(m.self_attn, read),
        "feed_forward": affine(m.linear1.weight, m.linear1.bias, read, ("W_1", "b_1"))
        | affine(m.linear2.weight, m.linear2.bias, read, ("W_2", "b_2")),
        "norm_1": norm_of(m.norm1, read),
        "norm_2": norm_of(m.norm2, read),
    }
    if hasattr(m, "multihead_attn"):
        params["cross_attention"] = attention_of(m.multihead_attn, read)
        params["norm_3"] = norm_of(m.norm3, read)
    return params


def stack_of(m, read):
    params = {"blocks": [layer_of(layer, read) for layer in m.layers]}
    return params if m.norm is None else params | {"norm": norm_of(m.norm, read)}


def randomized(module, seed):
    """With parameters none of which is 0 or 1."""
    torch.manual_seed(seed)
    for p in module.parameters():
        p.data = p.data + 0.3 * torch.randn(p.shape, dtype=torch.float64)
    return module.double()


def assert_agree(module, params_of, ours, theirs, inputs, rng, tolerance=1e-10):
    """The value, and the gradients of all parameters and inputs, for a random cotangent."""
    module.zero_grad()
    params = params_of(module, value)
    y, pullback = tl.vjp(ours, params, *inputs)
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    expected = theirs(*tensors)
    assert np.max(np.abs(y - value(expected))) < tolerance
    cotangent = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(cotangent))
    d_params, *d_inputs = pullback(cotangent)
    assert_same_params(module, d_params, params_of(module, gradient), tolerance)
    for got, tensor in zip(d_inputs, tensors, strict=True):
        assert np.max(np.abs(got - tensor.grad.numpy())) < tolerance


def assert_same_params(module, got, expected, tolerance=1e-10, of_b_K=None):
    """All of them, and each of theirs is among them."""
    with_bias = any(m.bias is not None for m in module.modules() if isinstance(m, nn.LayerNorm))
    count = 0
    for (path, a), b in zip(trees.paths(got), trees.leaves(expected), strict=True):
        if path.endswith("bias") and not with_bias:
            continue
        count += b.size
        wanted = of_b_K if of_b_K and path.endswith("b_K") else tolerance
        assert np.max(np.abs(a - b)) < wanted, path
    assert count == sum(p.numel() for p in module.parameters())


def masks(rng, B, T, S):
    """For each kind, ours of shape (B, T, S) or None, and their two; all see the first key."""
    allowed, real = rng.random((T, S)) < 0.6, rng.random((B, S)) < 0.6
    allowed[:, 0] = real[:, 0] = True
    for attention, padding in itertools.product(
        (None, allowed, np.tri(T, S, dtype=bool)), (None, real)
    ):
        ours = None
        if attention is not None or padding is not None:
            ours = (
                np.ones((B, T, S), bool)
                if attention is None
                else attention & np.ones((B, 1, 1), bool)
            )
            ours = ours if padding is None else ours & padding[:, None, :]
        yield ours, *(None if m is None else torch.tensor(~m) for m in (attention, padding))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention(sizes, bias):
    H, C, _, B, T, S = sizes
    rng = np.random.default_rng(0)
    for dims in ({}, {"kdim": 5, "vdim": 13}):
        module = nn.MultiheadAttention(C, H, bias=bias, batch_first=True, **dims)
        module = randomized(module, 0)
        inputs = [
            rng.standard_normal((B, n, width))
            for n, width in ((T, C), (S, dims.get("kdim", C)), (S, dims.get("vdim", C)))
        ]
        for mask, attention, padding in masks(rng, B, T, S):
            assert_agree(
                module,
                attention_of,
                lambda p, q, k, v, m=mask: tl.multi_head_attention(p, q, k, v, H, mask=m),
                lambda q, k, v, o=module, a=attention, p=padding: o(
                    q, k, v, attn_mask=a, key_padding_mask=p, need_weights=False
                )[0],
                inputs,
                rng,
            )
            with tl.record() as seen:
                tl.multi_head_attention(attention_of(module, value), *inputs, H, mask=mask)
            _, weights = module(
                *map(torch.tensor, inputs), attn_mask=attention, key_padding_mask=padding,
                average_attn_weights=False,
            )  # fmt: skip
            np.testing.assert_allclose(seen["weights"][0], value(weights), rtol=0, atol=1e-10)
    x = rng.standard_normal((B, T, C))
    module = randomized(nn.MultiheadAttention(C, H, bias=bias, batch_first=True), 1)
    for mask, attention, padding in masks(rng, B, T, T):
        assert_agree(
            module,
            attention_of,
            lambda p, x, m=mask: tl.multi_head_attention(p, x, x, x, H, mask=m),
            lambda x, a=attention, p=padding: module(
                x, x, x, attn_mask=a, key_padding_mask=p, need_weights=False
            )[0],
            [x],
            rng,
        )
    assert_agree(
        module,
        attention_of,
        lambda p, x: tl.multi_head_attention(p, x, x, x, H, causal=True),
        lambda x: module(
            x, x, x, attn_mask=torch.tensor(~np.tri(T, dtype=bool)), is_causal=True,
            need_weights=False,
        )[0],
        [x],
        rng,
    )  # fmt: skip


@CHOICES
@pytest.mark.parametrize("sizes", SIZES)
def test_layers(sizes, pre_norm, bias, activation):
    """TransformerEncoderLayer and TransformerDecoderLayer."""
    H, C, d_ff, B, T, S = sizes
    rng = np.random.default_rng(1)
    options = {"norm_first": pre_norm, "bias": bias, "activation": activation, "dropout": 0.0}
    encoder, decoder = (
        randomized(layer(C, H, d_ff, batch_first=True, layer_norm_eps=1e-3, **options), 2)
        for layer in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    )
    ours = {"pre_norm": pre_norm, "eps": 1e-3}
    x, memory = rng.standard_normal((B, T, C)), rng.standard_normal((B, S, C))
    act = ACTIVATIONS[activation]
    for own, across in itertools.product(masks(rng, B, T, T), masks(rng, B, T, S)):
        assert_agree(
            decoder,
            layer_of,
            lambda p, x, memory, m=own[0], n=across[0]: decoder_block(
                p, x, memory, H, act, mask=m, memory_mask=n, causal=False, **ours
            ),
            lambda x, memory, m=own, n=across: decoder(
                x, memory, tgt_mask=m[1], tgt_key_padding_mask=m[2],
                memory_mask=n[1], memory_key_padding_mask=n[2],
            ),
            [x, memory],
            rng,
        )  # fmt: skip
    for mask, attention, padding in masks(rng, B, T, T):
        assert_agree(
            encoder,
            layer_of,
            lambda p, x, m=mask: block(p, x, H, act, mask=m, **ours),
            lambda x, a=attention, p=padding: encoder(x, src_mask=a, src_key_padding_mask=p),
            [x],
            rng,
        )


def transformer(sizes, pre_norm, bias, activation, final_norm=True):
    """Their nn.Transformer, two layers of the encoder and one of the decoder."""
    H, C, d_ff = sizes[:3]
    options = {
        "dim_feedforward": d_ff, "dropout": 0.0, "activation": activation, "norm_first": pre_norm,
        "bias": bias, "batch_first": True,
    }  # fmt: skip
    module = nn.Transformer(C, H, 2, 1, **options)
    if not final_norm:
        module.encoder.norm = module.decoder.norm = None
    return randomized(module, 3)


def stacks_of(m, read):
    return {"encoder": stack_of(m.encoder, read), "decoder": stack_of(m.decoder, read)}


@CHOICES
@pytest.mark.parametrize("sizes", SIZES)
def test_the_whole_with_any_masks(sizes, pre_norm, bias, activation):
    """nn.Transformer from vectors to vectors, with masks that a translation does not have."""
    H, C, _, B, T, S = sizes
    rng = np.random.default_rng(4)
    module, act = transformer(sizes, pre_norm, bias, activation), ACTIVATIONS[activation]

    def ours(params, source, target, source_mask, target_mask, memory_mask):
        memory, x = source, target
        for p in params["encoder"]["blocks"]:
            memory = block(p, memory, H, act, mask=source_mask, pre_norm=pre_norm)
        memory = normalize(params["encoder"]["norm"], memory)
        for p in params["decoder"]["blocks"]:
            x = decoder_block(
                p, x, memory, H, act, target_mask, memory_mask, causal=False, pre_norm=pre_norm
            )
        return normalize(params["decoder"]["norm"], x)

    source, target = rng.standard_normal((B, S, C)), rng.standard_normal((B, T, C))
    for own, other, across in zip(
        masks(rng, B, S, S), masks(rng, B, T, T), masks(rng, B, T, S), strict=True
    ):
        assert_agree(
            module,
            stacks_of,
            lambda p, x, y, m=(own[0], other[0], across[0]): ours(p, x, y, *m),
            lambda x, y, a=own, b=other, c=across: module(
                x, y, src_mask=a[1], tgt_mask=b[1], memory_mask=c[1], src_key_padding_mask=a[2],
                tgt_key_padding_mask=b[2], memory_key_padding_mask=c[2],
            ),
            [source, target],
            rng,
        )  # fmt: skip


class Translator(nn.Module):
    """Vaswani et al. 2017, sections 3.4, 3.5 and 5.4, around their nn.Transformer."""

    def __init__(self, core, V, source_V, smoothing):
        super().__init__()
        C = core.d_model
        self.core, self.smoothing = core, smoothing
        self.token = nn.Parameter(torch.randn(V, C, dtype=torch.float64))
        self.source = (
            None
            if source_V is None
            else nn.Parameter(torch.randn(source_V, C, dtype=torch.float64))
        )

    def loss(self, source, target, targets):
        source, target, targets = map(torch.tensor, (source, target, targets))
        C = self.core.d_model

        def embedded(table, ids):
            place = torch.arange(ids.shape[-1], dtype=torch.float64)[:, None]
            i = torch.arange(C, dtype=torch.float64)
            angle = place / 10000 ** (2 * (i // 2) / C)
            return table[ids] * C**0.5 + torch.where(i % 2 == 0, torch.sin(angle), torch.cos(angle))

        y = self.core(
            embedded(self.token if self.source is None else self.source, source),
            embedded(self.token, target),
            tgt_mask=~torch.ones(target.shape[-1], target.shape[-1], dtype=torch.bool).tril(),
            src_key_padding_mask=source == 0,
            memory_key_padding_mask=source == 0,
        )
        return F.cross_entropy(
            (y @ self.token.T).flatten(0, -2), targets.flatten(), ignore_index=0,
            label_smoothing=self.smoothing,
        )  # fmt: skip


def translator_of(m, read):
    params = {"token_embedding": read(m.token), **stacks_of(m.core, read)}
    return params if m.source is None else params | {"source_embedding": read(m.source)}


def translators(sizes, pre_norm, bias, activation, final_norm, source_V, smoothing):
    core = transformer(sizes, pre_norm, bias, activation, final_norm)
    theirs = Translator(core, 13, source_V, smoothing)
    H, C, d_ff = sizes[:3]
    ours = tl.Transformer(
        13, 11, C, H, 2, 1, d_ff, source_V, activation, pre_norm=pre_norm, final_norm=final_norm,
        bias=bias, label_smoothing=smoothing, pad_id=0,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    B, T, S = sizes[3:]
    ids = [rng.integers(1, 13, shape) for shape in ((B, S), (B, T), (B, T))]
    ids[0][0, 1:] = ids[2][0, 3:] = 0
    return theirs, ours, ids


@CHOICES
@pytest.mark.parametrize("final_norm", [False, True])
@pytest.mark.parametrize(
    ("sizes", "source_V", "smoothing"), [(SIZES[0], None, 0.0), (SIZES[1], 17, 0.1)]
)
def test_translations(sizes, source_V, smoothing, final_norm, pre_norm, bias, activation):
    """From ids to the loss: embeddings, positions, masks, head and label smoothing."""
    options = (final_norm, source_V, smoothing)
    theirs, ours, (source, target, targets) = translators(
        sizes, pre_norm, bias, activation, *options
    )
    expected = theirs.loss(source, target, targets)
    expected.backward()
    params = translator_of(theirs, value)
    loss, grads = tl.value_and_grad(ours.loss)(params, (source, target), targets)
    assert loss == pytest.approx(expected.item(), abs=1e-10)
    assert_same_params(theirs, grads, translator_of(theirs, gradient))


OPTIMIZERS = [
    (tl.SGD(0.05), torch.optim.SGD, {"lr": 0.05}),
    (tl.SGD(0.05, momentum=0.9), torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    (tl.SGD(0.05, weight_decay=0.02), torch.optim.SGD, {"lr": 0.05, "weight_decay": 0.02}),
    (tl.SGD(0.02, momentum=0.9, nesterov=True, weight_decay=0.02), torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    (tl.AdamW(0.01), torch.optim.AdamW, {"lr": 0.01}),
    (tl.AdamW(0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.3), torch.optim.AdamW, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3}),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "theirs", "options"), OPTIMIZERS)
@pytest.mark.parametrize("pre_norm", [False, True])
def test_trajectories_over_fifty_steps(optimizer, theirs, options, pre_norm):
    module, model, _ = translators(SIZES[1], pre_norm, True, "gelu", pre_norm, None, 0.1)
    step_of_theirs = theirs(module.parameters(), **options)
    params = trees.map_leaves(np.array, translator_of(module, value))
    state, rng, losses = optimizer.init(params), np.random.default_rng(6), []
    for step in range(50):
        source, target, targets = rng.integers(1, 13, (3, 4, 5))
        step_of_theirs.zero_grad()
        expected = module.loss(source, target, targets)
        expected.backward()
        step_of_theirs.step()
        loss, grads = tl.value_and_grad(model.loss)(params, (source, target), targets)
        params, state = optimizer.update(params, grads, state, step)
        losses.append(loss)
        assert loss == pytest.approx(expected.item(), abs=1e-10)
        # no loss depends on b_K: its gradient is rounding error, which AdamW divides by its eps
        assert_same_params(module, params, translator_of(module, value), of_b_K=1e-8)
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
