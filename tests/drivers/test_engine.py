"""Workers on the event loop: sockets, events, death and replacement, with a double in place of the Rust thread."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence

import ifaddr
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
        self.busy = 0.0
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
        return {"busy_ratio": self.busy}

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
    first.say(Event.TransportGone(1), Event.WorkerDied("panic", 1), Event.TransportGone(2))
    while not seen or not isinstance(heard[-1], Event.WorkerDied):
        await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().time() - start < 0.1
    second = WorkerDouble.made[1]
    assert heard == [Event.TransportGone(1), Event.WorkerDied("panic", 1)]
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
    assert heard == [Event.WorkerDied("the thread has ended", None)]
    assert driver.alive
    driver.stop()


async def test_a_worker_that_dies_at_every_start_is_given_more_and_more_time(double: type[WorkerDouble]) -> None:
    driver, heard = make()
    loop = asyncio.get_running_loop()
    for death in range(1, 6):
        double.made[-1].living = False
        assert driver.busy is None
        died = loop.time()
        driver.check()
        driver.check()
        assert len(heard) == death == driver.deaths, "told once, and at once"
        if death > engine.Pauses.FREE:
            assert driver.busy is None
            driver.submit([Command.Debug(1)])  # swallowed
            while len(double.made) == death:
                await asyncio.sleep(0.001)
            assert loop.time() - died >= 0.1 * (death - engine.Pauses.FREE)
        assert driver.busy == 0.0
    double.made[-1].living = False
    driver.check()
    driver.stop()
    await asyncio.sleep(0.5)
    assert len(double.made) == 6, "what was stopped stays so"


def test_a_pause_never_grows_beyond_what_people_can_bear_and_is_forgotten() -> None:
    pauses = engine.Pauses()
    found = [pauses.after_death(now=10.0 + n) for n in range(10)]
    assert found == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])
    assert pauses.after_death(now=18.5 + 60.0) == 0.0
    for n in range(100):
        assert pauses.after_death(now=200.0 + 30.0 * n) == 0.0


async def test_a_worker_that_cannot_start_again_is_tried_again(
    double: type[WorkerDouble], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine.Pauses, "LONGEST", 0.01)
    driver, heard = make()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no thread is left")

    monkeypatch.setattr(engine, "Worker", refuse)
    double.made[0].living = False
    driver.check()
    assert len(heard) == 1
    assert driver.busy is None
    monkeypatch.setattr(engine, "Worker", double)
    while driver.busy is None:
        await asyncio.sleep(0.001)
    assert "no thread is left" in caplog.text
    driver.stop()


async def test_how_busy_a_worker_is_follows_what_lasts(double: type[WorkerDouble]) -> None:
    driver, _ = make()
    double.made[0].busy = 1.0
    driver.measure()
    assert driver.busy == pytest.approx(0.2)
    for _ in range(20):
        driver.measure()
    assert driver.busy == pytest.approx(1.0, abs=0.01)
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
    loopback = [ipaddress.ip_address(address).is_loopback for address in addresses]
    assert loopback == sorted(loopback)


def test_auto_takes_ipv6_addresses_that_others_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not ours in the end stand for those that the kernel still checks."""

    def adapter(*addresses: str) -> ifaddr.Adapter:
        ips = [each if "." in each else (each, 0, 0) for each in addresses]
        return ifaddr.Adapter("eth0", "eth0", [ifaddr.IP(each, 64, "eth0") for each in ips])

    monkeypatch.setattr(engine, "_is_ours", lambda address: str(address) != "2001:db8::bad")
    monkeypatch.setattr(
        "ifaddr.get_adapters",
        lambda: [
            adapter("::1", "127.0.0.1"),
            adapter("fe80::5", "2001:db8::5", "2001:db8::bad", "fd00::7", "10.0.0.9"),
        ],
    )
    assert engine.interface_addresses() == ["10.0.0.9", "2001:db8::5", "fd00::7", "127.0.0.1", "::1"]
