"""What is seen and changed inside of models: formulas by hand, and contexts that leave no trace."""

import contextlib
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees
from tinylm.autograd.names import watching, within
from tinylm.interpret import (
    ablate_heads,
    attention_patterns,
    edit,
    gradient_times_input,
    logit_lens,
    observe,
    patch,
)
from tinylm.nn import block, init_block

IDS, OTHERS = np.array([[1, 2, 3, 4, 5]]), np.array([[6, 2, 0, 4, 1]])
MODELS = {
    "gpt": (tl.GPT(7, 5, 6, 3, 2), (IDS,), (OTHERS,)),
    "post-norm": (tl.GPT(7, 5, 6, 3, 2, pre_norm=False, tied=False), (IDS,), (OTHERS,)),
    "llama": (
        tl.GPT(7, 5, 12, 2, 3, norm="rms", gated=True, positions="rotary", num_kv_heads=1),
        (IDS,),
        (OTHERS,),
    ),
    "bert": (tl.BERT(7, 5, 6, 3, 2, task="masked-lm"), (IDS,), (OTHERS,)),
    "classifier": (
        tl.BERT(7, 5, 6, 3, 2, task="sequence-classification", num_labels=3),
        (IDS,),
        (OTHERS,),
    ),
    "transformer": (tl.Transformer(7, 5, 6, 3, 1, 2), (IDS, OTHERS[:, :3]), (OTHERS, IDS[:, :3])),
}
EACH = pytest.mark.parametrize("kind", MODELS)


def made(kind):
    """A model with random parameters, its inputs, and others."""
    model, inputs, others = MODELS[kind]
    rng = np.random.default_rng(5)
    params = trees.map_leaves(lambda p: rng.standard_normal(p.shape) / 2, model.init(rng))
    return model, params, inputs, others


def seen_in(model, params, inputs):
    with observe() as seen:
        model(params, *inputs)
    return seen


@EACH
def test_the_path_is_that_of_the_parameters(kind):
    """Every path is met once, and what stands before its label is a path of parameters."""
    model, params, inputs, _ = made(kind)
    paths = []
    with watching(lambda path, label, value: paths.append(path)):
        model(params, *inputs)
    assert len(paths) == len(set(paths))
    groups = {p[: i + 1] for p, _ in trees.paths(params) for i, c in enumerate(p) if c == "."}
    for path in paths:
        part = path[: path.rfind(".") + 1]
        assert not part or part in groups, path


@EACH
def test_patching_everything_gives_the_other_run(kind):
    model, params, inputs, others = made(kind)
    seen = seen_in(model, params, others)
    with tl.formulas():
        plain, other = model(params, *inputs), model(params, *others)
    starts = [path for path in seen if path.endswith("residual") and "blocks" not in path]
    with patch(seen, dict.fromkeys(starts, ...)):
        assert np.array_equal(model(params, *inputs), other)
    with patch(seen_in(model, params, inputs), dict.fromkeys(seen, ...)):
        assert np.array_equal(model(params, *inputs), plain)
    assert not np.array_equal(plain, other)


def test_patching_a_position_changes_nothing_before_it():
    model, params, inputs, others = made("gpt")
    seen, plain = seen_in(model, params, others), model(params, *inputs)
    with patch(seen, {"blocks.0.residual": np.s_[..., 3, :]}), observe() as now:
        patched = model(params, *inputs)
    np.testing.assert_allclose(patched[:, :3], plain[:, :3], rtol=1e-12)
    assert np.abs(patched[:, 3:] - plain[:, 3:]).max(axis=(0, 2)).all()
    assert np.array_equal(now["blocks.0.residual"][:, 3], seen["blocks.0.residual"][:, 3])


@EACH
def test_ablating_nothing_changes_nothing(kind):
    model, params, inputs, _ = made(kind)
    with tl.formulas():
        plain = model(params, *inputs)
    with ablate_heads({"*attention": []}):
        assert np.array_equal(model(params, *inputs), plain)
    with edit({}):
        assert np.array_equal(model(params, *inputs), plain)


@EACH
def test_a_head_without_its_rows_of_the_output_matrix_is_ablated(kind):
    """Michel et al. 2019: with xi = 0 a head adds nothing; nor does it through rows of zeros."""
    model, params, inputs, _ = made(kind)
    D = model.d_model // model.num_heads
    for path in attention_patterns(model, params, *inputs):
        with ablate_heads({path: [1]}):
            ablated = model(params, *inputs)
        other = trees.map_leaves(np.array, params)
        part = other
        for step in path.split("."):
            part = part[int(step) if step.isdigit() else step]
        part["W_O"][D : 2 * D] = 0
        np.testing.assert_allclose(ablated, model(other, *inputs), rtol=1e-10, atol=1e-12)
        assert not np.allclose(ablated, model(params, *inputs), rtol=1e-4)


def test_all_heads_ablated_leave_the_bias():
    model, params, inputs, _ = made("gpt")
    with ablate_heads({"blocks.0.attention": range(3)}), observe() as seen:
        model(params, *inputs)
    assert not seen["blocks.0.attention.output"].any()
    assert seen["blocks.1.attention.output"].any()


@EACH
def test_rows_of_attention_sum_to_one(kind):
    model, params, inputs, _ = made(kind)
    patterns = attention_patterns(model, params, *inputs)
    assert patterns
    for path, weights in patterns.items():
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)
        causal = kind in ("gpt", "post-norm", "llama") or path.startswith("decoder")
        if causal and not path.endswith("cross_attention"):
            assert not np.triu(weights, 1).any()


@EACH
def test_the_lens_of_the_last_layer_is_the_model(kind):
    model, params, inputs, _ = made(kind)
    with tl.formulas():
        logits = model(params, *inputs)
    lens = logit_lens(model, params, *inputs)
    layers = {"llama": 3}.get(kind, 2)
    assert lens.shape == (layers + 1, *logits.shape)
    assert np.array_equal(lens[-1], logits)
    assert not np.allclose(lens[0], lens[1])


def test_the_lens_by_hand():
    """The final norm and the unembedding, written out, of every residual stream."""
    model, params, inputs, _ = made("gpt")
    seen = seen_in(model, params, inputs)
    streams = [seen["residual"], seen["blocks.0.residual"], seen["blocks.1.residual"]]
    for x, logits in zip(streams, logit_lens(model, params, *inputs), strict=True):
        mean = x.mean(-1, keepdims=True)
        deviation = np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
        norm = params["norm"]
        y = (x - mean) / deviation * norm["gain"] + norm["bias"]
        np.testing.assert_allclose(logits, y @ params["token_embedding"].T, rtol=1e-10)


def test_gradient_times_input_of_what_is_linear():
    x, w = np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[0.5, -1.0], [2.0, 0.25]])
    given = gradient_times_input(lambda: np.sum(tl.name(x, "x") * w) + 7, "x")
    assert np.array_equal(given, [[0.5, -2.0], [6.0, -1.0]])
    with within("a.b"):
        assert np.array_equal(
            gradient_times_input(lambda: tl.name(x[0], "x") @ w[1], "a.b.x"), [2, 0.5]
        )


@EACH
def test_gradient_times_input_of_a_model(kind):
    """Along the embedding itself, by the complex step: d f(embedding * (1 + t)) / dt at 0."""
    model, params, inputs, _ = made(kind)
    path = "decoder.embedding" if kind == "transformer" else "embedding"
    cotangent = np.random.default_rng(1).standard_normal(model(params, *inputs).shape)

    def score():
        return np.sum(model(params, *inputs) * cotangent)

    given = gradient_times_input(score, path)
    assert given.shape == (1, 3 if kind == "transformer" else 5, model.d_model)
    for place in np.ndindex(given.shape[1]):
        step = np.zeros(given.shape, complex)
        step[0, place] = 1e-30j
        with edit({path: lambda x, step=step: x * (1 + step)}):
            along = np.imag(score()) / 1e-30
        assert given[0, place].sum() == pytest.approx(along, rel=1e-9, abs=1e-12)


def test_an_edit_is_differentiated():
    with edit({"x": lambda x: x * x}):
        assert tl.grad(lambda x: 3 * tl.name(x, "x"))(np.array(5.0)) == 30
        hessian = tl.hvp(lambda x: 3 * tl.name(x, "x"), (np.array(5.0),), (np.array(1.0),))
        assert hessian[0] == 6
    assert tl.grad(lambda x: 3 * tl.name(x, "x"))(np.array(5.0)) == 3
    with tl.patch({"x": lambda x: x * x}):  # by label, and the identity to the derivative
        value, slope = tl.value_and_grad(lambda x: 3 * tl.name(x, "x"))(np.array(5.0))
    assert (value, slope) == (75, 3)


def test_cotangents_have_the_path_of_their_values():
    model, params, inputs, _ = made("gpt")
    with observe() as seen:
        gradient = tl.grad(model.loss)(params, *inputs, OTHERS)
    assert seen["blocks.1.attention.d_output"].shape == seen["blocks.1.attention.output"].shape
    b_O = np.sum(seen["blocks.1.d_residual"], axis=(0, 1))  # and what comes by the feed-forward
    assert b_O.shape == gradient["blocks"][1]["attention"]["b_O"].shape


def test_nested_edits_compose_from_outside_in():
    with edit({"x": lambda x: x + 1}), edit({"x": lambda x: 10 * x}), observe() as seen:
        assert tl.name(np.array(2.0), "x") == 30
    assert seen["x"] == 30
    with edit({"x": lambda x: x + 1}):
        with edit({"x": lambda x: 10 * x}):
            tl.name(np.array(2.0), "x")
        assert tl.name(np.array(2.0), "x") == 3
    model, params, inputs, _ = made("gpt")
    both = {"blocks.0.attention": [0, 2]}
    with ablate_heads(both):
        expected = model(params, *inputs)
    with ablate_heads({"blocks.0.attention": [0]}), ablate_heads({"blocks.0.attention": [2]}):
        assert np.array_equal(model(params, *inputs), expected)


def test_nothing_is_left_of_a_context_that_fails():
    model, params, inputs, _ = made("gpt")
    plain = model(params, *inputs)
    with pytest.raises(ZeroDivisionError), ablate_heads({"*": [0]}), within("blocks.7"):
        raise ZeroDivisionError
    no_such_head = ablate_heads({"blocks.1.attention": [3]})
    with pytest.raises(ValueError, match="no head 3: they are 0 to 2"), no_such_head:
        model(params, *inputs)
    assert np.array_equal(model(params, *inputs), plain)
    assert next(iter(seen_in(model, params, inputs))) == "embedding"


def test_another_thread_is_not_edited():
    model, params, inputs, _ = made("gpt")
    plain, found = model(params, *inputs), []
    with edit({"logits": np.zeros_like}):
        thread = threading.Thread(target=lambda: found.append(model(params, *inputs)))
        thread.start()
        thread.join()
        assert not model(params, *inputs).any()
    assert np.array_equal(found[0], plain)


def test_threads_of_a_trainer_are_those_of_the_context():
    model, params, _, _ = made("gpt")
    ids = np.random.default_rng(0).integers(0, 7, (4, 5))
    losses = []
    for threads in (1, 2):
        trainer = tl.Trainer(model, params, tl.SGD(0.1), shards=2, threads=threads)
        with ablate_heads({"blocks.*.attention": [0, 1, 2]}):
            losses.append(trainer.step(ids, ids))
    assert losses[0] == losses[1] != model.loss(params, ids, ids)


@given(st.sets(st.integers(0, 2)), st.sampled_from(["blocks.0", "blocks.1"]))
def test_the_other_heads_find_what_they_found(heads, layer):
    model, params, inputs, _ = made("gpt")
    path = f"{layer}.attention.output"
    before = seen_in(model, params, inputs)[path]
    with ablate_heads({f"{layer}.attention": list(heads)}):
        after = seen_in(model, params, inputs)[path]
    for head in range(3):
        wanted = np.zeros_like(before[:, head]) if head in heads else before[:, head]
        assert np.array_equal(after[:, head], wanted)


def test_what_cannot_be_done():
    model, params, inputs, others = made("gpt")

    def refused(message, context, *inputs):
        with pytest.raises(ValueError, match=message), context:
            model(params, *inputs)

    no_such_layer = edit({"blocks.9.*": np.zeros_like})
    refused(r"no 'blocks.9.\*' was computed here, but \['embedding'", no_such_layer, *inputs)
    smaller = edit({"residual": lambda x: x[0, 0]})
    refused(r"edit: residual has shape \(1, 5, 6\), .* gave \(6,\)", smaller, *inputs)
    seen = seen_in(model, params, others)
    unknown, longer = patch(seen, {"nowhere": ...}), patch(seen, {"residual": ...})
    refused(r"patch: the other run has no 'nowhere', but \['embed", unknown, *inputs)
    refused(r"shape \(1, 4, 6\) here and \(1, 5, 6\) in the other", longer, inputs[0][:, :4])
    with pytest.raises(ValueError, match=r"f computed 'embedding' 2 times: wanted once"):
        gradient_times_input(lambda: sum(model.loss(params, IDS, IDS) for _ in "ab"))
    with pytest.raises(ValueError, match=r"f computed 'embeding' 0 times.*\['embedding'"):
        gradient_times_input(lambda: model.loss(params, IDS, IDS), "embeding")
    encoder = tl.BERT(7, 5, 6, 3, 1)
    with pytest.raises(ValueError, match="wanted a model with a residual stream and logits"):
        logit_lens(encoder, encoder.init(np.random.default_rng(0)), IDS)


@pytest.mark.parametrize(
    "ablated", [1, "1", ["1"], [True, False], [0.0], [[0, 1]], {1}, None, np.array(1)]
)
def test_what_are_no_heads(ablated):
    model, params, inputs, _ = made("gpt")
    message = "ablate_heads: the heads of 'blocks.0.attention' are .*: wanted a sequence of whole"
    no_heads = ablate_heads({"blocks.0.attention": ablated})
    with pytest.raises(TypeError, match=message), no_heads:
        pytest.fail("it was entered")
    for heads in (range(1, 2), np.array([1], np.uint8), (np.int64(1),)):
        with ablate_heads({"blocks.0.attention": heads}), observe() as seen:
            model(params, *inputs)
        assert not seen["blocks.0.attention.output"][:, 1].any()


def test_what_was_not_computed_is_named_as_it_was_asked_for():
    model, params, inputs, _ = made("gpt")
    seen = seen_in(model, params, inputs)
    unknown = r"no 'blocks.9.attention' was computed here, but \['blocks.0.attention', 'blocks.1"
    with pytest.raises(ValueError, match=f"ablate_heads: {unknown}"):  # noqa: SIM117
        with ablate_heads({"blocks.9.attention": [0]}):
            model(params, *inputs)
    with pytest.raises(ValueError, match="patch: no 'logits' was computed here"):  # noqa: SIM117
        with patch(seen, {"logits": ...}):
            pass


class Layers:
    """Blocks under a head, with paths of their own or without."""

    def __init__(self, apart):
        self.apart = apart

    def __call__(self, params, x):
        x = tl.name(x, "residual")
        for i, layer in enumerate(params["blocks"]):
            with tl.interpret.within(f"blocks.{i}") if self.apart else contextlib.nullcontext():
                x = tl.name(block(layer, x, 2, tl.gelu), "residual")
        return tl.name(x @ params["head"], "logits")


def test_layers_under_one_path_are_refused(rng):
    """The last of them would stand for all."""
    params = {"blocks": [init_block(rng, 4, 8) for _ in range(3)], "head": np.eye(4)}
    x = rng.standard_normal((5, 4))
    patterns = attention_patterns(Layers(apart=True), params, x)
    assert list(patterns) == [f"blocks.{i}.attention" for i in range(3)]
    assert logit_lens(Layers(apart=True), params, x).shape == (4, 5, 4)
    with pytest.raises(ValueError, match=r"attention_patterns: 'attention.weights' is computed tw"):
        attention_patterns(Layers(apart=False), params, x)
    with pytest.raises(ValueError, match=r"lens: 'residual' is computed twice.*interpret.within\("):
        logit_lens(Layers(apart=False), params, x)


def test_a_model_without_layers():
    model = tl.GPT(7, 5, 6, 3, 0)
    params = model.init(np.random.default_rng(0), np.float64)
    np.testing.assert_allclose(logit_lens(model, params, IDS)[0], model(params, IDS), rtol=1e-12)
    assert attention_patterns(model, params, IDS) == {}


def test_the_dtype_stays():
    model = tl.GPT(7, 5, 6, 3, 2)
    params = model.init(np.random.default_rng(0))
    seen = seen_in(model, params, (IDS,))
    with ablate_heads({"*.attention": [0]}), patch(seen, {"residual": np.s_[:, 0]}):
        assert model(params, OTHERS).dtype == np.float32
    assert logit_lens(model, params, IDS).dtype == np.float32
    assert gradient_times_input(lambda: model.loss(params, IDS, IDS)).dtype == np.float32
