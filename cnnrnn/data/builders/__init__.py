"""TFDS builders that need no TensorFlow, and how their sets come into memory."""

import hashlib
import importlib
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnrnn.command import say
from cnnrnn.errors import DataError

BLOCK = 4096  # examples read at a time
Arrays = dict[str, np.ndarray]


def load(name: str, splits: Sequence[str], data_dir: str | None, manual_dir: str | None) -> dict[str, Arrays]:
    """Whole splits as arrays, prepared first if they are not yet.

    Args:
      name: "module.Builder" below this package.
      splits: of the builder.
      data_dir: where TFDS keeps prepared sets, None is ~/.cache/cnnrnn/datasets; the decoded arrays are kept beside the
        records, to be read at once the next time.
      manual_dir: a folder with the original files, or None to download them.

    Returns:
      For each split {feature: [N, ...]} in the order of the prepared records.

    Raises:
      DataError: the set can neither be found nor downloaded, or is damaged.
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
    say(f"preparing {builder.name} in {builder.data_dir}, once")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    folder = data_dir / "downloads" / builder.name  # of its own: sets share file names
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
        if "checksum" in str(error):  # of a download: a folder's files have been looked at before
            raise DataError(f"what came for {builder.name} is not the original - try again: {error}") from error
        raise


def _require_sources(builder, manual_dir: Path | None) -> None:
    """Answers at once what the download manager would find out after minutes of trying."""
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
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # zip sums catch every flipped bit
        print(f"{cache} is damaged: it is made anew from the records", file=sys.stderr, flush=True)
        return None


def _decode(builder, split: str, cache: Path) -> Arrays:
    mend = f"delete {builder.data_dir}, it is made anew"
    try:
        source, expected = builder.as_data_source(split=split), builder.info.splits[split].num_examples
        starts = range(0, len(source), BLOCK)
        examples = [
            example for at in starts for example in source.__getitems__(range(at, min(at + BLOCK, len(source))))
        ]
    except Exception as error:  # array_record's own sums notice damage, in several kinds of exception
        raise DataError(f"the {split} records in {builder.data_dir} are damaged: {error} - {mend}") from error
    if len(examples) != expected:
        raise DataError(f"{len(examples)} of {expected} {split} records in {builder.data_dir} - {mend}")
    arrays = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    part = cache.with_suffix(f".{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez(file, **arrays)
        part.replace(cache)
    except OSError:  # a read-only store is read the slow way each time
        part.unlink(missing_ok=True)
    return arrays
