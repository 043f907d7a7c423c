"""TFDS builders that need no TensorFlow, and the reading of their sets into memory."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from cnnrnn.command import echo, note
from cnnrnn.data.builders import originals
from cnnrnn.errors import DataError

READ_SIZE = 4096  # examples read at a time
DATA_DIR = "~/.cache/cnnrnn/datasets"
Arrays = dict[str, np.ndarray]


class PublishedBuilder(tfds.core.GeneratorBasedBuilder):
    """Prepares a set from its original files, found in a folder or downloaded. TensorFlow is not needed.

    A subclass has `VERSION`, `_info` and `_generate_examples`, which is given {name: bytes} of a split.

    Attributes:
      URL: where the originals are; None if they are never downloaded. checksums.tsv lists them, packed.
      FILES: {split: names of its contents}.
      CONTENTS: what the files hold, see `originals.find`.
      OTHERS: the contents of sets that are easily mistaken for this one, by their names.
      found: {name: bytes}, the contents of the files of a folder; None downloads them.
    """

    URL: str | None = None
    FILES: Mapping[str, Sequence[str]] = {}
    CONTENTS: originals.Contents = {}
    OTHERS: Mapping[str, originals.Contents] = {}
    found: dict[str, bytes] | None = None

    @property
    def downloads(self) -> dict[str, tfds.download.checksums.UrlInfo]:
        """{address: the size, checksum and name of the file there}."""
        return {url: info for url, info in self.url_infos.items() if self.URL and url.startswith(self.URL)}

    def find(self, files: Sequence[str]) -> dict[str, bytes]:
        """The contents of the set, by their names, as they are found in files.

        Raises:
          DataError: one is missing.
        """
        return originals.find(self.CONTENTS, files, self.OTHERS)

    def _split_generators(self, dl_manager):
        found = self.found or self.find(dl_manager.download(list(self.downloads)))
        files = {split: {name: found[name] for name in names} for split, names in self.FILES.items()}
        return {split: self._generate_examples(contents) for split, contents in files.items()}


def load(name: str, splits: Sequence[str], data_dir: str | None, manual_dir: str | None) -> dict[str, Arrays]:
    """Reads whole splits as arrays. A set that is not prepared yet is prepared first.

    Args:
      name: "module.Builder" below this package.
      splits: of the builder.
      data_dir: the folder of TFDS's prepared sets; None is ~/.cache/cnnrnn/datasets. The arrays are saved beside the
        records, where the next call reads them.
      manual_dir: a folder with the original files, in it or below it, see `originals`; None downloads them.

    Returns:
      For each split {feature: [N, ...]} in the order of the prepared records.

    Raises:
      DataError: the set is neither there nor can it be downloaded, or it is damaged.
    """
    directory = Path(os.path.expanduser(data_dir or DATA_DIR))
    module, _, attribute = name.partition(".")
    try:
        builder = _make_builder(getattr(importlib.import_module(f"{__name__}.{module}"), attribute), directory)
        if not os.path.exists(builder.data_dir):
            _prepare(builder, directory, Path(os.path.expanduser(manual_dir)) if manual_dir else None)
    except OSError as error:
        raise DataError(
            f"cannot prepare {name} in {directory}: {error} - set --config.data.data_dir to a writable folder"
        ) from error
    caches = {split: Path(builder.data_dir) / f"{split}.npz" for split in splits}
    return {
        split: _read_cache(builder, split, cache) or _decode(builder, split, cache) for split, cache in caches.items()
    }


def _make_builder(builder: type[PublishedBuilder], data_dir: Path) -> PublishedBuilder:
    """A builder, which reads the description of its set if the set is prepared."""
    folder = data_dir / builder.name / str(builder.VERSION)
    try:
        return builder(data_dir=data_dir, file_format="array_record")
    except Exception as error:  # a file that is no JSON, a field that is missing, ...
        if not os.path.isdir(folder):
            raise
        raise DataError(f"{folder} is damaged: {error} - delete it, it is made anew") from error


def _prepare(builder: PublishedBuilder, data_dir: Path, manual_dir: Path | None) -> None:
    if manual_dir is None:
        _require_network(builder)
    else:
        builder.found = builder.find(originals.list_files(manual_dir))
    echo(f"preparing {builder.name} in {builder.data_dir}, once")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    folder = data_dir / "downloads" / builder.name  # not shared: sets have equal file names
    settings = tfds.download.DownloadConfig(extract_dir=folder / "extracted", force_checksums_validation=True)
    import requests  # TFDS downloads with it

    try:
        builder.download_and_prepare(download_dir=folder, download_config=settings)
    except (tfds.download.DownloadError, requests.RequestException) as error:
        raise DataError(
            f"cannot download {builder.name}: {error} - try again, or set --config.data.manual_dir"
        ) from error
    except Exception as error:
        if "checksum" in str(error):  # of a download: the contents of a folder have been checked before
            raise DataError(f"what came for {builder.name} is not the original - try again: {error}") from error
        raise
    builder.found = None  # frees the memory


def _require_network(builder: PublishedBuilder) -> None:
    """Fails at once where the download manager would fail after minutes of trying."""
    if not builder.downloads:
        raise DataError(
            f"{builder.name} is not downloaded - put {', '.join(builder.CONTENTS)} into a folder and name it: "
            "--config.data.manual_dir=FOLDER"
        )
    import requests

    try:
        requests.head(next(iter(builder.downloads)), timeout=10, allow_redirects=True).raise_for_status()
    except requests.RequestException as error:
        names = ", ".join(info.filename for info in builder.downloads.values())
        raise DataError(
            f"cannot reach {builder.URL} ({type(error).__name__}) to download {builder.name} - "
            f"put {names} into a folder and name it: --config.data.manual_dir=FOLDER"
        ) from error


def _read_cache(builder: PublishedBuilder, split: str, cache: Path) -> Arrays | None:
    try:
        with np.load(cache) as file:
            # NumPy reads as much of an array as its header says, and the checksum is only compared at the end
            arrays = dict(file) if file.zip.testzip() is None else {}
        expected = dict.fromkeys(builder.info.features, builder.info.splits[split].num_examples)
        if {name: len(array) for name, array in arrays.items()} == expected:
            return arrays
    except FileNotFoundError:
        return None
    except Exception:  # damaged zip files raise exceptions of many kinds
        pass
    note(f"{cache} is damaged: it is made anew from the records")
    return None


def _decode(builder, split: str, cache: Path) -> Arrays:
    remedy = f"delete {builder.data_dir}, it is made anew"
    try:
        source, expected = builder.as_data_source(split=split), builder.info.splits[split].num_examples
        starts = range(0, len(source), READ_SIZE)
        examples = [
            example for at in starts for example in source.__getitems__(range(at, min(at + READ_SIZE, len(source))))
        ]
    except Exception as error:  # the checksums of array_record raise several kinds of exception
        raise DataError(f"the {split} records in {builder.data_dir} are damaged: {error} - {remedy}") from error
    if len(examples) != expected:
        raise DataError(f"{len(examples)} of {expected} {split} records in {builder.data_dir} - {remedy}")
    arrays = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    part = cache.with_suffix(f".{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez(file, **arrays)
        part.replace(cache)
    except OSError:  # in a read-only folder the records are decoded each time
        part.unlink(missing_ok=True)
    return arrays
