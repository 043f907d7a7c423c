"""From text to numbers and back: what a token is, and which there are."""

import collections
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cnnrnn.errors import DataError
from cnnrnn.signatures import did_you_mean

UNKNOWN = "<unk>"
LINE_END = "\n"
PATTERNS = {  # what a token is, for each unit but "character"
    "word": re.compile(r"\n|<\w+>|\w+(?:['’-]\w+)*|[^\w\s]"),  # a word, or a punctuation mark by itself
    "token": re.compile(r"\n|[^\s]+"),  # what stands between blanks: text that has been cut already
}
CLOSING, OPENING = set(".,;:!?)]}’”%…"), set("([{‘“")


def normalise(text: str) -> str:
    """The text with line ends that are line feeds, and accented letters of one character (NFC)."""
    return unicodedata.normalize("NFC", text.replace("\r\n", LINE_END))


def tokenize(text: str, unit: str) -> tuple[list[str], np.ndarray]:
    """Cuts a text into tokens; a line end is one.

    Args:
      text: any.
      unit: "character", "word" or "token".

    Returns:
      The tokens, and how many characters of the text each stands for, int32: blanks belong to the token before them.
    """
    if unit == "character":
        return list(text), np.ones(len(text), np.int32)
    matches = list(PATTERNS[unit].finditer(text))
    edges = [0, *(match.start() for match in matches[1:]), len(text)] if matches else [0]
    return [match.group() for match in matches], np.diff(edges).astype(np.int32)


class Vocabulary(NamedTuple):
    """The tokens that a model knows; the number of a token is its place.

    Attributes:
      unit: what a token is, "character", "word" or "token".
      tokens: the most frequent first, those as frequent in the order of their characters; where there is an <unk>, the
        line end and it come before them. The line end is always there.
    """

    unit: str
    tokens: tuple[str, ...]

    @classmethod
    def of(cls, unit: str, train: Iterable[str], others: Iterable[Iterable[str]], size: int) -> "Vocabulary":
        """The vocabulary of a training text.

        Args:
          unit: see above.
          train: the tokens of the training text.
          others: those of the other splits; if one of them or of the training text finds no place, there is an <unk>.
            What is rarest in training is then read as <unk> too, so that a model learns where it may stand.
          size: how many tokens at most.
        """
        counts = collections.Counter(train)
        counts.setdefault(LINE_END, 0)
        tokens = sorted(counts, key=lambda token: (-counts[token], token))
        if len(tokens) > size or any(token not in counts for text in others for token in set(text)):
            tokens = [token for token in tokens if token not in (UNKNOWN, LINE_END)]
            if len(tokens) <= size - 2 and not counts[UNKNOWN]:
                tokens = [token for token in tokens if counts[token] > counts[tokens[-1]]]
            tokens = [LINE_END, UNKNOWN, *tokens[: max(size - 2, 0)]]
        return cls(unit, tuple(tokens))

    @classmethod
    def from_info(cls, info: dict) -> "Vocabulary":
        """The vocabulary that `info` wrote down."""
        return cls(info["unit"], tuple(info["tokens"]))

    @property
    def info(self) -> dict:
        """In plain JSON."""
        return {"unit": self.unit, "tokens": list(self.tokens)}

    @property
    def line_end(self) -> int:
        """The number of the line end, behind which every text begins."""
        return self.tokens.index(LINE_END)

    def numbers(self, tokens: Sequence[str]) -> np.ndarray:
        """int32 [len(tokens)].

        Raises:
          DataError: a token is not in the vocabulary, and there is no <unk> to stand for it.
        """
        places = {token: place for place, token in enumerate(self.tokens)}
        unknown = places.get(UNKNOWN)
        numbers = np.array([places.get(token, -1 if unknown is None else unknown) for token in tokens], np.int32)
        if (numbers < 0).any():
            token = tokens[int(np.argmax(numbers < 0))]
            hint = did_you_mean(token, self.tokens, otherwise=f" - leave it out: there are {len(self.tokens)} others")
            raise DataError(f"{self.unit} {token!r} did not occur in the training text{hint}")
        return numbers

    def missing(self, tokens: Sequence[str]) -> list[str]:
        """Those of the tokens that are not in the vocabulary."""
        known = set(self.tokens)
        return [token for token in dict.fromkeys(tokens) if token not in known]

    def text(self, numbers: Iterable[int]) -> str:
        """The text that the numbers stand for; words stand apart, but for a mark behind a word."""
        tokens = [self.tokens[number] for number in numbers]
        if self.unit == "character":
            return "".join(tokens)
        text = LINE_END
        for token in tokens:
            apart = not text.endswith(LINE_END) and token != LINE_END
            if self.unit == "word":
                apart = apart and token not in CLOSING and text[-1] not in OPENING
            text += f" {token}" if apart else token
        return text[1:]

    def label(self, number: int) -> str:
        """A token as it can be shown by itself."""
        return {LINE_END: "↵", " ": "␣", "\t": "⇥"}.get(self.tokens[number], self.tokens[number])
