"""The first sentence of a function's documentation, written from its signature and the rest.

The rest says details, the first sentence what it is all about, often in words of the name. So the
model, an encoder and a decoder (`tl.Transformer`), reads name, parameters and class, then the
beginning of the rest, and writes the sentence. It knows only the most frequent words. Any other
that it reads is its first rare word, its second, and so on, and is copied as such: Luong et al.
2015, "Addressing the rare word problem in neural machine translation", section 3.1. It learns from
the standard library, NumPy and SciPy; ROUGE (Lin 2004) is measured on files that it has not seen.

The rivals: the first sentence of the rest; the sentence of the rest with the largest expected
ROUGE-1, by how often each of its words was in the first sentence too; "return the" and the words
of the name; the line of the training function with the signature most alike. The hybrid takes the
second where much is expected of it, and else the model's. The best that can be extracted by ROUGE-1
is shown too. Six minutes on one core; `--data` takes a folder of Python files.
"""

from collections import Counter

import common
import numpy as np
from docstrings.summaries import CEILING, MOST, hybrid, pairs, ranked, rivals

import tinylm as tl
from tinylm.evaluation.rouge import words_of
from tinylm.training import matrices_only, warmup_cosine

PAD, START, STOP, UNKNOWN, REST, RARE = range(6)
NUM_RARE, NUM_FREQUENT, READ = 32, 600, 48
MEASURES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}


class Words:
    """Ids: frequent words have their own, the rare words of an input their places among them."""

    def __init__(self, train):
        texts = ([*x.signature, *words_of(x.rest)[:READ], *x.line.split()] for x in train)
        counts = Counter(word for text in texts for word in text).most_common(NUM_FREQUENT)
        self.ids = {word: RARE + NUM_RARE + i for i, (word, _) in enumerate(counts)}
        self.size = RARE + NUM_RARE + len(counts)

    def read(self, x):
        """The ids that the encoder reads, and the id that each word has for this input."""
        source = [*x.signature, "", *words_of(x.rest)][:READ]
        rare = [word for word in dict.fromkeys(source) if word and word not in self.ids]
        ids = self.ids | {"": REST} | {word: RARE + i for i, word in enumerate(rare[:NUM_RARE])}
        return [ids.get(word, UNKNOWN) for word in source], ids


def padded(rows):
    longest = max(map(len, rows))
    return np.array([[*row, *[PAD] * (longest - len(row))] for row in rows])


def batches(train, words, size, rng):
    """Without end: what is read and what is written so far, and the next words; of like length."""
    rows = []
    for x in train:
        source, ids = words.read(x)
        rows.append((source, [ids.get(word, UNKNOWN) for word in x.line.split()]))
    rows.sort(key=lambda row: (len(row[0]), len(row[1])))
    while True:
        for i in rng.permutation(max(1, len(rows) // size)):
            sources, lines = zip(*rows[i * size : (i + 1) * size], strict=True)
            targets = padded([[*line, STOP] for line in lines])
            targets[targets == UNKNOWN] = PAD  # nothing to learn
            yield (padded(sources), padded([[START, *line] for line in lines])), targets


def write(model, params, words, test):
    """The line for every input that a search with four beams finds."""
    for begin in range(0, len(test), 50):
        sources, known = zip(*map(words.read, test[begin : begin + 50]), strict=True)
        found = model.translate(params, padded(sources), MOST, START, STOP, num_beams=4).best
        for row, ids in zip(found.tolist(), known, strict=True):
            word = {i: word for word, i in ids.items()}
            yield " ".join(word[i] for i in row if i in word)


def main(run):
    train, develop, test = pairs(run)
    words, lines, curve = Words(train), [x.line for x in test], []
    run.progress(f"{len(train)} functions to learn from, {len(test)} to be summarized")
    sizes = {"d_model": 128, "num_heads": 4, "num_encoder_layers": 2, "num_decoder_layers": 2}
    options = {"pre_norm": True, "dropout": 0.1, "label_smoothing": 0.1, "pad_id": PAD}
    model = tl.Transformer(words.size, READ, **sizes, **options)
    steps = 40 if run.quick else 2600
    optimizer = tl.AdamW(warmup_cosine(2e-3, 1e-5, steps // 15, steps), decayed=matrices_only)
    trainer = tl.Trainer(model, model.init(run.rng), optimizer, clip_norm=1.0, rng=run.rng)
    stream = batches(train, words, 16, run.rng)
    for until in range(steps // 4, steps + 1, steps // 4):
        trainer.run(stream, until)
        written = list(write(model, trainer.params, words, test))
        curve.append((until, tl.rouge(written, lines)["rougeL"].f1))
        run.progress(f"step {until}: ROUGE-L {curve[-1][1]:.3f}")
    both = hybrid(train, develop, list(write(model, trainer.params, words, develop)), test, written)
    every = {"the model": written, "the hybrid": both, **rivals(train, test)}
    scores = {who: tl.rouge(texts, lines) for who, texts in every.items()}
    show(run, {who: [score[m].f1 for m in MEASURES] for who, score in scores.items()}, curve)
    run.table("What the model wrote, from the best to the worst", list(ranked(test, written)))


def show(run, f1, curve):
    """The table, who is ahead of whom, and the picture."""
    rows = [{"F1": who} | dict(zip(MEASURES.values(), x, strict=True)) for who, x in f1.items()]
    run.table("Lines of functions in files that no training has seen", rows)
    rivals = [x for who, x in f1.items() if who not in ("the model", "the hybrid", CEILING)]
    for who in ("the model", "the hybrid"):
        behind = np.sum(np.array(rivals) < f1[who], axis=0)
        each = ", ".join(f"{n} in {m}" for n, m in zip(behind, MEASURES.values(), strict=True))
        run.say(f"Of {len(rivals)} rivals {who} is ahead of {each}.")
    figure, (bars, line) = common.pyplot().subplots(1, 2, figsize=(10, 3.8), width_ratios=(3, 2))
    for i, (who, x) in enumerate(f1.items()):
        color = "lightgray" if who == CEILING else f"C{i}"
        bars.bar(np.arange(3) + 0.12 * i, x, 0.11, label=who, color=color)
        line.axhline(x[2], color=color, lw=1 if i else 0)
    bars.set(xticks=np.arange(3) + 0.35, xticklabels=MEASURES.values(), ylabel="F1")
    figure.legend(loc="outside upper center", ncols=3)
    line.plot(*zip(*curve, strict=True), "o-")
    line.set(xlabel="steps of training", ylabel="ROUGE-L, F1", ylim=(0, None))
    run.picture(figure, "ROUGE of the model and its rivals; the model's ROUGE-L as it learns")


if __name__ == "__main__":
    common.start(main)
