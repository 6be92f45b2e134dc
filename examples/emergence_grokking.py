"""Grokking: a model understands addition long after it knows its exercises by heart.

It trains on 40% of the table of ``a + b modulo 53`` and is asked for the rest. Soon it knows by
heart what it has seen, and of the rest nothing; training goes on, nothing seems to happen, and many
times later it answers the rest as well (Power et al. 2022, "Grokking: generalization beyond
overfitting on small algorithmic datasets"). Inside, something did happen: weight decay keeps
the weights small, and the embeddings become a few waves around the circle of the residues (Nanda et
al. 2023, "Progress measures for grokking via mechanistic interpretability"). Once there, Adam may fall
back for a while and come again (Thilak et al. 2022, "The slingshot mechanism"): the curves show it.
The control is the same training without weight decay. The rival is a table of what was seen, read
both ways: it knows that ``a + b = b + a``, and no more.

Three seeds; about five minutes on one core.
"""

import common
import numpy as np

import tinylm as tl
from tinylm.training.trainer import global_norm

P, PART, STRONGEST = 53, 0.4, 5
DECAYS = {"weight decay 1": 1.0, "without": 0.0}
TIMES = 5
"""How many times later than what was seen the rest should be right."""


def exercises(seed):
    """All pairs (a, b) in random order, their sums, and how many of them are trained on."""
    pairs = np.stack(np.divmod(np.arange(P * P), P), axis=1)
    pairs = np.random.default_rng(seed).permutation(pairs)
    return pairs, pairs.sum(axis=1) % P, int(PART * P * P)


def spectrum(params):
    """The share of each frequency, 1 to P // 2, in the embeddings as functions of the residue."""
    waves = np.fft.rfft(params["token_embedding"], axis=0)[1:]
    power = np.sum(np.abs(waves) ** 2, axis=1)
    return power / power.sum()


def learned(seed, decay, steps):
    """After each of the steps accuracies, norm and the strongest waves; the spectrum at the end."""
    pairs, sums, seen = exercises(seed)
    targets = np.stack([np.full(seen, -100), sums[:seen]], axis=1)  # only after both are read
    model = tl.GPT(P, 2, d_model=64, num_heads=4, num_layers=1, d_ff=128, tied=False, bias=False)
    optimizer = tl.AdamW(3e-3, betas=(0.9, 0.98), weight_decay=decay)
    trainer, history = tl.Trainer(model, model.init(np.random.default_rng(seed)), optimizer), []
    for until in steps:
        while trainer.steps < until:
            trainer.step(pairs[:seen], targets)
        right = np.argmax(model(trainer.params, pairs)[:, 1], axis=1) == sums
        strongest = np.sort(spectrum(trainer.params))[-STRONGEST:].sum()
        accuracies = right[:seen].mean(), right[seen:].mean()
        history.append([*accuracies, global_norm(trainer.params), strongest])
    return np.array(history), spectrum(trainer.params)


def read_both_ways(seed):
    """Accuracy on the rest of a table of what was seen, where (b, a) is as good as (a, b)."""
    pairs, _, seen = exercises(seed)
    known = {(b, a) for a, b in pairs[:seen].tolist()}
    return np.mean([(a, b) in known for a, b in pairs[seen:].tolist()])


def picture(steps, curves, spectra):
    figure, panels = common.pyplot().subplots(2, 2, figsize=(9, 6))
    (accuracy, norm), (strongest, waves) = panels
    for color, (name, histories) in zip(("C0", "C1"), curves.items(), strict=True):
        lines = [(accuracy, 0, ":", "seen, "), (accuracy, 1, "-", "the rest, ")]
        for panel, number, style, what in [*lines, (norm, 2, "-", ""), (strongest, 3, "-", "")]:
            values = np.array(histories)[:, :, number]
            middle, low, high = np.median(values, axis=0), values.min(axis=0), values.max(axis=0)
            panel.plot(steps, middle, style, color=color, label=what + name)
            panel.fill_between(steps, low, high, alpha=0.2, color=color, linewidth=0)
        shift = -0.2 if color == "C0" else 0.2
        waves.bar(np.arange(1, P // 2 + 1) + shift, spectra[name][0], 0.4, color=color)
    accuracy.set(ylabel="accuracy", ylim=(0, 1.02))
    accuracy.legend(fontsize=8)
    norm.set(ylabel="norm of all weights", ylim=0)
    strongest.set(ylabel=f"share of the {STRONGEST} strongest waves", ylim=(0, 1))
    waves.set(xlabel="frequency in the embeddings", ylabel="share, first seed")
    for panel in (accuracy, norm, strongest):
        panel.set(xscale="log", xlabel="steps of training")
    figure.suptitle("line: median of the seeds; band: all of them", fontsize=10)
    return figure


def tell(run, steps, curves):
    """For each seed when it knew by heart and when it understood, the control and the rival."""
    rows, met = [], 0
    for seed, (ours, control) in enumerate(zip(*curves.values(), strict=True), start=run.seed):
        done = ours[:, 0] == 1, ours[:, 1] >= 0.99
        fit, general = (int(steps[x.argmax()]) if x.any() else np.inf for x in done)
        met += np.isfinite(general) and general >= TIMES * fit
        row = {"seed": seed, "seen: 100% at step": fit, "the rest: 99% at step": general}
        row |= {"times later": f"{general / fit:.1f}" if np.isfinite(general) else "never"}
        row |= {
            "the rest, at the end": f"{ours[-1, 1]:.1%}",
            "without decay": f"{control[-1, 1]:.1%}",
        }
        row |= {"table, both ways": f"{read_both_ways(seed):.1%}"}
        row |= {"norm": ours[-1, 2], "without": control[-1, 2]}
        rows.append(row | {"waves": f"{ours[-1, 3]:.1%}", " without": f"{control[-1, 3]:.1%}"})
    run.table(
        f"When all is right; at the end: norm of the weights, {STRONGEST} strongest waves", rows
    )
    run.say(
        f"The rest is right at least {TIMES} times later than what was seen: {met} of {len(rows)} seeds."
    )


def main(run):
    seeds, last = (2, 30) if run.quick else (3, 1200)
    steps = np.unique(np.geomspace(1, last, 80).astype(int))
    curves, spectra = ({name: [] for name in DECAYS} for _ in range(2))
    for seed in range(run.seed, run.seed + seeds):
        for name, decay in DECAYS.items():
            history, waves = learned(seed, decay, steps)
            curves[name].append(history)
            spectra[name].append(waves)
            run.progress(f"seed {seed}, {name}: {history[-1, 1]:.1%} of the rest")
    tell(run, steps, curves)
    says = "Accuracy, norm of the weights and spectrum of the embeddings, with and without weight decay"
    run.picture(picture(steps, curves, spectra), says)


if __name__ == "__main__":
    common.start(main)
