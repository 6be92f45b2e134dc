"""Pieces of words as tokens, the longest first: WordPiece, the tokenizer of BERT."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.files import write_atomically
from tinylm.text.bert_words import words
from tinylm.text.byte_pairs import learn_merges
from tinylm.text.tokenizer import Tokenizer
from tinylm.text.tokenizer_files import naming, ordered, read_lines
from tinylm.text.vocabulary import Vocabulary

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

PREFIX = "##"
"""Begins every piece that goes on with a word."""

LONGEST_WORD = 100
"""A word of more characters is unknown."""

MANY = 1 << 16
"""How many words a tokenizer remembers."""


class WordPieceTokenizer(Tokenizer):
    """Words are cut into the longest pieces that are tokens, from left to right.

    The tokenizer of BERT (Devlin et al. 2019, section 3; the pieces: Wu et al. 2016, "Google's
    neural machine translation system", section 4.1). A text is cleaned and cut into words, see
    `tinylm.text.bert_words`; of a word the longest prefix that is a token is taken, then the longest prefix of the
    rest that is one with "##" before it, and so on. A word that cannot be cut so, or that has
    more than 100 characters, is "[UNK]".

    `decode` does not give the very text back: white space, and case and accents where they are
    removed, are lost.

    A special token stands for no text: `encode` gives none but "[UNK]", whatever the text. (The
    library `tokenizers` gives "[MASK]" where a text holds these six characters.)

    Parameters
    ----------
    tokens : sequence of str
        The tokens in the order of their ids, `SPECIAL_TOKENS` among them.
    lowercase : bool
        Fold upper into lower case, for a model that is "uncased".
    strip_accents : bool, optional
        Remove accents; as `lowercase` if not given.
    split_cjk : bool
        Take every Chinese character for a word.
    special_tokens : iterable of str
        More of the tokens that text never gives.

    Attributes
    ----------
    special_tokens : dict of str to int
        The ids of the special tokens.

    Raises
    ------
    ValueError
        If a token stands there twice, or a special token is not among them.

    Examples
    --------
    >>> import tinylm as tl
    >>> pieces = ["un", "##aff", "##able", "!"]
    >>> tokenizer = tl.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
    >>> tokenizer.encode("Unaffable! [MASK]").tolist()
    [5, 6, 7, 8, 1, 1, 1]
    >>> ids, segments = tokenizer.encode_pair("Unaffable", "!")
    >>> ids.tolist(), segments.tolist()
    ([2, 5, 6, 7, 3, 8, 3], [0, 0, 0, 0, 0, 1, 1])
    >>> tokenizer.decode(ids)
    '[CLS] unaffable [SEP] ! [SEP]'
    """

    kind = "word pieces"

    def __init__(
        self,
        tokens: Sequence[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
        special_tokens: Iterable[str] = (),
    ) -> None:
        self.vocabulary = Vocabulary(tokens)
        self.lowercase, self.strip_accents, self.split_cjk = lowercase, strip_accents, split_cjk
        names = dict.fromkeys([*SPECIAL_TOKENS, *special_tokens])
        for name in names:
            if name not in self.vocabulary:
                raise ValueError(f"the special token {name!r} is not among the tokens")
        self.special_tokens = {name: self.vocabulary.ids[name] for name in names}
        pieces = self.vocabulary.ids.keys() - names.keys()
        self._pieces = {piece: self.vocabulary.ids[piece] for piece in pieces}
        self._known: dict[str, list[int]] = {}

    @property
    def tokens(self) -> list[str]:
        """The tokens, in the order of their ids."""
        return self.vocabulary.tokens

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def pad_id(self) -> int:
        """The id of "[PAD]", which fills up what is too short."""
        return self.special_tokens[PAD]

    @property
    def unk_id(self) -> int:
        """The id of "[UNK]", a word that is unknown."""
        return self.special_tokens[UNK]

    @property
    def cls_id(self) -> int:
        """The id of "[CLS]", with which every input begins."""
        return self.special_tokens[CLS]

    @property
    def sep_id(self) -> int:
        """The id of "[SEP]", with which every segment ends."""
        return self.special_tokens[SEP]

    @property
    def mask_id(self) -> int:
        """The id of "[MASK]", a token to be predicted."""
        return self.special_tokens[MASK]

    def encode(self, text: str) -> Any:
        ids: list[int] = []
        for word in words(text, self.lowercase, self.strip_accents, self.split_cjk):
            found = self._known.get(word)
            if found is None:
                found = self._cut(word)
                if len(self._known) < MANY and len(word) <= LONGEST_WORD:
                    self._known[word] = found
            ids += found
        return np.array(ids, dtype=np.int64)

    def _cut(self, word: str) -> list[int]:
        """The longest pieces of a word, from left to right."""
        if len(word) > LONGEST_WORD:
            return [self.unk_id]
        ids: list[int] = []
        begin = 0
        while begin < len(word):
            prefix = PREFIX if begin else ""
            for end in range(len(word), begin, -1):
                piece = prefix + word[begin:end]
                if piece in self._pieces:
                    ids.append(self._pieces[piece])
                    begin = end
                    break
            else:
                return [self.unk_id]
        return ids

    def encode_pair(
        self, first: str, second: str | None = None, max_length: int | None = None
    ) -> tuple[Any, Any]:
        """The input of BERT for one or two segments: [CLS] first [SEP], or [CLS] first [SEP] second [SEP].

        Devlin et al. 2019, figure 2 and section 3. What is too long loses tokens at the end of
        its longer segment, until both are equally long and then in turn; the one that was
        longer, or else the second, keeps one more of an odd number.

        Parameters
        ----------
        first : str
        second : str, optional
        max_length : int, optional
            How many tokens at most, special tokens included.

        Returns
        -------
        ids : ndarray of int64, shape (T,)
        segments : ndarray of int64, shape (T,)
            0 for the first segment with its special tokens, 1 for the second.

        Raises
        ------
        ValueError
            If `max_length` has no room for the special tokens.
        """
        parts = [self.encode(text) for text in (first, second) if text is not None]
        special = 1 + len(parts)
        if max_length is not None:
            if max_length < special:
                raise ValueError(f"encode_pair: {max_length=}: wanted at least {special}")
            parts = _longest_first(parts, max_length - special)
        ids = [np.array([self.cls_id])]
        for part in parts:
            ids += [part, np.array([self.sep_id])]
        lengths = [part.size + 1 for part in parts]
        segments = np.repeat(np.arange(len(parts)), [1 + lengths[0], *lengths[1:]])
        return np.concatenate(ids).astype(np.int64), segments.astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        text = ""
        for token in self.vocabulary.decode(int(i) for i in ids):
            if text and token.startswith(PREFIX):
                text += token.removeprefix(PREFIX)
            else:
                text += f" {token}" if text else token
        return text

    @classmethod
    def train(
        cls,
        text: str,
        vocab_size: int,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
    ) -> WordPieceTokenizer:
        """The tokenizer of the most frequent pairs of pieces in the words of a text.

        The vocabulary is grown by byte-pair encoding, of pieces that begin as single characters,
        as the library `tokenizers` does. (Wu et al. 2016 grow it by the likelihood of the text, and
        the code was never published.) Ids: the special tokens, the characters, the characters
        with "##", each sorted, then what merges make.

        Parameters
        ----------
        text : str
        vocab_size : int
            How many tokens at most.
        lowercase, strip_accents, split_cjk
            As for the class.

        Raises
        ------
        ValueError
            If there is no word, or the characters and special tokens alone are more than `vocab_size`.
        """
        counts = Counter(words(text, lowercase, strip_accents, split_cjk))
        if not counts:
            raise ValueError("WordPieceTokenizer.train: the text has no words")
        spelled = {
            word: [word[0], *(PREFIX + character for character in word[1:])] for word in counts
        }
        characters = sorted({character for word in counts for character in word})
        going_on = sorted({piece for pieces in spelled.values() for piece in pieces[1:]})
        alphabet = [*SPECIAL_TOKENS, *characters, *going_on]
        if vocab_size < len(alphabet):
            raise ValueError(
                f"WordPieceTokenizer.train: vocab_size={vocab_size}: wanted at least "
                f"{len(alphabet)}, the characters and the special tokens"
            )
        ids = {piece: i for i, piece in enumerate(alphabet)}
        symbols = {tuple(ids[p] for p in spelled[word]): count for word, count in counts.items()}
        tokens, _ = learn_merges(symbols, alphabet, vocab_size, _joined)
        return cls(tokens, lowercase, strip_accents, split_cjk)

    @classmethod
    def from_file(
        cls,
        vocab: str | os.PathLike[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
        special_tokens: Iterable[str] = (),
    ) -> WordPieceTokenizer:
        """The tokenizer of BERT's file `vocab.txt`, which has a token a line.

        Parameters
        ----------
        vocab : str or path
        lowercase, strip_accents, split_cjk, special_tokens
            As for the class.

        Raises
        ------
        TokenizerFileError
            If the file cannot be read or used.
        """
        with naming(vocab):
            lines = read_lines(vocab)
            ids = {token: i for i, token in enumerate(lines)}
            if len(ids) < len(lines):
                twice = Counter(lines).most_common(1)[0][0]
                raise ValueError(f"the token {twice!r} stands in two lines")
            return cls(ordered(ids), lowercase, strip_accents, split_cjk, special_tokens)

    def write_files(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocab.txt` into a folder, whole or not at all."""
        lines = "".join(f"{token}\n" for token in self.tokens)
        write_atomically(Path(folder, "vocab.txt"), [lines.encode()])

    def state(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "split_cjk": self.split_cjk,
            "special_tokens": list(self.special_tokens),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> WordPieceTokenizer:
        return cls(
            state["tokens"], state["lowercase"], state["strip_accents"], state["split_cjk"],
            state["special_tokens"],
        )  # fmt: skip


def _joined(left: str, right: str) -> str:
    return left + right.removeprefix(PREFIX)


def _longest_first(parts: list[Any], room: int) -> list[Any]:
    """One or two parts, cut so that they fit together: the longer one first."""
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = parts
    if first.size + second.size <= room:
        return parts
    shorter = min(first.size, second.size, room // 2)
    kept = shorter if first.size <= second.size else room - shorter
    return [first[:kept], second[: room - kept]]
