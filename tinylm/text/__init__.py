"""Text to ids and back: corpora, cleaning, vocabularies, tokenizers, batches. Knows no model."""

from tinylm.text.batches import Batches
from tinylm.text.bpe import BPETokenizer
from tinylm.text.characters import CharTokenizer
from tinylm.text.cleaning import STOP_WORDS, clean, drop_near_duplicates
from tinylm.text.corpora import JOIN, CorpusError, corpus, documents, fingerprint, split
from tinylm.text.hugging_face import read_tokenizer, write_tokenizer
from tinylm.text.masking import mask_tokens
from tinylm.text.padding import pad
from tinylm.text.sentence_pairs import sentence_pairs, sentences
from tinylm.text.tokenizer import Tokenizer, load_tokenizer
from tinylm.text.tokenizer_files import TokenizerFileError
from tinylm.text.tokenizer_json import read_tokenizer_json, write_tokenizer_json
from tinylm.text.vocabulary import UnknownTokenError, Vocabulary
from tinylm.text.wordpiece import WordPieceTokenizer
from tinylm.text.words import WordTokenizer

__all__ = [
    "JOIN",
    "STOP_WORDS",
    "BPETokenizer",
    "Batches",
    "CharTokenizer",
    "CorpusError",
    "Tokenizer",
    "TokenizerFileError",
    "UnknownTokenError",
    "Vocabulary",
    "WordPieceTokenizer",
    "WordTokenizer",
    "clean",
    "corpus",
    "documents",
    "drop_near_duplicates",
    "fingerprint",
    "load_tokenizer",
    "mask_tokens",
    "pad",
    "read_tokenizer",
    "read_tokenizer_json",
    "sentence_pairs",
    "sentences",
    "split",
    "write_tokenizer",
    "write_tokenizer_json",
]
