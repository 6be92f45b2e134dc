"""Measures: perplexity, classification scores, and the n-gram rival."""

from tinylm.evaluation.answers import answer_f1, exact_match
from tinylm.evaluation.bleu import bleu
from tinylm.evaluation.classification import (
    accuracy,
    confusion_matrix,
    f1,
    matthews,
    precision,
    recall,
)
from tinylm.evaluation.ngram import NGram
from tinylm.evaluation.overlap import Overlap
from tinylm.evaluation.perplexity import Perplexity, perplexity
from tinylm.evaluation.pseudo_likelihood import pseudo_perplexity
from tinylm.evaluation.rouge import rouge

__all__ = [
    "NGram",
    "Overlap",
    "Perplexity",
    "accuracy",
    "answer_f1",
    "bleu",
    "confusion_matrix",
    "exact_match",
    "f1",
    "matthews",
    "perplexity",
    "precision",
    "pseudo_perplexity",
    "recall",
    "rouge",
]
