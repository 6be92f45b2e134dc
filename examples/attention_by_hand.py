"""Attention by hand: every number of it, for a sentence of five words.

Two heads of scaled dot-product attention (Vaswani et al. 2017, eq. 1) and their derivative, literally
with NumPy, each step drawn under its formula and held to tl.multi_head_attention and tl.vjp. What it
is worth shows beside a plain mean of the words so far, and with the words in another order: without positions attention cannot tell the
first "the" from the second, and words take their outputs along wherever they go. Takes seconds.
"""

from functools import partial

import common
import numpy as np

import tinylm as tl

WORDS = ["the", "cat", "chased", "the", "mouse"]
T, C, H, D = len(WORDS), 6, 2, 3
NAMES = ("W_Q", "W_K", "W_V", "W_O")


FORWARD = {kind: rf"${kind}_i = X W_i^{kind}$" for kind in "QKV"} | {
    "scores": r"$S_i = Q_i K_i^\top / \sqrt{d_k}$",
    "masked": r"mask: only $s \leq t$",
    "weights": r"$A_i = \mathrm{softmax}(S_i)$",
    "output": r"$\mathrm{head}_i = A_i V_i$",
    "share": r"$\mathrm{head}_i W_i^O$",
}
BACKWARD = {
    "d_output": r"$\bar{O}$, given",
    "d_V": r"$\bar{V} = A^\top \bar{O}$",
    "d_weights": r"$\bar{A} = \bar{O} V^\top$",
    "d_scores": r"$\bar{S} = A \circ (\bar{A} - \mathrm{rowsum}(A \circ \bar{A}))$",
    "d_Q": r"$\bar{Q} = \bar{S} K / \sqrt{d_k}$",
    "d_K": r"$\bar{K} = \bar{S}^\top Q / \sqrt{d_k}$",
}


def forward(X, params, i):
    """Head i, step by step: the matrices of the paper, and what W_O makes of the head."""
    part = slice(i * D, (i + 1) * D)
    Q, K, V = (X @ params[W][:, part] for W in NAMES[:3])
    scores = Q @ K.T / np.sqrt(D)
    masked = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    e = np.exp(masked - masked.max(axis=1, keepdims=True))
    weights = e / e.sum(axis=1, keepdims=True)
    output = weights @ V
    steps = (Q, K, V, scores, masked, weights, output, output @ params["W_O"][part])
    return dict(zip(FORWARD, steps, strict=True))


def backward(head, d_output):
    """The cotangents of the same steps, from the last to the first."""
    Q, K, V, A = (head[key] for key in ("Q", "K", "V", "weights"))
    d_weights = d_output @ V.T
    d_scores = A * (d_weights - np.sum(A * d_weights, axis=1, keepdims=True))
    d_Q, d_K = d_scores @ K / np.sqrt(D), d_scores.T @ Q / np.sqrt(D)
    steps = (d_output, A.T @ d_output, d_weights, d_scores, d_Q, d_K)
    return dict(zip(BACKWARD, steps, strict=True))


def draw(heads, formulas):
    """A panel for each matrix: its formula over it, its numbers in it, the words beside it."""
    plt = common.pyplot()
    figure, axes = plt.subplots(H, len(formulas), figsize=(2 * len(formulas), 5))
    for i, (head, line) in enumerate(zip(heads, axes, strict=True)):
        for axis, (key, formula) in zip(line, formulas.items(), strict=True):
            x = head[key]
            limit = np.max(np.abs(x[np.isfinite(x)]))
            axis.imshow(x, cmap="RdBu", vmin=-1.6 * limit, vmax=1.6 * limit, aspect="auto")
            for (t, j), number in np.ndenumerate(x):
                text = f"{round(number, 1) + 0.0:.1f}" if np.isfinite(number) else r"$-\infty$"
                axis.text(j, t, text, ha="center", va="center", fontsize=7)
            axis.set_title(formula, fontsize=9 if len(formula) < 50 else 7)
            words = WORDS if x.shape == (T, T) else []
            axis.set_xticks(range(len(words)), words, rotation=60)
            axis.set_yticks(range(T), WORDS if axis is line[0] else [""] * T)
            axis.tick_params(length=0, labelsize=8)
        line[0].set_ylabel(f"head {i + 1}")
    return figure


def compare(run, X, params, heads, backs):
    """The same by tinylm: values and derivatives, and how far apart they are."""
    mine = {key: np.stack([head[key] for head in heads]) for key in heads[0]}
    mine |= {key: np.stack([back[key] for back in backs]) for key in backs[0]}
    mine["multi-head"] = mine["share"].sum(axis=0)  # which is Concat(head_1, head_2) W_O
    with tl.interpret.observe() as seen:
        theirs = {"multi-head": tl.multi_head_attention(params, X, X, X, H, causal=True)}
    theirs |= {key: seen[key] for key in ("scores", "weights", "output")}
    _, pullback = tl.vjp(partial(tl.attention, causal=True), mine["Q"], mine["K"], mine["V"])
    theirs |= zip(("d_Q", "d_K", "d_V"), pullback(mine["d_output"]), strict=True)
    off = {key: f"{np.max(np.abs(x - mine[key])):.1e}" for key, x in theirs.items()}
    rows = [{"step": key, "largest difference": x} for key, x in off.items()]
    run.table("By hand against tl.multi_head_attention and tl.vjp of tl.attention", rows)


def without_positions(run, content, positions, params):
    """The same word at two places, and the same words in another order."""
    order, rows = np.array([4, 2, 0, 1, 3]), []
    for label, place in (("none", 0 * positions), ("sinusoids", positions)):
        sentences = content + place, content[order] + place
        y, moved = (tl.multi_head_attention(params, x, x, x, H) for x in sentences)
        same, taken_along = np.max(np.abs(y[0] - y[3])), np.max(np.abs(moved - y[order]))
        rows.append({"positions": label, "first and second 'the'": f"{same:.1e}",
                     "a word here and elsewhere": f"{taken_along:.1e}"})  # fmt: skip
    run.table("How far two outputs of the same word differ, without a mask", rows)


def main(run):
    """Compute, draw, compare; then take away content, and then positions."""
    vectors = {word: run.rng.standard_normal(C) for word in WORDS}
    content, positions = np.array([vectors[word] for word in WORDS]), tl.sinusoidal_encoding(T, C)
    params = {W: run.rng.standard_normal((C, C)) / np.sqrt(C) for W in NAMES}
    X = content + positions
    heads = [forward(X, params, i) for i in range(H)]
    backs = [backward(head, run.rng.standard_normal((T, D))) for head in heads]
    run.picture(draw(heads, FORWARD), "Every matrix of two heads under its formula")
    run.picture(draw(backs, BACKWARD), "The way back: a bar is the cotangent", "-backward")
    compare(run, X, params, heads, backs)
    without_positions(run, content, positions, params)
    mean = np.tri(T) / np.sum(np.tri(T), axis=1, keepdims=True)
    off = [np.linalg.norm(x["output"] - mean @ x["V"]) / np.linalg.norm(x["output"]) for x in heads]
    run.say(
        "With uniform weights, a plain mean of the words so far, whatever they say, the outputs "
        f"of the two heads would be off by {off[0]:.0%} and {off[1]:.0%} of their size."
    )


common.start(main)
