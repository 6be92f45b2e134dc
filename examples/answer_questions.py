"""Answers to questions about functions, found in their documentation.

The model says at which word of a text the answer begins and ends: BERT's head for questions (Devlin
et al. 2019, section 4.2) on two small layers that begin at random. Words that are in the question
too are marked for it, as in Chen et al. 2017, "Reading Wikipedia to answer open-domain questions",
section 3.2. Texts are signatures with documentation, of the
standard library, NumPy and SciPy; measures are SQuAD's (Rajpurkar et al. 2016), on files not seen.
The questions are generated, six kinds in three wordings, by patterns that know the answer's place.

The rival, word overlap: of the pieces between punctuation, line ends and words such as "returns",
the one with most of the question right before it, rare words first (a sliding window, after
Richardson et al. 2013, "MCTest", section 5). Six minutes on one core; `--data` takes a folder.
"""

import functools
import re

import common
import numpy as np
from docstrings.documented import functions, split
from docstrings.questions import by_kind, questions, right_and_wrong, verdict
from docstrings.word_overlap import content, word_overlap

import tinylm as tl
from tinylm.training import matrices_only, warmup_cosine

UNIT = re.compile(r"\w+|[^\w\s]")
LENGTH, LONGEST, CLS, SEP = 96, 32, 2, 3


def read(question, encode):
    """Ids and segments of a question and its text, and the place of every token in the text."""
    asked = set(content(question.asked))
    ids = [CLS, *encode(question.asked), SEP]
    segments, places = [0] * len(ids), [(-1, -1)] * len(ids)
    for unit in UNIT.finditer(question.text):
        tokens = encode(unit[0])
        mark = 1 + bool(asked & set(content(unit[0])))
        ids, segments = ids + tokens, segments + [mark] * len(tokens)
        places += [unit.span()] * len(tokens)
    return ids[:LENGTH], segments[:LENGTH], places[:LENGTH]


def fitting(asked, encode):
    """The questions whose answer is in the part of the text that is read, with that part alone."""
    for question in asked:
        end = read(question, encode)[2][-1][1]
        if question.end <= end:
            yield question._replace(text=question.text[:end])


def padded(rows):
    ids, segments = np.zeros((2, len(rows), max(len(row[0]) for row in rows)), int)
    for i, row in enumerate(rows):
        ids[i, : len(row[0])], segments[i, : len(row[0])] = row[:2]
    return {"ids": ids, "segments": segments, "mask": ids != 0}


def batches(asked, rows, size, rng):
    """Without end: questions of like length, and the first and the last token of their answers."""
    ends = np.zeros((len(rows), 2), int)
    for i, (question, (_, _, places)) in enumerate(zip(asked, rows, strict=True)):
        begins, stops = np.array(places).T
        ends[i] = np.flatnonzero((stops > question.begin) & (begins < question.end))[[0, -1]]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    while True:
        for k in rng.permutation(len(order) // size):
            chosen = order[k * size : (k + 1) * size]
            yield padded([rows[i] for i in chosen]), ends[chosen]


def answered(model, params, question, row):
    """The likeliest span of the text, and the probabilities that it begins and ends at each token."""
    batch = padded([row])
    logits = np.where(batch["segments"][..., None] > 0, model(params, **batch), -np.inf)[0]
    first, last = tl.softmax(logits, axis=0).T
    both = np.triu(first[:, None] * last) - np.triu(first[:, None] * last, LONGEST)
    a, b = np.unravel_index(np.argmax(both), both.shape)
    return question.text[row[2][a][0] : row[2][b][1]], first, last


def main(run):
    found = split(functions(run), run.rng)
    train, test = ([q for one in part for q in questions(one, run.rng)] for part in found)
    texts = "\n".join({q.text[:500]: 0 for q in train[::4]})
    tokenizer = tl.WordPieceTokenizer.train(texts, 600 if run.quick else 2000)
    encode = functools.cache(lambda text: tokenizer.encode(text).tolist())
    train, test = list(fitting(train, encode)), list(fitting(test, encode))
    run.progress(f"{len(train)} questions to learn from, {len(test)} to answer")
    model = tl.BERT(tokenizer.vocab_size, LENGTH, 128, 4, 2, num_segments=3, dropout=0.0,
                    activation="relu", task="question-answering")  # fmt: skip
    steps, rows = 20 if run.quick else 1800, [read(q, encode) for q in train]
    optimizer = tl.AdamW(warmup_cosine(1e-3, 1e-5, steps // 10, steps), decayed=matrices_only)
    trainer = tl.Trainer(model, model.init(run.rng), optimizer, clip_norm=1.0)
    trainer.run(batches(train, rows, 16, run.rng), steps)
    rows = [read(q, encode) for q in test]
    found = list(map(functools.partial(answered, model, trainer.params), test, rows))
    answers = {"word overlap": list(map(word_overlap, test)), "BERT": [x[0] for x in found]}
    scores = list(by_kind(test, answers))
    run.table("Exact match / F1 on functions in files that no training has seen", scores)
    run.say(verdict(test, answers))
    run.table("Right and wrong", list(right_and_wrong(test, answers, "BERT")))
    draw(
        run, scores, *min(zip(test, found, rows, strict=True), key=lambda x: abs(len(x[2][0]) - 60))
    )


def draw(run, scores, question, found, row):
    figure, (bars, words) = common.pyplot().subplots(2, 1, figsize=(9, 7))
    for i, who in enumerate(list(scores[0])[2:]):
        f1 = [float(row[who].split("/ ")[-1].replace("-", "nan")) for row in scores]
        bars.bar(np.arange(len(f1)) + 0.27 * i, f1, 0.25, label=who)
    kinds = [row["kind"] for row in scores]
    bars.set(ylabel="F1", xticks=np.arange(len(kinds)) + 0.27, xticklabels=kinds)
    figure.legend(loc="outside upper center", ncols=3)
    places, own = row[2], np.flatnonzero(row[1])
    for name, shift, p in zip(("begins", "ends"), (-0.2, 0.2), found[1:], strict=True):
        words.bar(np.arange(len(own)) + shift, p[own], 0.4, label=name)
    labels = [question.text[slice(*places[t])] if places[t] != places[t - 1] else "" for t in own]
    words.set_xticks(np.arange(len(own)), labels, rotation=90, fontsize=8)
    words.set(title=f"{question.asked}\n{found[0][:80]!r}", ylabel="probability")
    words.legend()
    run.picture(figure, "F1 by kind of question; where one answer begins and ends, by probability")


if __name__ == "__main__":
    common.start(main)
