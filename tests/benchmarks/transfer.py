"""What pre-training is worth: ``python tests/benchmarks/transfer.py [--quick] [--labels N] [--json FILE]``.

A small BERT reads the documentation of Python, a token in seven hidden from it, and is then
fine-tuned to say of a docstring of the standard library whether it describes a class or a function.
Beside it the same network from random weights, and a logistic regression on word counts: all three
see the same few labels, several times over, and are measured on the same six hundred docstrings. No
word decides: "Return the size" is of a function, "The size of what is returned" of a class.

What the recipe was chosen on is told apart from what is measured here: ``--development`` measures
on docstrings that are in no test.
"""

import argparse
import ast
import json
import re
import statistics
import time
import warnings
from collections import Counter

import numpy as np
import scipy.optimize

import tinylm as tl
from tinylm.text import documents, mask_tokens
from tinylm.training import matrices_only, warmup_cosine

MEASURES = {
    "accuracy": tl.accuracy,
    "precision": tl.precision,
    "recall": tl.recall,
    "macro F1": tl.f1,
}
PENALTIES = 10.0 ** np.arange(-4, 1, 0.5)


# The task: docstrings, and what they describe.


def docstrings():
    """First paragraphs of all docstrings of the standard library: text -> "class" or "function"."""
    found = {}
    for source in documents("python-code"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its escapes
            try:
                tree = ast.parse(source)
            except SyntaxError:  # a template
                continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                if len(text.split()) >= 4:
                    found.setdefault(text, set()).add(kind)
    return {text: kinds.pop() for text, kinds in found.items() if len(kinds) == 1}


def parts(found, rng, size):
    """Test, development and the pool that labels are drawn from, as many of each kind in all."""
    texts = {
        kind: sorted(t for t, k in found.items() if k == kind) for kind in ("class", "function")
    }
    fewest = min(map(len, texts.values()))
    drawn = {kind: rng.permutation(names)[:fewest] for kind, names in texts.items()}
    half = size // 2
    for part in (slice(half), slice(half, 2 * half), slice(2 * half, None)):
        yield [(str(text), kind) for kind, names in drawn.items() for text in names[part]]


def some(pool, count, rng):
    """So many of each kind, shuffled."""
    chosen = []
    for kind in ("class", "function"):
        alike = [pair for pair in pool if pair[1] == kind]
        chosen += [alike[i] for i in rng.permutation(len(alike))[: count // 2]]
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

    kinds = sorted({kind for _, kind in train})
    x, y = features([text for text, _ in train]), [kinds.index(kind) for _, kind in train]

    def objective(flat):
        def loss(W):
            return tl.cross_entropy(tl.linear(x, W), y) + penalty * np.sum(W[:-1] ** 2)

        value, gradient = tl.value_and_grad(loss)(flat.reshape(-1, len(kinds)))
        return float(value), gradient.ravel()

    W = scipy.optimize.minimize(
        objective, np.zeros((len(words) + 1) * len(kinds)), jac=True, method="L-BFGS-B"
    ).x.reshape(-1, len(kinds))
    return lambda texts: [kinds[i] for i in np.argmax(features(texts) @ W, axis=1)]


def best_logistic_regression(train, folds=5):
    """With the penalty that does best on what is held out of the labels, a fifth at a time."""

    def right(penalty):
        total = 0
        for fold in range(folds):
            rest = [pair for i, pair in enumerate(train) if i % folds != fold]
            held_out = train[fold::folds]
            predicted = logistic_regression(rest, penalty)([text for text, _ in held_out])
            total += sum(p == kind for p, (_, kind) in zip(predicted, held_out, strict=True))
        return total

    return logistic_regression(train, max(PENALTIES, key=right))


# BERT.


def padded(rows, pad_id):
    """Rows of ids as one array, with the mask of what is real."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return {
        "ids": ids,
        "mask": np.arange(ids.shape[1]) < np.array([len(row) for row in rows])[:, None],
    }


def rows_of(corpus, tokenizer, length):
    """Input rows that begin at every sentence of a text and end with its paragraph, at the latest."""
    rows = []
    for paragraph in corpus.split("\n\n"):
        sentences = re.split(r"(?<=[.:!?])\s+", paragraph)
        for i, sentence in enumerate(sentences):
            if len(sentence.split()) >= 3:
                rows.append(tokenizer.encode_pair(" ".join(sentences[i:]), max_length=length)[0])
    return rows


def masked_batches(rows, tokenizer, size, rng):
    """Without end: rows of like lengths together, their tokens masked anew each time."""
    special = sorted(tokenizer.special_tokens.values())
    while True:
        order = rng.permutation(len(rows))
        for begin in range(0, len(order) - 8 * size + 1, 8 * size):
            alike = sorted(order[begin : begin + 8 * size], key=lambda i: len(rows[i]))
            for first in rng.permutation(8) * size:
                batch = padded([rows[i] for i in alike[first : first + size]], tokenizer.pad_id)
                batch["ids"], targets = mask_tokens(
                    batch["ids"], tokenizer.mask_id, tokenizer.vocab_size, rng, special=special
                )
                if (targets != -100).any():
                    yield batch, targets


def pretrained(sizes, tokenizer, steps, rng, tell):
    """Parameters of a masked model of python-docs, after so many updates."""
    model = tl.BERT(**sizes, task="masked-lm")
    rows = rows_of(tl.corpus("python-docs"), tokenizer, sizes["context_length"])
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
            tell(f"  step {len(losses)}: {statistics.mean(losses[-50:]):.2f} nats a hidden token")

    trainer.run(masked_batches(rows, tokenizer, 32, rng), steps, after_step)
    return trainer.params


def fine_tuned(model, params, tokenizer, train, rng, recipe):
    """From texts to labels: the model trained on a few."""
    kinds = sorted({kind for _, kind in train})

    def rows(texts):
        return [tokenizer.encode_pair(t, max_length=model.context_length)[0] for t in texts]

    inputs, targets = rows([t for t, _ in train]), np.array([kinds.index(k) for _, k in train])
    per_epoch = -(-len(train) // recipe["batch"])
    steps = recipe["epochs"] * per_epoch
    schedule = warmup_cosine(recipe["lr"], 0.0, steps // 10, steps)
    trainer = tl.Trainer(
        model, params, tl.AdamW(schedule, decayed=matrices_only), clip_norm=1.0, rng=rng
    )
    for _ in range(recipe["epochs"]):
        for chosen in np.array_split(rng.permutation(len(train)), per_epoch):
            batch = padded([inputs[i] for i in chosen], model.pad_id)
            trainer.step(batch, targets[chosen])

    def predict(texts):
        asked, answers = rows(texts), np.empty(len(texts), int)
        order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
        for begin in range(0, len(order), 50):
            chosen = order[begin : begin + 50]
            logits = model(trainer.params, **padded([asked[i] for i in chosen], model.pad_id))
            answers[chosen] = np.argmax(logits, axis=1)
        return [kinds[i] for i in answers]

    return predict


# All three.


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="less than a minute, and no figures")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3000, help="of pre-training")
    parser.add_argument("--development", action="store_true", help="leave the test alone")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.seeds = 24, 1
    began = time.perf_counter()

    def tell(line):
        print(f"{time.perf_counter() - began:6.0f} s  {line}", flush=True)

    test, development, pool = parts(docstrings(), np.random.default_rng(0), 600)
    if options.development:
        test = development
    if options.quick:
        test = test[::5]
    texts, actual = zip(*test, strict=True)
    tokenizer = tl.WordPieceTokenizer.train(tl.corpus("python-docs"), 3000)
    sizes = {"vocab_size": tokenizer.vocab_size, "context_length": 32, "d_model": 128,
             "num_heads": 4, "num_layers": 2}  # fmt: skip
    tell(f"{len(pool)} docstrings to draw {options.labels} labels from, {len(test)} to measure on")
    trained = pretrained(sizes, tokenizer, options.steps, np.random.default_rng(1), tell)
    classifier = tl.BERT(**sizes, task="sequence-classification")
    recipe = {"lr": 5e-4, "epochs": 4 if options.quick else 20, "batch": 10}
    figures = {"fine-tuned, pre-trained": [], "fine-tuned, random weights": [],
               "logistic regression": []}  # fmt: skip
    for seed in range(options.seeds):
        # what was tried for the recipe was never drawn for the test
        train = some(pool, options.labels, np.random.default_rng([seed, options.development]))
        fresh = classifier.init(np.random.default_rng(seed))
        begin = {"fine-tuned, pre-trained": tl.transfer(trained, fresh).params,
                 "fine-tuned, random weights": fresh}  # fmt: skip
        for row, measured in figures.items():
            if row in begin:
                rng = np.random.default_rng(seed)
                predict = fine_tuned(classifier, begin[row], tokenizer, train, rng, recipe)
            else:
                predict = best_logistic_regression(train)
            predicted = predict(texts)
            measured.append({name: of(predicted, actual) for name, of in MEASURES.items()})
        tell(
            ", ".join(f"{row} {measured[-1]['accuracy']:.3f}" for row, measured in figures.items())
        )

    print(f"\n{'mean of ' + str(options.seeds) + ' draws of labels':32}"
          + "".join(f"{name:>12}" for name in MEASURES))  # fmt: skip
    for row, measured in figures.items():
        means = {name: statistics.mean(m[name] for m in measured) for name in MEASURES}
        print(f"{row:32}" + "".join(f"{mean:12.3f}" for mean in means.values()))
    if options.json:
        with open(options.json, "w") as file:  # noqa: PTH123
            json.dump({"options": vars(options), "figures": figures}, file, indent=1)


if __name__ == "__main__":
    main()
