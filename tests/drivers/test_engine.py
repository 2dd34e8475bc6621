"""Workers on the event loop: sockets, events, death and replacement, with a double in place of the Rust thread."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence

import pytest

from d4e_sfu._engine import Command, Event
from d4e_sfu.config import Media, MediaAddress
from d4e_sfu.drivers import engine
from d4e_sfu.drivers.engine import EngineDriver


class WorkerDouble:
    """A worker whose events the test writes."""

    made: list[WorkerDouble]

    def __init__(self, sockets: Sequence[int], *, name: str) -> None:
        self.sockets = list(sockets)
        self.commands: list[Command] = []
        self.waiting: list[Event] = []
        self.living = True
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        type(self).made.append(self)

    def say(self, *events: Event) -> None:
        self.waiting.extend(events)
        os.eventfd_write(self._eventfd, 1)

    def submit(self, commands: Sequence[Command]) -> None:
        self.commands.extend(commands)

    def fileno(self) -> int:
        return self._eventfd

    def events(self) -> list[Event]:
        os.eventfd_read(self._eventfd)
        waiting, self.waiting = self.waiting, []
        return waiting

    def snapshot(self) -> Mapping[str, object]:
        return {}

    def alive(self) -> bool:
        return self.living

    def stop(self) -> None:
        if self._eventfd >= 0:
            os.close(self._eventfd)
            self._eventfd = -1


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> type[WorkerDouble]:
    WorkerDouble.made = []
    monkeypatch.setattr(engine, "Worker", WorkerDouble)
    return WorkerDouble


def make() -> tuple[EngineDriver, list[Event]]:
    heard: list[Event] = []
    sockets, candidates = engine.bind(Media(port=0, addresses=(MediaAddress(listen="127.0.0.1"),)), 0)
    return EngineDriver("worker-0", sockets, candidates, lambda _, event: heard.append(event)), heard


async def test_events_come_up_in_order() -> None:
    driver, heard = make()
    events = [Event.TransportGone(1), Event.TransportGone(2), Event.TransportGone(3)]
    WorkerDouble.made[0].say(*events)
    await asyncio.sleep(0.01)
    assert heard == events
    driver.stop()


async def test_a_dead_worker_is_replaced_on_its_ports_before_anyone_hears_of_it() -> None:
    driver, heard = make()
    seen: list[int] = []
    driver._on_event = lambda _, event: (heard.append(event), seen.append(len(WorkerDouble.made)))  # type: ignore[assignment,func-returns-value]
    first = WorkerDouble.made[0]
    start = asyncio.get_running_loop().time()
    first.say(Event.TransportGone(1), Event.WorkerDied("panic"), Event.TransportGone(2))
    while not seen or not isinstance(heard[-1], Event.WorkerDied):
        await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().time() - start < 0.1
    second = WorkerDouble.made[1]
    assert heard == [Event.TransportGone(1), Event.WorkerDied("panic")]
    assert seen == [1, 2]
    assert second.sockets == first.sockets
    assert driver.deaths == 1
    driver.submit([Command.Debug(1)])
    assert second.commands == [Command.Debug(1)]
    second.say(Event.TransportGone(9))
    await asyncio.sleep(0.01)
    assert heard[-1] == Event.TransportGone(9)
    driver.stop()


async def test_a_death_without_a_word_is_found_as_well() -> None:
    driver, heard = make()
    WorkerDouble.made[0].living = False
    driver.check()
    assert [type(event) for event in heard] == [Event.WorkerDied]
    assert driver.alive
    driver.stop()


async def test_an_event_that_we_fail_on_does_not_spoil_the_next(caplog: pytest.LogCaptureFixture) -> None:
    driver, heard = make()

    def hear(_: EngineDriver, event: Event) -> None:
        if event == Event.TransportGone(1):
            raise RuntimeError("ours")
        heard.append(event)

    driver._on_event = hear
    WorkerDouble.made[0].say(Event.TransportGone(1), Event.TransportGone(2))
    await asyncio.sleep(0.01)
    assert heard == [Event.TransportGone(2)]
    assert "ours" in caplog.text
    driver.stop()


async def test_the_routers_state_is_asked_for_and_waited_for() -> None:
    driver, _ = make()
    asking = asyncio.create_task(driver.debug_state())
    await asyncio.sleep(0)
    (command,) = WorkerDouble.made[0].commands
    assert isinstance(command, Command.Debug)
    WorkerDouble.made[0].say(Event.Debug(command.token, '{"transports": []}'), Event.Debug(99, "{}"))
    assert await asking == {"transports": []}
    driver.stop()


def test_one_port_on_every_address_and_the_announced_ones_are_told() -> None:
    media = Media(
        port=0,
        addresses=(
            MediaAddress(listen="127.0.0.1", announce=("203.0.113.7", "10.0.0.5")),
            MediaAddress(listen="127.0.0.2"),
        ),
    )
    sockets, candidates = engine.bind(media, 0)
    port = sockets[0].getsockname()[1]
    assert [each.getsockname() for each in sockets] == [("127.0.0.1", port), ("127.0.0.2", port)]
    assert candidates == [("203.0.113.7", port), ("10.0.0.5", port), ("127.0.0.2", port)]
    for each in sockets:
        each.close()


def test_a_port_that_is_taken_is_told_with_its_address() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"media on 127\.0\.0\.1 port {port}"):
            engine.bind(Media(port=port, addresses=(MediaAddress(listen="127.0.0.1"),)), 0)


def test_auto_means_every_address_loopback_last() -> None:
    addresses = engine.interface_addresses()
    assert "127.0.0.1" in addresses
    assert not any(address.startswith("169.254.") for address in addresses)
    first_loopback = next(i for i, address in enumerate(addresses) if address.startswith("127."))
    assert all(address.startswith("127.") for address in addresses[first_loopback:])
