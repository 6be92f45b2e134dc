"""Train a language model on your own text.

The main job, from a text to a model that writes: a small GPT on characters (Radford et al. 2018) reads
the documentation that every Python carries, or the file or folder given as `--data`. A tenth of the
text is held out. Beside the model stand its classical rivals, n-grams with Kneser-Ney smoothing (Chen
and Goodman 1998), measured on the same characters. Three minutes on one core.
"""

import common
import numpy as np

import tinylm as tl
from tinylm.text import Batches, documents, split
from tinylm.training import matrices_only, warmup_cosine

CONTEXT, BATCH, STEPS = 128, 6, 4000
ORDERS = (1, 2, 3, 4, 5, 7)


def main(run):
    # The text, what is held out of it, and its characters as numbers.
    training_text, held_out_text = split(documents(run.data or "python-docs"), fraction=0.1)
    tokenizer = tl.CharTokenizer.train(training_text + held_out_text)
    training, held_out = tokenizer.encode(training_text), tokenizer.encode(held_out_text)

    # The model, and what trains it.
    steps = 100 if run.quick else STEPS
    model = tl.GPT(
        tokenizer.vocab_size, CONTEXT, d_model=64, num_heads=4, num_layers=3, positions="rotary"
    )
    rate = warmup_cosine(peak=0.01, final=0.0001, warmup=min(100, steps // 10), steps=steps)
    optimizer = tl.AdamW(rate, betas=(0.9, 0.99), weight_decay=0.1, decayed=matrices_only)
    trainer = tl.Trainer(model, model.init(run.rng), optimizer, clip_norm=1.0)

    # Training, with a look at the model now and then.
    batches = Batches(training, CONTEXT, BATCH, np.random.default_rng(run.seed))
    part, losses, curve = held_out[:5000], [], []
    for mark in np.linspace(0, steps, 9).astype(int):
        trainer.run(batches, mark, losses.append)
        nats = tl.perplexity(model, trainer.params, part).nll
        curve.append(
            {"step": mark, "held out": nats, "it writes": sample(run, model, trainer, tokenizer)}
        )
        run.progress(f"step {mark}: {nats:.3f} nats a character")
    run.table("What it writes while it learns (nats a character)", curve)

    # The model and its rivals on all that was held out.
    ngrams = tl.NGram(training, max(ORDERS), tokenizer.vocab_size)
    rivals = {f"{n}-gram": ngrams.perplexity(held_out, n) for n in ORDERS}
    half = CONTEXT // 2  # so many characters, or more, stand before each that the model predicts
    gpt = tl.perplexity(model, trainer.params, held_out, stride=half)
    run.table(
        f"{held_out.size:,} characters of held-out text",
        [
            {"model": name, "perplexity": m.perplexity, "bits a character": m.bits_per_token}
            for name, m in {**rivals, "GPT": gpt}.items()
        ],
    )
    best = min(rivals, key=lambda name: rivals[name].nll)
    difference = gpt.nll - rivals[best].nll
    run.say(f"""The GPT needs {abs(difference):.3f} nats a character
{"more" if difference > 0 else "less"} than the best rival, the {best}.""")

    figure, axes = common.pyplot().subplots(figsize=(6, 4))
    axes.plot(np.arange(1, steps + 1), losses, lw=0.3, color="C0", label="training, each step")
    axes.plot([r["step"] for r in curve], [r["held out"] for r in curve], "C1o-", label="held out")
    axes.axhline(rivals[best].nll, color="k", ls="--", lw=1, label=f"{best}, all held out")
    axes.set(xlabel="step", ylabel="nats a character")
    axes.legend()
    run.picture(figure, "training and held-out loss, and the best n-gram model")


def sample(run, model, trainer, tokenizer):
    """Sixty characters after a capital T, on one line."""
    prompt = tokenizer.encode("T" if "T" in tokenizer.characters else tokenizer.characters[-1])
    ids = tl.generate(model, trainer.params, prompt, 60, temperature=0.8, rng=run.rng)
    return "".join(c if c.isprintable() else " " for c in tokenizer.decode(ids))


common.start(main)
