"""Pieces of words, spelled in bytes, as tokens: byte-level byte-pair encoding, as GPT-2 has it."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.files import write_atomically
from tinylm.text.byte_pairs import Pair, apply_merges, learn_merges
from tinylm.text.tokenizer import Tokenizer
from tinylm.text.tokenizer_files import naming, ordered, read_json, read_lines, short
from tinylm.text.vocabulary import UnknownTokenError, Vocabulary

PIECE = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII
)
"""How GPT-2 cuts text, where each character that is not ASCII stands as one of its kind, which
`_kind` knows: an ending, a word, a number or other marks with a space before them, and white
space, of which the last is left to what comes after it."""

MANY, LONG = 1 << 16, 64
"""How many pieces a tokenizer remembers, and of how many characters at most."""


def _byte_alphabet() -> list[str]:
    """The character that stands for each byte in `vocab.json` and `merges.txt`.

    Those of Latin-1 that are visible stand for themselves, the other bytes for the characters
    from U+0100 on, in their order: a space is "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}".
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in visible else chr(next(others)) for byte in range(256)]


BYTE_ALPHABET = _byte_alphabet()
BYTES = {character: byte for byte, character in enumerate(BYTE_ALPHABET)}


def pieces(text: str) -> list[str]:
    r"""The pieces that GPT-2 cuts a text into; together they are the text.

    Radford et al. 2019, section 2.2: so that no merge crosses categories of characters. Letters,
    numbers and white space are those of Unicode (categories L and N; the property White_Space),
    of the version that Python has: a character that is newer than that is neither.

    Examples
    --------
    >>> from tinylm.text.bpe import pieces
    >>> pieces("It's  3 cafés!\n")
    ['It', "'s", ' ', ' 3', ' cafés', '!', '\n']
    """
    if text.isascii():
        return PIECE.findall(text)
    kinds = text.translate({ord(c): _kind(c) for c in set(text) if not c.isascii()})
    return [text[match.start() : match.end()] for match in PIECE.finditer(kinds)]


def _kind(character: str) -> str:
    """An ASCII character of the same kind, and in no ending: a letter, digit, white space, mark."""
    category = unicodedata.category(character)
    if category[0] == "Z" or character == "\x85":
        return "\t"
    return {"L": "A", "N": "0"}.get(category[0], "!")


class BPETokenizer(Tokenizer):
    """Bytes are tokens, and the pieces of words that frequent pairs of tokens make.

    Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.2; the
    merges are those of Sennrich et al. 2016. Any text can be encoded, and is decoded to the very
    same text, half surrogate pairs included: those are spelled in three bytes as UTF-8 would
    spell them. The bytes of a model need not be text: what is not becomes U+FFFD.

    A special token, such as ``<|endoftext|>``, stands for no text: `encode` never gives it,
    whatever the text; its id is in `special_tokens`. (The library `tokenizers` does give it where
    a text holds its name.)

    Parameters
    ----------
    tokens : sequence of str
        The tokens in the order of their ids, spelled in `BYTE_ALPHABET` unless they are special.
    merges : sequence of tuple of str
        Pairs of tokens that become one, the first ones first.
    special_tokens : iterable of str
        Some of the tokens, which neither stand for a byte nor are made by a merge.
    add_prefix_space : bool
        Encode a text as if it began with a space, as each other word does; `decode` then gives
        that space as well.

    Attributes
    ----------
    special_tokens : dict of str to int
        The ids of the special tokens.

    Raises
    ------
    ValueError
        If a token stands there twice or is spelled otherwise, a merge knows no such token or is
        there twice, or text could make a special token.

    Examples
    --------
    >>> import tinylm as tl
    >>> tokenizer = tl.BPETokenizer.train("low lower lowest", vocab_size=260)
    >>> tokenizer.encode("slow").tolist()
    [82, 257]
    >>> tokenizer.tokens[257], tokenizer.special_tokens
    ('low', {'<|endoftext|>': 259})
    >>> tokenizer.decode(tokenizer.encode("slow \u2713"))
    'slow \u2713'
    """

    kind = "byte pairs"

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Sequence[tuple[str, str]],
        special_tokens: Iterable[str] = (),
        add_prefix_space: bool = False,
    ) -> None:
        self.vocabulary = Vocabulary(tokens)
        self.merges = [(left, right) for left, right in merges]
        self.add_prefix_space = add_prefix_space
        ids = self.vocabulary.ids
        self._merges: dict[Pair, tuple[int, int]] = {}
        for rank, (left, right) in enumerate(self.merges):
            for token in (left, right, left + right):
                if token not in ids:
                    raise ValueError(
                        f"merge {rank}, of {short(left)} and {short(right)}: {short(token)} is not "
                        f"among the {len(ids)} tokens"
                    )
            pair = (ids[left], ids[right])
            if pair in self._merges:
                raise ValueError(f"merge {rank}, of {short(left)} and {short(right)}, comes twice")
            self._merges[pair] = (rank, ids[left + right])
        self.special_tokens = self._special(special_tokens)
        self._bytes = [ids.get(character) for character in BYTE_ALPHABET]
        self._spellings = [self._spelling(token) for token in self.tokens]
        self._known: dict[str, list[int]] = {}

    @property
    def tokens(self) -> list[str]:
        """The tokens, in the order of their ids."""
        return self.vocabulary.tokens

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def _special(self, names: Iterable[str]) -> dict[str, int]:
        made = {*BYTES, *(left + right for left, right in self.merges)}
        names = list(names)
        for name in names:
            if name not in self.vocabulary or name in made:
                why = "text can make it" if name in made else "it is not one of the tokens"
                raise ValueError(f"the special token {short(name)}: {why}")
        return {name: self.vocabulary.ids[name] for name in names}

    def _spelling(self, token: str) -> bytes:
        """What a token stands for."""
        if token in self.special_tokens:
            return token.encode()
        try:
            return bytes(BYTES[character] for character in token)
        except KeyError as wrong:
            raise ValueError(
                f"the token {short(token)} has the character {wrong}, which stands for no byte"
            ) from None

    def encode(self, text: str) -> Any:
        if self.add_prefix_space and text and text[0] != " ":
            text = " " + text
        ids: list[int] = []
        known = self._known
        for piece in pieces(text):
            found = known.get(piece)
            if found is None:
                found = apply_merges(self._spelled(piece), self._merges)
                if len(known) < MANY and len(piece) <= LONG:
                    known[piece] = found
            ids += found
        return np.array(ids, dtype=np.int64)

    def _spelled(self, piece: str) -> list[int]:
        """The ids of the bytes of a piece."""
        raw = piece.encode("utf-8", "surrogatepass")
        ids = [i for i in map(self._bytes.__getitem__, raw) if i is not None]
        if len(ids) < len(raw):
            missing = next(byte for byte in raw if self._bytes[byte] is None)
            raise UnknownTokenError(
                f"the byte {missing:#04x} of {short(piece)} is not among the {self.vocab_size} "
                "tokens that the tokenizer knows"
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        spelled = []
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UnknownTokenError(f"id {i} is outside the vocabulary [0, {self.vocab_size})")
            spelled.append(self._spellings[i])
        raw = b"".join(spelled)
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")

    @classmethod
    def train(
        cls, text: str, vocab_size: int, special_tokens: Iterable[str] = ("<|endoftext|>",)
    ) -> BPETokenizer:
        """The tokenizer of the most frequent pairs in the pieces of a text.

        Ids as GPT-2 has them: the bytes in the order of the characters that stand for them, then
        what the merges make, then the special tokens. Of pairs that are equally frequent the one
        with the smallest ids is merged first, as in the library `tokenizers`.

        Parameters
        ----------
        text : str
        vocab_size : int
            How many tokens at most; fewer if every piece of the text is a token before that.
        special_tokens : iterable of str

        Raises
        ------
        ValueError
            If the text is empty, or `vocab_size` has no room for the bytes and special tokens.
        """
        special_tokens = list(special_tokens)
        least = len(BYTE_ALPHABET) + len(special_tokens)
        if not text:
            raise ValueError("BPETokenizer.train: the text is empty")
        if vocab_size < least:
            raise ValueError(
                f"BPETokenizer.train: vocab_size={vocab_size}: wanted at least {least}, the bytes "
                "and the special tokens"
            )
        alphabet = sorted(BYTE_ALPHABET)
        ids = [alphabet.index(character) for character in BYTE_ALPHABET]
        words = {
            tuple(ids[byte] for byte in piece.encode("utf-8", "surrogatepass")): count
            for piece, count in Counter(pieces(text)).items()
        }
        size = vocab_size - len(special_tokens)
        tokens, merges = learn_merges(words, alphabet, size, lambda left, right: left + right)
        spelled = [(tokens[left], tokens[right]) for left, right in merges]
        return cls(list(dict.fromkeys(tokens + special_tokens)), spelled, special_tokens)

    @classmethod
    def from_files(
        cls,
        vocab: str | os.PathLike[str],
        merges: str | os.PathLike[str],
        special_tokens: Iterable[str] | None = None,
        add_prefix_space: bool = False,
    ) -> BPETokenizer:
        """The tokenizer of GPT-2's two files.

        Parameters
        ----------
        vocab : str or path
            `vocab.json`, an object of tokens and their ids.
        merges : str or path
            `merges.txt`, a line "#version: 0.2" and then a pair a line, the first to be merged first.
        special_tokens, add_prefix_space
            As for the class; if not given, the tokens that are no byte and that no merge makes.

        Raises
        ------
        TokenizerFileError
            If a file cannot be read or used.
        """
        with naming(vocab):
            tokens = ordered(read_json(vocab))
        with naming(merges):
            pairs = _pairs(read_lines(merges))
            if special_tokens is None:
                made = {*BYTES, *(left + right for left, right in pairs)}
                special_tokens = [token for token in tokens if token not in made]
            return cls(tokens, pairs, special_tokens, add_prefix_space)

    def write_files(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocab.json` and `merges.txt` into a folder, each whole or not at all."""
        vocab = json.dumps(self.vocabulary.ids, ensure_ascii=False)
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in self.merges)]
        write_atomically(Path(folder, "vocab.json"), [vocab.encode()])
        write_atomically(Path(folder, "merges.txt"), ["".join(f"{x}\n" for x in lines).encode()])

    def state(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "merges": [list(pair) for pair in self.merges],
            "special_tokens": list(self.special_tokens),
            "add_prefix_space": self.add_prefix_space,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> BPETokenizer:
        return cls(
            state["tokens"], state["merges"], state["special_tokens"], state["add_prefix_space"]
        )


def _pairs(lines: Sequence[str]) -> list[tuple[str, str]]:
    """The merges of `merges.txt`; raises ValueError for a line that is none."""
    pairs = []
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise ValueError(f"line {number}, {short(line)}: wanted two tokens and a space between")
        pairs.append((left, right))
    return pairs
