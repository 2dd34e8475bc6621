"""What systemd is told, by a double of its socket; and that workers feed the watchdog by turning, not by their word."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from d4e_sfu.drivers.notify import Notifier, Pulse


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.setblocking(False)
        yield one


def environment(systemd: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.getsockname(), **more}


def test_each_state_is_told_in_systemds_words(systemd: socket.socket) -> None:
    notifier = Notifier(environment(systemd))
    notifier.ready("serving")
    notifier.status("draining")
    notifier.stopping("good night")
    notifier.extend(1.5)
    notifier.feed()
    assert [systemd.recv(4096) for _ in range(5)] == [
        b"READY=1\nSTATUS=serving",
        b"STATUS=draining",
        b"STOPPING=1\nSTATUS=good night",
        b"EXTEND_TIMEOUT_USEC=1500000",
        b"WATCHDOG=1",
    ]


def test_an_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        name = f"d4e-sfu-test-{os.getpid()}"
        one.bind(f"\0{name}")
        one.setblocking(False)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).feed()
        assert one.recv(4096) == b"WATCHDOG=1"


def test_the_watchdog_is_fed_three_times_as_often_as_it_must_be(systemd: socket.socket) -> None:
    own = {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(environment(systemd, **own)).interval == 3.0
    assert Notifier(environment(systemd, WATCHDOG_USEC="9000000")).interval == 3.0
    assert Notifier(environment(systemd, **{**own, "WATCHDOG_PID": "1"})).interval is None
    assert Notifier(environment(systemd, WATCHDOG_USEC="0")).interval is None
    assert Notifier(own).interval is None
    assert Notifier({}).interval is None


def test_without_systemd_or_with_one_that_does_not_read_nothing_happens(systemd: socket.socket) -> None:
    Notifier({}).ready("x")
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).feed()
    full = Notifier(environment(systemd))
    for _ in range(10_000):  # more than its queue takes: a datagram that would block is lost
        full.feed()


class Worker:
    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.spent = 0.1

    def snapshot(self) -> dict[str, object]:
        return {"cpu_seconds": self.spent}


def test_a_worker_that_hangs_gives_no_pulse_though_it_says_that_it_lives() -> None:
    one, other = Worker("worker-0"), Worker("worker-1")
    pulse = Pulse()
    assert pulse.missing([one, other]) == []
    one.spent += 1e-6
    assert pulse.missing([one, other]) == ["worker-1"]
    other.spent += 1e-6
    assert pulse.missing([one, other]) == ["worker-0"]
    one.spent, other.spent, other.alive = 0.0, 9.0, False  # the first was replaced, and counts from zero again
    assert pulse.missing([one, other]) == ["worker-1"]
