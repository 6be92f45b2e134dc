"""An ability jumps, or only its measure does: a ladder of sizes learns to add.

Counted by whole answers, large models can what small ones cannot (Wei et al. 2022, "Emergent abilities
of large language models"). Schaeffer, Miranda and Koyejo 2023, "Are emergent abilities of large
language models a mirage?", blame the measure: if the loss of a token glides, and p = exp(-loss), then
p^L of the answers of L tokens are right, and that jumps. So p^L stands beside the share measured. What
glides can be foretold: the law E + A x^-alpha (Kaplan et al. 2020; Hoffmann et al. 2022) forecasts what
it was not fitted to, beside a straight line on log axes and the last value. Small digits are commoner
here: when all were alike, each place of the answer was learned in a jump of its own, and the loss of a
token jumped as well. Whether it glides depends on the task. About five minutes.
"""

import common
import numpy as np

import tinylm as tl
from tinylm.autograd import trees
from tinylm.evaluation import frontier
from tinylm.training import matrices_only

DIGITS, CHARACTERS = 6, "0123456789+="
LENGTH, CONTEXT = DIGITS + 1, 3 * DIGITS + 2  # of an answer, and of all before its last digit
WIDTHS = (4, 6, 8, 10, 14, 20, 28)  # d_model; no law is fitted to the last one
SEEDS, BATCH, STEPS = 3, 64, 1024


def problems(count, rng):
    """Sums, units first (12+43=55 as 21+34=55), of which only the answers are targets."""
    a, b = (10 * rng.random((2, count, DIGITS)) ** 2).astype(int)
    powers = 10 ** np.arange(LENGTH)
    answers = ((a + b) @ powers[:-1])[:, None] // powers % 10
    plus, equals = (np.full((count, 1), CHARACTERS.index(sign)) for sign in "+=")
    ids = np.concatenate([a, plus, b, equals, answers], axis=1)
    targets = np.where(np.arange(CONTEXT + 1) > CONTEXT - LENGTH, ids, -100)
    return ids[:, :-1], targets[:, 1:]


def learn(width, seed, marks, test):
    """The number of parameters; at each mark (updates), loss of a token and right answers."""
    rng = np.random.default_rng([*seed, width])
    model = tl.GPT(len(CHARACTERS), CONTEXT, width, num_heads=2, num_layers=1)

    def rate(step):  # knows of no end, so that every mark is as good as a last one
        return 0.2 / width * min((step + 1) / 100, (100 / (step + 1)) ** 0.5)

    optimizer = tl.AdamW(rate, betas=(0.9, 0.99), decayed=matrices_only)
    trainer = tl.Trainer(model, model.init(rng), optimizer, clip_norm=1.0)
    batches, curve = iter(lambda: problems(BATCH, rng), None), []  # without end
    for mark in marks:
        trainer.run(batches, mark)
        logits = model(trainer.params, test[0])  # right throughout: greedy decoding finds it
        right = (np.argmax(logits, axis=-1) == test[1]) | (test[1] < 0)
        curve.append((tl.cross_entropy(logits, test[1]), np.mean(right.all(axis=1))))
    return sum(x.size for x in trees.leaves(trainer.params)), curve


def forecast(sizes, losses, size):
    """What the law, a straight line and the last value say of a size after losses (sizes, seeds)."""
    x, y = np.repeat(sizes, SEEDS), losses.ravel()
    straight = np.exp(np.polyval(np.polyfit(np.log(x), np.log(y), 1), np.log(size)))
    return [tl.fit_power_law(x, y)(size), straight, np.mean(losses[-1])]


def look_ahead(rng, axes, ladder):
    """A row of the table of forecasts, with 90% bands over redrawn seeds; and its picture."""
    name, sizes, losses, size, truth = ladder
    draws = rng.integers(SEEDS, size=(100, *losses.shape))
    redrawn = [forecast(sizes, np.take_along_axis(losses, d, axis=1), size) for d in draws]
    values = forecast(sizes, losses, size)
    said = zip(values, *np.percentile(redrawn, [5, 95], axis=0), strict=True)
    cells = ["{:.3g} ({:.3g} to {:.3g})".format(*values) for values in said]
    law, reach = tl.fit_power_law(np.repeat(sizes, SEEDS), losses.ravel()), [*sizes, size]
    band(axes, sizes, losses, "fitted")
    formula = f"{law.E:.3f} + {law.A:.2g} / x^{law.alpha:.2f}"
    axes.plot(reach, law(reach), "k--", lw=1, label=formula)
    axes.plot([size] * SEEDS, truth, "C3*", ms=9, label="measured, not fitted to")
    axes.set(xscale="log", yscale="log", xlabel=f"x = {name}", ylabel="loss of a token")
    row = dict(zip(("law", "straight line", "last value"), cells, strict=True))
    row["nearest"] = list(row)[np.argmin(abs(np.log(values / np.mean(truth))))]
    return {"loss against": name, "at": f"{size:.3g}", "measured": common.spread(truth), **row}


def band(axes, x, values, label, colour="C0"):
    axes.fill_between(x, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, lw=0)
    axes.plot(x, values.mean(axis=1), "o-", color=colour, label=label)


def main(run):
    widths, steps = (WIDTHS[:4], 64) if run.quick else (WIDTHS, STEPS)
    marks = np.rint(steps * 2.0 ** np.arange(-2.5, 0.1, 0.5)).astype(int)
    test = problems(1000, run.rng)
    sizes, measured = np.zeros(len(widths), int), np.zeros((len(widths), SEEDS, len(marks), 2))
    for i, seed in np.ndindex(len(widths), SEEDS):
        sizes[i], measured[i, seed] = learn(widths[i], [run.seed, seed], marks, test)
        run.progress(f"{sizes[i]:,} parameters: loss, right {measured[i, seed, -1].round(3)}")
    loss, last, share = measured[..., 0], measured[..., -1, 0], measured[..., -1, 1]
    predicted = np.exp(-LENGTH * last)
    columns = {"loss of a token": last, "right answers": share, "p^L": predicted}
    rows = [
        {"parameters": N} | {c: common.spread(v[i]) for c, v in columns.items()}
        for i, N in enumerate(sizes)
    ]
    run.table(f"Answers of L = {LENGTH} digits, {SEEDS} seeds; p = exp(-loss)", rows)
    rise, fall = np.diff(share.mean(axis=1)), np.diff(-np.log(last.mean(axis=1)))
    off = (predicted - share).mean(axis=1)
    run.say(f"""From one size to the next, right answers rise by {max(rise):.2f} at most, {np.mean(rise):.2f}
on average; the loss is divided by {np.exp(max(fall)):.1f} at most, {np.exp(np.mean(fall)):.1f} on
average. p^L misses the share of right answers by {np.mean(abs(off)):.3f} on average, by
{off[np.argmax(abs(off))]:+.3f} at worst (p^L less the share measured).""")
    figure, axes = common.pyplot().subplots(2, 2, figsize=(10, 8))
    answers, *panels = axes.flat
    band(answers, sizes, share, "right answers, measured")
    band(answers, sizes, predicted, "$p^L$, from the loss alone", "C1")
    answers.set(xscale="log", xlabel="parameters", ylabel="share of the answers")
    data = marks * BATCH * CONTEXT
    compute = 6 * np.outer(sizes, data)  # operations: Kaplan et al. 2020, section 2.1
    tried, cost = np.moveaxis(loss[:-1], 1, -1).reshape(-1, SEEDS), compute[:-1].ravel()
    best = frontier(cost, tried.mean(axis=1))  # what no cheaper one betters
    ladders = [
        ("parameters", sizes[:-1], last[:-1], sizes[-1], last[-1]),
        ("tokens read, one model", data[:-1], loss[-2, :, :-1].T, data[-1], last[-2]),
        ("operations, best models", cost[best], tried[best], compute[-1, -1], last[-1]),
    ]
    rows = [look_ahead(run.rng, *ladder) for ladder in zip(panels, ladders, strict=True)]
    for axes in figure.axes:
        axes.legend()
    run.table("One step further than what was fitted, with 90% bands over seeds", rows)
    run.picture(figure, "right answers beside p^L, and the loss of a token with its laws")


common.start(main)
