"""The Transformer: against a transcription, its gradients, its masks, and what it refuses."""

import itertools
import math

import numpy as np
import pytest
from helpers import distance

import tinylm as tl
from tinylm.autograd import trees
from tinylm.models.options import ACTIVATIONS, NORMS
from tinylm.training import warmup_cosine

SIZES = {
    "vocab_size": 7,
    "context_length": 5,
    "d_model": 6,
    "num_heads": 3,
    "num_encoder_layers": 2,
    "num_decoder_layers": 1,
    "pad_id": 0,
}
SOURCE = np.array([[3, 1, 2, 6, 5], [4, 4, 0, 0, 0]])
TARGET = np.array([[1, 5, 2], [1, 6, 0]])
NEXT = np.array([[5, 2, 3], [6, 0, 0]])


def random_params(model, rng):
    return trees.map_leaves(lambda p: rng.standard_normal(p.shape), model.init(rng))


def times(x, W, b=None):
    return [
        [
            math.fsum(row[k] * W[k][j] for k in range(len(W))) + (0 if b is None else b[j])
            for j in range(len(W[0]))
        ]
        for row in x
    ]


def plus(x, y):
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(x, y, strict=True)]


def transformer_in_loops(model, params, source, target):
    """One pair of sequences, from the paper, with lists of numbers: sections 3.1 to 3.5."""
    C, H, eps = model.d_model, model.num_heads, model.norm_eps
    D = C // H

    def embedded(table, ids):  # sections 3.4 and 3.5
        x = [[math.sqrt(C) * float(v) for v in table[i]] for i in ids]
        for position, row in enumerate(x):
            for i in range(C):
                angle = position / 10000 ** (2 * (i // 2) / C)
                row[i] += math.cos(angle) if i % 2 else math.sin(angle)
        return x

    def norm(p, x):
        rows = []
        for row in x:
            mean = math.fsum(row) / C if "bias" in p else 0
            square = math.fsum((v - mean) ** 2 for v in row) / C
            rows.append(
                [
                    g * (v - mean) / math.sqrt(square + eps) + b
                    for v, g, b in zip(row, p["gain"], p.get("bias", [0] * C), strict=True)
                ]
            )
        return rows

    def attend(p, x, memory, allowed):  # sections 3.2.1 and 3.2.2
        Q, K, V = (
            times(y, p[f"W_{k}"], p.get(f"b_{k}"))
            for y, k in ((x, "Q"), (memory, "K"), (memory, "V"))
        )
        concatenated = [[0.0] * C for _ in x]
        for h, t in itertools.product(range(H), range(len(x))):
            one = range(h * D, (h + 1) * D)
            keys = [s for s in range(len(memory)) if allowed(t, s)]
            scores = [math.fsum(Q[t][i] * K[s][i] for i in one) / math.sqrt(D) for s in keys]
            weights = [math.exp(score - max(scores)) for score in scores]
            for i in one:
                concatenated[t][i] = math.fsum(
                    w / math.fsum(weights) * V[s][i] for s, w in zip(keys, weights, strict=True)
                )
        return times(concatenated, p["W_O"], p.get("b_O"))

    activation = {
        "relu": lambda v: max(v, 0.0),
        "gelu": lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2,
        "gelu_tanh": lambda v: v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2,
        "silu": lambda v: v / (1 + math.exp(-v)),
    }[model.activation]  # fmt: skip

    def think(p, x):  # eq. (2)
        hidden = times(x, p["W_1"], p.get("b_1"))
        return times([[activation(v) for v in row] for row in hidden], p["W_2"], p.get("b_2"))

    def residual(p, x, sublayer):  # section 3.1
        return plus(x, sublayer(norm(p, x))) if model.pre_norm else norm(p, plus(x, sublayer(x)))

    real = [i != model.pad_id for i in source]
    memory = embedded(params.get("source_embedding", params["token_embedding"]), source)
    for p in params["encoder"]["blocks"]:
        memory = residual(
            p["norm_1"],
            memory,
            lambda x, p=p: attend(p["attention"], x, x, lambda t, s: real[s]),
        )
        memory = residual(p["norm_2"], memory, lambda x, p=p: think(p["feed_forward"], x))
    if "norm" in params["encoder"]:
        memory = norm(params["encoder"]["norm"], memory)

    x = embedded(params["token_embedding"], target)
    for p in params["decoder"]["blocks"]:
        x = residual(
            p["norm_1"], x, lambda x, p=p: attend(p["attention"], x, x, lambda t, s: s <= t)
        )
        x = residual(
            p["norm_2"],
            x,
            lambda x, p=p: attend(p["cross_attention"], x, memory, lambda t, s: real[s]),
        )
        x = residual(p["norm_3"], x, lambda x, p=p: think(p["feed_forward"], x))
    if "norm" in params["decoder"]:
        x = norm(params["decoder"]["norm"], x)
    return np.array(times(x, np.transpose(params["token_embedding"])))


def loss_in_loops(logits, targets, smoothing, ignored):
    """Section 5.4: the target has all but a part of the probability, which all share."""
    losses = []
    for i in np.ndindex(targets.shape):
        if targets[i] in ignored:
            continue
        top = max(logits[i])
        total = top + math.log(math.fsum(math.exp(v - top) for v in logits[i]))
        V = len(logits[i])
        wanted = [smoothing / V + (1 - smoothing) * (v == targets[i]) for v in range(V)]
        losses.append(math.fsum(w * (total - v) for w, v in zip(wanted, logits[i], strict=True)))
    return math.fsum(losses) / len(losses)


VARIANTS = [
    *({"norm": n, "pre_norm": b} for n in NORMS for b in (True, False)),
    {"pre_norm": False, "final_norm": True},
    {"pre_norm": True, "final_norm": False},
    *({"activation": a} for a in ACTIVATIONS),
    {"source_vocab_size": 11, "bias": False, "d_ff": 11},
    {"num_encoder_layers": 0, "num_decoder_layers": 0},
    {"num_encoder_layers": 1, "num_decoder_layers": 2, "norm_eps": 0.3},
    {"num_heads": 1, "d_model": 5, "pad_id": None},
    {"label_smoothing": 0.1},
]
VARIANT = pytest.mark.parametrize("variant", VARIANTS, ids=str)


@VARIANT
def test_forward_is_the_transcription_and_the_gradient_the_complex_step(rng, variant):
    model = tl.Transformer(**{**SIZES, **variant})
    params = random_params(model, rng)
    logits = model(params, SOURCE, TARGET)
    expected = np.stack(
        [
            transformer_in_loops(model, params, *pair)
            for pair in zip(SOURCE.tolist(), TARGET.tolist(), strict=True)
        ]
    )
    assert distance(logits, expected) < 1e-12
    loss, gradient = tl.value_and_grad(model.loss)(params, (SOURCE, TARGET), NEXT)
    ignored = [model.pad_id, -100]
    assert loss == pytest.approx(
        loss_in_loops(expected, NEXT, model.label_smoothing, ignored), rel=1e-12
    )
    direction = random_params(model, rng)
    shifted = trees.map_leaves(lambda p, d: p + 1e-30j * d, params, direction)
    along = sum(
        np.sum(g * d) for g, d in zip(*map(trees.leaves, (gradient, direction)), strict=True)
    )
    step = np.imag(model.loss(shifted, (SOURCE, TARGET), NEXT)) / 1e-30
    assert along == pytest.approx(step, rel=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@VARIANT
def test_one_dtype_throughout(variant, dtype):
    model = tl.Transformer(**{**SIZES, **variant})
    params = model.init(np.random.default_rng(0), dtype)
    assert {p.dtype for p in trees.leaves(params)} == {np.dtype(dtype)}
    assert model(params, [[1, 2]], [[1]]).dtype == dtype
    assert model.loss(params, ([[1, 2]], [[1]]), [[3]]).dtype == dtype


def test_init():
    model = tl.Transformer(65, 9, 32, 4, 2, 3, source_vocab_size=11)
    params = model.init(np.random.default_rng(3))
    C, F = 32, 128
    attention, feed_forward, norm = 4 * (C * C + C), C * F + F + F * C + C, 2 * C
    assert sum(p.size for p in trees.leaves(params)) == (
        (65 + 11) * C
        + 2 * (attention + feed_forward + 2 * norm)
        + 3 * (2 * attention + feed_forward + 3 * norm)
    )
    for a, b in zip(
        *map(trees.leaves, (params, model.init(np.random.default_rng(3)))), strict=True
    ):
        assert np.array_equal(a, b)
    last = params["decoder"]["blocks"][-1]
    for W, features in (
        (params["token_embedding"], C),
        (params["source_embedding"], C),
        (last["cross_attention"]["W_O"], C),
        (last["feed_forward"]["W_1"], C),
        (last["feed_forward"]["W_2"], F),
    ):
        assert np.std(W) == pytest.approx(features**-0.5, rel=0.1)
    assert not last["feed_forward"]["b_1"].any()
    assert (last["norm_3"]["gain"] == 1).all()


def test_padding_changes_nothing(rng):
    """Neither how much there is of it, nor what the embedding of the padding is."""
    model = tl.Transformer(**SIZES)
    params = random_params(model, rng)
    padded, short = np.array([[3, 1, 0, 0, 0]]), np.array([[3, 1]])
    logits = model(params, short, TARGET[:1])
    np.testing.assert_allclose(model(params, padded, TARGET[:1]), logits, rtol=1e-12)
    other = {**params, "token_embedding": params["token_embedding"].copy()}
    other["token_embedding"][0] = rng.standard_normal(6)
    np.testing.assert_allclose(
        model(other, padded, TARGET[:1])[..., 1:], logits[..., 1:], rtol=1e-12
    )
    blind = tl.Transformer(**{**SIZES, "pad_id": None})
    assert not np.allclose(blind(params, padded, TARGET[:1]), logits)

    def loss(targets):
        return model.loss(params, (SOURCE, TARGET), targets)

    assert loss([[5, 2, 0], [6, 0, 0]]) == loss([[5, 2, -100], [6, -100, 0]])
    gradient = tl.grad(model.loss)(params, (padded, TARGET[:1]), [[5, -100, -100]])
    longer = tl.grad(model.loss)(params, (short, TARGET[:1, :1]), [[5]])
    for a, b in zip(*map(trees.leaves, (gradient, longer)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_no_position_sees_a_later_one(rng):
    for pre_norm in (False, True):
        model = tl.Transformer(**SIZES, pre_norm=pre_norm)
        params = random_params(model, rng)
        ids = rng.integers(1, 7, 5)
        changed = ids.copy()
        changed[3] = ids[3] % 6 + 1
        before, after = (model(params, SOURCE[0], target) for target in (ids, changed))
        np.testing.assert_allclose(before[:3], after[:3], rtol=1e-12)
        assert np.abs(before[3:] - after[3:]).max(axis=1).all()
        before, after = (model(params, source, TARGET[0]) for source in (ids, changed))
        assert np.abs(before - after).max(axis=1).all(), "all of the source is seen from everywhere"


@VARIANT
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kept_keys_and_values_give_the_same(rng, variant, dtype):
    model = tl.Transformer(**{**SIZES, **variant})
    params = model.init(rng, dtype)
    ids = rng.integers(1, 7, (2, 3, 5))
    memory, mask = model.encode(params, SOURCE[:, None]), model.source_mask(SOURCE[:, None])
    whole = model(params, SOURCE[:, None], ids)
    past, pieces, start = model.no_past(), [], 0
    for stop in (1, 3, 4, 5) if past else ():
        pieces.append(model.decode(params, ids[..., start:stop], memory, mask, past=past))
        start = stop
    if past:
        error = np.max(np.abs(np.concatenate(pieces, axis=-2) - whole))
        assert error < (1e-6 if dtype == np.float32 else 1e-14)
        with pytest.raises(ValueError, match=r"after 5 others: .* context_length = 5"):
            model.decode(params, ids[..., :1], memory, mask, past=past)


def test_the_memory_is_projected_once(rng, monkeypatch):
    model = tl.Transformer(**SIZES)
    params = random_params(model, rng)
    memory, past, seen = model.encode(params, SOURCE), model.no_past(), []
    linear = tl.linear

    def watch(x, W, b=None):
        seen.append(x.shape[-2])
        return linear(x, W, b)

    monkeypatch.setattr("tinylm.nn.multi_head.linear", watch)
    for t in range(3):
        model.decode(params, TARGET[:, t : t + 1], memory, past=past)
    # of itself Q, K, V, O; of the memory Q, K, V, O
    assert seen == [1, 1, 1, 1, 1, 5, 5, 1] + 2 * [1, 1, 1, 1, 1, 0, 0, 1]


def test_beams_go_on_from_others(rng):
    model = tl.Transformer(**SIZES)
    params = random_params(model, rng)
    memory, past = model.encode(params, SOURCE[:, None]), model.no_past()
    first, order = rng.integers(1, 7, (2, 2, 2)), np.array([[1, 1, 0], [0, 1, 1]])
    model.decode(params, first, memory, past=past)
    past[0].reorder(order)
    then = rng.integers(1, 7, (2, 3, 1))
    got = model.decode(params, then, memory, past=past)[..., -1, :]
    for b, k in np.ndindex(order.shape):
        ids = np.concatenate([first[b, order[b, k]], then[b, k]])
        np.testing.assert_allclose(
            got[b, k], model.decode(params, ids, memory[b, 0])[-1], rtol=1e-10
        )


def written_in_loops(model, params, source, longest, start, stop):
    """The likeliest target of all there are, and that of the likeliest next tokens."""

    def log_probabilities(target):
        logits = transformer_in_loops(model, params, source, target)[-1]
        return logits - math.log(math.fsum(math.exp(v) for v in logits))

    best, open_targets = (-math.inf, None), [(0.0, [start])]
    while open_targets:
        log_p, target = open_targets.pop()
        for token, more in enumerate(log_probabilities(target)):
            new, total = [*target, token], log_p + more
            if token == stop or len(new) == longest + 1:
                best = max(best, (total / (len(new) - 1), new))
            else:
                open_targets.append((total, new))
    greedy = [start]
    while len(greedy) <= longest and greedy[-1:] != [stop]:
        greedy.append(int(np.argmax(log_probabilities(greedy))))
    return *best, greedy


def test_translations_are_the_likeliest_of_all(rng):
    model = tl.Transformer(**{**SIZES, "vocab_size": 4, "source_vocab_size": 7})
    params = random_params(model, rng)
    beams = model.translate(params, SOURCE, 3, start=1, stop=2, num_beams=4**3 + 1)
    greedy = model.translate(params, SOURCE, 3, start=1, stop=2)
    assert beams.ids.shape == (2, 65, 4)
    assert greedy.ids.shape == (2, 1, 4)
    for i, source in enumerate(SOURCE.tolist()):
        score, likeliest, one_by_one = written_in_loops(model, params, source, 3, 1, 2)
        assert beams.scores[i, 0] == pytest.approx(score, rel=1e-12)
        for ids, wanted in ((beams.best[i], likeliest), (greedy.best[i], one_by_one)):
            assert ids.tolist() == wanted + [2] * (4 - len(wanted))


def test_translations_of_many_sources_are_those_of_each(rng):
    model = tl.Transformer(**SIZES)
    params = random_params(model, rng)
    together = model.translate(params, SOURCE[None], 5, 1, stop=[2, 3], num_beams=3)
    assert together.ids.shape == (1, 2, 3, 6)
    for i, source in enumerate(([3, 1, 2, 6, 5], [4, 4])):
        alone = model.translate(params, source, 5, 1, stop=[2, 3], num_beams=3)
        assert alone.ids.tolist() == together.ids[0, i].tolist()
        np.testing.assert_allclose(alone.scores, together.scores[0, i], rtol=1e-10)


def test_translations_that_are_not_possible(rng):
    model = tl.Transformer(**SIZES)
    params = model.init(rng)
    for arguments, message in (
        ((SOURCE, 6, 1, 2), "max_new_tokens=6: wanted at most 5"),
        ((SOURCE, 5, 7, 2), r"id 7 is outside the table"),
        ((3, 5, 1, 2), r"Transformer: ids of shape \(\)"),
        ((SOURCE, 0, 1, 2), "max_new_tokens=0: wanted at least 1"),
        ((SOURCE, 5, 1, 2, 0), "num_beams=0: wanted at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.translate(params, *arguments)


def pairs(sequences, longest=3):
    """Sources and, backwards, their targets between 1 and 2; filled up with 0."""
    source, target = (np.zeros((len(sequences), longest + more), int) for more in (0, 2))
    for i, symbols in enumerate(sequences):
        source[i, : len(symbols)] = symbols
        target[i, : len(symbols) + 2] = [1, *symbols[::-1], 2]
    return source, np.where(target[:, :-1] == 2, 0, target[:, :-1]), target[:, 1:]


def test_it_learns_to_write_backwards():
    """Sequences of two or three symbols; a quarter of those of three are only seen in the end."""
    rng, symbols = np.random.default_rng(0), range(3, 9)
    long = rng.permutation(list(itertools.product(symbols, repeat=3))).tolist()
    unseen, seen = (
        long[:54],
        long[54:] + [list(two) for two in itertools.product(symbols, repeat=2)],
    )
    model = tl.Transformer(9, 4, 32, 4, 1, 1, pad_id=0, label_smoothing=0.1)
    optimizer = tl.AdamW(warmup_cosine(6e-3, 0.0, 30, 300), weight_decay=0.0)
    trainer = tl.Trainer(model, model.init(rng), optimizer)
    for _ in range(300):
        source, target, targets = pairs([seen[i] for i in rng.integers(0, len(seen), 32)])
        trainer.step((source, target), targets)
    source, _, targets = pairs(unseen)
    written = model.translate(trainer.params, source, 4, start=1, stop=2, num_beams=3)
    right = np.all(written.best[:, 1:] == targets, axis=1)
    assert np.count_nonzero(right) >= 52, "of 54"


def test_where_dropout_happens(rng, monkeypatch):
    """Section 5.4: on both sums of embeddings and positions, and on what each sublayer adds."""
    model = tl.Transformer(**SIZES, dropout=0.5)
    params, dropped = random_params(model, rng), []
    assert np.array_equal(*(model(params, SOURCE, TARGET) for _ in range(2)))
    one, same, other = (
        model.loss(params, (SOURCE, TARGET), NEXT, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    assert one == same != other

    def drop(x, rate, rng):
        dropped.append((x.shape[-2], rate))
        return x

    monkeypatch.setattr("tinylm.models.transformer.dropout", drop)
    model(params, SOURCE, TARGET, rng)
    assert dropped == [(5, 0.5)] * (1 + 2 * 2) + [(3, 0.5)] * (1 + 3)


def test_names_of_every_layer(rng):
    model = tl.Transformer(**SIZES)
    with tl.record() as seen:
        model(random_params(model, rng), SOURCE, TARGET)
    counts = {"residual": 2 + 1 + 1 + 1, "scores": 4, "weights": 4, "memory": 1, "logits": 1}
    assert {label: len(seen[label]) for label in counts} == counts
    assert [w.shape[-2:] for w in seen["weights"]] == [(5, 5), (5, 5), (3, 3), (3, 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 7}, "d_model=7: wanted a multiple of num_heads=3"),
        ({"vocab_size": 0}, "vocab_size=0: wanted at least 1"),
        ({"num_heads": 0}, "num_heads=0: wanted at least 1"),
        ({"num_encoder_layers": -1}, "num_encoder_layers=-1: wanted at least 0"),
        ({"num_decoder_layers": -1}, "num_decoder_layers=-1: wanted at least 0"),
        ({"d_ff": 0}, "d_ff=0"),
        ({"source_vocab_size": 0}, "source_vocab_size=0"),
        ({"activation": "swish"}, "activation='swish': wanted gelu or"),
        ({"norm": "batch"}, "norm='batch': wanted layer or rms"),
        ({"norm_eps": 0.0}, "norm_eps=0.0: wanted a number above 0"),
        ({"dropout": 1.0}, "dropout=1.0: wanted 0 <= dropout < 1"),
        ({"label_smoothing": 1.5}, "label_smoothing=1.5: wanted 0 <= label_smoothing <= 1"),
        ({"pad_id": 7}, "pad_id=7: wanted a token of the vocabulary"),
    ],
)
def test_sizes_that_are_not_possible(change, message):
    with pytest.raises(ValueError, match=f"Transformer: .*{message}"):
        tl.Transformer(**{**SIZES, **change})


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([[1] * 6], [[1]], r"ids of shape \(1, 6\) after 0 others: .*context_length = 5"),
        ([[1]], [[1] * 6], r"ids of shape \(1, 6\) after 0 others"),
        ([[1]], np.zeros((1, 0), int), r"ids of shape \(1, 0\)"),
        (3, [[1]], r"ids of shape \(\)"),
        ([[11]], [[1]], r"id 11 is outside the table \[0, 7\)"),
        ([[1]], [[7]], r"id 7 is outside the table \[0, 7\)"),
        ([[1], [1]], [[1], [2], [3]], "do not broadcast"),
    ],
)
def test_calls_that_are_not_possible(source, target, message):
    model = tl.Transformer(**SIZES)
    with pytest.raises(ValueError, match=message):
        model(model.init(np.random.default_rng(0)), source, target)


def test_targets_of_one_byte(rng):
    model = tl.Transformer(**SIZES)
    params = model.init(rng)
    for dtype in (np.uint8, np.uint16):
        loss = model.loss(params, (SOURCE, TARGET), NEXT.astype(dtype))
        assert loss == model.loss(params, (SOURCE, TARGET), NEXT)


def test_no_sources_give_no_translations(rng):
    model = tl.Transformer(**SIZES)
    found = model.translate(model.init(rng), np.zeros((0, 3), int), 2, start=1, stop=2)
    assert found.ids.shape == (0, 1, 3)
