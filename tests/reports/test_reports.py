"""The report of a finished run: drawn once, of the right examples, and never worth more than the run."""

import flax.linen as nn
import numpy as np
import pytest
from conftest import array_dataset
from PIL import Image

from cnnrnn import reports
from cnnrnn.reports import classification
from cnnrnn.tasks.classification import Classification

RECORDS = [{"step": 5, "split": "train", "loss": 1.0}, {"step": 5, "split": "test", "loss": 2.0}]


class Brightest(nn.Module):
    """The brightest of four pixels is the class."""

    def __call__(self, x, train=False):
        return x[:, 0, :, 0]


@pytest.fixture
def task_and_data():
    """Seven images; the third and the fifth are mistakes."""
    arrays = {"image": np.zeros((7, 1, 4, 1), np.uint8), "label": np.array([0, 1, 2, 3, 0, 1, 2], np.int32)}
    arrays["image"][range(7), 0, [0, 1, 3, 3, 2, 1, 2]] = 255
    info = {"class_names": [*"abcd"]}
    return Classification(Brightest(), info=info), array_dataset(arrays, 4, None, {"num_classes": 4}, info)


def test_mistakes_are_drawn_and_nothing_else(tmp_path, monkeypatch, task_and_data):
    task, dataset = task_and_data
    classification.draw(task, {"params": {}}, dataset, tmp_path)
    assert Image.open(tmp_path / "mistakes.png").size[0] > 300
    drawn, arrays = [], dataset.source.arrays
    monkeypatch.setattr("cnnrnn.plots.mistakes", lambda *given: drawn.append(given))
    classification.draw(task, {"params": {}}, dataset, tmp_path)
    ((images, labels, predictions, _, title),) = drawn
    np.testing.assert_array_equal(images, arrays["image"][[4, 2]])  # by class
    assert (labels, predictions) == (["a", "c"], ["c", "d"]) and "2 of 7" in title
    arrays["image"][[2, 4], 0] = np.eye(4, dtype=np.uint8)[[2, 0], :, None]
    classification.draw(task, {"params": {}}, dataset, tmp_path)
    assert len(drawn) == 1 and not (tmp_path / "mistakes.png").exists()  # no image of mistakes that are made no more


def test_a_report_is_not_drawn_twice(tmp_path, monkeypatch, task_and_data):
    task, dataset = task_and_data
    reports.write(task, {"params": {}}, dataset, RECORDS, tmp_path)
    assert {"curves.png", "mistakes.png", "report.json"} == {file.name for file in tmp_path.iterdir()}
    drawn = []
    monkeypatch.setattr("cnnrnn.plots.curves", lambda *_: drawn.append("curves"))
    monkeypatch.setattr("cnnrnn.plots.mistakes", lambda *_: drawn.append("mistakes"))
    reports.write(task, {"params": {}}, dataset, RECORDS, tmp_path)
    assert not drawn
    reports.write(task, {"params": {}}, dataset, [*RECORDS, {"step": 9, "split": "test", "loss": 1.0}], tmp_path)
    assert drawn == ["curves", "mistakes"]


def test_an_error_is_a_warning_and_the_report_is_tried_again(tmp_path, monkeypatch, capsys, task_and_data):
    task, dataset = task_and_data
    with monkeypatch.context() as patched:
        patched.setattr("cnnrnn.plots.mistakes", lambda *_: 1 / 0)
        reports.write(task, {"params": {}}, dataset, RECORDS, tmp_path)
    assert "no report of Classification: ZeroDivisionError" in capsys.readouterr().err
    assert (tmp_path / "curves.png").exists() and not (tmp_path / "report.json").exists()
    reports.write(task, {"params": {}}, dataset, RECORDS, tmp_path)
    assert (tmp_path / "mistakes.png").exists() and (tmp_path / "report.json").exists()


def test_a_library_that_fails_costs_one_line(tmp_path, monkeypatch, capsys, task_and_data):
    def fail(*_):
        raise TypeError("incompatible arguments:\n    1. (self)\n\nInvoked with: \x1b[2J\udce9")

    monkeypatch.setattr("cnnrnn.plots.mistakes", fail)
    reports.write(task_and_data[0], {"params": {}}, task_and_data[1], RECORDS, tmp_path)
    line = r"no report of Classification: TypeError: incompatible arguments: 1. (self) Invoked with: \x1b[2J\xe9"
    assert capsys.readouterr().err == line + "\n"


def test_the_name_of_a_directory_is_no_markup(tmp_path, capsys, task_and_data):
    """It is in the title of curves.png."""
    for name in ("cost_$5_{x}_$", "$\\frac", "two\nlines", "[red]"):
        (tmp_path / name).mkdir()
        reports.write(task_and_data[0], {"params": {}}, task_and_data[1], RECORDS, tmp_path / name)
        assert (tmp_path / name / "report.json").exists()
    assert capsys.readouterr().err == ""
