"""Words of random letters, each followed by the same word from its end to its beginning: "abc>cba", then a line end."""

import zlib

import numpy as np

from cnnrnn.data.dataset import Dataset, Example
from cnnrnn.data.sampling import BucketSampler, bucket_boundaries
from cnnrnn.signatures import PositiveInt, Resumable


class Words:
    """A source: the tokens of a word and its reversal, and the word itself, to be scored against."""

    def __init__(self, words: list[str], symbols: str):
        self.words, self.symbols = words, symbols
        self.lengths = np.array([2 * len(word) + 1 for word in words])
        self.fingerprint = zlib.crc32("\n".join(words).encode())

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> Example:
        word = self.words[index]
        text = np.array([self.symbols.index(letter) for letter in f"{word}>{word[::-1]}\n"], np.int32)
        return {"tokens": text[:-1], "targets": text[1:], "prompt_length": len(word) + 1, "word": word}


def words(
    seed: int,
    *,
    letters: str = "abcde",
    max_length: PositiveInt = 4,
    num_words: PositiveInt = 700,
    batch_size: PositiveInt = 32,
    eval_batch_size: Resumable[PositiveInt] = 64,
    num_buckets: PositiveInt = 3,
) -> dict[str, Dataset]:
    """Different random words, a tenth of them to test."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, max_length + 1, 20 * num_words)
    drawn = ["".join(rng.choice([*letters], length)) for length in lengths]
    drawn = [*dict.fromkeys(drawn)][:num_words]
    symbols, test = f"\n>{letters}", drawn[5::10]  # short words, drawn first, are in both
    splits = {}
    for split, part in {"train": [word for word in drawn if word not in test], "test": test}.items():
        source, train = Words(part, symbols), split == "train"
        boundaries = bucket_boundaries(source.lengths, num_buckets)
        sampler = BucketSampler(
            source.lengths, batch_size if train else eval_batch_size, boundaries, seed if train else None
        )
        info = {"inference": "reverse_words.inference", "symbols": symbols}
        splits[split] = Dataset(source, sampler, dims={"vocab_size": len(symbols)}, info=info)
    return splits
