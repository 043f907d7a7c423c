"""Regular files are read, each folder once; leftovers, runs and pipes are not; a name means a split or none."""

import json
import os

import pytest
from conftest import run_command

from cnnrnn.data.files import RUN_FILES, Listing, find_splits, is_regular, split_of
from cnnrnn.errors import DataError, WorkdirError
from cnnrnn.training.workdir import Workdir


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (["train", "Train", "TRAINING", "training set", "train2017", "TrainSet", "train_images", "01_train"], "train"),
        (["val", "valid", "Validation", "VALIDATION-SET", "val2017", "dev", "Dev Set", "validate"], "validation"),
        (["test", "Testing", "TEST", "test-images", "Test Data", "testset", "tst"], "test"),
        (["trains", "cat", "devil", "contest", "train station", "test and train", "", "2017", "images"], None),
    ],
)  # fmt: skip
def test_a_split_is_known_by_any_spelling(names, split):
    assert {name: split_of(name) for name in names} == dict.fromkeys(names, split)


def touch(*files) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_what_is_no_data_is_left_out_with_its_reason(tmp_path, capsys):
    touch(tmp_path / "a" / "1.png", tmp_path / "__MACOSX" / "a" / "1.png", tmp_path / "a" / "._1.png")
    touch(tmp_path / "a" / "@eaDir" / "1.png" / "thumbnail.jpg", tmp_path / ".cache" / "2.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    listing = Listing(tmp_path)
    assert listing.walk(tmp_path) == [str(tmp_path / "a" / "1.png")]
    assert listing.left_out == {
        "hidden": [str(tmp_path / ".cache"), str(tmp_path / "a" / "._1.png")],
        "made by a system or an archive": [str(tmp_path / "__MACOSX"), str(tmp_path / "a" / "@eaDir")],
        "not a regular file": [str(tmp_path / "a" / "2.png")],
    }
    assert listing.summary()["hidden"] == {"count": 2, "first": str(tmp_path / ".cache")}
    listing.print_left_out()
    (line,) = capsys.readouterr().err.splitlines()
    assert "__MACOSX and 1 more" in line and f"not a regular file: {tmp_path / 'a' / '2.png'}" in line
    assert "hidden" not in line


def test_links_may_form_circles_and_each_folder_is_read_once(tmp_path):
    touch(tmp_path / "cat" / "1.png", tmp_path / "dog" / "2.png", tmp_path / "elsewhere" / "3.png")
    root = tmp_path / "set"
    root.mkdir()
    for name in ("cat", "dog"):
        (tmp_path / name).rename(root / name)
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat" / "self")
    (root / "cat" / "dogs").symlink_to(root / "dog")
    (root / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "also_dog").symlink_to(root / "dog")
    (root / "dog" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    (root / "alias").symlink_to(tmp_path / "other")
    touch(root / "dog" / "inner" / "4.png", tmp_path / "other" / "5.png")
    (root / "cat" / "inner").symlink_to(root / "dog" / "inner")
    listing = Listing(root)
    folders, _ = listing.scan(root)
    assert folders == [str(root / name) for name in ("alias", "cat", "dog")]
    assert listing.walk(root / "cat") == [str(root / "cat" / name) for name in ("1.png", "self")]  # to read it names it
    assert [os.path.relpath(file, root) for file in listing.walk(root / "dog")] == [
        "dog/2.png",
        "dog/again/3.png",
        "dog/inner/4.png",
    ]
    assert listing.left_out["a link to a folder of the same set"] == [
        str(root / name) for name in ("also_dog", "cat/dogs", "cat/inner", "cat/up")
    ]
    assert listing.left_out[f"the same folder as {root / 'dog' / 'again'}"] == [
        str(root / "dog" / "more"),
        str(root / "dog" / "again" / "loop"),
    ]


def test_folders_may_be_nested_more_deeply_than_the_stack(tmp_path):
    folder = str(tmp_path)
    try:
        for _ in range(1200):
            folder += "/d"
            os.mkdir(folder)
        assert Listing(tmp_path).walk(tmp_path) == []
    finally:
        os.removedirs(folder)  # pytest would recurse


def test_a_pipe_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    touch(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    names = ["pipe", "file", "link", "broken", "nothing"]
    assert [is_regular(tmp_path / name) for name in names] == [False, True, True, False, False]


def test_the_directory_of_a_run_is_no_data(tmp_path, config):
    with Workdir(str(tmp_path / "run"), config):
        assert {*RUN_FILES} <= {file.name for file in (tmp_path / "run").iterdir()}  # from the start
        touch(tmp_path / "a.txt")
        listing = Listing(tmp_path)
        assert listing.walk(tmp_path) == [str(tmp_path / "a.txt")]
        assert listing.left_out == {"the directory of a run": [str(tmp_path / "run")]}
        with pytest.raises(DataError, match="is the directory of a run - name a folder of data"):
            Listing(tmp_path / "run")


def test_a_run_inside_its_data_does_not_become_data(tmp_path):
    """The second start reads the same text, though the first has left model.txt in the folder."""
    (tmp_path / "book.txt").write_text("some words of a book\n" * 400)
    words = ["--config", "configs/pydoc_lstm.py", f"--config.data.source={tmp_path}", "--config.data.window=8"]
    words += ["--config.model.hidden_size=4", "--config.optim.warmup_steps=1", "--workdir", tmp_path / "runs" / "one"]
    for num_steps in (2, 3):
        done = run_command("main", *words, f"--config.train.num_steps={num_steps}")
        assert done.returncode == 0, done.stderr
        assert done.stderr == f"left out, the directory of a run: {tmp_path / 'runs' / 'one'}\n"
    assert (tmp_path / "runs" / "one" / "model.txt").exists()
    info = json.loads((tmp_path / "runs" / "one" / "dataset.json").read_text())
    assert info["summary"]["train"]["left out"]["the directory of a run"]["count"] == 1


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["birds_train", "birds_test"], ["train", "test"]),
        (["my-train", "my-val", "other"], ["train", "validation"]),
        (["train_en", "valid_en"], ["train", "validation"]),
        (["birds_train", "cats_test"], []),  # of two sets
        (["a_train", "a_test", "b_train", "b_test"], []),
        (["test station", "train station"], ["test", "train"]),
        (["train", "birds_test"], ["train"]),
        (["one", "two"], []),
    ],
)
def test_names_that_are_the_same_but_for_a_split(names, splits):
    assert list(find_splits(names).values()) == splits


def test_a_workdir_that_is_a_folder_of_the_data_is_refused_before_it_is_written(tmp_path, config):
    for folder in ("set/cat", "set/dog", "set/runs"):
        (tmp_path / folder).mkdir(parents=True)
    touch(tmp_path / "set" / "cat" / "1.png")
    config.data.source = str(tmp_path / "set")
    for workdir in ("set", "set/cat"):
        with pytest.raises(WorkdirError, match="is a folder of the data, data.source - choose another"):
            Workdir(str(tmp_path / workdir), config)
    assert not (tmp_path / "set" / ".lock").exists() and not (tmp_path / "set" / "cat" / ".lock").exists()
    for workdir in ("set/runs", "set/new", "elsewhere", "set/new"):  # empty, new, outside, and a run
        with Workdir(str(tmp_path / workdir), config):
            pass
