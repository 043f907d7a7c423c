"""Folders as people bring them: their splits and classes are understood, or refused with what was understood."""

import os
from pathlib import Path

import pytest
from PIL import Image

from cnnrnn.data.images.custom import image_set
from cnnrnn.data.images.folders import SUFFIXES, open_folder
from cnnrnn.errors import DataError


def draw(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(file, file.suffix.lower() in (".png", ".apng") and "PNG" or "JPEG")


def fill(root: Path, *folders: str, count: int = 2) -> None:
    """Images in each folder."""
    draw(*(root / folder / f"{number}.png" for folder in folders for number in range(count)))


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".apng", ".JfIf"])
def test_every_suffix_of_a_format_is_seen(tmp_path, suffix):
    draw(*(tmp_path / name / f"{number}{suffix}" for name in "ab" for number in range(2)))
    _, splits, left_out = open_folder(str(tmp_path))
    assert [len(files) for files in splits.values()] == [2, 2] and not left_out
    assert {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"} < {*SUFFIXES}


@pytest.mark.parametrize(
    "names", [("Training", "Test"), ("TRAIN", "Validation Set"), ("train2017", "val2017"), ("training-images", "dev")]
)
def test_splits_in_any_spelling(tmp_path, names):
    fill(tmp_path, *(f"{split}/{kind}" for split in names for kind in ("cat", "dog")))
    class_names, splits, _ = open_folder(str(tmp_path))
    assert class_names == ["cat", "dog"] and [len(files) for files in splits.values()] == [4, 4]
    assert len(splits) == 2 and "train" in splits


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["val/cat", "val/dog", "test/cat", "test/dog"],
         "no training split in .*: understood test as test, val as validation - call the folder of"),
        (["cat", "dog", "test/cat", "test/dog"], "no training split in .*: understood test as test - "),
        (["val", "test"], "no training split"),
        (["Training", "Test"], "understood .*Test as the test split, but its images are in no class folders"),
        (["car", "train"], "understood .*train as the train split, .* or rename it if it is a class"),
        (["train/a", "train/b", "test"], "understood .*test as the test split, but its images are in no class folders"),
        (["cat/train", "cat/test", "dog/train", "dog/test"],
         "understood .*cat/test as a test split within a class - put it above the classes: .*/test/cat"),
        (["train/a", "train/b", "Val/a", "dev/a"], "Val and .*dev are both for validation"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused_with_what_was_understood(tmp_path, folders, message):
    fill(tmp_path, *folders)
    with pytest.raises(DataError, match=message):
        open_folder(str(tmp_path))


def test_an_archive_from_a_mac(tmp_path, capsys):
    """It has one folder around all, and a second tree of files that only look like images."""
    fill(tmp_path, "animals/cat", "animals/dog")
    for kind in ("cat", "dog"):
        for number in range(2):
            for twin in (tmp_path / "__MACOSX" / "animals" / kind, tmp_path / "animals" / kind):
                twin.mkdir(parents=True, exist_ok=True)
                (twin / f"._{number}.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    class_names, splits, left_out = open_folder(str(tmp_path))
    assert class_names == ["cat", "dog"] and [len(files) for files in splits.values()] == [2, 2]
    assert left_out["hidden"]["count"] == 4 and left_out["made by a system or an archive"]["count"] == 1
    assert f"reading {tmp_path / 'animals'}, the only folder in {tmp_path}" in capsys.readouterr().err


def test_a_circle_of_links_and_a_pipe_end_in_no_bug_and_no_wait(tmp_path, capsys):
    fill(tmp_path, "cat", "dog", count=3)
    (tmp_path / "cat" / "all").symlink_to(tmp_path)
    (tmp_path / "dog" / "again").symlink_to(tmp_path / "dog")
    os.mkfifo(tmp_path / "dog" / "9.png")
    data = image_set(0, source=str(tmp_path))
    assert sum(split.info["num_examples"] for split in data.values()) == 6
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert data["train"].summary["left out"]["not a regular file"] == {
        "count": 1,
        "first": str(tmp_path / "dog" / "9.png"),
    }


def test_a_run_inside_the_folder_of_images_is_no_class(tmp_path):
    fill(tmp_path, "cat", "dog", "runs/first", "cat/run")
    for folder in (tmp_path / "runs" / "first", tmp_path / "cat" / "run"):
        for name in (".lock", "config.json"):
            (folder / name).touch()
    class_names, splits, _ = open_folder(str(tmp_path))
    assert class_names == ["cat", "dog"] and sum(map(len, splits.values())) == 4


def test_a_link_to_a_missing_image_is_named(tmp_path):
    fill(tmp_path, "cat", "dog")
    (tmp_path / "cat" / "annex.png").symlink_to(".git/annex/objects/x.png")
    with pytest.raises(DataError, match="annex.png is a link to a file that is missing - fetch it or delete the link"):
        image_set(0, source=str(tmp_path))


def test_the_summary_says_what_was_understood(tmp_path):
    fill(tmp_path, "cat", "dog", count=5)
    (tmp_path / "dog" / "notes.TXT").touch()
    data = image_set(0, source=str(tmp_path))
    assert data["train"].summary == {
        "images": 8,
        "classes": {"cat": 4, "dog": 4},
        "sizes": "9 x 9 pixels, color",
        "input": "16 x 16 x 3",
        "left out": {"not an image that is read, *.txt": {"count": 1, "first": str(tmp_path / "dog" / "notes.TXT")}},
    }
    assert data["test"].summary == {"images": 2, "classes": {"cat": 1, "dog": 1}}


def test_splits_of_one_name_and_folders_around_them(tmp_path, capsys):
    fill(tmp_path, *(f"x/data/birds_{split}/{kind}" for split in ("train", "test") for kind in ("cat", "dog")))
    class_names, splits, _ = open_folder(str(tmp_path))
    assert class_names == ["cat", "dog"] and [*splits] == ["train", "test"]
    assert capsys.readouterr().err == f"reading {tmp_path / 'x' / 'data'}, the only folder in {tmp_path}\n"


@pytest.mark.parametrize(("settings", "error"), [({"source": ""}, "data.source is empty")])
def test_an_empty_source_is_not_the_current_folder(settings, error):
    with pytest.raises(DataError, match=error):
        image_set(0, **settings)
