"""Sentences, and pairs of them, of which a model is to say whether one follows the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.text.masking import mask_tokens
from tinylm.text.padding import pad
from tinylm.text.wordpiece import WordPieceTokenizer


def sentences(document: str) -> list[str]:
    r"""The sentences of a text with paragraphs, in their order; those of one or two words left out.

    A sentence ends where white space follows a full stop, an exclamation or question mark or a
    colon, and with its paragraph.

    Parameters
    ----------
    document : str

    Returns
    -------
    list of str
        White space in them is one space.

    Examples
    --------
    >>> from tinylm.text import sentences
    >>> sentences("It is so. Is it\nreally so?  Yes.\n\nWell, 3.5 is more")
    ['It is so.', 'Is it really so?', 'Well, 3.5 is more']
    """
    paragraphs = (" ".join(paragraph.split()) for paragraph in document.split("\n\n"))
    cut = [s for paragraph in paragraphs for s in re.split(r"(?<=[.!?:])\s+", paragraph)]
    return [sentence for sentence in cut if len(sentence.split()) >= 3]


def sentence_pairs(
    texts: Sequence[Sequence[str]],
    tokenizer: WordPieceTokenizer,
    context_length: int,
    batch_size: int,
    rng: np.random.Generator,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Batches without end, for both tasks of BERT's pre-training.

    Devlin et al. 2019, section 3.1: [CLS] A [SEP] B [SEP], where B is with even chances what
    follows A in its text, or what follows another sentence. Some tokens of both are hidden, as
    `mask_tokens` says. Each epoch has every sentence that something follows once as A. A has at
    most two thirds of the room; B goes on over sentences until it is full or the text ends, at
    most eight.

    Parameters
    ----------
    texts : sequence of sequence of str
        The sentences of each text, in their order.
    tokenizer : WordPieceTokenizer
    context_length, batch_size : int
        The largest T, and B.
    rng : numpy.random.Generator

    Yields
    ------
    inputs : dict
        "ids", "segments" and "mask", shape (B, T).
    targets : dict
        "tokens", shape (B, T): those that were hidden, and -100 elsewhere; "follows", shape (B,):
        1 where B follows A, else 0.

    Raises
    ------
    ValueError
        If fewer sentences are followed by another than a batch has rows.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> texts = [["one two", "three four", "five six"], ["seven", "eight"]]
    >>> tokenizer = tl.WordPieceTokenizer.train("one two three four five six seven eight", 40)
    >>> batches = tl.text.sentence_pairs(texts, tokenizer, 16, 3, np.random.default_rng(0))
    >>> inputs, targets = next(batches)
    >>> sorted(inputs), sorted(targets), targets["follows"].shape
    (['ids', 'mask', 'segments'], ['follows', 'tokens'], (3,))
    """
    encoded = [[tokenizer.encode(sentence) for sentence in text] for text in texts]
    places = [(t, s) for t, text in enumerate(encoded) for s in range(len(text) - 1)]
    if not 1 <= batch_size <= len(places):
        raise ValueError(
            f"sentence_pairs: {batch_size=}: wanted from 1 to the {len(places)} sentences that are "
            "followed by another"
        )
    special = sorted(tokenizer.special_tokens.values())
    cls, sep = [tokenizer.cls_id], [tokenizer.sep_id]

    def row(place: tuple[int, int], follows: bool) -> tuple[Any, int]:
        """The ids, and where B begins."""
        t, s = place
        first = encoded[t][s][: 2 * context_length // 3 - 2]
        if not follows:
            t, s = places[rng.integers(len(places))]
        second = np.concatenate(encoded[t][s + 1 : s + 9])[: context_length - 3 - len(first)]
        return np.concatenate([cls, first, sep, second, sep]), len(first) + 2

    while True:
        for chosen in np.array_split(rng.permutation(len(places)), len(places) // batch_size):
            follows = rng.integers(2, size=len(chosen))
            rows, begins = zip(
                *(row(places[i], f == 1) for i, f in zip(chosen, follows, strict=True)),
                strict=True,
            )
            inputs = pad(rows, tokenizer.pad_id)
            after = np.arange(inputs["ids"].shape[1]) >= np.array(begins)[:, None]
            inputs["segments"] = (after & inputs["mask"]).astype(np.int64)
            inputs["ids"], tokens = mask_tokens(
                inputs["ids"], tokenizer.mask_id, tokenizer.vocab_size, rng, special=special
            )
            yield inputs, {"tokens": tokens, "follows": follows}
