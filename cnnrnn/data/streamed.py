"""The set whose examples are read from disk in training: a few batches ahead, by threads or by processes."""

import contextlib
import dataclasses
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Protocol

import numpy as np

from cnnrnn.data.dataset import Batch, Order, fill_up
from cnnrnn.errors import DataError

AHEAD = 2**28  # bytes of batches that may lie ready; two batches always may
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # those that ask a run to stop


class Examples(Protocol):
    """The examples of a split, found by their numbers; they are read in several threads and processes at once.

    Attributes:
      checksum: of what is known of them without reading them all.
    """

    checksum: int

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int]) -> Iterable[Batch]:
        """{"image": [...], ...} of each of some examples, without a dimension for the batch.

        Raises:
          DataError: one is broken.
        """
        ...


class StreamedDataset:
    """A split that is read from disk, for sets too large for memory; the batches are those of an `ArrayDataset`.

    Batches that are asked for one after the other are made ahead. Any other is made when it is asked for.

    Args:
      examples: of the split.
      batch_size, seed, dims, info: see `ArrayDataset`.
      workers: so many processes make batches, where threads of one cannot keep up; 0 is threads.
    """

    def __init__(
        self, examples: Examples, batch_size: int, seed: int | None, dims: dict[str, int], info: dict, workers: int = 0
    ):
        self._reader = _Reader(examples, Order(len(examples), batch_size, seed))
        self._workers = workers
        self._ahead: Iterator | None = None
        self._end_ahead: Callable[[], None] = lambda: None
        self._next: int | None = None  # the step that reading ahead begins or goes on with
        self.num_batches, self.dims = self._reader.order.num_batches, dims
        self._end = self.num_batches if seed is None else 2**62  # training has no last batch
        self.info = {**info, "dims": dims, "num_examples": len(examples), "crc32": examples.checksum}

    def batch(self, step: int) -> Batch:
        """See `Dataset`.

        Raises:
          DataError: an example is broken, or the system has killed a process that reads.
        """
        if step == self._next:
            batch = self._take(step)
        else:  # one batch alone is not worth the start of threads
            self.close()
            batch = self._reader.batch(step)
            self._nbytes = sum(array.nbytes for array in batch.values())
        self._next = step + 1
        if self._next == self._end:
            self.close()
        return batch

    def close(self) -> None:
        """Ends reading ahead, with its threads and processes; the next batch may start it again."""
        self._end_ahead()
        self._ahead = self._next = None

    def _take(self, step: int) -> Batch:
        if self._ahead is None:
            self._ahead = self._read_ahead(step)
        batch = next(self._ahead)
        if isinstance(batch, Exception):
            self.close()
            raise batch
        return batch

    def _read_ahead(self, step: int) -> Iterator:
        import grain  # imports JAX; only large sets need it

        ahead = max(2, self._workers, min(AHEAD // self._nbytes, 2 * count_cores()))
        make, threads, workers = self._reader.attempt, min(ahead, count_cores()), []
        if self._workers:
            with _unheard_signals():
                workers = [_Worker(self._reader) for _ in range(self._workers)]
            make, threads = _Shared(workers), self._workers  # threads that wait
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        batches = iter(grain.MapDataset.range(step, self._end).map(make).to_iter_dataset(options))
        # when it is closed, forgotten, or Python ends: then before Python waits for the processes
        self._end_ahead = Finalize(self, _end, (batches, workers), exitpriority=1)
        return batches


def count_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Makes the batches; all that another process needs to know."""

    examples: Examples
    order: Order

    def batch(self, step: int) -> Batch:
        places = self.order.places(step)
        examples = [*self.examples.read(places["row"][places["mask"] > 0])]
        arrays = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
        return {name: fill_up(array, self.order.batch_size) for name, array in arrays.items()} | {
            "mask": places["mask"]
        }

    def attempt(self, step: int) -> Batch | Exception:
        """A batch, or why there is none as a value: it reaches the caller as it is, and in its turn."""
        try:
            return self.batch(int(step))
        except Exception as error:
            return error


class _Worker:
    """A process that makes batches, asked through a pipe of its own: however it ends, the pipe tells at once."""

    def __init__(self, reader: _Reader):
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks that JAX's threads hold
        self._pipe, theirs = spawn.Pipe()
        self._lock = threading.Lock()  # a pipe is not closed while an answer comes through it
        self._process = spawn.Process(target=_answer, args=(reader, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, step: int) -> Batch | Exception:
        try:
            with self._lock:
                self._pipe.send(step)
                return self._pipe.recv()
        except (EOFError, OSError):
            return DataError(
                "a process that reads examples was killed, maybe for its memory - "
                "lower data.workers or data.batch_size, or set data.workers=0"
            )

    def end(self) -> None:
        with self._lock:
            self._pipe.close()
        self._process.join(10)
        self._process.kill()  # if a disk that does not answer holds it
        self._process.join()


class _Shared:
    """Has each batch made by a worker that has nothing to do."""

    def __init__(self, workers: Sequence[_Worker]):
        self._idle = queue.SimpleQueue()
        for worker in workers:
            self._idle.put(worker)

    def __call__(self, step: int) -> Batch | Exception:
        worker = self._idle.get()
        try:
            return worker.ask(int(step))
        finally:
            self._idle.put(worker)


def _answer(reader: _Reader, pipe: Connection) -> None:
    """What a worker does until the pipe is closed, by the process that started it or by its death."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(reader.attempt(pipe.recv()))


def _end(batches: Iterator, workers: Sequence[_Worker]) -> None:
    batches.close()
    for worker in workers:
        worker.end()


@contextlib.contextmanager
def _unheard_signals() -> Iterator[None]:
    """Processes started within never hear of a signal to stop: Ctrl-C goes to all, and only one is to answer.

    What a thread blocks stays blocked in the processes that it starts, from their first moment on.
    """
    resource_tracker.ensure_running()  # its own start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
