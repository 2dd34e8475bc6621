"""The composition root: builds the core and its drivers from one configuration, runs them, and stops them in order.

Start: media ports, workers, associations, core, HTTP. SIGHUP: the configuration is read again, whole or not at all.
SIGTERM or SIGINT: no new joins, everyone is asked to join again, last words are sent, workers end. Nothing here decides
about people.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib.metadata
import ipaddress
import logging
import random
import re
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from d4e_sfu import config as configuration
from d4e_sfu._engine import Event
from d4e_sfu.config import Config
from d4e_sfu.core.boundary import TransportId
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.core.tokens import NOT_ACCEPTED
from d4e_sfu.drivers import certificates
from d4e_sfu.drivers import engine as engines
from d4e_sfu.drivers.admin import Admin
from d4e_sfu.drivers.associations import Associations
from d4e_sfu.drivers.dtls import EngineCertificate
from d4e_sfu.drivers.entrance import Entrance
from d4e_sfu.drivers.metrics import Metrics, Sources
from d4e_sfu.drivers.pages import Pages
from d4e_sfu.drivers.roomservice import ServerApi
from d4e_sfu.drivers.signal import MAX_LINE, Signalling
from d4e_sfu.drivers.whip import Whip
from d4e_sfu.errors import EX_CONFIG, EX_OK, ConfigError

log = logging.getLogger(__name__)

PAGE: Final = Path(__file__).parent / "web" / "dist"
# From a request's first byte to its last header, and between two requests of a connection.
HTTP_PATIENCE: Final = 10.0
# Bytes of TCP that may wait to be read. aiohttp spends 3 µs on a chunk of one byte, so a quarter of a megabyte of them
# (asyncio's largest read) would hold everyone for an eighth of a second.
RECEIVE_BUFFER: Final = 1 << 16
# The first bytes of a line that is too long, where it is a token's: in its header, or in the query.
_TOKEN: Final = re.compile(rb"Bearer |[^ ]*[?&]access_token=")
M_MMAP_THRESHOLD: Final = -3  # malloc.h of glibc
# So late clients are told of what was put off: a re-offer, who has stopped speaking. A dead worker is found sooner.
TICK: Final = 0.25
WATCH: Final = 0.05
# SIGTERM: last words have this long. Ours and the kernel's rest fit into the 5 s of a restart.
DRAIN: Final = 3.0

Reload = Callable[[], Config]


def run(config: Config, *, reload: Reload | None = None) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP calls `reload`. Returns the exit code."""
    _map_large_blocks()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, reload))


def _map_large_blocks() -> None:
    """Buffers of a connection, of which it uses the first pages, are mapped one by one: then the others are no memory.

    glibc does so from 128 KiB on, until the first of them is freed; after that it takes such sizes from its heap, whose
    pages have been used before. A tenth of what a participant costs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 64 << 10)


async def _serve(config: Config, reload: Reload | None) -> int:
    try:
        server = await Server.start(config)
    except OSError as error:
        # An address that is not ours, a port that is taken, a certificate that cannot be read: the operator's.
        log.critical("cannot start: %s", error)
        return EX_CONFIG
    # What is here now stays until the end: the collector need not look through it again, which holds everyone up.
    gc.collect()
    gc.freeze()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, server.reload, reload)
    await stopped.wait()
    await server.stop()
    return EX_OK


class Server:
    """Everything that runs, from `start` to `stop`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lag = Lag()
        self.engines: list[engines.EngineDriver] = []
        self.associations: dict[engines.EngineDriver, Associations] = {}
        self.metrics = Metrics(
            Sources(
                roles=lambda: self.config.roles.keys(),
                rooms=lambda: self.sfu.rooms.values(),
                workers=lambda: self.engines,
                associations=lambda: [each.counters for each in self.associations.values()],
                connections=lambda: self.signalling.connections,
                refusals=lambda: self.entrance.refusals,
                lag=self.lag.take,
                version=_version(),
            )
        )
        self.sfu = Sfu(config, chance=random.SystemRandom(), announcer=self)
        self.entrance = Entrance(config)
        self.signalling = Signalling(self.sfu, self.entrance, on_refused=self.metrics.join_refused)
        self.whip = Whip(self.sfu, self.entrance)
        self._runners: list[web.AppRunner] = []
        self._listening: list[asyncio.Server] = []
        self._timers: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, config: Config) -> Server:
        """Raises OSError where something outside is not as the configuration says; nothing is left running then."""
        server = cls(config)
        try:
            server._start_workers()
            await server._start_http()
            await server._start_admin()
        except BaseException:
            await server.stop()
            raise
        server._timers = [
            asyncio.create_task(_every(TICK, server._tick)),
            asyncio.create_task(_every(WATCH, server._watch)),
        ]
        return server

    async def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for listening in self._listening:
            listening.close()  # connections live on
        self.sfu.drain(now=time.monotonic())
        try:
            await asyncio.wait_for(self.signalling.closed(), DRAIN)
        except TimeoutError:
            log.warning("stopping with %d connections open", self.signalling.connections)
        for runner in self._runners:
            await runner.cleanup()
        for associations in self.associations.values():
            associations.stop()
        for each in self.engines:
            each.stop()

    def reload(self, load: Reload) -> None:
        """The whole new configuration, or every mistake in it and nothing changes."""
        try:
            config = load()
        except ConfigError as error:
            log.error("the configuration stays as it was:\n%s", error)
            self.metrics.reloaded(accepted=False)
            return
        for change in configuration.changes(self.config, config):
            log.warning("config %s %s", change.key, "changed" if change.reload == "live" else "needs a restart")
        # Settings that need a restart are read at the start alone, so the new values wait there.
        self.config = config
        self.entrance.reconfigure(config)
        self.sfu.reconfigure(config)
        self.metrics.reloaded(accepted=True)

    def announce(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        """`boundary.Announcer`: to the metrics, and a line in the log. Ids only, never a name or an address."""
        self.metrics.announce(event, facts)
        # Whoever sends refused data may do so a thousand times a second: counted, not logged.
        level = logging.DEBUG if event == "data_refused" else logging.INFO
        log.log(level, "%s %s", event, " ".join(f"{key}={_shown(value)}" for key, value in facts.items()))

    # --- media -------------------------------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        certificate = EngineCertificate.generate()
        for number in range(self.config.media.workers):
            sockets, candidates = engines.bind(self.config.media, number)
            driver = engines.EngineDriver(f"worker-{number}", sockets, candidates, self._engine_event)
            associations = Associations(driver.submit, self.sfu, certificate=certificate)
            self.engines.append(driver)
            self.associations[driver] = associations
            self.sfu.add_worker(driver, associations)
            log.info("worker name=%s candidates=%s", driver.name, " ".join(f"{ip}:{port}" for ip, port in candidates))

    def _engine_event(self, driver: engines.EngineDriver, event: Event) -> None:
        match event:
            case Event.Dtls(transport=transport, datagram=datagram):
                self.associations[driver].receive(TransportId(transport), datagram)
            case Event.PathChanged(transport=transport):
                self.associations[driver].path_changed(TransportId(transport))
            case _:
                self.sfu.engine_event(driver, event, now=time.monotonic())

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def _start_http(self) -> None:
        app = web.Application()
        self.whip.setup(app)
        self.entrance.setup(app)
        self.signalling.setup(app)
        ServerApi(self.sfu, self.entrance).setup(app)
        Pages(PAGE).setup(app)
        runner = await self._runner(app)
        for listener in self.config.http.listeners:
            context = None
            if listener.tls:
                tls = self.config.http.tls
                assert tls.certificate is not None, "the configuration was checked"
                assert tls.key is not None
                context = certificates.https(tls.certificate, tls.key)
            await self._listen(runner, listener.address, listener.port, context)
            scheme = "https" if listener.tls else "http"
            log.info("listening scheme=%s address=%s port=%d", scheme, listener.address, listener.port)

    async def _start_admin(self) -> None:
        address, port = self.config.admin.address, self.config.admin.port
        app = web.Application()
        Admin(
            not_ready=self.not_ready,
            metrics=self.metrics,
            state=self._debug_state,
            rooms=self.sfu.debug_rooms,
            room=self._debug_room,
            loopback=ipaddress.ip_address(address).is_loopback,
        ).setup(app)
        runner = await self._runner(app)
        await self._listen(runner, address, port)
        log.info("admin address=%s port=%d", address, port)

    async def _listen(
        self, runner: web.AppRunner, address: str, port: int, context: ssl.SSLContext | None = None
    ) -> None:
        # Not a `TCPSite`: that gives a silent TLS client a minute.
        patience = HTTP_PATIENCE if context else None
        server = runner.server
        assert server is not None, "the runner is set up"
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=512)
        # Connections inherit it. One read brings no more than this, twice at most, and one turn of the loop parses it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        listening = await loop.create_server(
            lambda: _Discreet(server, loop=loop, **server._kwargs),
            sock=listener,
            ssl=context,
            ssl_handshake_timeout=patience,
            backlog=512,
        )
        self._listening.append(listening)

    async def _runner(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(
            app,
            access_log=None,  # request lines carry tokens
            logger=_http_log(),
            keepalive_timeout=HTTP_PATIENCE,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            auto_decompress=False,  # nothing that we take is worth it, and every body would be a possible bomb
            shutdown_timeout=0.5,
        )
        await runner.setup()
        self._runners.append(runner)
        return runner

    # --- what an operator sees ---------------------------------------------------------------------------------------

    def not_ready(self) -> Sequence[str]:
        reasons = [f"{each.name} is dead" for each in self.engines if not each.alive]
        return [*reasons, "draining"] if self.sfu.draining else reasons

    def _debug_state(self) -> Mapping[str, object]:
        return {
            **self.sfu.debug_state(),
            "signalling_connections": self.signalling.connections,
            "tasks": len(asyncio.all_tasks()),
            "workers": [
                {
                    "name": each.name,
                    "candidates": [f"{address}:{port}" for address, port in each.candidates],
                    "deaths": each.deaths,
                    "busy": each.busy,
                    "associations": self.associations[each].debug_state(),
                    "snapshot": each.snapshot(),
                }
                for each in self.engines
            ],
        }

    async def _debug_room(self, name: str) -> Mapping[str, object] | None:
        """The core's view of a room, and beside it the engine's and the associations' views of the same things."""
        state = self.sfu.debug_room(name)
        if state is None:
            return None
        driver = next(each for each in self.engines if each is self.sfu.rooms[name].worker.engine)
        engine = await driver.debug_state()
        people = state["participants"]
        ids = {
            "transports": {person["transport"] for person in people},
            "publications": {each["id"] for person in people for each in person["publications"]},
            "subscriptions": {each["id"] for person in people for each in person["subscriptions"]},
        }
        return {
            **state,
            "worker": driver.name,
            "engine": {
                kind: [each for each in engine.get(kind, []) if each.get("id") in wanted]
                for kind, wanted in ids.items()
            },
            "associations": {
                str(transport): self.associations[driver].debug_state(transport)
                for transport in sorted(ids["transports"])
            },
        }

    def _tick(self) -> None:
        for each in self.engines:
            each.measure()
        self.sfu.tick(now=time.monotonic())

    def _watch(self) -> None:
        self.lag.seen(time.monotonic(), interval=WATCH)
        for each in self.engines:
            each.check()


class Lag:
    """How late the event loop comes to what is due: the sign of too much work, or of one thing that took too long."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._then: float | None = None

    def seen(self, now: float, *, interval: float) -> None:
        if self._then is not None:
            self._worst = max(self._worst, now - self._then - interval)
        self._then = now

    def take(self) -> float:
        """Seconds, the worst since the last call."""
        worst, self._worst = self._worst, 0.0
        return worst


class _Discreet(web.RequestHandler):
    """aiohttp's HTTP connection, which repeats nothing of what it cannot read.

    aiohttp's own 400 shows the bytes. Behind a proxy that counts them otherwise they may be of the next request: some
    other person's, with his token.
    """

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, LineTooLong) and _TOKEN.match(bytes(exc.args[0])):
            return super().handle_error(request, 401, exc, NOT_ACCEPTED)
        return super().handle_error(request, status, exc, "This is not HTTP as it should be.\n" if message else None)


def _http_log() -> logging.Logger:
    """What aiohttp has to say, but for what is no HTTP: for each of those it would write a trace and a piece of the
    request, which may hold a token, and anyone can send them by the thousand."""

    def ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    # A warning for each opening with a subprotocol, with the client's address and whatever he wrote there.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    http = logging.getLogger(f"{__name__}.http")
    http.filters[:] = [ours]
    return http


async def _every(interval: float, act: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            act()
        except Exception:
            log.exception("timer failed")  # ours; the next turn may go well


def _shown(value: str | int | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _version() -> str:
    try:
        return importlib.metadata.version("d4e-sfu")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"
