"""Ranks: sums around a ring, and a training that does not depend on how many share it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinylm as tl
from tinylm.autograd import trees
from tinylm.training import NonFiniteError
from tinylm.training.ranks import Counted, all_reduce, check_same, in_threads

MODEL = tl.GPT(
    vocab_size=7, context_length=5, d_model=6, num_heads=2, num_layers=1, dropout=0.2
)  # fmt: skip


def batch_of(rng, rows=6):
    ids = rng.integers(0, 7, (rows, 6))
    targets = ids[:, 1:].copy()
    targets[rng.random(targets.shape) < 0.3] = -100
    targets[0, 0] = 3  # something counts
    return ids[:, :-1], targets


def trained(communicator, batches, dtype=np.float64, **told):
    """Losses, parameters and optimizer's state after a few steps."""
    told = {"shards": 4, "clip_norm": 0.1, "rng": np.random.default_rng(1)} | told
    params = MODEL.init(np.random.default_rng(0), dtype)
    trainer = tl.Trainer(MODEL, params, tl.AdamW(0.01), communicator=communicator, **told)
    losses = [trainer.step(*batch) for batch in batches]
    return losses, {"params": trainer.params, "state": trainer.optimizer_state}


@given(
    st.integers(1, 6),
    st.integers(0, 17),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_all_reduce_is_the_sum_of_all(P, n, dtype, seed):
    mine = np.random.default_rng(seed).standard_normal((P, n)).astype(dtype)

    def work(communicator):
        x, counted = mine[communicator.rank].copy(), Counted(communicator)
        all_reduce(counted, x)
        return x, counted.bytes_sent

    results = in_threads(P, work)
    for x, _ in results:
        assert x.dtype == dtype
        assert x.tobytes() == results[0][0].tobytes()  # to the bit, on all ranks
        allowed = P * np.finfo(dtype).eps * np.sum(np.abs(mine), axis=0, dtype=np.float64)
        assert np.all(np.abs(x - np.sum(mine, axis=0, dtype=np.float64)) <= allowed)
    assert sum(sent for _, sent in results) == 2 * (P - 1) * mine[0].nbytes
    if n % P == 0:  # then the share of each is that of Patarasuk and Yuan
        assert {sent for _, sent in results} == {2 * (P - 1) * mine[0].nbytes // P}


def test_all_reduce_keeps_the_shape():
    def work(communicator):
        x = np.full((2, 3), float(communicator.rank))
        all_reduce(communicator, x)
        with pytest.raises(ValueError, match="strides .*: wanted one piece of memory"):
            all_reduce(communicator, x.T)
        return x.tolist()

    assert in_threads(3, work) == [[[3.0] * 3] * 2] * 3


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=10)
def test_training_does_not_depend_on_the_ranks(seed, ranks, rows):
    """Nor does dropout; and there may be fewer rows than ranks."""
    rng = np.random.default_rng(seed)
    batches = [batch_of(rng, rows) for _ in range(3)]
    losses, end = trained(None, batches)
    for its_losses, its_end in in_threads(ranks, lambda who: trained(who, batches)):
        assert its_losses == pytest.approx(losses, rel=1e-12)
        for a, b in zip(trees.leaves(its_end), trees.leaves(end), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


def test_float32_to_a_millionth_and_the_same_on_all_ranks(rng):
    """The first moment of AdamW after one step is a tenth of the gradient."""
    batch = batch_of(rng, 8)
    (loss,), end = trained(None, [batch], np.float32)
    gradient = np.concatenate([x.ravel() for x in trees.leaves(end["state"]["m"])])
    for ranks in (2, 4):
        results = in_threads(ranks, lambda who: trained(who, [batch], np.float32))
        for (its_loss,), its_end in results:
            got = np.concatenate([x.ravel() for x in trees.leaves(its_end["state"]["m"])])
            assert its_loss == pytest.approx(loss, rel=1e-6)
            assert np.linalg.norm(gradient) > 0
            assert np.linalg.norm(got - gradient) <= 1e-6 * np.linalg.norm(gradient)
            for a, b in zip(trees.leaves(its_end), trees.leaves(results[0][1]), strict=True):
                assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    "told",
    [
        {"processes": 2, "rates": {"token_embedding": 0.0}},
        {"rates": {"*": 0.5, "blocks.*": 1.0}, "clip_norm": None},  # two long arrays
    ],
)
def test_ranks_have_processes_and_rates_of_their_own(rng, told):
    batches = [batch_of(rng) for _ in range(2)]
    losses, end = trained(None, batches, **told)
    for its_losses, its_end in in_threads(2, lambda who: trained(who, batches, **told)):
        assert its_losses == pytest.approx(losses, rel=1e-12)
        for a, b in zip(trees.leaves(its_end), trees.leaves(end), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


def test_what_the_ranks_send(rng):
    """The gradient of every parameter, one loss and one checksum of the batch."""
    batch = batch_of(rng)

    def work(communicator):
        communicator = Counted(communicator)
        params = MODEL.init(np.random.default_rng(0))
        trainer = tl.Trainer(
            MODEL, params, tl.SGD(0.1), shards=3, rng=np.random.default_rng(1), communicator=communicator
        )  # fmt: skip
        before = communicator.bytes_sent
        trainer.step(*batch)
        return communicator.bytes_sent - before

    parameters = sum(x.size for x in trees.leaves(MODEL.init(rng)))
    assert sum(in_threads(3, work)) == 2 * (3 - 1) * (4 * parameters + 8 + 3 * 8)


def test_what_differs_between_the_ranks(rng):
    ids, targets = batch_of(rng)
    with pytest.raises(
        ValueError, match="or the batches differ between the 3 ranks: wanted the same"
    ):
        in_threads(3, lambda who: trained(who, [(ids[who.rank :], targets[who.rank :])]))
    with pytest.raises(ValueError, match="shards=4 for 5 ranks: wanted one for each"):
        in_threads(5, lambda who: trained(who, []))

    def other(communicator, late):
        init = MODEL.init(np.random.default_rng(0 if late else communicator.rank))
        trainer = tl.Trainer(
            MODEL, init, tl.SGD(0.1), shards=2, rng=rng, communicator=communicator
        )  # fmt: skip
        trainer.params = MODEL.init(np.random.default_rng(communicator.rank))

    for late in (False, True):
        with pytest.raises(ValueError, match="the parameters differ between the 2 ranks"):
            in_threads(2, lambda who, late=late: other(who, late))


@pytest.mark.parametrize(
    ("restored", "says"),
    [
        ("optimizer_state", "the optimizer's states differ between the 2 ranks: wanted the same"),
        ("steps", "the steps or the batches differ between the 2 ranks"),
    ],
)
def test_a_restart_from_another_checkpoint_is_seen(rng, restored, says):
    """The parameters alone do not tell: the ranks would drift apart from the next step on."""
    batch = batch_of(rng)

    def work(communicator, other_rank):
        params, told = MODEL.init(np.random.default_rng(0)), np.random.default_rng(1)
        trainer = tl.Trainer(
            MODEL, params, tl.AdamW(0.01), shards=2, rng=told, communicator=communicator
        )
        state = trees.map_leaves(np.ones_like, trainer.optimizer_state)
        if communicator.rank == other_rank and restored == "steps":
            trainer.steps = 7
        elif communicator.rank == other_rank:
            state["m"]["norm"]["gain"][0] = 2
        trainer.optimizer_state = state
        trainer.step(*batch)
        return trainer.params

    with pytest.raises(ValueError, match=says):
        in_threads(2, lambda who: work(who, 1))
    ends = in_threads(2, lambda who: work(who, None))
    for a, b in zip(*map(trees.leaves, ends), strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_same_numbers_under_another_name_differ():
    def work(communicator):
        check_same(communicator, "x", {"a": np.ones(2)})
        check_same(communicator, "x", {"ab"[communicator.rank]: np.ones(2)})

    with pytest.raises(ValueError, match="x differ between the 2 ranks"):
        in_threads(2, work)


def test_all_ranks_stop_before_an_update_that_is_not_finite(rng):
    """Also those whose own shard was finite."""

    class Odd:
        def loss(self, params, ids, targets):
            return np.sum(params["w"] * ids) / ids.size

    def work(communicator):
        trainer = tl.Trainer(
            Odd(), {"w": np.ones(())}, tl.SGD(0.1), shards=2, communicator=communicator
        )  # fmt: skip
        with pytest.raises(NonFiniteError, match="step 0: the loss is inf"):
            trainer.step(np.array([[1.0], [math.inf]]), np.array([[1], [1]]))
        assert trainer.step(np.array([[1.0], [2.0]]), np.array([[1], [1]])) == 1.5
        return trainer.steps

    assert in_threads(2, work) == [1, 1]


def test_an_error_of_one_rank_wakes_the_others():
    def work(communicator):
        if communicator.rank == 1:
            raise ZeroDivisionError
        all_reduce(communicator, np.ones(3))

    with pytest.raises(ZeroDivisionError):
        in_threads(3, work)
