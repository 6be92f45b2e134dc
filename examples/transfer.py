"""Transfer: what a model has read before is worth labels.

From which part of Python's documentation is a sentence? A BERT reads the documentation without any
label, by both tasks of Devlin et al. 2019, section 3.1, and is then fine-tuned on a few labelled
sentences; beside it the same network from random weights, and a logistic regression on counts of the
same word pieces, its penalty cross-validated. All see the same labels, drawn five times, and are
measured on sentences that nobody has read. Topics, since Python brings no text with sentiment
labels. Rates and epochs were chosen on another split of these sentences. Ten minutes on two cores.
"""

from pydoc_data.topics import topics

import common
import numpy as np
from scipy.optimize import minimize

import tinylm as tl
from tinylm.models import BERTPretraining
from tinylm.text import documents, pad, sentence_pairs, sentences
from tinylm.training import matrices_only, warmup_cosine

PARTS = [  # topics of pydoc_data: data model, statements, expressions, strings, containers, pdb
    "specialnames types objects specialattrs",
    "compound assignment import raise global nonlocal assert del return pass break continue",
    "comparisons calls binary subscriptions slicings power exprlists booleans unary lambda yield",
    "string-methods formatstrings",
    "typesseq typesmapping",
    "debugger",
]
NAMES = "BERT, pre-trained", "BERT, random weights", "logistic regression"


def labelled(rng):
    """For each part, the sentences that stand in no other, shuffled."""
    where = {}
    for label, names in enumerate(PARTS):
        for s in (s for name in names.split() for s in sentences(topics.get(name, ""))):
            if 6 <= len(s.split()) <= 60 and s[0].isupper() and s[-1] in ".:":
                where.setdefault(s, set()).add(label)
    own = [[s for s in sorted(where) if where[s] == {i}] for i in range(len(PARTS))]
    return [rng.permutation(x).tolist() for x in own]


def logistic_regression(x, y, penalty):
    """The weights at which the mean cross-entropy and ``penalty * |W|^2`` are least."""
    shape = x.shape[1], len(PARTS)
    both = tl.value_and_grad(
        lambda W: tl.cross_entropy(tl.linear(x, np.reshape(W, shape)), y) + penalty * np.sum(W**2)
    )
    return minimize(both, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B").x.reshape(shape)


def cross_validated(x, y):
    """With the penalty that is best on a third of the labels, held out in turn."""
    folds = [np.arange(len(y)) // len(PARTS) % 3 == fold for fold in range(3)]

    def right(penalty):
        each = ((f, logistic_regression(x[~f], y[~f], penalty)) for f in folds if f.any())
        return sum(np.sum(np.argmax(x[f] @ W, axis=1) == y[f]) for f, W in each)

    return logistic_regression(x, y, max((1e-4, 1e-3, 1e-2, 1e-1), key=right))


def trained(model, params, batches, steps, rng, threads=1):
    optimizer = tl.AdamW(warmup_cosine(1e-3, 0.0, steps // 10, steps), decayed=matrices_only)
    trainer = tl.Trainer(model, params, optimizer, 1.0, threads, threads, rng=rng)
    trainer.run(batches, steps)
    return trainer.params


def shuffled(rows, labels, rng):
    """Batches of twelve, without end: all rows, and again in another order."""
    while True:
        for i in np.array_split(rng.permutation(len(rows)), -(-len(rows) // 12)):
            yield pad([rows[j] for j in i], 0), labels[i]


def main(run):
    pools, per_part = labelled(run.rng), 10 if run.quick else 60
    test, actual = [s for own in pools for s in own[:per_part]], np.repeat(range(6), per_part)
    seen = [[s for s in sentences(d) if s not in test] for d in documents("python-docs")]
    pieces = tl.WordPieceTokenizer.train("\n".join(s for d in seen for s in d), 3000)
    sizes = (pieces.vocab_size, 48, *((32, 2, 1) if run.quick else (128, 4, 2)))
    both = BERTPretraining(tl.BERT(*sizes, task="masked-lm"))
    batches = sentence_pairs(seen, pieces, 48, 32, run.rng)
    read = trained(both, both.init(run.rng), batches, 5 if run.quick else 3000, run.rng, threads=2)
    model = tl.BERT(*sizes, task="sequence-classification", num_labels=len(PARTS))
    amounts = (12, 24) if run.quick else (12, 24, 48, 100, 200)
    found = {name: {n: [] for n in amounts} for name in NAMES}
    for seed in range(2 if run.quick else 5):
        rng = np.random.default_rng([run.seed, seed])
        drawn = [rng.permutation(own[per_part:]) for own in pools]
        for n in amounts:
            labels = np.arange(n) % len(PARTS)
            texts = [str(drawn[label][i // len(PARTS)]) for i, label in enumerate(labels)] + test
            rows = [pieces.encode_pair(text, max_length=48)[0] for text in texts]
            x = np.array([np.bincount(row, minlength=sizes[0]) for row in rows], float)
            guesses, fresh = [np.argmax(x[n:] @ cross_validated(x[:n], labels), 1)], model.init(rng)
            for start, count in ((tl.transfer(read, fresh).params, 15), (fresh, 30)):
                stream, steps = shuffled(rows[:n], labels, rng), count * -(-n // 12)
                params = trained(model, start, stream, steps, rng)
                guesses.insert(-1, np.argmax(model(params, **pad(rows[n:], 0)), axis=1))
            for of, guess in zip(found.values(), guesses, strict=True):
                of[n].append([f(guess, actual) for f in (tl.accuracy, tl.precision, tl.recall)])
        run.progress(f"draw {seed}: {[of[n][-1][0] for of in found.values()]}")
    show(run, found)


def show(run, found):
    figure, axes = common.pyplot().subplots(figsize=(6, 4))
    amounts = list(found[NAMES[0]])
    rows, n = [], amounts[-2]
    for name, of in found.items():
        accuracy = np.array([[x[0] for x in of[k]] for k in amounts])
        mean, std = np.mean(accuracy, 1), np.std(accuracy, 1, ddof=1)
        axes.plot(amounts, mean, "o-", label=name)
        axes.fill_between(amounts, mean - std, mean + std, alpha=0.2)
        cells = {f"{k} labels": common.spread(x) for k, x in zip(amounts, accuracy, strict=True)}
        _, precision, recall = map(common.spread, np.transpose(of[n]))
        rows.append({"accuracy": name} | cells | {f"precision at {n}": precision, "recall": recall})
    axes.set(xscale="log", xlabel="labels", ylabel="accuracy", xticks=amounts, xticklabels=amounts)
    axes.legend()
    run.table("Mean and standard deviation over the draws of labels", rows)
    gain = [x[0] - y[0] for x, y in zip(*(found[name][n] for name in NAMES[:2]), strict=True)]
    run.say(f"What pre-training gains in accuracy at {n} labels: {common.spread(gain)}.")
    run.picture(figure, "accuracy by the number of labels, with one standard deviation")


if __name__ == "__main__":
    common.start(main)
