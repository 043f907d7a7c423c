"""The first signal is a request, the second has its usual effect, and an ignored signal stays ignored."""

import os
import signal

import pytest

from cnnrnn.training.interrupt import SIGNALS, StopRequest


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_the_first_signal_asks_and_the_second_has_its_usual_effect(number):
    calls = []
    before = signal.signal(number, lambda *_: calls.append(number))
    try:
        with StopRequest() as stop:
            assert not stop
            os.kill(os.getpid(), number)
            assert stop and str(stop) == number.name and calls == []
            os.kill(os.getpid(), number)
            assert calls == [number]
        os.kill(os.getpid(), number)
        assert calls == [number] * 2
    finally:
        signal.signal(number, before)


def test_a_signal_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)
