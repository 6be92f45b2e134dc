"""Both tasks of BERT's pre-training: the sum of two losses that are known, and its gradient."""

import numpy as np
import pytest

import tinylm as tl
from tinylm.models import BERTPretraining

SIZES = (11, 7, 4, 2, 1)
BOTH = BERTPretraining(tl.BERT(*SIZES, task="masked-lm"))
PARAMS = BOTH.init(np.random.default_rng(0), np.float64)
RNG = np.random.default_rng(1)
INPUTS = {
    "ids": RNG.integers(0, 11, (3, 7)),
    "segments": RNG.integers(0, 2, (3, 7)),
    "mask": np.arange(7) < np.array([[7], [5], [3]]),
}
TOKENS = np.where(RNG.random((3, 7)) < 0.4, RNG.integers(0, 11, (3, 7)), -100)
TARGETS = {"tokens": TOKENS, "follows": np.array([1, 0, 1])}


def test_the_loss_is_the_sum_of_both():
    encoder = {key: x for key, x in PARAMS.items() if key not in ("head", "follows")}
    masked = tl.BERT(*SIZES, task="masked-lm").loss(
        encoder | {"head": PARAMS["head"]}, INPUTS, TOKENS
    )
    classifier = tl.BERT(*SIZES, task="sequence-classification", num_labels=2)
    follows = classifier.loss(encoder | {"head": PARAMS["follows"]}, INPUTS, TARGETS["follows"])
    assert BOTH.loss(PARAMS, INPUTS, TARGETS) == pytest.approx(masked + follows, rel=1e-12)


def test_it_learns_both_and_its_encoder_goes_on():
    trainer = tl.Trainer(BOTH, PARAMS, tl.AdamW(0.02), rng=np.random.default_rng(0))
    losses = [trainer.step(INPUTS, TARGETS) for _ in range(60)]
    assert losses[-1] < losses[0] / 2
    fresh = tl.BERT(*SIZES, task="sequence-classification", num_labels=5).init(RNG)
    moved = tl.transfer(trainer.params, fresh)
    assert moved.fresh == ["head.W", "head.b"]
    assert "pooler.W" in moved.taken


def test_another_task():
    with pytest.raises(ValueError, match="task='question-answering': wanted masked-lm"):
        BERTPretraining(tl.BERT(*SIZES, task="question-answering"))
