"""The workers of the packet engine: their UDP sockets, their events on the event loop, their death and replacement.

It moves commands down and events up and decides nothing. A worker that dies is replaced on the same ports, at once; if
it happens again and again, after a pause, or a fault that kills each at its start would keep the whole process busy.
What becomes of its rooms is the core's business. Media never passes here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import ifaddr

from d4e_sfu._engine import Command, Event, Worker
from d4e_sfu.core.boundary import Candidate

if TYPE_CHECKING:
    from d4e_sfu.config import Media

log = logging.getLogger(__name__)

# socket(7). These exceed net.core.rmem_max and wmem_max, and need CAP_NET_ADMIN; `socket` does not name them.
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
DEBUG_SECONDS: Final = 1.0
# How much of `busy` each measurement is, of two a second: the keyframes of one room are not a trend.
SMOOTHING: Final = 0.2


class Pauses:
    """Between a worker's death and its replacement: none for the first few, which may be a room's doing (the core then
    refuses it), then twice as long each time.

    Short against the 3 s in which a call must be back: whoever was in one of its rooms waits as long.
    """

    FREE: Final = 3  # deaths
    WINDOW: Final = 60.0  # s; deaths further apart have nothing to do with each other
    FIRST: Final = 0.1  # s
    LONGEST: Final = 1.0  # s

    def __init__(self) -> None:
        self._deaths: list[float] = []

    def after_death(self, *, now: float) -> float:
        self._deaths = [*(then for then in self._deaths if now - then < self.WINDOW), now]
        over = len(self._deaths) - self.FREE
        return 0.0 if over <= 0 else min(self.FIRST * 2.0 ** (over - 1), self.LONGEST)


class EngineDriver:
    """One worker and its replacements; a `boundary.Engine`."""

    def __init__(
        self,
        name: str,
        sockets: Sequence[socket.socket],
        candidates: Sequence[tuple[str, int]],
        on_event: Callable[[EngineDriver, Event], None],
    ) -> None:
        self.name = name
        self.announced = tuple(candidates)
        """(address, UDP port), as in candidates."""
        self.candidates: tuple[Candidate, ...] = self.announced
        self.on_started: Callable[[Worker], None] = lambda _: None
        """Hears of every worker that takes another's place."""
        self.deaths = 0
        self._sockets = tuple(sockets)
        self._on_event = on_event
        self._debugs: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tokens = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._busy = 0.0
        self._pauses = Pauses()
        self._restart: asyncio.TimerHandle | None = None
        self._worker = self._start()

    @property
    def worker(self) -> Worker:
        """The one that runs, or ran last."""
        return self._worker

    def submit(self, commands: Sequence[Command]) -> None:
        self._worker.submit(commands)

    def snapshot(self) -> Mapping[str, object]:
        return self._worker.snapshot()

    async def debug_state(self) -> dict[str, Any]:
        """The router's own view; empty where it does not answer in time."""
        token = next(self._tokens)
        answer = self._debugs[token] = self._loop.create_future()
        self.submit([Command.Debug(token)])
        try:
            return await asyncio.wait_for(answer, DEBUG_SECONDS)
        except TimeoutError:
            return {}
        finally:
            del self._debugs[token]

    @property
    def alive(self) -> bool:
        return self._worker.alive()

    @property
    def busy(self) -> float | None:
        return self._busy if self.alive else None

    def measure(self) -> None:
        """Brings `busy` up to date; called twice a second."""
        now = self._worker.snapshot().get("busy_ratio")
        if isinstance(now, float):
            self._busy += SMOOTHING * (now - self._busy)

    def check(self) -> None:
        """For a death that could not be told by an event; called a few times a second."""
        if self._restart is None and not self._worker.alive():
            self._replace("the thread has ended")

    def stop(self) -> None:
        if self._restart is None:
            self._loop.remove_reader(self._worker.fileno())
        else:
            self._restart.cancel()
        self._worker.stop()
        for each in self._sockets:
            each.close()

    def _start(self) -> Worker:
        worker = Worker([each.fileno() for each in self._sockets], name=self.name)
        self._loop.add_reader(worker.fileno(), self._drain, worker)
        self.on_started(worker)
        return worker

    def _drain(self, worker: Worker) -> None:
        for event in worker.events():
            if isinstance(event, Event.WorkerDied):
                self._replace(event.reason, event.transport)
                return  # everything that it said is about transports that are gone
            try:
                if isinstance(event, Event.Debug):
                    self._debugged(event)
                else:
                    self._on_event(self, event)
            except Exception:
                log.exception("engine event failed")  # ours; the next event is not to blame

    def _debugged(self, event: Event.Debug) -> None:
        answer = self._debugs.get(event.token)
        if answer is not None and not answer.done():
            answer.set_result(json.loads(event.state))

    def _replace(self, reason: str, transport: int | None = None) -> None:
        self.deaths += 1
        log.error("worker died name=%s reason=%s", self.name, reason)
        self._loop.remove_reader(self._worker.fileno())
        self._worker.stop()
        self._busy = 0.0
        self._begin_again()
        self._on_event(self, Event.WorkerDied(reason, transport))

    def _begin_again(self) -> None:
        pause = self._pauses.after_death(now=self._loop.time())
        if pause:
            self._restart = self._loop.call_later(pause, self._start_again)
        else:
            # Before anyone is told: whoever is asked to join again may be here in the same turn of the loop.
            self._start_again()

    def _start_again(self) -> None:
        self._restart = None
        try:
            self._worker = self._start()
        except OSError as error:  # no thread or no descriptor is left; that may pass
            log.error("worker not started name=%s: %s", self.name, error)
            self._restart = self._loop.call_later(Pauses.LONGEST, self._start_again)


def bind(media: Media, worker: int) -> tuple[list[socket.socket], list[tuple[str, int]]]:
    """The sockets of one worker, one for each listening address on the same port, and what to announce for them.

    Raises OSError when an address is not ours or the port is taken.
    """
    addresses = [(each.listen, each.announced) for each in media.addresses]
    if not addresses:
        addresses = [(address, (address,)) for address in interface_addresses()]
    port = media.port + worker if media.port else 0
    sockets: list[socket.socket] = []
    candidates: list[tuple[str, int]] = []
    try:
        for listen, announced in addresses:
            family = socket.AF_INET6 if ipaddress.ip_address(listen).version == 6 else socket.AF_INET
            one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sockets.append(one)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for ask, force in ((socket.SO_RCVBUF, SO_RCVBUFFORCE), (socket.SO_SNDBUF, SO_SNDBUFFORCE)):
                one.setsockopt(socket.SOL_SOCKET, ask, media.buffer)  # the kernel gives what it may
                with contextlib.suppress(PermissionError):
                    one.setsockopt(socket.SOL_SOCKET, force, media.buffer)
            one.bind((listen, port))
            port = one.getsockname()[1]  # port 0: the first one's choice holds for all
            candidates.extend((address, port) for address in announced)
    except OSError as error:
        for one in sockets:
            one.close()
        raise OSError(error.errno, f"media on {listen} port {port}: {error.strerror}") from error
    return sockets, candidates


def interface_addresses() -> list[str]:
    """Every address of this machine, loopback last and IPv4 first, which more networks carry well.

    Link-local ones (RFC 3927, RFC 4291 §2.5.6) reach nobody who is routed here. One that the kernel still checks for a
    second owner (RFC 4862 §5.4) cannot be used yet, and is left out.
    """
    found = {
        # ifaddr gives an IPv6 address with its flow and scope.
        ipaddress.ip_address(each.ip if isinstance(each.ip, str) else each.ip[0])
        for adapter in ifaddr.get_adapters()
        for each in adapter.ips
    }
    usable = [address for address in found if not address.is_link_local and _is_ours(address)]
    usable.sort(key=lambda address: (address.is_loopback, address.version, int(address)))
    return [str(address) for address in usable]


def _is_ours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if address.version == 4:
        return True
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
