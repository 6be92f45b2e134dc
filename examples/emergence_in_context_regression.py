"""A Transformer learns to learn: from a few points it predicts about as well as least squares.

A text is here a row of points, x_1, y_1, x_2, y_2, ..., with ``y = w x + noise`` and in every text
another w. To predict y the model has to find w from the points before; its weights stay as they are
(Garg et al. 2022, "What can Transformers learn in-context?"; Akyürek et al. 2023, "What learning
algorithm is in-context learning?"). The rivals are exact. Least squares knows that y is linear in x.
Ridge regression with the true variances is the mean of w given the points, and no function of them
has a smaller expected error. At twice as many points as features, the model should be within 10% of
least squares, whose expected error is infinite at 2, 3 and 4 points: it has no idea how large w may
be. With more points than that least squares is hard to beat, and the table says so.

Three seeds; about five minutes on one core.
"""

from dataclasses import dataclass

import common
import numpy as np

import tinylm as tl
from tinylm.nn import block, init_block, init_norm, normal, normalize
from tinylm.training import warmup_cosine

FEATURES, POINTS, NOISE = 3, 10, 0.5
AT, WITHIN = 2 * FEATURES, 1.1


@dataclass(frozen=True)
class Regressor:
    """The layers of GPT, after a linear map that reads vectors, before one that says a number."""

    d_model: int = 64
    num_heads: int = 4
    num_layers: int = 3

    def init(self, rng):
        C = self.d_model
        layers = [init_block(rng, C, C, std=None, output_std=None) for _ in range(self.num_layers)]
        read, say = normal(rng, FEATURES + 1, C, std=None), normal(rng, C, 1)
        positions = normal(rng, 2 * POINTS, C, std=0.1)
        ends = {"read": read, "positions": positions, "norm": init_norm(C), "say": say}
        return ends | {"blocks": layers}

    def __call__(self, params, x, y):
        """Each y (B, P) as it is predicted from its x (B, P, d) and the points before."""
        B, P, d = x.shape
        points = np.zeros((B, P, 2, d + 1), x.dtype)  # first x alone, then y alone
        points[:, :, 0, :d], points[:, :, 1, d] = x, y
        stream = tl.linear(points.reshape(B, 2 * P, d + 1), params["read"]) + params["positions"]
        for layer in params["blocks"]:
            stream = block(layer, stream, self.num_heads, tl.gelu, causal=True)
        return tl.linear(normalize(params["norm"], stream[:, ::2]), params["say"])[..., 0]

    def loss(self, params, x, y):
        return np.mean((self(params, x, y) - y) ** 2)


def texts(rng, size):
    """Points x and y of so many texts, in each another w; x and w are normal of variance 1."""
    x, w = rng.standard_normal((size, POINTS, FEATURES)), rng.standard_normal((size, FEATURES, 1))
    y = (x @ w)[..., 0] + NOISE * rng.standard_normal((size, POINTS))
    return x.astype(np.float32), y.astype(np.float32)


def regression(x, y, penalty=0.0):
    """Each y by the shortest w of the least ``|X w - y|^2 + penalty |w|^2`` of the points before."""
    # the penalty is like so many points more
    more = np.broadcast_to(np.sqrt(penalty) * np.eye(FEATURES), (len(x), FEATURES, FEATURES))
    predicted = np.zeros(y.shape)
    for n in range(1, POINTS):
        inverse = np.linalg.pinv(np.concatenate([x[:, :n], more], axis=1))[:, :, :n]
        predicted[:, n] = (x[:, n, None] @ inverse @ y[:, :n, None])[:, 0, 0]
    return predicted


def trained(seed, steps):
    """Parameters after so many updates, each on texts that are new."""
    rng, model = np.random.default_rng(seed), Regressor()
    optimizer = tl.AdamW(warmup_cosine(3e-3, 3e-5, steps // 20, steps))
    trainer = tl.Trainer(model, model.init(rng), optimizer, clip_norm=1.0)
    trainer.run((texts(rng, 64) for _ in range(steps)), steps)
    return trainer.params


def picture(errors):
    figure, panel = common.pyplot().subplots(figsize=(7, 4))
    for name, error in errors.items():
        panel.plot(range(POINTS), np.mean(error, axis=0), ".-", label=name)
        panel.fill_between(range(POINTS), np.min(error, axis=0), np.max(error, axis=0), alpha=0.3)
    panel.axhline(NOISE**2, color="gray", linestyle=":", label="the noise")
    panel.set(yscale="log", ylim=(0.2, 10), xlabel="points before", ylabel="squared error of y")
    panel.set_title(f"{FEATURES} features; line: mean of the seeds, band: all of them", fontsize=10)
    panel.legend()
    return figure


def tell(run, errors):
    """All errors, and the verdict."""
    shown = [(name, error) for name, of in errors.items() for error in of]
    rows = [{"points": name} | {str(n): e[n] for n in range(1, POINTS)} for name, e in shown]
    run.table(f"Squared error of y, a row for each seed; that of the noise is {NOISE**2}", rows)
    least, ridge, ours = (np.array(of) for of in errors.values())
    for n in (AT, POINTS - 1):
        ratios = ours[:, n] / least[0, n]
        run.say(
            f"With {n} points the error of the Transformer is {common.spread(ratios)} times that of "
            f"least squares, at most {WITHIN} times in {np.sum(ratios <= WITHIN)} of {len(ours)} "
            f"seeds, and {common.spread(ours[:, n] / ridge[0, n])} times that of ridge regression."
        )


def main(run):
    seeds, steps, size = (2, 40, 2000) if run.quick else (3, 2500, 20000)
    x, y = texts(np.random.default_rng([run.seed, 1]), size)
    errors = {"least squares": [], "ridge regression": [], "Transformer": []}

    def measure(name, predicted):
        errors[name].append(np.mean((predicted - y) ** 2, axis=0))

    measure("least squares", regression(x, y))
    measure("ridge regression", regression(x, y, penalty=NOISE**2))
    for seed in range(run.seed, run.seed + seeds):
        params, parts = trained(seed, steps), [slice(i, i + 1000) for i in range(0, size, 1000)]
        measure("Transformer", np.concatenate([Regressor()(params, x[i], y[i]) for i in parts]))
        run.progress(f"seed {seed}: squared error {errors['Transformer'][-1][AT]:.3f} at {AT}")
    tell(run, errors)
    run.picture(picture(errors), "Squared error of the Transformer and of its rivals, by points")


if __name__ == "__main__":
    common.start(main)
