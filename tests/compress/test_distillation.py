"""Distillation: by hand, its gradient by the formula, its limits, in the trainer, what it refuses."""

import contextlib

import numpy as np
import pytest
from helpers import assert_close, complex_step
from hypothesis import given, settings
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees

TEACHER = tl.GPT(vocab_size=7, context_length=5, d_model=8, num_heads=2, num_layers=2)
STUDENT = tl.GPT(vocab_size=7, context_length=5, d_model=4, num_heads=1, num_layers=1)


def batch(rng):
    ids = rng.integers(0, 7, (3, 6))
    return ids[:, :-1], ids[:, 1:]


def test_by_hand():
    """At T = 2 odds of 9 are odds of 3: 4 (1/4 log(1/4 : 1/2) + 3/4 log(3/4 : 1/2))."""
    teacher, student = np.log([[1.0, 9.0], [1.0, 9.0]]), np.zeros((2, 2))
    wanted = 4 * (0.25 * np.log(0.5) + 0.75 * np.log(1.5))
    got = tl.compress.distillation(student, teacher, 2.0)
    assert got == pytest.approx(wanted, rel=1e-14)
    assert wanted == pytest.approx(0.523248, abs=1e-6)
    student[1] = [30.0, -30.0]
    first = tl.compress.distillation(student, teacher, 2.0, np.array([True, False]))
    assert first == pytest.approx(wanted, rel=1e-14)


def logits(seed, *shape, scale=3.0):
    return scale * np.random.default_rng(seed).standard_normal(shape)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 20))
def test_the_gradient_is_that_of_the_paper(seed, T):
    """Hinton et al. 2015, eq. (2), times T^2: T (q - p), of each of 2 x 3 positions a sixth."""
    z, v = logits([seed, 0], 2, 3, 5), logits([seed, 1], 2, 3, 5)
    value, pullback = tl.vjp(lambda z: tl.compress.distillation(z, v, T), z)
    cotangent = logits([seed, 2])
    expected = cotangent * T * (tl.softmax(z / T) - tl.softmax(v / T)) / 6
    np.testing.assert_allclose(pullback(cotangent)[0], expected, rtol=1e-9, atol=1e-13)
    assert value > 0
    (stepped,) = complex_step(lambda z: tl.compress.distillation(z, v, T), [z], 1.0)
    np.testing.assert_allclose(stepped * cotangent, expected, rtol=1e-9, atol=1e-13)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 20), st.sampled_from(["float32", "float64"]))
def test_it_is_zero_where_both_say_the_same_and_nowhere_below(seed, T, dtype):
    z, v = logits([seed, 0], 4, 6).astype(dtype), logits([seed, 1], 4, 6).astype(dtype)
    assert tl.compress.distillation(z, z, T) == 0
    moved = (z + logits([seed, 2], 4, 1)).astype(dtype)  # the same distributions
    assert abs(tl.compress.distillation(z, moved, T)) <= 1e3 * T**2 * np.finfo(dtype).eps
    apart = tl.compress.distillation(z, v, T)
    assert apart > 0
    assert apart.dtype == dtype


@given(st.integers(0, 2**32 - 1))
def test_it_is_the_cross_entropy_less_the_entropy(seed):
    z, v = logits([seed, 0], 4, 6), logits([seed, 1], 4, 6)
    p = np.exp(v) / np.exp(v).sum(-1, keepdims=True)
    log_q = np.log(np.exp(z) / np.exp(z).sum(-1, keepdims=True))
    cross, entropy = -(p * log_q).sum(-1).mean(), -(p * np.log(p)).sum(-1).mean()
    assert tl.compress.distillation(z, v) == pytest.approx(cross - entropy, rel=1e-11, abs=1e-13)


def test_one_hot_teachers_are_targets():
    z, targets = logits(0, 4, 6), np.array([0, 5, 2, 2])
    sure = np.where(np.arange(6) == targets[:, None], 800.0, 0.0)
    got = tl.compress.distillation(z, sure)
    assert got == pytest.approx(float(tl.cross_entropy(z, targets)), rel=1e-14)


def test_what_the_teacher_masks_counts_nothing():
    """0 log 0 = 0: with one of two left, log 2; and whatever the student says of what is masked."""
    assert tl.compress.distillation(np.zeros((1, 2)), np.array([[0, -np.inf]])) == np.log(2)
    masked = np.array([[0.0, -np.inf]])
    assert tl.compress.distillation(masked, masked) == 0
    assert tl.compress.distillation(masked, np.array([[0.0, -2000.0]])) == 0
    assert tl.compress.distillation(masked, np.zeros((1, 2))) == np.inf


@pytest.mark.parametrize("kernels", [True, False])
def test_the_gradient_under_a_masked_teacher(kernels):
    """T (q - p), as without a mask, and as for the tokens that are left alone where both mask."""
    z, v = logits(0, 4, 6), logits(1, 4, 6)
    v[:, 2], v[1, 4] = -np.inf, -np.inf
    expected = 2.0 * (tl.softmax(z / 2) - tl.softmax(v / 2)) / 4
    both = np.where(np.isinf(v), v, z)
    left = 2.0 * (tl.softmax(both / 2) - tl.softmax(v / 2)) / 4
    with contextlib.nullcontext() if kernels else tl.formulas():
        for student, wanted in ((z, expected), (both, left)):
            got = tl.grad(lambda z: tl.compress.distillation(z, v, 2.0))(student)
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15)
    d_v = tl.grad(lambda v: tl.compress.distillation(z, v))(v)
    assert np.isfinite(d_v).all()
    assert not d_v[np.isinf(v)].any()


def test_what_does_not_count_may_hold_anything():
    z, v, counted = logits(0, 2, 3), logits(1, 2, 3), np.array([True, False])
    alone, d_alone = tl.value_and_grad(tl.compress.distillation)(z[:1], v[:1])
    z[1], v[1] = [np.inf, np.nan, 0], [-np.inf, -np.inf, -np.inf]
    value, d_z = tl.value_and_grad(lambda z: tl.compress.distillation(z, v, 1.0, counted))(z)
    assert value == alone
    np.testing.assert_array_equal(d_z, np.concatenate([d_alone, np.zeros((1, 3))]))


@pytest.mark.parametrize(
    ("row", "what"),
    [([0, np.nan], "nan"), ([np.inf, 0], "inf"), ([-np.inf, -np.inf], "-inf")],
)
def test_a_teacher_that_says_nothing_is_refused(row, what):
    says = f"the largest of a position's teacher_logits is {what}: wanted a finite"
    with pytest.raises(ValueError, match=says):
        tl.compress.distillation(np.zeros((2, 2)), np.array([[0.0, 1.0], row]))


def test_at_high_temperature_it_matches_logits():
    """Hinton et al. 2015, eq. (4): half the squared distance of centred logits, over V."""
    z, v = logits(0, 3, 5), logits(1, 3, 5)
    apart = (z - z.mean(-1, keepdims=True)) - (v - v.mean(-1, keepdims=True))
    got = tl.compress.distillation(z, v, 1e4)
    assert got == pytest.approx(np.sum(apart**2) / 2 / 5 / 3, rel=1e-3)


@given(st.floats(0, 1), st.floats(0.5, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_the_loss_is_the_mixture(weight, T, seed):
    rng = np.random.default_rng(seed)
    params, own = TEACHER.init(rng, np.float64), STUDENT.init(rng, np.float64)
    distilled = tl.compress.Distilled(STUDENT, TEACHER, params, T, weight)
    ids, targets = batch(rng)
    soft = tl.compress.distillation(STUDENT(own, ids), TEACHER(params, ids), T)
    wanted = weight * soft + (1 - weight) * STUDENT.loss(own, ids, targets)
    assert distilled.loss(own, ids, targets) == pytest.approx(float(wanted), rel=1e-13)


def test_targets_that_do_not_count(rng):
    params, own = TEACHER.init(rng, np.float64), STUDENT.init(rng, np.float64)
    distilled = tl.compress.Distilled(STUDENT, TEACHER, params)
    ids, targets = batch(rng)
    some = np.where(np.arange(5) < 3, targets, -100)
    short = distilled.loss(own, ids[:, :3], targets[:, :3])
    assert distilled.loss(own, ids, some) == pytest.approx(float(short), rel=1e-12)


def test_gradients_of_the_student_are_those_of_the_complex_step(rng):
    params, own = TEACHER.init(rng, np.float64), STUDENT.init(rng, np.float64)
    params, own = (trees.map_leaves(lambda p: 9 * p, nest) for nest in (params, own))
    distilled = tl.compress.Distilled(STUDENT, TEACHER, params, 3.0, 0.7)
    ids, targets = batch(rng)

    def loss(*leaves):
        found = iter(leaves)
        return distilled.loss(trees.map_leaves(lambda _: next(found), own), ids, targets)

    expected = complex_step(loss, trees.leaves(own), 1.0)
    got = trees.leaves(tl.grad(distilled.loss)(own, ids, targets))
    assert_close(got, list(expected), 1e-11, floor=1e-3)  # that of the keys' bias is 0


@pytest.mark.parametrize("processes", [1, 2])
def test_a_student_learns_what_no_target_tells_it(rng, processes):
    """With weight 1 the targets do not count: it comes to say what the teacher says."""
    params = trees.map_leaves(lambda p: 20 * p, TEACHER.init(rng))
    distilled = tl.compress.Distilled(STUDENT, TEACHER, params, temperature=1.0, weight=1.0)
    ids, targets = batch(rng)
    trainer = tl.Trainer(
        distilled, STUDENT.init(rng), tl.AdamW(0.02), shards=2, processes=processes
    )
    losses = [trainer.step(ids, rng.permuted(targets)) for _ in range(100)]
    assert losses[-1] < losses[0] / 10
    assert distilled.context_length == 5
    np.testing.assert_array_equal(distilled(trainer.params, ids), STUDENT(trainer.params, ids))
    wanted = {leaf.dtype for leaf in trees.leaves(trainer.params)}
    assert wanted == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((np.ones((2, 3)), np.ones((3, 2))), r"teacher_logits has shape \(3, 2\), and logits has"),
        ((np.ones((2, 3)), np.ones(3)), "wanted the same"),
        ((np.float64(1), np.float64(1)), r"wanted the same \(..., V\)"),
        ((np.ones((2, 3)), np.ones((2, 3)), 0), "temperature=0: wanted a number above 0"),
        ((np.ones((2, 3)), np.ones((2, 3)), -1.0), "temperature=-1.0"),
        ((np.ones((2, 3)), np.ones((2, 3)), np.nan), "temperature=nan"),
        ((np.ones((2, 3)), np.ones((2, 3)), np.inf), "temperature=inf"),
        (
            (np.ones((2, 3)), np.ones((2, 3)), 1.0, [True]),
            r"counted holds bool in the shape \(1,\)",
        ),
        ((np.ones((2, 3)), np.ones((2, 3)), 1.0, [1, 0]), "counted holds int64"),
        ((np.ones((2, 3)), np.ones((2, 3)), 1.0, [False] * 2), "no position counts"),
    ],
)
def test_other_arguments_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        tl.compress.distillation(*arguments)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": 0.0}, "Distilled: temperature=0.0: wanted a number above 0"),
        ({"temperature": np.nan}, "temperature=nan"),
        ({"weight": 1.1}, "weight=1.1: wanted a number from 0 to 1"),
        ({"weight": -0.1}, "weight=-0.1"),
        ({"weight": np.nan}, "weight=nan"),
    ],
)
def test_other_settings_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        tl.compress.Distilled(STUDENT, TEACHER, {}, **options)


def test_another_vocabulary_is_refused():
    other = tl.GPT(vocab_size=8, context_length=5, d_model=8, num_heads=2, num_layers=1)
    with pytest.raises(ValueError, match="the teacher has vocab_size=8, and the student 7"):
        tl.compress.Distilled(STUDENT, other, {})
