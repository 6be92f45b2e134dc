"""BLEU: how many n-grams of translations are in references, as sacrebleu counts them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

from tinylm.evaluation.overlap import ngrams, paired

ORDERS = (1, 2, 3, 4)
ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}

_RULES = [
    (re.compile(r"([!-&(-+/:-@\[-`{-~])"), r" \1 "),  # ASCII punctuation, but not ' , - .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # these two, unless they follow a digit
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # or unless one follows them
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]


def words_13a(text: str) -> list[str]:
    """Words and punctuation marks, as the script mteval-v13a of NIST separates them.

    Examples
    --------
    >>> from tinylm.evaluation.bleu import words_13a
    >>> words_13a('He paid $3.50 (or so), she said; "all in all."')
    ['He', 'paid', '$', '3.50', '(', 'or', 'so', ')', ',', 'she', 'said', ';', '"', 'all', 'in', 'all', '.', '"']
    """
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in ENTITIES.items():
        text = text.replace(entity, character)
    text = f" {text} "
    for rule, apart in _RULES:
        text = rule.sub(apart, text)
    return text.split()


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "13a": words_13a,
    "char": lambda text: [character for character in text if not character.isspace()],
    "none": str.split,
}


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    lowercase: bool = False,
    tokenize: str = "13a",
) -> float:
    r"""BLEU of a whole corpus, from 0 to 100.

    ``100 BP exp(sum_n log(p_n) / 4)``, n from 1 to 4, where p_n is the share of the hypotheses'
    n-grams that are in a reference, each counted at most as often as in the reference that has it
    most often, and BP = ``min(1, exp(1 - r / c))``, with c the length of all hypotheses and r that
    of the references, of several the one nearest in length: Papineni et al. 2002, "BLEU: a method
    for automatic evaluation of machine translation", section 2.3. If no n-gram of a length
    matches, one over 2^k stands for their number, k = 1 for the first such length: Chen and Cherry
    2014, "A systematic comparison of smoothing techniques for sentence-level BLEU", method 3.
    Tokens are those of sacrebleu: Post 2018, "A call for clarity in reporting BLEU scores".

    Parameters
    ----------
    hypotheses : sequence of str
    references : sequence of str, or of sequences of str
        For each hypothesis one right translation, or several.
    lowercase : bool
        Whether the case of letters makes no difference.
    tokenize : {"13a", "char", "none"}
        "none" splits at white space only.

    Returns
    -------
    float
        0 if not a single token matches, or no hypothesis has four tokens.

    Raises
    ------
    ValueError
        If there are not as many references as hypotheses, or one has none, or there is no such
        tokenizer.

    Examples
    --------
    >>> import tinylm as tl
    >>> round(tl.bleu(["the cat is on the mat"], ["the cat sat on the mat"]), 2)
    37.99
    """
    if tokenize not in TOKENIZERS:
        raise ValueError(f"bleu: {tokenize=}: wanted {', '.join(map(repr, TOKENIZERS))}")

    def tokens(text: str) -> list[str]:
        return TOKENIZERS[tokenize]((text.lower() if lowercase else text).rstrip())

    c = r = 0
    matches, totals = dict.fromkeys(ORDERS, 0), dict.fromkeys(ORDERS, 0)
    for text, those in paired("bleu", hypotheses, references):
        if not those:
            raise ValueError(f"bleu: {text!r} has no reference: wanted at least one")
        hypothesis, right = tokens(text), [tokens(one) for one in those]
        c += len(hypothesis)
        r += min(map(len, right), key=lambda length: (abs(length - len(hypothesis)), length))
        for n in ORDERS:
            wanted: Counter[tuple[str, ...]] = Counter()
            for one in right:
                wanted |= ngrams(one, n)
            matches[n] += (ngrams(hypothesis, n) & wanted).total()
            totals[n] += max(0, len(hypothesis) - n + 1)
    if not any(matches.values()) or not all(totals.values()):
        return 0.0
    log_p, missed = 0.0, 0
    for n in ORDERS:
        missed += not matches[n]
        log_p += math.log((matches[n] or 0.5**missed) / totals[n])
    return 100 * math.exp(min(0, 1 - r / c) + log_p / len(ORDERS))
