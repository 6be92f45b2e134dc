"""Make a language model small: eight bits, fewer weights, a student.

A GPT learns the documentation of Python, character by character, and is made smaller in three ways.
*int8*: its matrices become bytes, with a scale for each output channel (Jacob et al. 2018; Dettmers
et al. 2022). *Pruned*: its smallest weights are zero and not stored, and the others tuned (Han et al.
2015). *Distilled*: a student of a third of its size learns what the teacher believes as well as the
text (Hinton et al. 2015). The rival is that student without a teacher, of the same first weights,
batches and number of steps: only what the distilled one has beyond it is due to the teacher. Sizes are
those of files, nats those of documents that no model has seen. 5 to 9 minutes on one core.
"""

import time

import common
import numpy as np

import tinylm as tl
from tinylm.autograd import trees
from tinylm.text import Batches, documents, split
from tinylm.training import matrices_only, warmup_cosine

CONTEXT = 128
STEPS = {"teacher": 1400, "student": 3500, "fine-tuning": 300}
SHARES = (0.5, 0.8, 0.9)
WITHIN, SMALLER = 0.01, 3  # what is asked of int8 and of the student


def trained(run, ids, what, model, params, peak):
    """Parameters after the steps of that kind, and the seconds these took."""
    steps = STEPS[what] // (200 if run.quick else 1)
    rate = warmup_cosine(peak, peak / 100, min(100, steps // 10), steps)
    optimizer = tl.AdamW(rate, betas=(0.9, 0.99), weight_decay=0.1, decayed=matrices_only)
    trainer, began = tl.Trainer(model, params, optimizer, clip_norm=1.0), time.perf_counter()
    trainer.run(Batches(ids, CONTEXT, 6, np.random.default_rng(run.seed)), steps)
    run.progress(f"{what}: {type(model).__name__}, {steps} steps")
    return trainer.params, time.perf_counter() - began


def models(run, ids, vocab_size):
    """By name: (model, its parameters, seconds of training)."""
    big = tl.GPT(vocab_size, CONTEXT, 64, 4, num_layers=3, positions="rotary")
    small = tl.GPT(vocab_size, CONTEXT, 42, 3, num_layers=2, positions="rotary")
    teacher, seconds = trained(run, ids, "teacher", big, big.init(run.rng), peak=0.01)
    rows = {"teacher": (big, teacher, seconds)}
    rows["teacher, int8"] = (tl.compress.Quantized(big), tl.compress.quantize(teacher), seconds)
    for share in SHARES:
        cut = tl.compress.prune(teacher, share)
        learner = tl.compress.Pruned(big, cut)
        tuned, more = trained(run, ids, "fine-tuning", learner, cut, peak=0.005)
        rows[f"pruned {share:.0%}"] = (big, cut, seconds)
        rows[f"pruned {share:.0%}, tuned"] = (big, tuned, seconds + more)
    start = small.init(run.rng)
    alone, seconds = trained(run, ids, "student", small, start, peak=0.015)
    rows["student alone"] = (small, alone, seconds)
    learner = tl.compress.Distilled(small, big, teacher, temperature=2.0, weight=0.5)
    student, seconds = trained(run, ids, "student", learner, start, peak=0.015)
    rows["distilled"] = (small, student, seconds)
    rows["distilled, int8"] = (tl.compress.Quantized(small), tl.compress.quantize(student), seconds)
    return rows


def measured(run, rows, held_out):
    """The table, with the best of five turns for speed; by name: (bytes, nats)."""
    windows, took = held_out[: 16 * CONTEXT].reshape(16, CONTEXT), {name: [] for name in rows}
    for name in 5 * list(rows):
        began = time.perf_counter()
        rows[name][0](rows[name][1], windows)
        took[name].append(time.perf_counter() - began)
    table, found = [], {}
    for name, (model, params, seconds) in rows.items():
        read = tl.perplexity(model, params, held_out)
        stored = tl.compress.sparse(params) if "pruned" in name else params
        found[name] = size, nats = tl.compress.file_size(stored), read.nll
        weights = trees.leaves(tl.compress.dequantize(params) if "int8" in name else params)
        table.append({
            "model": name, "bytes": size, "times smaller": f"{found['teacher'][0] / size:.1f}",
            "weights, not 0": sum(np.count_nonzero(p) for p in weights), "nats": f"{nats:.4f}",
            "to the teacher": f"{nats / found['teacher'][1] - 1:+.2%}",
            "perplexity": f"{read.perplexity:.3f}",
            "tokens/s": round(windows.size / min(took[name])), "training, s": round(seconds),
        })  # fmt: skip
    run.table("On disk, on held-out text, and at work", table)
    return found


def tell(run, rows, found):
    """What was asked for, and what the teacher has to do with it."""
    size, nats = found["teacher"]
    for name in ("teacher, int8", "distilled", "distilled, int8"):
        smaller, worse = size / found[name][0], found[name][1] / nats - 1
        met = "as" if smaller >= SMALLER and worse <= WITHIN else "not what was"
        run.say(f"{name.capitalize()}: {smaller:.1f} times smaller than the teacher, with {worse:+.2%} "
                f"nats; {met} asked, {SMALLER} times and {WITHIN:+.0%}.")  # fmt: skip
    alone, distilled = found["student alone"][1], found["distilled"][1]
    run.say(
        f"The student alone is at {alone / nats - 1:+.2%}: it is trained in "
        f"{rows['student alone'][2]:.0f} s, {STEPS['student'] / STEPS['teacher']:g} times as many "
        f"steps as its teacher's in {rows['teacher'][2]:.0f} s, who would gain by more of them too. "
        f"What the teacher taught it is {distilled / alone - 1:+.2%} nats, for a training of "
        f"{rows['distilled'][2]:.0f} s. All this is one seed."
    )


def picture(found):
    figure, panels = common.pyplot().subplots(1, 2, figsize=(10, 4.5), sharex=True)
    nats = found["teacher"][1]
    for panel in panels:
        for ending in ("", ", tuned"):
            line = zip(*[found[f"pruned {share:.0%}{ending}"] for share in SHARES], strict=True)
            panel.plot(*line, "o-", label=f"pruned 50, 80, 90%{ending}")
        for name in [name for name in found if "pruned" not in name]:
            panel.plot(*found[name], "s", label=name)
        panel.axhspan(nats, nats * (1 + WITHIN), alpha=0.15, color="k", lw=0)
        panel.set_xlabel("bytes on disk")
    panels[0].set_ylabel("nats a character, held out")
    panels[0].legend()
    panels[1].set(ylim=(0.97 * nats, 1.04 * nats), title=f"grey: up to {WITHIN:.0%} worse")
    return figure


def main(run):
    training, held_out = split(documents(run.data or "python-docs"))
    tokenizer = tl.CharTokenizer.train(training + held_out)
    rows = models(run, tokenizer.encode(training), tokenizer.vocab_size)
    found = measured(run, rows, tokenizer.encode(held_out)[: 3000 if run.quick else None])
    tell(run, rows, found)
    run.picture(picture(found), "Nats on held-out text against bytes on disk, for every model")


common.start(main)
