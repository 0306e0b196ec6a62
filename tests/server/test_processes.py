"""Forked processes: what the supervisor learns of them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from tests.server.running import eventually

from intaglio.server import processes
from intaglio.server.processes import Main, Place, describe


def _sleep(control: socket.socket) -> int:
    control.send(b"R")
    control.recv(1)
    return 0


def _fail(control: socket.socket) -> int:
    return 3


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Place]]:
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)  # what a forked child writes is not for pytest's capture
    made: list[Place] = []
    yield made
    for place in made:
        place.signal(signal.SIGKILL)
        if place.pid is not None:
            os.waitpid(place.pid, 0)
            place.forget()


def _start(started: list[Place], main: Main) -> Place:
    place = Place("test", main)
    started.append(place)
    place.start(lambda: place.control.close() if place.control else None)
    return place


def test_process_says_when_it_is_ready(started: list[Place]) -> None:
    place = _start(started, _sleep)
    assert eventually(place.heard, what="the process speaks") == b"R"
    assert not place.reap()


def test_process_ends_when_its_supervisor_is_gone(started: list[Place]) -> None:
    place = _start(started, _sleep)
    eventually(place.heard, what="the process speaks")
    assert place.control is not None
    place.control.close()
    place.control = None
    eventually(place.reap, what="the process ends")


def test_first_death_is_repaired_at_once_and_later_ones_ever_more_slowly(started: list[Place]) -> None:
    delays = []
    place = _start(started, _fail)
    for _ in range(4):
        eventually(place.reap, what="the process ends")
        delays.append(place.restart_at - time.monotonic())
        place.start(lambda: None)
    assert delays[0] <= 0
    assert delays[1] < delays[2] < delays[3]
    assert place.crashes == 4


def test_death_after_a_long_life_does_not_count_as_a_crash_loop(
    started: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SHORT_LIFE", 0)
    place = _start(started, _fail)
    for _ in range(3):
        eventually(place.reap, what="the process ends")
        assert place.crashes == 1
        assert place.due
        place.start(lambda: None)


def test_silent_process_counts_as_stuck(started: list[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    place = _start(started, _sleep)
    eventually(place.heard, what="the process speaks")
    place.ready = True
    assert not place.stuck
    monkeypatch.setattr(processes, "SILENCE_LIMIT", 0)
    assert eventually(lambda: place.stuck, what="silence is noticed")


def test_wait_status_is_told_in_words(started: list[Place]) -> None:
    place = _start(started, _sleep)
    assert place.pid is not None
    os.kill(place.pid, signal.SIGKILL)
    _, status = os.waitpid(place.pid, 0)
    place.forget()
    assert describe(status) == "killed by SIGKILL"
    assert describe(3 << 8) == "exit status 3"
