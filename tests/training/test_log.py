"""What is recorded is on disk, and a resumed run records nothing twice."""

import json

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter  # noqa: F401  the format that is read below

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


def test_a_resumed_run_drops_what_was_recorded_behind_its_checkpoint(tmp_path):
    write(tmp_path, 0, [10, 20, 30])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text(lines[0] + "garbage\n[]\n" + "".join(lines[1:]))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "spl')  # torn by a crash
    records = write(tmp_path, 20, [30, 40])
    assert [record["step"] for record in records] == [10, 20, 30, 40]
    assert log.read(tmp_path / "metrics.jsonl") == records


def test_tensorboard_events_hold_the_values(tmp_path):
    write(tmp_path, 0, [10])
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    data, at, found = file.read_bytes(), 0, {}
    while at < len(data):  # each record: length, its sum, the event, its sum
        length = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        at += 16 + length
    assert abs(found["train/loss", 10] - 0.1) < 1e-6


def test_a_picture_that_cannot_be_drawn_is_a_warning(tmp_path, capsys):
    records = [{"step": 1, "split": "train", "loss": 2.0}]
    log.draw(records, tmp_path / "missing" / "curves.png", "title")
    assert "no curves.png" in capsys.readouterr().err
    log.draw(records, tmp_path / "curves.png", "title")
    assert (tmp_path / "curves.png").stat().st_size > 5000
