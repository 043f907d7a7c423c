"""Batches made ahead are those made one by one; whatever happens to their makers is one line, and nothing is left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnrnn.data import prefetch
from cnnrnn.data.dataset import Dataset
from cnnrnn.data.prefetch import Prefetcher
from cnnrnn.data.sampling import SequentialSampler, ShuffledSampler
from cnnrnn.errors import DataError


class Numbers:
    """Examples that hold their own number; one of them may be broken."""

    fingerprint = 5

    def __init__(self, count: int, broken: int = -1):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.broken:
            raise DataError(f"number {index} is broken - replace it")
        return {"x": np.full((2, 3), index, np.uint8), "label": np.int32(index)}


def make_dataset(count: int, batch_size: int, seed: int | None, workers: int | None, broken: int = -1) -> Dataset:
    sampler = SequentialSampler(count, batch_size) if seed is None else ShuffledSampler(count, batch_size, seed)
    return Dataset(Numbers(count, broken), sampler, dims={}, info={}, workers=workers)


def assert_same(batch, expected) -> None:
    assert batch.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(batch[name], array)
        assert batch[name].dtype == array.dtype


# what processes make, by the number of the step


def make_large(step):
    return {"x": np.full(3_000_000, step, np.uint8)}


def wait_for(file, step):
    """Step 2 reads a pipe that nobody writes to, as from a disk that does not answer."""
    if step >= 2:
        with open(file) as pipe:
            pipe.read()
    return {"x": np.full(3, step)}


def fail(step):
    if step == 3:
        raise ZeroDivisionError("step 3", {"a": 1})
    return {"x": np.full(3, step)}


def die_while_sending(step):
    """At step 2 the process is killed when a part of its batch is on its way."""
    if step == 2:
        from multiprocessing.connection import Connection

        def send(self, buffer, write=os.write):
            write(self._handle, buffer[:1000])
            os.kill(os.getpid(), signal.SIGKILL)

        Connection._send = send
    return make_large(step)


@pytest.fixture
def fifo(tmp_path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


# --- the batches

# runs of steps: so that batches are taken from those ahead, dropped and made again
RUNS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(RUNS, st.integers(1, 30), st.integers(1, 12), st.sampled_from([None, 0, 7]))
def test_any_order_of_steps_gives_the_batches_made_one_by_one(runs, count, batch_size, seed):
    data, expected = (make_dataset(count, batch_size, seed, workers) for workers in (0, None))
    try:
        for start, length in runs:
            for step in range(start, start + length):
                if seed is None and step >= expected.num_batches:
                    with pytest.raises(IndexError):
                        data.batch(step)
                else:
                    assert_same(data.batch(step), expected.batch(step))
    finally:
        data.close()


def test_processes_make_the_same_batches_and_end_with_the_pass():
    for seed in (None, 0):
        data, expected = (make_dataset(30, 4, seed, workers) for workers in (2, None))
        for step in [0, 0, *range(1, expected.num_batches), 2, 3, 4]:
            if step == 4:
                assert len(multiprocessing.active_children()) == 2
            assert_same(data.batch(step), expected.batch(step))
            if step == expected.num_batches - 1 and seed is None:
                assert not multiprocessing.active_children()
        data.close()
        assert not multiprocessing.active_children()


# --- ahead, but not too far


@pytest.mark.parametrize(
    ("max_bytes", "ahead"), [(0, 2), (3 * 3_000_000, 3), (2**40, 2 * prefetch.count_cores())], ids=str
)
def test_only_a_few_batches_are_made_ahead(max_bytes, ahead):
    made = []
    batches = Prefetcher(lambda step: made.append(step) or make_large(step), None, max_bytes=max_bytes)
    for step in range(5):
        batches.batch(step)
        time.sleep(0.05)
    time.sleep(0.3)
    batches.close()
    assert sorted(made) == list(range(5 + max(ahead, 2)))


def test_larger_batches_later_are_fewer_ahead():
    made = []

    def make(step):
        made.append(step)
        return {"x": np.zeros(100 if step < 3 else 10_000, np.uint8)}

    batches = Prefetcher(make, None, max_bytes=20_000)
    for step in range(30):
        batches.batch(step)
    time.sleep(0.3)
    batches.close()
    assert max(made) == 29 + 2


def test_making_ahead_overlaps_with_what_the_caller_does():
    batches = Prefetcher(lambda step: time.sleep(0.05) or {"x": np.full(3, step)}, None)
    batches.batch(0), batches.batch(1)
    time.sleep(0.3)
    start = time.perf_counter()
    assert batches.batch(2)["x"][0] == 2
    assert time.perf_counter() - start < 0.04
    batches.close()


def test_one_batch_alone_starts_no_processes():
    batches = Prefetcher(make_large, None, workers=2)
    for step in (0, 5, 5):
        batches.batch(step)
    assert not multiprocessing.active_children()


# --- what goes wrong


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_example_is_named_in_its_turn_and_may_be_replaced(workers):
    count, sampler = 40, ShuffledSampler(40, 4, 3)
    (step,) = [s for s in range(10) if 17 in sampler.plan(s).indices]
    data, expected = make_dataset(count, 4, 3, workers, broken=17), make_dataset(count, 4, 3, None)
    for number in range(max(step - 3, 0), step):
        assert_same(data.batch(number), expected.batch(number))
    for _ in range(2):  # made ahead, and asked for alone
        with pytest.raises(DataError, match="^number 17 is broken - replace it$"):
            data.batch(step)
    assert_same(data.batch(step + 1), expected.batch(step + 1))
    data.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_is_raised_as_it_is(workers):
    batches = Prefetcher(fail, None, workers)
    for step in range(3):
        batches.batch(step)
    with pytest.raises(ZeroDivisionError) as raised:
        batches.batch(3)
    assert raised.value.args == ("step 3", {"a": 1})
    if workers:
        assert "in fail" in raised.value.__notes__[0]  # where in the process


@pytest.mark.parametrize("when", ["while it waits", "while it sends"])
def test_a_process_that_is_killed_is_one_line(when):
    batches = Prefetcher(die_while_sending if when == "while it sends" else make_large, None, 2, timeout=60)
    batches.batch(0), batches.batch(1)
    if when == "while it waits":
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match="was killed, .* - lower data.workers") as refusal:
        for step in range(2, 20):
            batches.batch(step)
    assert "\n" not in str(refusal.value)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("workers", "steps", "timeout"),
    [(0, [0, 1, 2], 0.5), (1, [0, 1, 2], 6.0), (1, [2], 0.5)],  # a process has to start within the timeout
    ids=["by a thread ahead", "by a process ahead", "of one batch alone"],
)
def test_a_read_that_hangs_is_one_line_after_the_timeout(fifo, workers, steps, timeout):
    batches = Prefetcher(partial(wait_for, str(fifo)), None, workers, timeout=timeout)
    for step in steps[:-1]:
        batches.batch(step)
    start = time.monotonic()
    with pytest.raises(DataError, match=f"batch 2 was not read within {timeout:g} s - check the disk") as refusal:
        batches.batch(2)
    assert "\n" not in str(refusal.value) and timeout - 0.1 < time.monotonic() - start < timeout + 5
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_closing_does_not_wait_for_a_read_that_hangs(fifo, workers):
    batches = Prefetcher(partial(wait_for, str(fifo)), None, workers)
    batches.batch(0), batches.batch(1)
    start = time.monotonic()
    batches.close()
    assert time.monotonic() - start < 5
    assert not multiprocessing.active_children()


def test_nothing_is_left_of_a_set_that_is_forgotten_or_read_again_and_again():
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    for _ in range(2):
        threads, files = threading.active_count(), open_files()
        for _ in range(3):
            batches = Prefetcher(make_large, 4, workers=1)
            for step in range(3):
                batches.batch(step)
            del batches
    assert (threading.active_count(), open_files()) == (threads, files)
    assert not multiprocessing.active_children()


# --- whole programs

SCRIPT = """
import sys, time
from functools import partial
sys.path.insert(0, "tests/data"), sys.path.insert(0, "tests")
from test_prefetch import make_large, wait_for
from cnnrnn.data.prefetch import Prefetcher
if __name__ == "__main__":
    fifo = sys.argv[3]
    batches = Prefetcher(partial(wait_for, fifo) if fifo else make_large, None, int(sys.argv[1]))
    batches.batch(0), batches.batch(1)
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def script(tmp_path):
    """Starts a program that makes batches ahead and does not close them."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def start(workers: int, seconds: float, fifo: Path | str) -> subprocess.Popen:
        words = [sys.executable, tmp_path / "script.py", str(workers), str(seconds), str(fifo)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, **pipes)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    return start


@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_ends_in_silence(script, fifo, workers, stuck):
    process = script(workers, 0, fifo if stuck else "")
    assert process.communicate(timeout=30)[1] == "" and process.returncode == 0
    assert ends(process.pid)


@pytest.mark.parametrize("stuck", [False, True])
def test_ctrl_c_is_for_the_program_alone_and_a_kill_takes_its_processes_along(script, fifo, stuck):
    process = script(2, 30, fifo if stuck else "")
    children = [pid for pid in alive(process.pid) if pid != process.pid]
    assert len(children) >= 2
    for pid in children:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            os.kill(pid, number) if "resource_tracker" not in command_of(pid) else None
    time.sleep(0.5)
    assert {*children} <= alive(process.pid)
    process.kill()
    process.communicate(timeout=30)
    assert ends(process.pid)


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


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
