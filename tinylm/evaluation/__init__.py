"""Measures: perplexity, classification scores, and the n-gram rival."""

from tinylm.evaluation.classification import accuracy, f1, precision, recall
from tinylm.evaluation.ngram import NGram
from tinylm.evaluation.perplexity import Perplexity, perplexity
from tinylm.evaluation.pseudo_likelihood import pseudo_perplexity

__all__ = [
    "NGram",
    "Perplexity",
    "accuracy",
    "f1",
    "perplexity",
    "precision",
    "pseudo_perplexity",
    "recall",
]
