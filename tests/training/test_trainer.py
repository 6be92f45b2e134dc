"""The trainer: steps, shards, threads, what is not finite, memory."""

import gc
import math
import os
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees
from tinylm.training import NonFiniteError, processes
from tinylm.training.shards import cut, shard_gradients
from tinylm.workers import ALONE, Workers

MODEL = tl.GPT(vocab_size=7, context_length=5, d_model=6, num_heads=2, num_layers=2)


def make(rng, dtype=np.float64, **changes):
    model = tl.GPT(**{**MODEL.__dict__, **changes})
    return model, model.init(rng, dtype)


def batch(rng, size=6):
    ids = rng.integers(0, 7, (size, 6))
    return ids[:, :-1], ids[:, 1:]


def test_a_step_is_gradient_clip_update(rng):
    model, params = make(rng)
    ids, targets = batch(rng)
    trainer = tl.Trainer(model, params, tl.SGD(0.5), clip_norm=0.1)
    loss = trainer.step(ids, targets)
    expected_loss, gradient = tl.value_and_grad(model.loss)(params, ids, targets)
    norm = math.sqrt(sum(np.sum(g * g) for g in trees.leaves(gradient)))
    assert norm > 0.1
    assert loss == expected_loss
    assert isinstance(loss, float)
    assert trainer.steps == 1
    for before, after, g in zip(
        *map(trees.leaves, (params, trainer.params, gradient)), strict=True
    ):
        np.testing.assert_allclose(after, before - 0.5 * g * 0.1 / norm, rtol=1e-12)


@pytest.mark.parametrize(
    "optimizer", [tl.SGD(0.5, momentum=0.9), tl.AdamW(0.03)], ids=["sgd", "adamw"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_learns(rng, optimizer, dtype):
    model, params = make(rng, dtype)
    trainer = tl.Trainer(model, params, optimizer, clip_norm=1.0)
    ids = np.array([[0, 1, 2, 3, 4, 5], [6, 5, 4, 3, 2, 1]])
    losses = []
    trainer.run([(ids[:, :-1], ids[:, 1:])] * 100, until=100, after_step=losses.append)
    assert losses[0] == pytest.approx(math.log(7), abs=0.2)
    assert losses[-1] < 0.2
    assert len(losses) == 100
    assert {p.dtype for p in trees.leaves(trainer.params)} == {np.dtype(dtype)}


def summed(model, params, ids, targets, shards=1, workers=ALONE, rng=None):
    loss, gradients = shard_gradients(model, params, cut(ids, targets, shards, rng), workers)
    return loss, trees.map_leaves(lambda *shares: sum(shares), *gradients)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([1, 2, 3]))
@settings(max_examples=15)
def test_the_gradient_does_not_depend_on_the_shards(seed, shards, threads):
    rng = np.random.default_rng(seed)
    model, params = make(rng)
    ids, targets = batch(rng, size=7)
    targets = targets.copy()
    targets[rng.random(targets.shape) < 0.3] = -100
    targets[2] = -100  # a shard of its own without any target, when there are seven
    loss, gradient = summed(model, params, ids, targets)
    again = summed(model, params, ids, targets, shards, Workers(threads))
    assert again[0] == pytest.approx(loss, rel=1e-13)
    for a, b in zip(trees.leaves(again[1]), trees.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15)


def test_the_sum_of_shards_does_not_depend_on_the_threads(rng):
    model, params = make(rng, np.float32, dropout=0.2)
    ids, targets = batch(rng, 8)
    results = [
        summed(model, params, ids, targets, 4, Workers(threads), rng=np.random.default_rng(5))
        for threads in (1, 2, 4)
    ]
    for loss, gradient in results[1:]:
        assert loss == results[0][0]
        for a, b in zip(trees.leaves(gradient), trees.leaves(results[0][1]), strict=True):
            assert np.array_equal(a, b)


def test_formulas_reach_the_threads(rng):
    model, params = make(rng)
    ids, targets = batch(rng)
    with tl.record() as seen:
        summed(model, params, ids, targets, shards=3, workers=Workers(3))
    assert len(seen["weights"]) == 3 * model.num_layers


def test_what_is_not_finite_stops_before_the_update(rng):
    model, params = make(rng)
    ids, targets = batch(rng)
    trainer = tl.Trainer(model, params, tl.AdamW(0.01))
    trainer.step(ids, targets)
    before = trainer.params
    before["blocks"][1]["attention"]["W_Q"][0, 0] = 1e200
    before["blocks"][1]["attention"]["W_K"][0, 0] = 1e200
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            NonFiniteError,
            match=r"step 1: the loss is nan; the first intermediate that is not finite is 'scores', number 2 of that name",
        ),
    ):
        trainer.step(ids, targets)
    assert trainer.steps == 1
    assert all(map(np.shares_memory, trees.leaves(trainer.params), trees.leaves(before)))
    trainer.params["blocks"][0]["norm_1"]["gain"][2] = np.nan
    with pytest.raises(
        NonFiniteError, match=r"the parameter blocks\.0\.norm_1\.gain was not finite before"
    ):
        trainer.step(ids, targets)


def test_a_gradient_alone_that_is_not_finite(rng):
    class Cusp:
        def loss(self, params, *_):
            return np.sum(np.sqrt(params["a"])) + np.sum(params["b"] ** 2)

    trainer = tl.Trainer(Cusp(), {"b": np.ones(2), "a": np.array([0.0, 1.0])}, tl.SGD(0.1))
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            NonFiniteError,
            match="step 0: a gradient is not finite; the first gradient that is not finite is that of a",
        ),
    ):
        trainer.step(np.zeros((1, 1), int), np.zeros((1, 1), int))


def test_dropout_is_drawn_anew_and_can_be_repeated(rng):
    model, params = make(rng, dropout=0.3)
    ids, targets = batch(rng)

    def losses(seed):
        trainer = tl.Trainer(model, params, tl.SGD(0.0), rng=np.random.default_rng(seed))
        return [trainer.step(ids, targets) for _ in range(3)]

    assert losses(0) == losses(0)
    assert len(set(losses(0))) == 3
    assert losses(0) != losses(1)
    with pytest.raises(ValueError, match="a model with dropout=0.3 needs one"):
        tl.Trainer(model, params, tl.SGD(0.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm=0.0: wanted a number above 0"),
        ({"clip_norm": math.nan}, "clip_norm=nan"),
        ({"shards": 0}, "shards=0: wanted at least 1"),
        ({"processes": 0}, "processes=0"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_impossible_trainers(rng, arguments, message):
    model, params = make(rng)
    with pytest.raises(ValueError, match=f"Trainer: {message}"):
        tl.Trainer(model, params, tl.SGD(0.1), **arguments)
    with pytest.raises(ValueError, match="no target that counts"):
        tl.Trainer(model, params, tl.SGD(0.1)).step([[1, 2]], [[-100, -100]])


def test_ten_thousand_steps_leave_nothing_behind(rng):
    """With the garbage collector off, and measured at the process."""
    model = tl.GPT(vocab_size=5, context_length=4, d_model=4, num_heads=1, num_layers=1)
    trainer = tl.Trainer(model, model.init(rng), tl.SGD(0.01, momentum=0.9), clip_norm=1.0)
    ids = rng.integers(0, 5, (2, 5))

    def memory():
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()

    try:
        memory()
    except OSError:
        pytest.skip("the memory of the process is read from /proc, which is not here")
    gc.collect()
    gc.disable()
    try:
        trainer.run([(ids[:, :-1], ids[:, 1:])] * 10_000, until=100)
        before = memory()
        trainer.run([(ids[:, :-1], ids[:, 1:])] * 10_000, until=10_000)
        grown = memory() - before
    finally:
        gc.enable()
    assert grown < 5e6


def test_the_schedule_begins_with_the_first_step(rng):
    model, params = make(rng)
    ids, targets = batch(rng)
    asked = []

    def rate(step):
        asked.append(step)
        return 0.1 if step == 0 else 0.0

    trainer = tl.Trainer(model, params, tl.SGD(rate))
    trainer.step(ids, targets)
    moved = trainer.params
    trainer.step(ids, targets)
    assert asked == [0, 1]
    assert not np.array_equal(moved["token_embedding"], params["token_embedding"])
    assert np.array_equal(moved["token_embedding"], trainer.params["token_embedding"])


def test_every_shard_has_its_own_dropout(rng):
    seeds = []

    class Model:
        dropout = 0.5

        def loss(self, params, ids, targets, rng):
            seeds.append(rng.integers(2**63))
            return np.sum(params["a"])

    ids = np.zeros((4, 2), int)
    summed(Model(), {"a": np.ones(1)}, ids, ids, 4, rng=np.random.default_rng(0))
    assert len(set(seeds)) == 4


def test_a_step_that_fails_draws_nothing(rng):
    """After it, the generator stands where it stood: what follows is what would have followed."""
    model, params = make(rng, dropout=0.3)
    ids, targets = batch(rng)
    trainer = tl.Trainer(model, params, tl.SGD(0.0), rng=np.random.default_rng(0))
    before = trainer.rng.bit_generator.state
    trainer.params = trees.map_leaves(lambda p: p * np.nan, params)
    with pytest.raises(NonFiniteError):
        trainer.step(ids, targets)
    assert trainer.rng.bit_generator.state == before


def test_a_norm_that_is_not_finite(rng):
    class Steep:
        def loss(self, params, *_):
            return np.sum(params["a"]) * 1e200

    trainer = tl.Trainer(Steep(), {"a": np.ones(3)}, tl.SGD(0.1))
    with pytest.raises(NonFiniteError, match="the gradients are finite, and their norm is not"):
        trainer.step(np.zeros((1, 1), int), np.zeros((1, 1), int))


def test_processes_share_the_work(rng):
    model, params = make(rng, dropout=0.2)
    ids, targets = batch(rng, 7)
    alone, together = (
        tl.Trainer(
            model, params, tl.AdamW(0.01), clip_norm=1.0, shards=3, processes=processes,
            rng=np.random.default_rng(1),
        )
        for processes in (1, 3)
    )  # fmt: skip
    for _ in range(3):
        assert together.step(ids, targets) == pytest.approx(alone.step(ids, targets), rel=1e-12)
    for a, b in zip(trees.leaves(together.params), trees.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    with tl.record() as seen:
        together.step(ids, targets)
    assert len(seen["weights"]) == 3 * model.num_layers


def test_a_process_that_fails_or_ends(rng):
    model, params = make(rng)
    ids, targets = batch(rng, 4)
    trainer = tl.Trainer(model, params, tl.SGD(0.1), shards=2, processes=2)
    wrong = targets.copy()
    wrong[-1] = 1000
    with pytest.raises(ValueError, match="target 1000 is outside the vocabulary"):
        trainer.step(ids, wrong)
    wrong[:] = targets
    wrong[0] = 1000  # the other process computes its part, of which nobody asks
    with pytest.raises(ValueError, match="target 1000 is outside the vocabulary"):
        trainer.step(ids, wrong)
    assert trainer.steps == 0
    ids, targets = batch(rng, 4)  # another: what the process still has to say is of the last
    again = tl.Trainer(model, params, tl.SGD(0.1), shards=2)
    assert trainer.step(ids, targets) == pytest.approx(again.step(ids, targets), rel=1e-12)
    trainer._helpers[0]._process.kill()
    trainer._helpers[0]._process.wait()
    for _ in range(2):
        with pytest.raises(ChildProcessError, match="has ended, with exit code"):
            trainer.step(ids, targets)
    again = tl.Trainer(model, params, tl.SGD(0.1), shards=2, processes=2)
    process = again._helpers[0]._process
    del again
    gc.collect()
    assert process.wait(timeout=60) == 0, "it ends with its trainer"


def test_models_for_processes_can_be_pickled(rng):
    class Local:
        def loss(self, params, ids, targets):
            return np.sum(params["a"])

    with pytest.raises(TypeError, match="processes above 1 need a model that can be pickled"):
        tl.Trainer(Local(), {"a": np.ones(2)}, tl.SGD(0.1), shards=2, processes=2)


def test_without_room_in_memory_the_file_is_elsewhere(monkeypatch, tmp_path, rng):
    made = []

    def full(handle, start, size):
        made.append(size)
        if len(made) == 1:
            raise OSError(28, "No space left on device")
        os.truncate(handle, size)

    monkeypatch.setattr(processes, "IN_MEMORY", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    model, params = make(rng, np.float32)
    ids, targets = batch(rng, 4)
    trainer = tl.Trainer(model, params, tl.SGD(0.1), shards=2, processes=2)
    assert math.isfinite(trainer.step(ids, targets))
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_no_file(monkeypatch, tmp_path, rng):
    """Its name is gone before there is another process."""

    def launched(*args, **kwargs):
        assert list(tmp_path.iterdir()) == []
        return launch(*args, **kwargs)

    launch = processes.subprocess.Popen
    monkeypatch.setattr(processes, "IN_MEMORY", str(tmp_path))
    monkeypatch.setattr(processes.subprocess, "Popen", launched)
    model, params = make(rng, np.float32)
    ids, targets = batch(rng, 4)
    trainer = tl.Trainer(model, params, tl.SGD(0.1), shards=2, processes=2)
    assert math.isfinite(trainer.step(ids, targets))
