"""A streamed set hands out what the same set in memory would, whatever reads it; nothing is left of the readers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnrnn.data import streamed
from cnnrnn.data.dataset import ArrayDataset, Order
from cnnrnn.data.streamed import StreamedDataset
from cnnrnn.errors import DataError


class Numbers:
    """Examples that hold their own number; one of them may be broken."""

    checksum = 5

    def __init__(self, count: int, broken: int = -1):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def read(self, rows):
        for row in rows:
            if row == self.broken:
                raise DataError(f"number {row} is broken - mend it")
            yield {"x": np.full((2, 3), row, np.uint8), "label": np.int32(row)}


def both(count: int, batch_size: int, seed: int | None, workers: int = 0) -> tuple[StreamedDataset, ArrayDataset]:
    rows = [*Numbers(count).read(range(count))]
    arrays = {name: np.stack([row[name] for row in rows]) for name in ("x", "label")}
    return (
        StreamedDataset(Numbers(count), batch_size, seed, {}, {}, workers),
        ArrayDataset(arrays, batch_size, seed, {}, {}),
    )


def assert_same(batch, expected) -> None:
    assert batch.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array)
        assert batch[name].dtype == array.dtype


# runs of steps: so that batches are taken from what was read ahead, dropped and begun again
STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.integers(1, 30), st.integers(1, 12), st.sampled_from([None, 0, 7]))
def test_any_order_of_steps_gives_the_batches_of_a_set_in_memory(runs, count, batch_size, seed):
    ours, expected = both(count, batch_size, seed)
    try:
        for start, length in runs:
            for step in range(start, start + length):
                if seed is None and step >= expected.num_batches:
                    with pytest.raises(IndexError):
                        ours.batch(step)
                else:
                    assert_same(ours.batch(step), expected.batch(step))
    finally:
        ours.close()


def test_it_tells_of_itself_what_a_set_in_memory_does():
    data = StreamedDataset(Numbers(10), 4, None, {"num_classes": 2}, {"class_names": ["a", "b"]})
    assert (data.num_batches, data.dims) == (3, {"num_classes": 2})
    assert data.info == {"class_names": ["a", "b"], "dims": data.dims, "num_examples": 10, "crc32": 5}


def test_only_a_few_batches_are_read_ahead(monkeypatch):
    monkeypatch.setattr(streamed, "AHEAD", 0)
    seen = []

    class Counted(Numbers):
        def read(self, rows):
            seen.append(len(rows))
            return super().read(rows)

    data = StreamedDataset(Counted(100), 4, 0, {}, {})
    for step in range(5):
        data.batch(step)
    time.sleep(0.2)
    data.close()
    assert 5 <= len(seen) <= 5 + 2  # whatever the number of cores


def test_reading_ahead_overlaps_with_what_the_caller_does():
    class Slow(Numbers):
        def read(self, rows):
            time.sleep(0.05)
            return super().read(rows)

    data = StreamedDataset(Slow(100), 4, 0, {}, {})
    data.batch(0), data.batch(1)  # grain is imported
    time.sleep(0.3)
    start = time.perf_counter()
    data.batch(2)
    assert time.perf_counter() - start < 0.04
    data.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_example_is_named_and_may_be_mended(workers):
    count = 40
    (step,) = [s for s in range(10) if 17 in Order(count, 4, 3).places(s)["row"]]
    data = StreamedDataset(Numbers(count, broken=17), 4, 3, {}, {}, workers)
    first = max(step - 3, 0)
    for number in range(first, step):
        data.batch(number)
    for _ in range(2):  # from what is read ahead, and when asked for alone
        with pytest.raises(DataError, match="^number 17 is broken - mend it$"):
            data.batch(step)
    assert_same(data.batch(step + 1), both(count, 4, 3)[1].batch(step + 1))
    data.close()
    assert not multiprocessing.active_children()


def test_processes_make_the_same_batches_and_one_that_is_killed_is_reported():
    for seed in (None, 0):
        ours, expected = both(30, 4, seed, workers=2)
        for step in [0, 0, *range(1, expected.num_batches), 2, 3, 4]:
            assert_same(ours.batch(step), expected.batch(step))
        children = multiprocessing.active_children()
        assert len(children) == 2
        if seed is None:
            ours.close()
    os.kill(children[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match="was killed"):
        for step in range(5, 50):
            ours.batch(step)
    assert not multiprocessing.active_children()


SCRIPT = """
import os, sys, time
sys.path.insert(0, "tests/data"), sys.path.insert(0, "tests")
from test_streamed import Numbers
from cnnrnn.data.streamed import StreamedDataset
if __name__ == "__main__":
    data = StreamedDataset(Numbers(30), 4, 0, {}, {}, workers=int(sys.argv[1]))
    for step in range(4):
        data.batch(step)
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def script(tmp_path):
    """Starts a program that reads ahead and does not close its set."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def start(workers: int, seconds: float) -> subprocess.Popen:
        words = [sys.executable, tmp_path / "script.py", str(workers), str(seconds)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, **pipes)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    return start


@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_ends_in_silence(script, workers):
    process = script(workers, 0)
    assert process.communicate(timeout=30)[1] == "" and process.returncode == 0
    assert ends(process.pid)


def test_ctrl_c_is_for_the_program_alone_and_a_kill_takes_its_processes_along(script):
    process = script(2, 30)
    children = [pid for pid in alive(process.pid) if pid != process.pid]
    assert len(children) >= 2
    for pid in children:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.5)
    assert {*children} <= alive(process.pid)
    process.kill()
    process.communicate(timeout=30)
    assert ends(process.pid)


def ends(session: int) -> bool:
    """Whether all processes of a session end, if not at once: Python's own tracker of resources is the last."""
    end = time.monotonic() + 20
    while alive(session) and time.monotonic() < end:
        time.sleep(0.1)
    return not alive(session)


def alive(session: int) -> set[int]:
    """The processes of a session that have not ended."""
    done = subprocess.run(["ps", "-eo", "pid=,sess=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {int(pid) for pid, sess, state in rows if int(sess) == session and not state.startswith("Z")}


def test_threads_that_ask_at_once_get_their_own_orders():
    order, wrong = Order(50, 10, 1), []
    expected = [order.places(step)["row"] for step in range(60)]  # 12 passes, more than are kept

    def ask(steps):
        wrong.extend(step for step in steps if (order.places(step)["row"] != expected[step]).any())

    rng = np.random.default_rng(0)
    threads = [threading.Thread(target=ask, args=(rng.permutation(60),)) for _ in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert not wrong
