"""Measures: perplexity, classification scores, the n-gram rival, and scaling laws."""

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
from tinylm.evaluation.scaling import PowerLaw, fit_power_law, frontier

__all__ = [
    "NGram",
    "Overlap",
    "Perplexity",
    "PowerLaw",
    "accuracy",
    "answer_f1",
    "bleu",
    "confusion_matrix",
    "exact_match",
    "f1",
    "fit_power_law",
    "frontier",
    "matthews",
    "perplexity",
    "precision",
    "pseudo_perplexity",
    "recall",
    "rouge",
]
