"""TCP 443: the engine's front on its listening sockets, and what it hands on: HTTP, as sockets, to whoever serves it.

A front that dies is started again on the same sockets; a worker that takes another's place is attached anew. What the
front does is Rust's; what HTTP is, aiohttp's. No media passes here.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from d4e_sfu._engine import Front, Worker

if TYPE_CHECKING:
    from d4e_sfu.config import Config, Listener
    from d4e_sfu.drivers.engine import EngineDriver

log = logging.getLogger(__name__)

Address = tuple[str, int]
Serve = Callable[[socket.socket, Address], Awaitable[object]]
"""Takes one end of a pair, on which HTTP is spoken, and the client's address."""

REALM: Final = "d4e-sfu"


class Handed:
    """Put before a class of HTTP connections: TLS has ended at the front, and so it is told whom it is with."""

    def __init__(self, *arguments: Any, client: Address, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._client = client

    @property
    def ssl_context(self) -> ssl.SSLContext:
        return _BEHIND_TLS  # "https" is what was spoken

    @property
    def peername(self) -> Address:
        return self._client


_BEHIND_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@dataclass(slots=True)
class FrontDriver:
    """One front and its replacements, for all listeners that take media."""

    config: Config
    sockets: Sequence[socket.socket]
    engines: Sequence[EngineDriver]
    serve: Serve
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    deaths: int = 0
    _pair: tuple[bytes, bytes] | None = field(default=None, repr=False)
    _front: Front | None = None
    _serving: set[asyncio.Future[object]] = field(default_factory=set)
    _before: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        """Raises OSError."""
        self._front = self._start()
        for number, engine in enumerate(self.engines):
            engine.on_started = self._attacher(number)

    def set_certificate(self, chain: bytes, key: bytes) -> None:
        """PEM. Raises OSError where the pair is not right, and then serves what it served before."""
        assert self._front is not None, "started"
        try:
            self._front.set_certificate(chain, key)
        except ValueError as error:
            raise OSError(str(error)) from None
        self._pair = (chain, key)

    def check(self) -> None:
        """Starts it again where it has died; called a few times a second."""
        if self._front is None or self._front.alive():
            return
        log.error("the front died; it is started again")
        self.deaths += 1
        self._before.update(_flat(self._front.snapshot()))
        asyncio.get_running_loop().remove_reader(self._front.fileno())
        self._front.stop()
        self._front = self._start()

    @property
    def alive(self) -> bool:
        return self._front is not None and self._front.alive()

    def snapshot(self) -> tuple[Counter[str], Mapping[str, int]]:
        """What was counted since this process started, and what is open."""
        if self._front is None:
            return Counter(), {}
        now = self._front.snapshot()
        counted = Counter(self._before)
        counted.update(_flat(now))
        opened = now["open"]
        assert isinstance(opened, dict)
        return counted, opened

    def stop(self) -> None:
        if self._front is not None:
            asyncio.get_running_loop().remove_reader(self._front.fileno())
            self._front.stop()
            self._front = None
        for each in self.sockets:
            each.close()

    def _start(self) -> Front:
        rate = self.config.rates.address
        front = Front(
            [each.fileno() for each in self.sockets],
            name="front",
            realm=REALM,
            secret=self.secret,
            peers=peers(self.engines),
            workers=len(self.engines),
            connections=self.config.front.connections,
            per_address=self.config.front.connections_per_address,
            rate=max(1, round(rate.per_second)),
            burst=rate.burst,
        )
        if self._pair is not None:
            front.set_certificate(*self._pair)
        for number, engine in enumerate(self.engines):
            front.attach(number, engine.worker)
        asyncio.get_running_loop().add_reader(front.fileno(), self._take, front)
        return front

    def _attacher(self, number: int) -> Callable[[Worker], None]:
        def attach(worker: Worker) -> None:
            if self._front is not None:
                self._front.attach(number, worker)

        return attach

    def _take(self, front: Front) -> None:
        for descriptor, address, port in front.handed():
            one = socket.socket(fileno=descriptor)
            serving = asyncio.ensure_future(self.serve(one, (address, port)))
            self._serving.add(serving)
            serving.add_done_callback(self._taken)

    def _taken(self, serving: asyncio.Future[object]) -> None:
        self._serving.discard(serving)
        if not serving.cancelled() and serving.exception() is not None:
            log.error("a connection was not taken over", exc_info=serving.exception())


def peers(engines: Sequence[EngineDriver]) -> list[tuple[str, int, int]]:
    """What TURN may relay to: the media addresses of each worker, as they are announced."""
    return [(address, port, number) for number, each in enumerate(engines) for address, port in each.announced]


def candidates(
    listeners: Sequence[Listener], config: Config, announced: Sequence[Address]
) -> list[tuple[str, int, Literal["tcp"]]]:
    """Under which addresses these listeners take ICE-TCP, given those under which media is `announced` by UDP."""
    behind = {each.listen: each.announced for each in config.media.addresses}
    found: dict[tuple[str, int, Literal["tcp"]], None] = {}
    for listener in listeners:
        everywhere = listener.address in ("0.0.0.0", "::")
        family = ":" in listener.address
        here = [address for address, _ in announced if (":" in address) == family] if everywhere else []
        for address in here or ([] if everywhere else behind.get(listener.address, (listener.address,))):
            found[address, listener.port, "tcp"] = None
    return list(found)


def _flat(snapshot: Mapping[str, object]) -> Counter[str]:
    flat = Counter(
        {name: value for name in ("accepted", "received", "sent") if isinstance(value := snapshot[name], int)}
    )
    for kind in ("refused", "dropped"):
        named = snapshot[kind]
        assert isinstance(named, dict)
        flat.update({f"{kind} {name}": count for name, count in named.items()})
    return flat
