"""Look inside: how a small GPT finds the subject of its sentence.

"near the dog the cats behind the boy" goes on with "run", since the cats do: the verb agrees with the
only noun that has no preposition, not with the nearest (Linzen et al. 2016, "Assessing the ability of
LSTMs to learn syntax-sensitive dependencies"). tl.interpret shows how, with attention as a page, the
logit lens, head ablation, activation patching and gradient times input. Rivals: the nearest noun, the
same heads before training, and deletion by attention or by chance. It takes seconds.
"""

import common
import numpy as np

import tinylm as tl

WORDS = ["the", "near", "behind", "dog", "dogs", "cat", "cats", "boy", "boys", "runs", "run"]
SHAPES = np.array([list("tnptnptn"), list("ptntnptn"), list("ptnptntn")])  # the, noun, preposition
SUBJECTS, VERB_OF = np.array([1, 4, 7]), 9 + (np.arange(len(WORDS)) - 3) % 2
LAYERS, HEADS, PLACE = 2, 4, np.array([0, 1, 1, 0, 2, 2, 0, 3])


def draw(rng, count, shapes=(0, 1, 2), unseen=False):
    """Sentences, and targets: only the verb counts. A seventh of the triples of nouns is held out."""
    shape = rng.choice(shapes, count)
    kind = SHAPES[shape]
    nouns, prepositions = rng.integers(3, 9, kind.shape), rng.integers(1, 3, kind.shape)
    while np.any(wrong := (np.where(kind == "n", nouns, 0) @ PLACE % 7 == 0) != unseen):
        nouns[wrong] = rng.integers(3, 9, nouns[wrong].shape)
    ids = np.where(kind == "n", nouns, np.where(kind == "p", prepositions, 0))
    targets = np.full_like(ids, -100)
    targets[:, -1] = VERB_OF[ids[np.arange(count), SUBJECTS[shape]]]
    return ids, targets


def train(run):
    """The model, its parameters before training, and those after."""
    model = tl.GPT(len(WORDS), SHAPES.shape[1], 32, HEADS, LAYERS, d_ff=64, positions="rotary")
    before = model.init(run.rng)
    trainer = tl.Trainer(model, before, tl.AdamW(3e-3), clip_norm=1.0)
    for _ in range(100 if run.quick else 400):
        loss = trainer.step(*draw(run.rng, 64))
    run.progress(f"trained, the loss of the last step is {loss:.4f} nats a verb")
    return model, before, trainer.params


def without_each_head(run, model, before, params):
    """What the loss is without each head, and without the same head before training."""
    test = ids, targets = draw(run.rng, 1000, unseen=True)
    whole = np.array([model.loss(p, *test) for p in (params, before)])
    rise, rows = np.zeros((LAYERS, HEADS)), []
    for layer, head in np.ndindex(LAYERS, HEADS):
        with tl.interpret.ablate_heads({f"blocks.{layer}.attention": [head]}):
            more = np.array([model.loss(p, *test) for p in (params, before)]) - whole
        rise[layer, head] = more[0]
        rows.append({"without": f"layer {layer}, head {head}", "rise": f"{more[0]:+.3f}",
                     "rise before training": f"{more[1]:+.3f}"})  # fmt: skip
    run.table(f"Loss without a head; with all it is {whole[0]:.4f} nats a verb", rows)
    right = tl.accuracy(np.argmax(model(params, ids)[:, -1], axis=-1), targets[:, -1])
    nearest = tl.accuracy(VERB_OF[ids[:, -1]], targets[:, -1])
    run.say(f"{right:.1%} of the unseen are right; to agree with the nearest noun gives {nearest:.1%}. "
            f"The costliest head costs {np.max(rise):+.3f} nats, the median one {np.median(rise):+.3f}.")  # fmt: skip
    return rise


def probability(logits, answer):
    """Of the answers, the mean over the rows at every place."""
    return np.mean(tl.softmax(logits)[np.arange(len(answer)), :, answer], axis=0)


def patching(model, params, ids, answer):
    """How much of the verb each layer and place brings back when the subject had the other number."""
    corrupted, restored = ids.copy(), np.zeros((LAYERS + 1, ids.shape[1]))
    corrupted[:, SUBJECTS[1]] = 3 + ((ids[:, SUBJECTS[1]] - 3) ^ 1)
    with tl.interpret.observe() as seen:
        best = probability(model(params, ids), answer)[-1]
    worst = probability(model(params, corrupted), answer)[-1]
    for layer, place in np.ndindex(restored.shape):
        path = f"blocks.{layer - 1}.residual" if layer else "residual"
        with tl.interpret.patch(seen, {path: np.s_[:, place]}):
            patched = probability(model(params, corrupted), answer)[-1]
        restored[layer, place] = (patched - worst) / (best - worst)
    return restored


def deletion(run, model, params, ids, answer):
    """Delete the token most important to the verb, against its other number: Yin, Neubig 2022."""
    verb, table = np.eye(len(WORDS))[answer] - np.eye(len(WORDS))[19 - answer], []
    given = tl.interpret.gradient_times_input(lambda: np.sum(model(params, ids)[:, -1] * verb))
    patterns = tl.interpret.attention_patterns(model, params, ids)["blocks.1.attention"]
    scores = {"gradient times input": given.sum(-1), "attention": patterns[:, :, -1].mean(1)}
    for method, score in (scores | {"chance": run.rng.random(ids.shape)}).items():
        place = np.argmax(score[:, :-1], axis=1)
        kept = np.arange(ids.shape[1]) != place[:, None]
        with tl.interpret.edit({"embedding": lambda x, kept=kept: x * kept[..., None]}):
            left = probability(model(params, ids), answer)[-1]
        table.append({"deleted by": method, "it was the subject":
                      f"{np.mean(place == SUBJECTS[1]):.0%}", "probability left": left})  # fmt: skip
    run.table("What is left of the verb's probability without one token", table)
    best = min(table, key=lambda row: row["probability left"])["deleted by"]
    run.say(f"The least is left when {best} chooses the token.")


def picture(lens, restored, rise):
    figure, axes = common.pyplot().subplots(1, 3, figsize=(13, 3.2), width_ratios=[3, 3, 1.5])
    places = ["near", "the", "dog", "the", "CATS", "near", "the", "boy"]
    titles = ["Logit lens: probability of the verb", "Patching: share of the verb restored",
              "Loss without a head"]  # fmt: skip
    for axis, title, x in zip(axes, titles, (lens, restored, rise), strict=True):
        axis.imshow(x, cmap="Blues", vmin=0, vmax=1.5 * max(1, np.max(x)), aspect="auto")
        for (i, j), number in np.ndenumerate(x):
            axis.text(j, i, f"{number:.2f}", ha="center", va="center", fontsize=8)
        axis.set(title=title, xlabel="" if len(x) > LAYERS else "head")
        axis.set_yticks(range(len(x)), ["embedding", "layer 0", "layer 1"][-len(x) :])
        axis.set_xticks(range(x.shape[1]), places if len(x) > LAYERS else range(HEADS))
    return figure


def main(run):
    model, before, params = train(run)
    rise = without_each_head(run, model, before, params)
    ids, targets = draw(run.rng, 200, shapes=[1])
    answer, others = targets[:, -1], [2, 7]  # get the other number: the nearest noun misleads
    ids[:, others] = 3 + 2 * ((ids[:, others] - 3) // 2) + (10 - answer[:, None])
    lens = [probability(x, answer) for x in tl.interpret.logit_lens(model, params, ids)]
    deletion(run, model, params, ids, answer)
    figure = picture(np.array(lens), patching(model, params, ids, answer), rise)
    run.picture(figure, "Where the number of the verb is, by layer and token")
    patterns = tl.interpret.attention_patterns(model, params, ids[0])
    page = tl.interpret.attention_page(patterns, [WORDS[i] for i in ids[0]])
    run.page("look_inside.html", "Attention, to explore", lambda path: path.write_text(page))


common.start(main)
