"""From text to tokens and back: what a token is, and which tokens there are."""

import collections
import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import regex

from cnnrnn.errors import DataError
from cnnrnn.signatures import did_you_mean

UNKNOWN = "<unk>"
LINE_END = "\n"
# What a token is, for each unit but "character". Whitespace is what it is to str.isspace, separators \x1c-\x1f too.
PATTERNS = {
    # text up to the next boundary of words, as Unicode Standard Annex 29 defines it (w), or a mark such as <unk>
    "word": regex.compile(r"(?V1w)\n|<\w+>|[^\s\x1c-\x1f].*?\b"),
    "whitespace": regex.compile(r"\n|[^\s\x1c-\x1f]+"),  # text between whitespace, for text that is tokenized already
}
LINE_ENDS = regex.compile(r"\r\n|[\r\x85\u2028\u2029]")  # of all systems, and Unicode's
CLOSING, OPENING = set(".,;:!?)]}’”%…।॥"), set("([{‘“")
JOINING = set("-‐、。，！？")  # written without blanks on either side
UNSPACED = regex.compile(  # scripts that put no blanks between words
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
)


def normalise(text: str) -> str:
    """The text with line feeds as line ends and accented letters as one character (NFC)."""
    return unicodedata.normalize("NFC", LINE_ENDS.sub(LINE_END, text))


def tokenize(text: str, unit: str) -> tuple[list[str], np.ndarray]:
    """Divides a text into tokens; a line end is one.

    Args:
      text: the text.
      unit: "character", "word" or "whitespace".

    Returns:
      The tokens, and the number of characters of each, int32. Whitespace belongs to the token before it.
    """
    if unit == "character":
        return list(text), np.ones(len(text), np.int32)
    tokens, starts = [], []
    for match in PATTERNS[unit].finditer(text):  # matches are large, and not kept
        tokens.append(match.group())
        starts.append(match.start())
    edges = [0, *starts[1:], len(text)] if tokens else [0]
    return tokens, np.diff(edges).astype(np.int32)


def is_part_of_word(character: str) -> bool:
    """Whether a character continues a word: a letter, a digit, a combining mark, or what joins them."""
    return unicodedata.category(character[0])[0] in "LMN" or character in {*"'’-_", "\u200c", "\u200d"}


class Vocabulary(NamedTuple):
    """The tokens that a model knows. The id of a token is its index.

    Attributes:
      unit: "character", "word" or "whitespace", see `tokenize`.
      tokens: the most frequent first, equally frequent ones sorted. If there is an <unk>, the line end and <unk> come
        before all others. There always is a line end.
    """

    unit: str
    tokens: tuple[str, ...]

    @classmethod
    def build(cls, unit: str, train: Iterable[str], others: Iterable[Iterable[str]], size: int) -> "Vocabulary":
        """The vocabulary of a training text.

        It has all tokens of the training text if they are not too many and if those of the other splits are among them.
        Otherwise there is an <unk>, and the most frequent tokens of the training text. A model must learn where <unk>
        occurs. So if there would be room for all tokens of the training text, those with the lowest count are left out
        anyway, if the others are at least half of the text; if not, only the last of them is left out.

        Args:
          unit: see `Vocabulary`.
          train: the tokens of the training text, or their counts.
          others: those of the other splits.
          size: the largest number of tokens, <unk> and the line end included.
        """
        counts = collections.Counter(train)
        counts.setdefault(LINE_END, 0)
        tokens = sorted(counts, key=lambda token: (-counts[token], token))
        if len(tokens) <= size and all(token in counts for text in others for token in set(text)):
            return cls(unit, tuple(tokens))
        tokens = [token for token in tokens if token not in (UNKNOWN, LINE_END)]
        if len(tokens) <= size - 2 and not counts[UNKNOWN]:
            tokens = _without_rarest(tokens, counts)
        return cls(unit, (LINE_END, UNKNOWN, *tokens[: max(size - 2, 0)]))

    @classmethod
    def from_info(cls, info: dict) -> "Vocabulary":
        """The vocabulary that `info` describes."""
        return cls(info["unit"], tuple(info["tokens"]))

    @property
    def info(self) -> dict:
        """The vocabulary as a JSON object, see `from_info`."""
        return {"unit": self.unit, "tokens": list(self.tokens)}

    @property
    def line_end(self) -> int:
        """The id of the line end, after which every text begins."""
        return self.tokens.index(LINE_END)

    @property
    def unknown(self) -> int | None:
        """The id of <unk>, None if there is none."""
        return self.tokens.index(UNKNOWN) if UNKNOWN in self.tokens else None

    def encode(self, tokens: Sequence[str]) -> np.ndarray:
        """The ids of tokens, int32 [len(tokens)].

        Raises:
          DataError: a token is not in the vocabulary, and there is no <unk>.
        """
        ids = {token: index for index, token in enumerate(self.tokens)}
        unknown = ids.get(UNKNOWN, -1)
        encoded = np.array([ids.get(token, unknown) for token in tokens], np.int32)
        if (encoded < 0).any():
            token = tokens[int(np.argmax(encoded < 0))]
            hint = did_you_mean(token, self.tokens, otherwise=f" - leave it out: there are {len(self.tokens)} others")
            raise DataError(f"{self.unit} {token!r} did not occur in the training text{hint}")
        return encoded

    def oov(self, tokens: Sequence[str]) -> list[str]:
        """The tokens that are out of vocabulary, each once."""
        known = set(self.tokens)
        return [token for token in dict.fromkeys(tokens) if token not in known]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids.

        Words are separated by blanks, except before closing and after opening marks, around hyphens, and in scripts
        that put none.
        """
        tokens = [self.tokens[token_id] for token_id in ids]
        if self.unit == "character":
            return "".join(tokens)
        blanks = [a != LINE_END != b and self._has_blank(a, b) for a, b in itertools.pairwise(tokens)]
        return "".join(f"{' ' * blank}{token}" for blank, token in zip([False, *blanks], tokens, strict=False))

    def _has_blank(self, word: str, following: str) -> bool:
        if self.unit == "whitespace":
            return True
        if following in CLOSING or word[-1] in OPENING or JOINING & {word, following}:
            return False
        return not (UNSPACED.match(word[-1]) and UNSPACED.match(following))

    def display(self, token_id: int) -> str:
        """A token as it can be shown alone."""
        return {LINE_END: "↵", " ": "␣", "\t": "⇥"}.get(self.tokens[token_id], self.tokens[token_id])


def _without_rarest(tokens: list[str], counts: collections.Counter) -> list[str]:
    """Tokens sorted by their counts without the rarest, see `Vocabulary.build`."""
    others = [token for token in tokens if counts[token] > counts[tokens[-1]]]
    if 2 * sum(counts[token] for token in others) >= sum(counts[token] for token in tokens):
        return others
    return tokens[:-1] or tokens
