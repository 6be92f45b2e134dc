"""Dates and numbers, translated: one encoder and decoder, from English into German and Chinese.

The Transformer of Vaswani et al. 2017 learns from pairs that the package Babel writes by Unicode's
CLDR; the first token says which language is wanted (Johnson et al. 2017). No date and no number on
which it is measured was in training, in any form. The rival is a translation memory: for each
English pattern, such as `May 0, 0000`, it keeps the most frequent pattern of the translation, and
for each digit of that the place in the source that agreed most often. What depends on the digits
it cannot do: 3 PM is 15:00, the year 30 is 2030, but 68 is 1968. Takes about five minutes.
"""

import itertools
import re

import numpy as np
from cldr.memory import memory
from cldr.pairs import pairs
from common import pyplot, start

import tinylm as tl
from tinylm.text import Vocabulary
from tinylm.training import warmup_cosine

TOKEN = re.compile(r"<\w+>|[A-Za-zÀ-ÿ]+|.")  # a word of Latin letters, or any one character
NAMES = {"de": "German", "zh": "Chinese"}
PINYIN = {"年": "nián", "月": "yuè", "日": "rì"}
SOURCE, TARGET = "<{0.language}>{0.source}".format, "<begin>{0.target}<end>".format


def encoded(texts, vocabulary):
    """Ids, shape (B, T), filled up with 0."""
    rows = [[vocabulary.id(token) for token in TOKEN.findall(text)] for text in texts]
    return np.array([*itertools.zip_longest(*rows, fillvalue=0)]).T


def batches(sources, targets, rng, size=64):
    """Without end, what `Transformer.loss` takes: pairs of about one length, so few ids are 0."""
    lengths = (sources > 0).sum(1) + (targets > 0).sum(1)
    while True:
        order = np.argsort(lengths + rng.uniform(0, 8, len(lengths)))
        for i in rng.permutation(len(order) // size):
            s, t = (x[order[i * size :][:size]] for x in (sources, targets))
            s, t = s[:, s.any(0)], t[:, t.any(0)]
            yield (s, t[:, :-1]), t[:, 1:]


def transformer(train, steps, run):
    """Learn; give a function from pairs to translations, and one from a pair to where it looked."""
    sources, targets = [SOURCE(p) for p in train], [TARGET(p) for p in train]
    tokens = sorted({token for text in sources + targets for token in TOKEN.findall(text)})
    vocabulary = Vocabulary(["<pad>", "<unknown>", *tokens], "<unknown>")
    sources, targets = (encoded(texts, vocabulary) for texts in (sources, targets))
    model = tl.Transformer(len(vocabulary), 64, 64, 4, 2, 2, pre_norm=True, pad_id=0)
    optimizer = tl.AdamW(warmup_cosine(3e-3, 0.0, steps // 20, steps), betas=(0.9, 0.98))
    trainer = tl.Trainer(model, model.init(run.rng), optimizer, clip_norm=1.0)
    for until in (steps // 4, steps // 2, steps):
        trainer.run(batches(sources, targets, run.rng), until)
        run.progress(f"step {trainer.steps}")
    begin, end = vocabulary.id("<begin>"), vocabulary.id("<end>")

    def translate(test):
        ids = encoded(map(SOURCE, test), vocabulary)
        found = model.translate(trainer.params, ids, targets.shape[1], begin, end).best  # greedy
        return [re.sub("<begin>|<end>", "", "".join(vocabulary.decode(row))) for row in found]

    def looks(pair):
        with tl.record() as seen:
            model(trainer.params, *(encoded([f(pair)], vocabulary) for f in (SOURCE, TARGET)))
        return seen["weights"][-1][0, :, :-1].mean(0)  # the last layer's, on the source: (T, S)

    return translate, looks


def draw(run, looks, shown):
    figure, axes = pyplot().subplots(1, 2, figsize=(9, 4.5))
    for axis, pair in zip(axes, shown, strict=True):
        axis.imshow(looks(pair), cmap="Greys", vmin=0, aspect="auto")
        for side, text in (("x", SOURCE(pair)), ("y", TARGET(pair).removeprefix("<begin>"))):
            names = [PINYIN.get(t, t).replace(" ", "␣") for t in TOKEN.findall(text)]
            axis.set(**{f"{side}ticks": range(len(names)), f"{side}ticklabels": names})
        axis.tick_params(axis="x", rotation=90)
        axis.set(xlabel="read", ylabel="written", title=f"into {NAMES[pair.language]}")
    run.picture(figure, "How much the decoder's last layer looks at each token of the source (across) "
                "when it writes each token of the translation (down); Chinese in pinyin.")  # fmt: skip


def main(run):
    held_out = run.rng.random(10**6) < 0.1  # of days since 1950, and of numbers by their digits
    train = pairs(100 if run.quick else 4000, held_out, False, run.rng)
    test = pairs(5 if run.quick else 200, held_out, True, run.rng)
    assert not {p.source for p in train} & {p.source for p in test}
    run.progress(f"{len(train)} pairs to learn from, {len(test)} to measure on")
    translate, looks = transformer(train, 60 if run.quick else 4000, run)
    answers = {"Transformer": translate(test), "memory": [*map(memory(train), test)]}
    truth = np.array([p.target for p in test])
    right = {name: np.array(texts) == truth for name, texts in answers.items()}

    def where(*wanted):
        return [i for i, p in enumerate(test) if set(wanted) <= set(p)]

    def exact(x, to, kind):
        return f"{right[x][where(to, kind)].mean():.1%}"

    def bleu(x, to, kind):  # of characters: many a translation has fewer than four words
        said = [answers[x][i] for i in where(to, kind)]
        return f"{tl.bleu(said, list(truth[where(to, kind)]), tokenize='char'):.1f}"

    groups, forms = (dict.fromkeys(p[i] for p in test) for i in (0, 1))
    for title, measure, kinds in (("Exact to the last character, of unseen dates and numbers", exact, groups),
                                  ("BLEU of characters", bleu, groups),
                                  ("Exact, form by form", exact, forms)):  # fmt: skip
        run.table(title, [
            {"": kind} | {f"{NAMES[to]}, {x}": measure(x, to, kind) for to in NAMES for x in answers}
            for kind in kinds])  # fmt: skip
    some = [i for x in answers for i in np.flatnonzero(~right[x])[:: 1 + (~right[x]).sum() // 5]]
    run.table("Some translations, mistakes of both among them", [
        {"English": test[i].source, "wanted": truth[i]}
        | {x: "the same" if right[x][i] else answers[x][i] for x in answers}
        for i in dict.fromkeys([*where("with time")[:2], *some])])  # fmt: skip
    for to, name in NAMES.items():
        ours, its = (100 * right[x][where(to, "dates")].mean() for x in answers)
        run.say(f"Into {name} the Transformer has {ours:.1f}% of the unseen dates right, "
                f"{'no less' if ours >= 95 else 'less'} than the 95% that were wanted, and "
                f"{'more' if ours > its else 'no more'} than the memory with {its:.1f}%.")  # fmt: skip
    draw(run, looks, [test[where(to, "long")[0]] for to in NAMES])


start(main)
