"""Two layers learn to copy in context, abruptly; one layer never does.

Random tokens repeat after 2 to 24 places, other tokens and another distance in every text: what
comes next can only be read off the text itself. A model with two layers of attention stays on a
plateau, until an *induction head* forms: it looks for where the present token stood before, and
attends to what came after it (Elhage et al. 2021, "A mathematical framework for Transformer
circuits"; Olsson et al. 2022, "In-context learning and induction heads"). For that, a head has to
read what a head below it wrote: which token each one follows. So a single layer, the control, cannot
do it, and learns little more than which tokens there are. The rule itself, "what followed the last
time", is one line of Python and always right here; nobody tells it to the model.

Five seeds; about three minutes on one core.
"""

import common
import numpy as np

import tinylm as tl
from tinylm.autograd import trees

VOCABULARY, LENGTH = 32, 48
PERIODS = np.arange(2, LENGTH // 2 + 1)
LAYERS = {"two layers": 2, "one layer": 1}
MEASURES = ("loss (nats a token)", "prefix-matching score")
LOW, HIGH = 0.1, 0.4
"""What the score of one layer should stay below, and that of two layers rise above."""


def repeated(segments, periods):
    """Texts, each the start of a segment again and again, and the next tokens.

    A token counts as a target where the present one stood a period before: -100 elsewhere.
    """
    text = np.take_along_axis(segments, np.arange(LENGTH + 1) % periods[:, None], axis=1)
    return text[:, :-1], np.where(np.arange(LENGTH) >= periods[:, None], text[:, 1:], -100)


def batches(rng, size=32):
    """Random tokens, repeated after a random number of places, without end."""
    while True:
        segments = rng.integers(VOCABULARY, size=(size, LENGTH))
        yield repeated(segments, rng.choice(PERIODS, size))


def measured(model, params, rng, of_each=8):
    """Loss, prefix-matching score and share of right tokens, on segments without a token twice.

    The score is after Olsson et al.: the weight, on average, that the best head gives to the token
    after the one that stood a period before, the latest repetition alone. The periods are the
    longer half.
    """
    periods = np.repeat(PERIODS[len(PERIODS) // 2 :], of_each)
    segments = rng.permuted(np.tile(np.arange(VOCABULARY), (len(periods), 1)), axis=1)
    ids, targets = repeated(segments, periods)
    with tl.record() as seen:
        logits = model(params, ids)
    known = targets != -100
    match = np.maximum(np.arange(LENGTH) - periods[:, None] + 1, 0)[:, None, :, None]
    scores = []
    for weights in seen["weights"]:  # of a layer: (B, H, T, S)
        to_match = np.take_along_axis(weights, match, axis=-1)[..., 0]
        scores.extend(np.moveaxis(to_match, 1, 2)[known].mean(axis=0))
    right = np.mean(np.argmax(logits, axis=-1)[known] == targets[known])
    return float(tl.cross_entropy(logits, targets)), max(scores), right


def learned(layers, seed, steps, every):
    """What is measured after every so many steps of training."""
    rng, fresh = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    model = tl.GPT(VOCABULARY, LENGTH, 32, num_heads=2, num_layers=layers, d_ff=32, tied=False)
    # a standard deviation of 0.02 is for wide models; 0.1 makes the plateau shorter at this width
    params = trees.map_leaves(lambda p: 5 * p if p.ndim == 2 else p, model.init(rng))
    trainer = tl.Trainer(model, params, tl.AdamW(3e-3, betas=(0.9, 0.98)), clip_norm=1.0)
    stream, history = batches(rng), [measured(model, params, fresh)]
    while trainer.steps < steps:
        trainer.run(stream, trainer.steps + every)
        history.append(measured(model, trainer.params, fresh))
    return np.array(history)


def picture(curves, every):
    figure, panels = common.pyplot().subplots(2, 1, figsize=(7, 6), sharex=True)
    for number, (panel, label) in enumerate(zip(panels, MEASURES, strict=True)):
        for name, histories in curves.items():
            values = histories[:, :, number]
            steps = every * np.arange(values.shape[1])
            panel.plot(steps, np.median(values, axis=0), label=name)
            panel.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.25)
        panel.set(ylabel=label, ylim=0)
    panels[0].axhline(np.log(VOCABULARY), color="gray", linestyle=":", label="a guess")
    panels[0].set_title("line: median of the seeds; band: all of them", fontsize=10)
    panels[0].legend()
    panels[1].set(ylim=(0, 1), xlabel="steps of training")
    return figure


def tell(run, curves, every):
    """How each seed ends, how fast two layers got there, and whether it is what was expected."""
    rows, met = [], 0
    for seed, (two, one) in enumerate(zip(*curves.values(), strict=True), start=run.seed):
        row = {"seed": seed}
        for bound in (LOW, HIGH):
            above = two[:, 1] > bound
            row[f"above {bound} at step"] = every * int(above.argmax()) if above.any() else "never"
        row |= {"score, two layers": f"{two[-1, 1]:.3f}", "one, at most": f"{one[:, 1].max():.3f}"}
        row |= {"nats, two": f"{two[-1, 0]:.3f}", "nats, one": f"{one[-1, 0]:.3f}"}
        row |= {"right, two": f"{two[-1, 2]:.1%}", "right, one": f"{one[-1, 2]:.1%}"}
        met += two[-1, 1] > HIGH and one[:, 1].max() < LOW
        rows.append(row)
    run.table("The prefix-matching score, the loss, and how many next tokens are right", rows)
    run.say(
        f"With two layers the score ends above {HIGH}, and with one it never reaches {LOW}: "
        f"{met} of {len(rows)} seeds."
    )


def main(run):
    seeds, steps, every = (2, 60, 20) if run.quick else (5, 1000, 20)
    curves = {name: [] for name in LAYERS}
    for seed in range(run.seed, run.seed + seeds):
        for name, layers in LAYERS.items():
            curves[name].append(learned(layers, seed, steps, every))
            run.progress(f"seed {seed}, {name}: score {curves[name][-1][-1, 1]:.3f}")
    curves = {name: np.array(histories) for name, histories in curves.items()}
    tell(run, curves, every)
    says = "Loss and prefix-matching score of one layer and of two, over the steps of training"
    run.picture(picture(curves, every), says)


if __name__ == "__main__":
    common.start(main)
