"""Makes batches ahead of the step, by threads or by processes.

Each process has its own pipe to a thread. In a `ProcessPoolExecutor` all processes share one: if a process is killed
while it sends a batch, the executor waits for the rest forever, and Python's exit waits for the executor.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize

import numpy as np

from cnnrnn.errors import DataError, UserError

Batch = dict[str, np.ndarray]
Make = Callable[[int], Batch]
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
JOIN_TIMEOUT = 1.0  # seconds to end; a thread or process that does not is stuck in a read


class Prefetcher:
    """Makes batches ahead while they are asked for in order; any other batch is made when it is asked for.

    Only one thread may call `batch`. A step that does not follow the last one drops the batches ahead.

    Args:
      make: makes batch number `step`. For processes it must be picklable.
      end: the number of batches; None if there is no end.
      workers: 0 is threads; n is n processes, which do not share an interpreter lock.
      max_bytes: the limit on the batches ahead, if all are as large as the largest so far. At least two batches,
        and one for each process, may always be ahead.
      timeout: seconds to wait for a batch.
    """

    def __init__(
        self, make: Make, end: int | None, workers: int = 0, *, max_bytes: int = 2**28, timeout: float = 300.0
    ):
        self._make, self._end, self._workers = make, end, workers
        self._max_bytes, self._timeout, self._largest = max_bytes, timeout, 1
        self._next: int | None = None  # the step after the last that was asked for
        self._ahead: deque[Future] = deque()  # batches from `_next` on
        self._pool: _Pool | None = None
        self._close_pool: Callable[[], None] = lambda: None

    def batch(self, step: int) -> Batch:
        """Batch number `step`.

        Raises:
          DataError: the batch took too long, or a process was killed.
          Exception: what `make` raised for this step.
        """
        if follows := step == self._next:
            self._submit(step)
        else:  # a single batch is not worth the start of processes
            self.close()
            self._open([self._make])
            self._ahead.append(self._pool.submit(step))
        try:
            batch = self._wait(self._ahead.popleft(), step)
        except BaseException:
            self.close()
            raise
        self._largest = max(self._largest, sum(array.nbytes for array in batch.values()))
        is_last = step + 1 == self._end
        if follows and not is_last:
            self._submit(step + 1)
        else:
            self.close()
        self._next = None if is_last else step + 1
        return batch

    def close(self) -> None:
        """Ends the threads and processes. A later batch starts them again."""
        self._close_pool()
        self._ahead.clear()
        self._pool = self._next = None

    def _open(self, makes: list[Make]) -> None:
        self._pool = _Pool(makes)
        # runs in close(), or when the prefetcher is garbage, or at Python's exit before that joins the processes
        self._close_pool = Finalize(self, self._pool.close, exitpriority=1)

    def _submit(self, step: int) -> None:
        """Queues the batches from `step` on, as many as may be ahead."""
        count = max(2, self._workers, min(self._max_bytes // self._largest, 2 * count_cores()))
        if self._pool is None:
            threads = [self._make] * min(count, count_cores())
            self._open([_Process(self._make) for _ in range(self._workers)] or threads)
        end = step + count if self._end is None else min(step + count, self._end)
        self._ahead.extend(self._pool.submit(number) for number in range(step + len(self._ahead), end))

    def _wait(self, future: Future, step: int) -> Batch:
        if not concurrent.futures.wait([future], self._timeout).done:
            raise DataError(
                f"batch {step} was not read within {self._timeout:g} s - check the disk or the network of the data set"
            )
        return future.result()


class _Pool:
    """Threads that make batches, each with its own function. They are daemons: Python's exit does not join them."""

    def __init__(self, makes: list[Make]):
        self._makes, self._tasks = makes, queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, args=(make,), daemon=True) for make in makes]
        for thread in self._threads:
            thread.start()

    def submit(self, step: int) -> Future:
        future = Future()
        self._tasks.put((future, step))
        return future

    def close(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
        for make in self._makes:
            self._tasks.put(None)
            if isinstance(make, _Process):
                make.kill()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT / len(self._threads))

    def _run(self, make: Make) -> None:
        while (task := self._tasks.get()) is not None:
            future, step = task
            try:
                future.set_result(make(step))
            except BaseException as error:
                future.set_exception(error)
            del task, future  # an exception refers to this frame: a cycle would hold what the process had open


class _Process:
    """Makes batches in another process, for one thread. However that process ends, the pipe to it ends too."""

    def __init__(self, make: Make):
        spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(make, theirs), daemon=True)
        with _blocked_signals():
            self._process.start()
        theirs.close()

    def __call__(self, step: int) -> Batch:
        try:
            self._pipe.send(step)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise DataError(
                "a process that reads examples was killed, maybe for its memory - "
                "lower data.workers or data.batch_size, or set data.workers=0"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        self._process.kill()
        self._process.join(JOIN_TIMEOUT)


def count_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(make: Make, pipe: Connection) -> None:
    """Answers each step with its batch or an exception, until the parent process closes the pipe or ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            step = pipe.recv()
            try:
                answer = make(step)
            except Exception as error:
                answer = error
                if not isinstance(error, UserError):
                    error.add_note(traceback.format_exc())
            pipe.send(answer)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # also in the middle of a read


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """A process that is started within never receives a signal to stop.

    Ctrl-C goes to all processes of a terminal, and the run alone is to answer it. A process inherits the blocked
    signals of the thread that starts it.
    """
    resource_tracker.ensure_running()  # its start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
