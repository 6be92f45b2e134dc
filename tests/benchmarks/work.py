"""One piece of work, by tinylm or a peer, timed in a process of its own.

``python tests/benchmarks/work.py WHO WHAT SIZES TIMES`` prints JSON: milliseconds of each time, and
the largest memory of the process and its children. SIZES are L,H,C,T,B,V: layers, heads, d_model,
context, batch, vocabulary. The model is GPT-2's layer, float32: pre-norm, learned positions, gelu
by tanh, tied head; a step is forward, backward, clip at norm 1 and AdamW.
"""

import json
import math
import resource
import sys
import time

import numpy as np


def floor(what, L, H, C, T, B, V):
    """The matrix products of a step alone, each once, into memory that is there."""
    rng = np.random.default_rng(0)
    N, D = B * T, C // H

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    pairs = []
    for width, out in [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * L + [(C, V)]:
        x, W, d_y = normal(N, width), normal(width, out), normal(N, out)
        pairs += [(x, W), (d_y, W.T), (x.T, d_y)]
    Q, S = normal(B, H, T, D), normal(B, H, T, T)
    pairs += [(Q, Q.swapaxes(-1, -2)), (S, Q)] * (3 * L)
    if what == "forward":
        pairs = pairs[: -6 * L : 3] + pairs[-6 * L :: 3][: 2 * L]
    products = [(a, b, np.matmul(a, b)) for a, b in pairs]

    def step():
        for a, b, out in products:
            np.matmul(a, b, out=out)

    return step


def ours(what, L, H, C, T, B, V):
    import tinylm as tl

    rng = np.random.default_rng(0)
    model = tl.GPT(V, T, C, H, L)
    params = model.init(rng)
    ids = rng.integers(0, V, (B, T + 1))
    if what == "step":
        # processes for small models, which threads hold up; threads for large ones: less memory
        side_by_side = {"processes" if C <= 256 else "threads": 2}
        trainer = tl.Trainer(
            model, params, tl.AdamW(1e-3), clip_norm=1.0, shards=2, rng=rng, **side_by_side
        )
        return lambda: trainer.step(ids[:, :-1], ids[:, 1:])
    if what == "forward":
        return lambda: model(params, ids[:, :-1])
    if what == "perplexity":
        text = rng.integers(0, V, 64 * T + 1)
        return lambda: tl.perplexity(model, params, text)
    if what == "cached":
        return lambda: tl.generate(model, params, ids[0, :1], T - 1, rng=rng)

    class Forgetful:
        context_length = T

        def __call__(self, params, ids):
            return model(params, ids)

    return lambda: tl.generate(Forgetful(), params, ids[0, :1], T - 1, rng=rng)


def in_torch(what, L, H, C, T, B, V):
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.norm_2 = nn.LayerNorm(C), nn.LayerNorm(C)
            self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
            self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

        def forward(self, x, past=None):
            b, t, _ = x.shape
            q, k, v = self.qkv(self.norm_1(x)).view(b, t, 3, H, C // H).permute(2, 0, 3, 1, 4)
            if past is not None:
                rows, start = past["rows"], past["length"]
                rows[0, :, :, start : start + t], rows[1, :, :, start : start + t] = k, v
                k, v = rows[:, :, :, : start + t]
                past["length"] = start + t
            y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, C))
            return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(V, C), nn.Embedding(T, C)
            self.blocks = nn.ModuleList([Block() for _ in range(L)])
            self.norm = nn.LayerNorm(C)

        def forward(self, ids, past=None):
            start = past[0]["length"] if past else 0
            x = self.tokens(ids) + self.positions.weight[start : start + ids.shape[1]]
            for i, block in enumerate(self.blocks):
                x = block(x, past[i] if past else None)
            return self.norm(x) @ self.tokens.weight.T

    torch.manual_seed(0)
    model = GPT()
    ids = torch.randint(0, V, (B, T + 1))
    if what == "step":
        adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def step():
            logits = model(ids[:, :-1])
            F.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adamw.step()
            adamw.zero_grad(set_to_none=True)

        return step

    text = torch.randint(0, V, (64, T + 1))

    @torch.no_grad()
    def run():
        if what == "forward":
            model(ids[:, :-1])
        elif what == "perplexity":
            for part in text.split(32):
                logits = model(part[:, :-1])
                F.cross_entropy(logits.reshape(-1, V), part[:, 1:].reshape(-1)).item()
        else:
            written = ids[:1, :1]
            past = [
                {"length": 0, "rows": torch.empty(2, 1, H, T, C // H)}
                for _ in range(L if what == "cached" else 0)
            ]
            for _ in range(T - 1):
                logits = model(written[:, -1:] if past else written, past)[:, -1]
                token = torch.multinomial(torch.softmax(logits, -1), 1)
                written = torch.cat([written, token], 1)

    return run


def in_jax(what, L, H, C, T, B, V):
    import jax
    from jax import numpy as jnp

    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(0.02 * rng.standard_normal(shape), jnp.float32)

    def norm():
        return jnp.ones(C), jnp.zeros(C)

    params = {
        "tokens": normal(V, C),
        "positions": normal(T, C),
        "norm": norm(),
        "blocks": [
            {
                "norm_1": norm(), "norm_2": norm(),
                "qkv": (normal(C, 3 * C), jnp.zeros(3 * C)), "out": (normal(C, C), jnp.zeros(C)),
                "up": (normal(C, 4 * C), jnp.zeros(4 * C)), "down": (normal(4 * C, C), jnp.zeros(C)),
            }
            for _ in range(L)
        ],
    }  # fmt: skip
    visible = jnp.tril(jnp.ones((T, T), bool))

    def normalized(x, gain, bias):
        deviation = x - x.mean(-1, keepdims=True)
        return (
            deviation * jax.lax.rsqrt((deviation**2).mean(-1, keepdims=True) + 1e-5) * gain + bias
        )

    def linear(x, W, b):
        return x @ W + b

    def logits(params, ids):
        x = params["tokens"][ids] + params["positions"]
        for p in params["blocks"]:
            qkv = linear(normalized(x, *p["norm_1"]), *p["qkv"])
            q, k, v = qkv.reshape(B, T, 3, H, C // H).transpose(2, 0, 3, 1, 4)
            scores = jnp.where(visible, q @ k.swapaxes(-1, -2) / math.sqrt(C // H), -jnp.inf)
            y = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(B, T, C)
            x = x + linear(y, *p["out"])
            x = x + linear(jax.nn.gelu(linear(normalized(x, *p["norm_2"]), *p["up"])), *p["down"])
        return normalized(x, *params["norm"]) @ params["tokens"].T

    def loss(params, ids):
        chosen = jnp.take_along_axis(
            jax.nn.log_softmax(logits(params, ids[:, :-1])), ids[:, 1:, None], -1
        )
        return -chosen.mean()

    tree = jax.tree_util.tree_map

    @jax.jit
    def update(params, m, v, t, ids):
        _, g = jax.value_and_grad(loss)(params, ids)
        size = jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree_util.tree_leaves(g)))
        g = tree(lambda x: x * jnp.minimum(1, 1 / size), g)
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)

        def moved(p, m, v):
            adam = m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
            return p - 1e-3 * (adam + 0.01 * p)

        return tree(moved, params, m, v), m, v

    ids = jnp.asarray(rng.integers(0, V, (B, T + 1)))
    if what == "forward":
        run = jax.jit(logits)
        return lambda: jax.block_until_ready(run(params, ids[:, :-1]))
    state = [params, tree(jnp.zeros_like, params), tree(jnp.zeros_like, params)]

    def step():
        state[:] = update(*state, 6.0, ids)
        jax.block_until_ready(state)

    return step


WHO = {"tinylm": ours, "torch": in_torch, "jax": in_jax, "floor": floor}


def main():
    who, what, sizes, times = sys.argv[1:]
    work = WHO[who](what, *map(int, sizes.split(",")))
    spent = []
    for i in range(3 + int(times)):  # the first of which warm up
        began = time.perf_counter()
        work()
        if i >= 3:
            spent.append(1e3 * (time.perf_counter() - began))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del work
    most += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"ms": spent, "peak_mb": most / (1e6 if sys.platform == "darwin" else 1e3)}))


if __name__ == "__main__":
    main()
