"""The user's images and prepared sets: split by a fixed rule, converted by one rule, refused in one line."""

import json
import math
import os
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_refused, prepare_set, run_command
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnrnn.data.dataset import ArraySource
from cnnrnn.data.images import convert
from cnnrnn.data.images.custom import ImageSource, image_set
from cnnrnn.data.images.folders import hold_out
from cnnrnn.errors import DataError

PREPARED = ROOT.parent / "shared" / "data" / "tfds"
COLORS = {"blue": (20, 20, 220), "green": (20, 200, 20), "red": (220, 20, 20)}


def draw(file: Path, color: tuple[int, ...] = (90, 90, 90), size: tuple[int, int] = (24, 20)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if len(color) == 3 else "L", size, color if len(color) == 3 else color[0]).save(file)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes of twelve images each."""
    for name, color in COLORS.items():
        for number in range(12):
            draw(tmp_path / "set" / name / f"{number}.png", color)
    return tmp_path / "set"


def refused(*words: str, source: Path | str, **settings) -> None:
    """One line that holds the words."""
    with pytest.raises(DataError) as refusal:
        image_set(0, source=str(source), **settings)
    for word in words:
        assert str(word) in str(refusal.value), str(refusal.value)
    assert " - " in str(refusal.value) and "\n" not in str(refusal.value)


# --- which images


@given(st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=60), st.randoms())
def test_a_tenth_is_held_out_by_the_names_alone(names, random):
    shuffled = random.sample(sorted(names), len(names))
    held = hold_out(shuffled)
    assert held == hold_out(sorted(names)) and {*held} <= names and len(held) == math.ceil(len(names) / 10)
    sums = {name: zlib.crc32(os.fsencode(name)) for name in names}
    assert max(sums[name] for name in held) <= min([sums[name] for name in names - {*held}], default=2**32)


def test_classes_are_the_sorted_folders_and_a_tenth_of_each_is_for_testing(folder):
    splits = image_set(0, source=str(folder), size=8)
    assert [*splits] == ["train", "test"] and splits["train"].info["class_names"] == ["blue", "green", "red"]
    assert splits["train"].dims == {"num_classes": 3}
    assert np.bincount(splits["test"].source.arrays["label"]).tolist() == [2, 2, 2]
    assert np.bincount(splits["train"].source.arrays["label"]).tolist() == [10, 10, 10]
    for split in splits.values():
        for image, label in zip(split.source.arrays["image"], split.source.arrays["label"], strict=True):
            np.testing.assert_array_equal(image[3, 3], [*COLORS.values()][label])
    again = image_set(0, source=str(folder), size=8)
    assert {name: split.info for name, split in again.items()} == {name: split.info for name, split in splits.items()}


@pytest.mark.parametrize("validation", ["val", "validation", "Valid"])
def test_split_folders_are_taken_as_they_are(tmp_path, validation):
    for part, count in (("train", 3), (validation, 2), ("test", 1)):
        for name, color in COLORS.items():
            for number in range(count):
                draw(tmp_path / part / name / f"{number}.png", color)
    for file in (tmp_path / "test" / "red").iterdir():  # a class that only the test split lacks
        file.unlink()
    (tmp_path / "test" / "red").rmdir()
    splits = image_set(0, source=str(tmp_path))
    assert {name: split.info["num_examples"] for name, split in splits.items()} == {
        "train": 9,
        "validation": 6,
        "test": 2,
    }
    draw(tmp_path / "test" / "pink" / "0.png")
    refused(tmp_path / "test" / "pink", "is of no class in", source=tmp_path)


def test_splits_may_be_written_in_capitals_and_other_folders_are_reported(tmp_path, capfd):
    for part in ("Train", "TEST", "Train copy"):
        for name in ("cat", "dog"):
            draw(tmp_path / part / name / "0.png")
    sets = image_set(0, source=str(tmp_path))
    assert {name: data.info["num_examples"] for name, data in sets.items()} == {"train": 2, "test": 2}
    assert f"named after no split: {tmp_path / 'Train copy'}\n" in capfd.readouterr().err


def test_folders_in_a_class_are_searched_and_other_files_left_out_in_one_line(folder, capfd):
    draw(folder / "red" / "2019" / "may" / "a.JPG", COLORS["red"])
    draw(folder / "red" / ".hidden" / "a.png")
    for name in (".DS_Store", "notes.txt", "clip.mp4"):
        (folder / "red" / name).write_text("x")
    (folder / "labels.csv").write_text("x")
    draw(folder / "stray.png")
    splits = image_set(0, source=str(folder))
    assert sum(split.info["num_examples"] for split in splits.values()) == 37
    (line,) = capfd.readouterr().err.splitlines()
    red = folder / "red"
    for file in (folder / "labels.csv", folder / "stray.png", red / "notes.txt", red / "clip.mp4"):
        assert str(file) in line
    assert splits["train"].summary["left out"]["hidden"]["count"] == 2


# --- their pixels


def test_the_rule_is_that_of_inference(folder):
    draw(folder / "red" / "wide.jpg", (200, 100, 50), (91, 40))
    data = image_set(0, source=str(folder))["train"]
    rule = data.info["images"]
    assert rule == {"shape": [20, 20, 3], "light_on_dark": False, "ink_size": None, "center_crop": True}
    json.dumps(data.info)
    image = convert.read(folder / "red" / "wide.jpg", **{**rule, "shape": tuple(rule["shape"])})
    everything = np.concatenate([split.source.arrays["image"] for split in image_set(0, source=str(folder)).values()])
    assert (everything == image).all((1, 2, 3)).any()


@pytest.mark.parametrize(
    ("sides", "size", "expected"),
    [([20, 30, 50], None, 30), ([5] * 3, None, 16), ([200] * 3, None, 64), ([20, 30, 50], 7, 7)],
)
def test_the_size_is_told_or_the_median_of_the_shorter_sides(tmp_path, sides, size, expected):
    for name in ("a", "b"):
        for side in sides:
            draw(tmp_path / "train" / name / f"{side}-{sides.index(side)}.png", size=(side + 9, side))
        draw(tmp_path / "test" / name / "x.png", size=(500, 500))
    train = image_set(0, source=str(tmp_path), size=size)["train"]
    assert train.source.arrays["image"].shape[1:] == (expected, expected, 3)


def test_grayscale_images_make_one_channel_unless_told(tmp_path):
    for name in ("a", "b"):
        for number in range(3):
            draw(tmp_path / name / f"{number}.png", (120,))
    deep = Image.fromarray(np.full((20, 20), 30_000, np.uint16))
    deep.save(tmp_path / "a" / "deep.png")

    def channels(**settings):
        return image_set(0, source=str(tmp_path), **settings)["train"].source.arrays["image"].shape[-1]

    assert (channels(), channels(grayscale=False), channels(grayscale=True)) == (1, 3, 1)
    draw(tmp_path / "b" / "color.png", (120, 10, 10))
    assert (channels(), channels(grayscale=True), channels(size=9)) == (3, 1, 3)


# --- in memory or on disk


def test_a_set_on_disk_is_the_one_in_memory(folder):
    settings = dict(source=str(folder), size=9, batch_size=4, eval_batch_size=5)
    bytes_of_all = 36 * 9 * 9 * 3
    in_memory = image_set(3, **settings, memory_limit=bytes_of_all)
    assert all(isinstance(data.source, ArraySource) for data in in_memory.values())
    on_disk = image_set(3, **settings, memory_limit=bytes_of_all - 1)
    for split, data in on_disk.items():
        assert isinstance(data.source, ImageSource) and data.num_batches == in_memory[split].num_batches
        for step in range(data.num_batches):
            batch, expected = data.batch(step), in_memory[split].batch(step)
            assert batch.keys() == expected.keys()
            for name in batch:
                np.testing.assert_array_equal(batch[name], expected[name])
                assert batch[name].dtype == expected[name].dtype
        data.close()
        assert data.info | {"fingerprint": 0} == in_memory[split].info | {"fingerprint": 0}
        example = data.source[2]
        assert example["label"] == in_memory[split].source[2]["label"]
        np.testing.assert_array_equal(example["image"], in_memory[split].source[2]["image"])


def test_a_broken_file_of_a_set_on_disk_is_named_in_its_turn_and_may_be_replaced(folder):
    broken = folder / "red" / "11.png"
    data = broken.read_bytes()
    broken.write_bytes(data[:-30])
    settings = dict(source=str(folder), size=9, grayscale=False, batch_size=4, memory_limit=0)
    train = image_set(0, **settings)["train"]
    before = train.info
    with pytest.raises(DataError, match="red/11.png cannot be read as an image"):
        for step in range(train.num_batches):
            train.batch(step)
    broken.write_bytes(data)
    assert sum(train.batch(step)["mask"].sum() for step in range(train.num_batches)) == 32
    train.close()
    assert image_set(0, **settings)["train"].info == before
    broken.rename(folder / "red" / "new.png")
    assert image_set(0, **settings)["train"].info["fingerprint"] != before["fingerprint"]


def test_a_file_that_cannot_be_read_in_time_is_reported(folder, monkeypatch):
    monkeypatch.setattr(convert, "read", lambda *_, **__: time.sleep(3))  # a disk that does not answer
    train = image_set(0, source=str(folder), size=9, grayscale=False, memory_limit=0, timeout=0.5)["train"]
    with pytest.raises(DataError, match="batch 0 was not read within 0.5 s"):
        train.batch(0)
    train.close()


# --- what is refused


def test_folders_that_are_no_set(tmp_path, folder):
    refused("no folder", tmp_path / "nope", source=tmp_path / "nope")
    refused("no folder", source=folder / "red" / "0.png")
    refused("the images are directly in", folder / "red", source=folder / "red")
    (tmp_path / "void").mkdir()
    refused("no class folders in", tmp_path / "void", source=tmp_path / "void")
    draw(tmp_path / "lone" / "a" / "0.png")
    refused("only one class", tmp_path / "lone", "a", source=tmp_path / "lone")
    draw(tmp_path / "lone" / "b" / "0.png")
    refused("only one image in", tmp_path / "lone" / "a", source=tmp_path / "lone")
    (folder / "empty").mkdir()
    (folder / "empty" / "readme.txt").write_text("x")
    refused("no images in", folder / "empty", source=folder)
    for part in ("train", "val", "validation"):
        draw(tmp_path / "parts" / part / "a" / "0.png")
    refused("both for validation", tmp_path / "parts" / "val", source=tmp_path / "parts")


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    start = data.index(b"\xff\xda")  # the header of what is to be decoded
    data[start + 4 : start + 14] = bytes(10)
    file.write_bytes(data)


def replace_by_text(file: Path) -> None:
    file.write_text("no image")


def link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere.jpg")


@pytest.mark.parametrize("damage", [shorten, flip, replace_by_text, link_to_nothing])
def test_a_broken_file_is_named_at_the_start(folder, damage):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "green" / "photo.jpg")
    damage(folder / "green" / "photo.jpg")
    refused(folder / "green" / "photo.jpg", source=folder, size=9, grayscale=False)
    refused(folder / "green" / "photo.jpg", source=folder)


def test_an_image_over_the_limit_is_named(folder, monkeypatch):
    draw(folder / "green" / "large.png", size=(200, 200))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    refused(folder / "green" / "large.png", "limit", source=folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(folder):
    (folder / "green" / "0.png").chmod(0)
    refused(folder / "green" / "0.png", "rights", source=folder)
    (folder / "green").chmod(0)
    refused(folder / "green", "rights", source=folder)
    (folder / "green").chmod(0o755)


@pytest.mark.parametrize("source", ["~nobody_has_this_name/images", "x" * 300, "a\0b"])
def test_a_name_that_no_folder_can_have_is_refused(source, tmp_path):
    refused("no folder", source=source)
    refused("no prepared set made", source="tfds:made", data_dir=source)
    refused("no prepared set", source=f"tfds:{'made' * 99}", data_dir=str(tmp_path))


def test_the_current_folder_is_a_set(folder, monkeypatch):
    """Also if the classes are in the only folder of it, or in folders of splits."""
    for home, other in ((folder, folder.parent), (folder.parent, folder)):
        monkeypatch.chdir(home)
        here, there = (image_set(0, source=source) for source in (".", str(other)))
        assert here["train"].info == there["train"].info
    folder.rename(folder.parent / "train")
    draw(folder.parent / "test" / "red" / "0.png")
    assert {*image_set(0, source=".")} == {"train", "test"}


# --- sets that TFDS has prepared


def photo(number: int) -> bytes:
    """An encoded image whose color is its number."""
    import io

    file = io.BytesIO()
    Image.new("RGB", (30 + number, 20), (number, 2 * number, 100)).save(file, "PNG")
    return file.getvalue()


def features(**more) -> dict:
    import tensorflow_datasets as tfds

    return {
        "photo": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "kind": tfds.features.ClassLabel(names=["cat", "dog"]),
        "note": tfds.features.Text(),
    } | more


def examples(numbers, **more) -> list[dict]:
    return [{"photo": photo(number), "kind": number % 2, "note": "x"} | more for number in numbers]


def test_a_prepared_set_is_found_and_its_unlabelled_split_left_out(tmp_path):
    splits = {"train": examples(range(20)), "validation": examples(range(5)), "test": examples(range(4), kind=-1)}
    prepare_set(tmp_path, features(), splits)
    sets = image_set(0, source="tfds:made", data_dir=str(tmp_path))
    assert {name: data.info["num_examples"] for name, data in sets.items()} == {"train": 20, "validation": 5}
    train = sets["train"]
    assert train.info["class_names"] == ["cat", "dog"] and train.info["images"]["shape"] == [20, 20, 3]
    pairs = {
        (tuple(image[5, 5]), label)
        for image, label in zip(*map(train.source.arrays.get, ("image", "label")), strict=True)
    }
    assert pairs == {((number, 2 * number, 100), number % 2) for number in range(20)}


def test_a_set_of_one_split_holds_out_every_tenth_and_a_wrong_label_is_refused(tmp_path):
    prepare_set(tmp_path, features(), {"train": examples(range(20)) + examples([20], kind=-1)})
    refused("label -1 of example", "train in", tmp_path, source="tfds:made", data_dir=str(tmp_path))
    settings = dict(size=8, grayscale=False, batch_size=2, memory_limit=0)
    sets = image_set(0, source="tfds:made:1.0.0", data_dir=str(tmp_path), **settings)
    assert {name: data.info["num_examples"] for name, data in sets.items()} == {"train": 18, "test": 3}
    with pytest.raises(DataError, match="label -1 of example"):  # before it reaches a step
        for data in sets.values():
            for step in range(data.num_batches):
                data.batch(step)
    for data in sets.values():
        data.close()


def test_prepared_sets_that_cannot_be_used(tmp_path):
    import tensorflow_datasets as tfds

    home = str(tmp_path)
    refused("no prepared set nope", home, source="tfds:nope", data_dir=home)
    prepare_set(tmp_path, features(), {"train": examples(range(4))})
    refused("no prepared set nope", "there are made", source="tfds:nope", data_dir=home)
    refused("did you mean made?", source="tfds:mode", data_dir=home)
    refused("no prepared set made:2.0.0", source="tfds:made:2.0.0", data_dir=home)
    refused("write tfds:NAME", source="tfds:../made", data_dir=home)
    one = {"kind": tfds.features.ClassLabel(names=["cat", "dog"])}
    prepare_set(tmp_path, one, {"train": [{"kind": 0}]}, "Blind")
    refused("no image feature", "only kind", source="tfds:blind", data_dir=home)
    prepare_set(tmp_path, features(mood=one["kind"]), {"train": examples([1], mood=0)}, "Double")
    refused("several label features, kind, mood", source="tfds:double", data_dir=home)
    (description,) = (tmp_path / "made").rglob("features.json")
    good = description.read_text()
    description.write_text(good.replace('"kind"', '"mind"'))  # which is in no record
    refused("are damaged", "one has no mind", "prepare the set again", source="tfds:made", data_dir=home)
    description.write_text(good)
    (info,) = (tmp_path / "made").rglob("dataset_info.json")
    good = info.read_text()
    info.write_text(good.replace("{DATASET}", "{DATA}"))
    refused("is no prepared set that can be opened", source="tfds:made", data_dir=home)
    info.write_text(good)
    for file in (tmp_path / "made").rglob("*array_record*"):
        file.write_bytes(b"x" * 2000)
    refused("are damaged", "prepare the set again", source="tfds:made", data_dir=home)
    for file in (tmp_path / "made").rglob("*array_record*"):
        file.unlink()
    refused("no file", "prepare the set again", source="tfds:made", data_dir=home)
    info = tmp_path / "made" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    refused("is prepared as tfrecord", source="tfds:made", data_dir=home)


def test_the_stock_mnist_is_read_as_it_is():
    if not (PREPARED / "mnist").is_dir():
        pytest.skip(f"the stock MNIST is not prepared in {PREPARED}")
    sets = image_set(0, source="tfds:mnist", data_dir=str(PREPARED), memory_limit=0)  # only some batches of it
    assert {name: data.info["num_examples"] for name, data in sets.items()} == {"train": 60_000, "test": 10_000}
    batch = sets["test"].batch(0)
    assert batch["image"].shape == (250, 28, 28, 1) and batch["image"].max() == 255
    assert sets["train"].info["class_names"] == [*"0123456789"]
    assert np.bincount(batch["label"], minlength=10).min() > 10
    sets["test"].close()


# --- a whole run


CONFIG = """
from ml_collections import ConfigDict
def get_config():
    return ConfigDict(dict(
        seed=0,
        task=dict(name="classification.Classification"),
        model=dict(name="convnet.ConvNet", features=(4, 4, 8)),
        data=dict(name="images.custom.image_set", source="images", batch_size=8),
        optim=dict(name="sgd", learning_rate=0.05, momentum=0.9),
        train=dict(num_steps=40, log_every=20),
    ))
"""


def test_a_folder_is_trained_on_and_new_images_are_named(folder, tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    words = ["--config", tmp_path / "config.py", "--workdir", tmp_path / "run", f"--config.data.source={folder}"]
    done = run_command("main", *words)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    draw(tmp_path / "new.jpg", COLORS["green"], (300, 120))
    answer = run_command("predict", "--workdir", tmp_path / "run", tmp_path / "new.jpg", "--json")
    assert json.loads(answer.stdout)[0]["classes"][0]["name"] == "green", answer.stderr
    (folder / "red" / "0.png").write_text("no image")
    other = [*words[:3], tmp_path / "other", words[4]]
    assert_refused(run_command("main", *other), 3, str(folder / "red" / "0.png"))
