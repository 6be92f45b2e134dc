"""Text to ids and back: corpora, cleaning, vocabularies, tokenizers, batches. Knows no model."""

from tinylm.text.batches import Batches
from tinylm.text.characters import CharTokenizer
from tinylm.text.cleaning import STOP_WORDS, clean, drop_near_duplicates
from tinylm.text.corpora import JOIN, CorpusError, corpus, documents, fingerprint, split
from tinylm.text.masking import mask_tokens
from tinylm.text.tokenizer import Tokenizer, load_tokenizer
from tinylm.text.vocabulary import UnknownTokenError, Vocabulary
from tinylm.text.words import WordTokenizer

__all__ = [
    "JOIN",
    "STOP_WORDS",
    "Batches",
    "CharTokenizer",
    "CorpusError",
    "Tokenizer",
    "UnknownTokenError",
    "Vocabulary",
    "WordTokenizer",
    "clean",
    "corpus",
    "documents",
    "drop_near_duplicates",
    "fingerprint",
    "load_tokenizer",
    "mask_tokens",
    "split",
]
