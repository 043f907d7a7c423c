"""Signals to stop: after the first the step ends and the run is saved; the second ends the process at once."""

import signal
import threading

# Ctrl-C; a cluster's notice; SLURM's early notice; a closed terminal
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopRequest:
    """True after a signal to stop: `with StopRequest() as stop: ... if stop: ...`."""

    def __init__(self):
        self._name = ""
        self._before = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            handled = [
                number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN
            ]  # nohup ignores SIGHUP
            self._before = {number: signal.signal(number, self._receive) for number in handled}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return bool(self._name)

    def __str__(self) -> str:
        return self._name

    def _receive(self, number: int, frame) -> None:
        self._name = signal.Signals(number).name
        for other, handler in self._before.items():
            signal.signal(other, handler)
