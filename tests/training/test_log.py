"""Records are on disk, and a resumed run records nothing twice."""

import errno
import json

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter  # noqa: F401  the format that is read below

from cnnrnn.errors import WorkdirError
from cnnrnn.training import log


def write(directory, start, steps):
    with log.Log(directory, start, end=100) as writer:
        for step in steps:
            writer.write(step, "train", {"loss": 1 / step})
        return writer.records


def test_records_are_lines_of_plain_numbers(tmp_path, capsys):
    write(tmp_path, 0, [10, 20])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 10, "split": "train", "loss": 0.1},
        {"step": 20, "split": "train", "loss": 0.05},
    ]
    assert capsys.readouterr().out.splitlines() == ["step 10  train loss 0.1", "step 20  train loss 0.05"]


def test_a_resumed_run_drops_the_records_after_its_checkpoint(tmp_path):
    write(tmp_path, 0, [10, 20, 30])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text(lines[0] + 'garbage\n[]\n{"step": null, "split": 1}\n' + "".join(lines[1:]))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "spl')  # torn by a crash
    records = write(tmp_path, 20, [30, 40])
    assert [record["step"] for record in records] == [10, 20, 30, 40]
    assert log.read(tmp_path / "metrics.jsonl") == records


def test_tensorboard_events_hold_the_values(tmp_path):
    write(tmp_path, 0, [10])
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    data, start, found = file.read_bytes(), 0, {}
    while start < len(data):  # each record: length, its checksum, the event, its checksum
        length = int.from_bytes(data[start : start + 8], "little")
        event = Event.FromString(data[start + 12 : start + 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        start += 16 + length
    assert abs(found["train/loss", 10] - 0.1) < 1e-6


def test_an_evaluation_that_is_repeated_after_a_resume_is_recorded_once(tmp_path, capsys):
    write(tmp_path, 0, [10, 20])
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with log.Log(tmp_path, 20, end=100) as writer:
        writer.write(20, "train", {"loss": 0.05})
        assert (tmp_path / "metrics.jsonl").read_bytes() == before
        writer.write(20, "test", {"loss": 0.05})  # of another split
        writer.write(20, "test", {"loss": 0.05})
    records = log.read(tmp_path / "metrics.jsonl")
    assert [(record["step"], record["split"]) for record in records] == [(10, "train"), (20, "train"), (20, "test")]
    assert records == writer.records
    assert capsys.readouterr().out.splitlines()[2:] == ["step 20  test loss 0.05"]


def test_a_broken_disk_is_one_line(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    with log.Log(tmp_path, 0, end=100) as writer:
        monkeypatch.setattr("os.fsync", broken)
        with pytest.raises(WorkdirError, match="cannot write the metrics: Input/output error"):
            writer.write(10, "train", {"loss": 1.0})


def test_metrics_are_described_in_four_digits():
    assert log.describe({"loss": 0.123456, "accuracy": 1.0}) == "loss 0.1235  accuracy 1"
