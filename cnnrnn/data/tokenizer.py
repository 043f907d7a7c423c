"""From a sentence to the ids of its tokens, and back. A sentence ends with the id of the end of sequence (EOS)."""

from __future__ import annotations

import base64
import io
import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import numpy as np

from cnnrnn.data.vocabulary import LINE_END, Vocabulary, tokenize
from cnnrnn.errors import ConfigError

Unit = Literal["character", "word", "whitespace", "subword"]


class Tokenizer(Protocol):
    """Attributes:
    size: the number of ids.
    eos_id: the id of the end of a sequence; a decoder also starts with it.
    unk_id: the id of what is not in the vocabulary, None if there is none.
    info: a JSON object from which `from_info` makes the same tokenizer.
    """

    size: int
    eos_id: int
    unk_id: int | None
    info: dict

    def encode(self, sentence: str) -> np.ndarray:
        """The ids of a sentence, int32 [T], EOS included."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first EOS."""
        ...

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each token as it can be shown alone, up to the first EOS."""
        ...

    def unknown_parts(self, sentence: str) -> list[str]:
        """The parts of a sentence that are not in the vocabulary."""
        ...


def build(unit: Unit, sentences: Sequence[str], others: Sequence[str], size: int) -> Tokenizer:
    """The tokenizer of the training sentences.

    Args:
      unit: "character", "word" and "whitespace" as in `vocabulary.tokenize`; "subword", learnt by SentencePiece
        (unigrams).
      sentences: of the training split, from which it is learnt.
      others: of the other splits: if a token of theirs is not in the vocabulary, there is an <unk>.
      size: the largest number of ids.

    Raises:
      ConfigError: for subwords: there are more characters than `size`, or SentencePiece is not installed.
    """
    if unit == "subword":
        return SubwordTokenizer.train(sentences, size)
    train, rest = ([tokenize(normalise(one), unit)[0] for one in some] for some in (sentences, others))
    return VocabularyTokenizer(Vocabulary.build(unit, itertools.chain([LINE_END], *train), rest, size))


def from_info(info: dict) -> Tokenizer:
    """The tokenizer that `info` describes."""
    if info["unit"] == "subword":
        return SubwordTokenizer(base64.b64decode(info["model"]))
    return VocabularyTokenizer(Vocabulary.from_info(info))


def is_tokenized(sentences: Sequence[str]) -> bool:
    """Whether periods are separated from words: a tenth of the sentences, or more, end in " ."."""
    return 10 * sum(sentence.endswith(" .") for sentence in sentences) >= max(len(sentences), 1)


def normalise(sentence: str) -> str:
    """The sentence with accented letters as one character (NFC)."""
    return unicodedata.normalize("NFC", sentence)


class VocabularyTokenizer:
    """Characters, words or tokens of a vocabulary; see `Tokenizer`."""

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary, self._ids = vocabulary, {token: number for number, token in enumerate(vocabulary.tokens)}
        self.size, self.eos_id, self.unk_id = len(vocabulary.tokens), vocabulary.line_end, vocabulary.unknown

    @property
    def info(self) -> dict:
        return self._vocabulary.info

    def encode(self, sentence: str) -> np.ndarray:
        ids = [self._ids.get(token, self.unk_id) for token in self._tokenize(sentence)]
        if None in ids:
            self._vocabulary.encode(self._tokenize(sentence))  # raises
        return np.array([*ids, self.eos_id], np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return self._vocabulary.decode(_before_eos(ids, self.eos_id))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [self._vocabulary.display(token) for token in _before_eos(ids, self.eos_id)]

    def unknown_parts(self, sentence: str) -> list[str]:
        return self._vocabulary.oov(self._tokenize(sentence))

    def _tokenize(self, sentence: str) -> list[str]:
        return tokenize(normalise(sentence), self._vocabulary.unit)[0]


class SubwordTokenizer:
    """Subwords of a SentencePiece model; see `Tokenizer`."""

    eos_id, unk_id = 0, 1

    def __init__(self, model: bytes):
        self._model, self._processor = model, _sentencepiece().SentencePieceProcessor(model_proto=model)
        self.size = self._processor.get_piece_size()

    @classmethod
    def train(cls, sentences: Sequence[str], size: int) -> SubwordTokenizer:
        """Learns the subwords: one thread, no sampling, so that the same sentences give the same model."""
        model = io.BytesIO()
        try:
            _sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=iter([normalise(sentence) for sentence in sentences]),
                model_writer=model,
                vocab_size=size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                num_threads=1,
                pad_id=-1,
                bos_id=-1,
                eos_id=cls.eos_id,
                unk_id=cls.unk_id,
                normalization_rule_name="identity",
                max_sentence_length=1 << 20,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise ConfigError(f"data.vocab_size is {size}, which SentencePiece refuses: {error}") from error
        return cls(model.getvalue())

    @property
    def info(self) -> dict:
        return {"unit": "subword", "model": base64.b64encode(self._model).decode()}

    def encode(self, sentence: str) -> np.ndarray:
        return np.array([*self._processor.encode(normalise(sentence)), self.eos_id], np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return self._processor.decode(_before_eos(ids, self.eos_id))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [self._processor.id_to_piece(token) for token in _before_eos(ids, self.eos_id)]

    def unknown_parts(self, sentence: str) -> list[str]:
        pieces = self._processor.encode(normalise(sentence), out_type=str)
        return [piece for piece in dict.fromkeys(pieces) if self._processor.piece_to_id(piece) == self.unk_id]


def _before_eos(ids: Iterable[int], eos_id: int) -> list[int]:
    ids = [int(token) for token in ids]
    return ids[: ids.index(eos_id)] if eos_id in ids else ids


def _sentencepiece():
    try:
        import sentencepiece
    except ImportError:
        raise ConfigError("subwords need SentencePiece - pip install '.[translation]'") from None
    return sentencepiece
