"""What pre-training is worth: ``python tests/benchmarks/transfer.py [--quick] [--labels N] [--json FILE]``.

A small BERT reads the documentation of Python with both tasks of Devlin et al. 2019, section 3.1: a
token in seven is hidden from it, and of two texts it is to say whether they followed each other. Then
it is fine-tuned to say from which part of the documentation a sentence is. Beside it stand the same
network from random weights, and a logistic regression on word counts: all three see the same few
labels, several draws of them, and are measured on the same sentences, which no pre-training has seen.

``--development`` measures on other sentences, on which the recipe was chosen, with other draws.
"""

import argparse
import json
import re
import statistics
import time
from collections import Counter
from pydoc_data.topics import topics

import numpy as np
import scipy.optimize

import tinylm as tl
from tinylm.text import documents, mask_tokens
from tinylm.training import matrices_only, warmup_cosine

PARTS = {
    "data model": ["specialnames", "types", "objects", "specialattrs"],
    "statements": ["compound", "assignment", "import", "raise", "global", "nonlocal", "assert", "del",
                   "return", "pass", "break", "continue"],
    "expressions": ["comparisons", "calls", "binary", "operator-summary", "subscriptions", "slicings",
                    "power", "exprlists", "booleans", "unary", "shifting", "bitwise", "lambda", "yield",
                    "atom-identifiers", "atom-literals", "attribute-references", "conversions", "lists",
                    "dict", "await"],
    "text": ["string-methods", "formatstrings"],
    "containers": ["typesseq", "typesmapping"],
    "debugger": ["debugger"],
}  # fmt: skip
"""Topics of `pydoc_data`, by the chapter of the documentation in which they stand."""

MEASURES = {
    "accuracy": tl.accuracy,
    "precision": tl.precision,
    "recall": tl.recall,
    "macro F1": tl.f1,
}
PENALTIES = 10.0 ** np.arange(-4, 1, 0.5)
TEST, DEVELOPMENT = 60, 30
"""Sentences of each part that are held out."""

RECIPES = {
    "fine-tuned, pre-trained": {"lr": 1e-3, "epochs": 15},
    "fine-tuned, random weights": {"lr": 1e-3, "epochs": 30},
}
"""The best on the development part: of 3e-4, 1e-3 and 2e-3, and of 15 and 30 epochs, for the first
all and for the second all but (3e-4, 15) and (2e-3, 30)."""


# The task: sentences, and where they are from.


def sentences(document):
    """The sentences of a text, in their order."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in document.split("\n\n"))
    cut = [s for paragraph in paragraphs for s in re.split(r"(?<=[.!?:])\s+", paragraph)]
    return [sentence for sentence in cut if len(sentence.split()) >= 3]


def labelled(rng):
    """Test, development and the pool that labels are drawn from: part -> sentences, for each."""
    where = {}
    for part, names in PARTS.items():
        for name in names:
            for s in sentences(topics.get(name, "")):
                if 6 <= len(s.split()) <= 60 and s[0].isupper() and s[-1] in ".:":
                    where.setdefault(s, set()).add(part)
    drawn = {}
    for part in PARTS:
        own = sorted(s for s, found in where.items() if found == {part})
        drawn[part] = [own[i] for i in rng.permutation(len(own))]
    first, second = TEST, TEST + DEVELOPMENT
    for piece in (slice(first), slice(first, second), slice(second, None)):
        yield [(s, part) for part, own in drawn.items() for s in own[piece]]


def some(pool, count, rng):
    """So many of each part, shuffled."""
    chosen = []
    for part in PARTS:
        own = [pair for pair in pool if pair[1] == part]
        chosen += [own[i] for i in rng.permutation(len(own))[:count]]
    return [chosen[i] for i in rng.permutation(len(chosen))]


# The classical rival.


def counted(text):
    return Counter(re.findall(r"\w+|[^\w\s]", text.lower()))


def logistic_regression(train, penalty):
    """From texts to labels: the mean cross-entropy and ``penalty * |W|^2`` at their least."""
    words = {
        word: i for i, word in enumerate(sorted({w for text, _ in train for w in counted(text)}))
    }

    def features(texts):
        x = np.zeros((len(texts), len(words) + 1))
        x[:, -1] = 1  # for the bias
        for row, text in enumerate(texts):
            for word, count in counted(text).items():
                if word in words:
                    x[row, words[word]] = count
        return x

    names = list(PARTS)
    x, y = features([text for text, _ in train]), [names.index(part) for _, part in train]

    def objective(flat):
        def loss(W):
            return tl.cross_entropy(tl.linear(x, W), y) + penalty * np.sum(W[:-1] ** 2)

        value, gradient = tl.value_and_grad(loss)(flat.reshape(-1, len(names)))
        return float(value), gradient.ravel()

    start = np.zeros((len(words) + 1) * len(names))
    W = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B").x
    return lambda texts: [
        names[i] for i in np.argmax(features(texts) @ W.reshape(-1, len(names)), 1)
    ]


def best_logistic_regression(train, folds=5):
    """With the penalty that does best on what is held out of the labels, a fifth at a time."""

    def right(penalty):
        total = 0
        for fold in range(folds):
            rest = [pair for i, pair in enumerate(train) if i % folds != fold]
            held_out = train[fold::folds]
            predicted = logistic_regression(rest, penalty)([text for text, _ in held_out])
            total += sum(p == part for p, (_, part) in zip(predicted, held_out, strict=True))
        return total

    return logistic_regression(train, max(PENALTIES, key=right))


# BERT, pre-trained.


class BothTasks:
    """Hidden tokens and the next text, from one run of one encoder."""

    def __init__(self, sizes):
        self.encoder, self.masked = tl.BERT(**sizes), tl.BERT(**sizes, task="masked-lm")
        self.dropout = self.encoder.dropout

    def init(self, rng):
        follows = {
            "W": np.zeros((self.encoder.d_model, 2), np.float32),
            "b": np.zeros(2, np.float32),
        }
        head = self.masked.init(rng)["head"]
        return self.encoder.init(rng) | {"head": head, "follows": follows}

    def loss(self, params, ids, targets, rng=None):
        hidden, pooled = self.encoder(params, **ids, rng=rng)
        tokens, follows = targets["tokens"], params["follows"]
        logits = self.masked._head(params, hidden[tokens != -100], lambda x: x)
        return tl.cross_entropy(logits, tokens[tokens != -100]) + tl.cross_entropy(
            tl.linear(pooled, follows["W"], follows["b"]), targets["follows"]
        )

    def target_weight(self, targets):
        return len(targets["follows"])


def padded(rows, pad_id):
    """Rows of ids as one array, with the mask of what is real."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return {"ids": ids, "mask": np.arange(ids.shape[1]) < np.array([[len(row)] for row in rows])}


def pairs(texts, tokenizer, length, size, rng):
    """Without end: a sentence, and what follows it or is from elsewhere; some tokens hidden."""
    encoded = [[tokenizer.encode(s) for s in text] for text in texts]
    places = [(t, s) for t, text in enumerate(encoded) for s in range(len(text) - 1)]
    special = sorted(tokenizer.special_tokens.values())

    def row(place, follows):
        t, s = place
        first = encoded[t][s][: 2 * length // 3 - 2]
        if not follows:
            t, s = places[rng.integers(len(places))]
        second = np.concatenate(encoded[t][s + 1 : s + 9])[: length - 3 - len(first)]
        cls, sep = [tokenizer.cls_id], [tokenizer.sep_id]
        return np.concatenate([cls, first, sep, second, sep]), len(first) + 2

    while True:
        for chosen in np.array_split(rng.permutation(len(places)), len(places) // size):
            follows = rng.integers(2, size=len(chosen))
            made = [row(places[i], f) for i, f in zip(chosen, follows, strict=True)]
            inputs = padded([ids for ids, _ in made], tokenizer.pad_id)
            begins = np.array([[begin] for _, begin in made])
            inputs["segments"] = (np.arange(inputs["ids"].shape[1]) >= begins) & inputs["mask"]
            inputs["segments"] = inputs["segments"].astype(int)
            inputs["ids"], tokens = mask_tokens(
                inputs["ids"], tokenizer.mask_id, tokenizer.vocab_size, rng, special=special
            )
            yield inputs, {"tokens": tokens, "follows": follows}


def pretrained(sizes, tokenizer, texts, steps, rng, tell):
    """Parameters after so many updates on texts, each a list of its sentences."""
    model = BothTasks(sizes)
    trainer = tl.Trainer(
        model,
        model.init(rng),
        tl.AdamW(warmup_cosine(1e-3, 1e-5, steps // 20, steps), decayed=matrices_only),
        clip_norm=1.0,
        shards=2,
        threads=2,
        rng=rng,
    )
    losses = []

    def after_step(loss):
        losses.append(loss)
        if len(losses) % max(1, steps // 8) == 0:
            tell(f"  step {len(losses)}: {statistics.mean(losses[-50:]):.2f} nats for both tasks")

    trainer.run(pairs(texts, tokenizer, sizes["context_length"], 32, rng), steps, after_step)
    return trainer.params


# BERT, fine-tuned.


def fine_tuned(model, params, tokenizer, train, rng, lr, epochs):
    """From texts to labels: the model trained on a few."""
    names = list(PARTS)

    def rows(texts):
        return [tokenizer.encode_pair(t, max_length=model.context_length)[0] for t in texts]

    inputs = rows([text for text, _ in train])
    targets = np.array([names.index(part) for _, part in train])
    per_epoch = len(train) // 10
    steps = epochs * per_epoch
    optimizer = tl.AdamW(warmup_cosine(lr, 0.0, steps // 10, steps), decayed=matrices_only)
    trainer = tl.Trainer(model, params, optimizer, clip_norm=1.0, rng=rng)
    for _ in range(epochs):
        for chosen in np.array_split(rng.permutation(len(train)), per_epoch):
            trainer.step(padded([inputs[i] for i in chosen], model.pad_id), targets[chosen])

    def predict(texts):
        asked = rows(texts)
        logits = [
            model(trainer.params, **padded(asked[i : i + 50], model.pad_id))
            for i in range(0, len(asked), 50)
        ]
        return [names[i] for i in np.argmax(np.concatenate(logits), axis=1)]

    return predict


# All three.


def compare(options, tell):
    """The measures of each row, one for each draw of labels."""
    test, development, pool = labelled(np.random.default_rng(0))
    held_out = {text for text, _ in test + development}
    texts, actual = zip(*(development if options.development else test), strict=True)
    seen = [[s for s in sentences(d) if s not in held_out] for d in documents("python-docs")]
    tokenizer = tl.WordPieceTokenizer.train("\n".join(s for d in seen for s in d), 3000)
    sizes = {"vocab_size": tokenizer.vocab_size, "context_length": 48, "d_model": 128,
             "num_heads": 4, "num_layers": 2}  # fmt: skip
    tell(
        f"{len(texts)} sentences to measure on, {options.labels} labels of each part, of {len(pool)}"
    )
    rng = np.random.default_rng(1)
    trained = pretrained(sizes, tokenizer, seen, options.steps, rng, tell)
    classifier = tl.BERT(**sizes, task="sequence-classification", num_labels=len(PARTS))
    figures = {row: [] for row in (*RECIPES, "logistic regression")}
    for seed in range(options.seeds):
        train = some(pool, options.labels, np.random.default_rng([seed, options.development]))
        fresh = classifier.init(np.random.default_rng(seed))
        begin = (tl.transfer(trained, fresh).params, fresh)
        learners = [
            fine_tuned(classifier, params, tokenizer, train, np.random.default_rng(seed), **recipe)
            for params, recipe in zip(begin, RECIPES.values(), strict=True)
        ]
        for row, predict in zip(figures, (*learners, best_logistic_regression(train)), strict=True):
            predicted = predict(texts)
            figures[row].append({name: of(predicted, actual) for name, of in MEASURES.items()})
        tell(
            ", ".join(f"{row} {measured[-1]['accuracy']:.3f}" for row, measured in figures.items())
        )
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="less than a minute, and no figures")
    parser.add_argument("--labels", type=int, default=16, help="of each of the six parts")
    parser.add_argument("--seeds", type=int, default=10, help="draws of labels")
    parser.add_argument("--steps", type=int, default=3000, help="of pre-training")
    parser.add_argument("--development", action="store_true", help="leave the test alone")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.seeds = 24, 1
    began = time.perf_counter()
    figures = compare(
        options, lambda line: print(f"{time.perf_counter() - began:6.0f} s  {line}", flush=True)
    )
    print(f"\n{f'mean of {options.seeds} draws of labels':32}"
          + "".join(f"{name:>16}" for name in MEASURES))  # fmt: skip
    for row, measured in figures.items():
        spread = [[m[name] for m in measured] for name in MEASURES]
        cells = (f"{statistics.mean(x):.3f} ± {statistics.pstdev(x):.3f}" for x in spread)
        print(f"{row:32}" + "".join(f"{cell:>16}" for cell in cells))
    if options.json:
        with open(options.json, "w") as file:  # noqa: PTH123
            json.dump({"options": vars(options), "figures": figures}, file, indent=1)


if __name__ == "__main__":
    main()
