"""TFDS builders that need no TensorFlow, and the reading of their sets into memory."""

import hashlib
import importlib
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnrnn.command import echo
from cnnrnn.errors import DataError

READ_SIZE = 4096  # examples read at a time
Arrays = dict[str, np.ndarray]


def load(name: str, splits: Sequence[str], data_dir: str | None, manual_dir: str | None) -> dict[str, Arrays]:
    """Reads whole splits as arrays. A set that is not prepared yet is prepared first.

    Args:
      name: "module.Builder" below this package.
      splits: of the builder.
      data_dir: the folder of TFDS's prepared sets; None is ~/.cache/cnnrnn/datasets. The arrays are saved beside the
        records, where the next call reads them.
      manual_dir: a folder with the original files; None downloads them.

    Returns:
      For each split {feature: [N, ...]} in the order of the prepared records.

    Raises:
      DataError: the set is neither there nor can it be downloaded, or it is damaged.
    """
    import tensorflow_datasets as tfds

    directory = Path(data_dir).expanduser() if data_dir else Path.home() / ".cache" / "cnnrnn" / "datasets"
    originals = Path(manual_dir).expanduser() if manual_dir else None
    module, _, attribute = name.partition(".")
    try:
        builder = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)(
            data_dir=directory, file_format="array_record"
        )
        if not Path(builder.data_dir).exists():
            _prepare(tfds, builder, directory, originals)
    except OSError as error:
        raise DataError(
            f"cannot prepare {name} in {directory}: {error} - set --config.data.data_dir to a writable folder"
        ) from error
    caches = {split: Path(builder.data_dir) / f"{split}.npz" for split in splits}
    return {split: _read_cache(cache) or _decode(builder, split, cache) for split, cache in caches.items()}


def _prepare(tfds, builder, data_dir: Path, manual_dir: Path | None) -> None:
    _require_sources(builder, manual_dir)
    echo(f"preparing {builder.name} in {builder.data_dir}, once")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    folder = data_dir / "downloads" / builder.name  # not shared: sets have equal file names
    settings = tfds.download.DownloadConfig(
        manual_dir=manual_dir, extract_dir=folder / "extracted", force_checksums_validation=True
    )
    import requests  # TFDS downloads with it

    try:
        builder.download_and_prepare(download_dir=folder, download_config=settings)
    except (tfds.download.DownloadError, requests.RequestException) as error:
        raise DataError(
            f"cannot download {builder.name}: {error} - try again, or set --config.data.manual_dir"
        ) from error
    except Exception as error:
        if "checksum" in str(error):  # of a download: the files of a folder have been checked before
            raise DataError(f"what came for {builder.name} is not the original - try again: {error}") from error
        raise


def _require_sources(builder, manual_dir: Path | None) -> None:
    """Fails at once where the download manager would fail after minutes of trying."""
    originals = {url: info for url, info in builder.url_infos.items() if url.startswith(builder.URL)}
    names = ", ".join(info.filename for info in originals.values())
    if manual_dir is not None:
        for info in originals.values():
            file = manual_dir / info.filename
            if not file.is_file():
                raise DataError(f"no {file.name} in {manual_dir} - put the original files there: {names}")
            if hashlib.sha256(file.read_bytes()).hexdigest() != info.checksum:
                raise DataError(f"{file} is not the original one of {builder.name} - replace it or name another folder")
        return
    if builder.URL.startswith("manual:"):
        raise DataError(
            f"{builder.name} is not downloaded - put {names} into a folder and name it: --config.data.manual_dir=FOLDER"
        )
    import requests

    try:
        requests.head(next(iter(originals)), timeout=10, allow_redirects=True).raise_for_status()
    except requests.RequestException as error:
        raise DataError(
            f"cannot reach {builder.URL} ({type(error).__name__}) to download {builder.name} - "
            f"put {names} into a folder and name it: --config.data.manual_dir=FOLDER"
        ) from error


def _read_cache(cache: Path) -> Arrays | None:
    try:
        with np.load(cache) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # the checksums of a zip file detect every flipped bit
        print(f"{cache} is damaged: it is made anew from the records", file=sys.stderr, flush=True)
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
