"""Answers to questions about functions, found in their documentation.

The model says at which word of a text the answer begins and ends: BERT's head for questions (Devlin
et al. 2019, section 4.2) on two small layers that begin at random. What is in the question too is
marked for it, as in Chen et al. 2017, "Reading Wikipedia to answer open-domain questions", section
3.2, and so are the words that follow, by their distance. Texts are signatures with documentation,
of the standard library, NumPy and SciPy, measures SQuAD's (Rajpurkar et al. 2016), on files not
seen. The questions are generated, in 18 wordings, by patterns that know the answer's place.

The rivals choose of the pieces between punctuation, line ends and words such as "returns". Word
overlap takes the one with most of the question right before it, rare words first (a sliding window,
after Richardson et al. 2013, "MCTest", section 5). Trained counts learn from the same questions as
BERT which cuts around a piece, at which distance, make it right: such patterns are what such rivals
are good at. Seven minutes on one core; `--data` takes a folder of Python files.
"""

import functools
import re

import common
import numpy as np
from docstrings.documented import enough, functions, split
from docstrings.questions import by_kind, questions, right_and_wrong, verdict
from docstrings.word_overlap import content, rivals

import tinylm as tl
from tinylm.training import matrices_only, warmup_cosine

UNIT = re.compile(r"\s*\n\s*(?:-{3,}\s*)?|\w+|[^\w\s]")  # a line end, a word, a sign
LENGTH, LONGEST, FAR, CLS, SEP = 96, 32, 16, 2, 3


def read(question, encode):
    """Ids, segments (0 the question, 1 what is in it too, 2 the word after, ...) and places."""
    asked, mark = set(content(question.asked)), FAR
    ids = [CLS, *encode(question.asked), SEP]
    segments, places = [0] * len(ids), [(-1, -1)] * len(ids)
    for unit in UNIT.finditer(question.text[: 10 * LENGTH]):
        tokens = [SEP] * min(unit[0].count("\n"), 2) or encode(unit[0])
        mark = 1 if asked & set(content(unit[0])) else min(mark + 1, FAR)
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
        for k in rng.permutation(max(1, len(order) // size)):
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
    texts = "\n".join({q.text[:500]: 0 for q in enough(train, 16, "questions")[::8]})
    tokenizer = tl.WordPieceTokenizer.train(texts, 600 if run.quick else 1500)
    encode = functools.cache(lambda text: tokenizer.encode(text).tolist())
    train = enough(list(fitting(train, encode)), 16, "questions to learn from")
    test = enough(list(fitting(test, encode)), 1, "questions to answer")
    run.progress(f"{len(train)} questions to learn from, {len(test)} to answer")
    model = tl.BERT(tokenizer.vocab_size, LENGTH, 128, 4, 2, num_segments=FAR + 1, dropout=0.0,
                    activation="relu", task="question-answering")  # fmt: skip
    steps, rows = 20 if run.quick else 2400, [read(q, encode) for q in train]
    optimizer = tl.AdamW(warmup_cosine(1e-3, 1e-5, steps // 10, steps), decayed=matrices_only)
    trainer = tl.Trainer(model, model.init(run.rng), optimizer, clip_norm=1.0)
    trainer.run(batches(train, rows, 16, run.rng), steps)
    rows = [read(q, encode) for q in test]
    found = list(map(functools.partial(answered, model, trainer.params), test, rows))
    answers = rivals(train, test) | {"BERT": [x[0] for x in found]}
    scores = list(by_kind(test, answers))
    run.table("Exact match / F1 on functions in files that no training has seen", scores)
    run.say(verdict(test, answers))
    run.table("Right and wrong", list(right_and_wrong(test, answers, "BERT")))
    shown = min(zip(test, found, rows, strict=True), key=lambda x: abs(len(x[2][0]) - 60))
    draw(run, scores, *shown)


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
    units = [question.text[slice(*place)].strip() for place in places]
    labels = [units[t] if places[t] != places[t - 1] else "" for t in own]
    words.set_xticks(np.arange(len(own)), labels, rotation=90, fontsize=8)
    words.set(title=f"{question.asked}\n{found[0][:80]!r}", ylabel="probability")
    words.legend()
    run.picture(figure, "F1 by kind of question; where one answer begins and ends, by probability")


if __name__ == "__main__":
    common.start(main)
