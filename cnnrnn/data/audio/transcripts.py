"""A folder of WAV files with their transcripts: one file for all, or one beside each recording."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnnrnn.data.audio.wav import read_wav
from cnnrnn.data.bitext_files import load_lexicon, read_lines
from cnnrnn.errors import DataError

TABLE = "transcripts.tsv"
ENDINGS = (".txt", ".lab")


def read_folder(folder: str, unit: str, pronounce: bool) -> Iterator[tuple[np.ndarray, int, tuple[str, ...], str]]:
    """The samples, sample rate, labels and name of each recording, in the order of the names.

    The transcripts are in `transcripts.tsv`, on each line a file, a tab and a transcript; or a.txt or a.lab beside
    a.wav. Folders within the folder count too.

    Raises:
      DataError: there is no such folder or recording, one has no transcript, or a file is damaged.
    """
    root = Path(os.path.expanduser(folder))
    if not os.path.isdir(root):
        raise DataError(f"no folder {folder} - name one with WAV files, or espeak, data.source")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() == ".wav" and path.is_file())
    if not files:
        raise DataError(f"{folder} has no WAV files - name another folder, data.source")
    table = _read_table(root)
    lexicon = load_lexicon({"stress": False}) if pronounce else None
    for file in files:
        name = file.relative_to(root).as_posix()
        text = table.pop(name, None) if table is not None else _read_beside(file)
        if text is None:
            where = f"in {root / TABLE}" if table is not None else f"{file.stem}.txt or .lab beside it"
            raise DataError(f"{file} has no transcript {where} - write one, or remove the recording")
        samples, rate = read_wav(file)
        yield samples, rate, _labels(file, text, unit, lexicon), name
    if table:
        raise DataError(f"{root / TABLE} names {next(iter(table))}, which is not there - correct the line")


def _read_table(root: Path) -> dict[str, str] | None:
    if not os.path.exists(root / TABLE):
        return None
    found = {}
    for number, line in enumerate(read_lines(root / TABLE), start=1):
        name, tab, text = line.partition("\t")
        if not tab or name in found:
            what = "has no tab" if not tab else f"names {name} again"
            raise DataError(f"{root / TABLE}, line {number} {what} - write a file, a tab and its transcript")
        found[name] = text
    return found


def _read_beside(file: Path) -> str | None:
    for ending in ENDINGS:
        if os.path.exists(beside := file.with_suffix(ending)):
            return " ".join(read_lines(beside))
    return None


def _labels(file: Path, text: str, unit: str, lexicon: dict | None) -> tuple[str, ...]:
    text = " ".join(text.split())
    if lexicon is not None:
        words = text.lower().split()
        if unknown := [word for word in words if word not in lexicon]:
            raise DataError(f"{file}: CMUdict has no {unknown[0]!r} - correct the transcript, or give phones")
        text = " ".join(lexicon[word][0] for word in words)
    if not text:
        raise DataError(f"{file} has an empty transcript - write what is said, or remove the recording")
    return tuple(text) if unit == "character" else tuple(text.split())
