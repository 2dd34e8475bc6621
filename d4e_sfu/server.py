"""The composition root: builds the core and its drivers from one configuration, runs them, and stops them in order.

Start: media ports, workers, associations, core, HTTP. SIGTERM or SIGINT: no new joins, everyone is asked to join
again, last words are sent, workers end. SIGHUP: the configuration is read again. Nothing here decides about people.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from d4e_sfu import errors
from d4e_sfu._engine import Event
from d4e_sfu.config import Config, Listener, Tls
from d4e_sfu.core.boundary import TransportId
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.drivers import engine as engines
from d4e_sfu.drivers.dtls import Associations, EngineCertificate
from d4e_sfu.drivers.pages import Pages
from d4e_sfu.drivers.signal import MAX_LINE, Signalling

log = logging.getLogger(__name__)

PAGE: Final = Path(__file__).parent / "web" / "dist"
# From a request's first byte to its last header, and between two requests of a connection.
HTTP_PATIENCE: Final = 10.0
# Time-outs of participants need no better resolution; a dead worker does (100 ms).
TICK: Final = 0.5
WATCH: Final = 0.05
# SIGTERM: last words have this long. Ours and the kernel's rest fit into the 5 s of a restart.
DRAIN: Final = 3.0


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config))


async def _serve(config: Config) -> int:
    try:
        server = await Server.start(config)
    except OSError as error:
        # An address that is not ours, a port that is taken, a certificate that cannot be read: the operator's.
        log.error("cannot start: %s", error)
        return errors.EX_CONFIG
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    await server.stop()
    return errors.EX_OK


class Server:
    """Everything that runs, from `start` to `stop`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sfu = Sfu(config, chance=random.SystemRandom(), announcer=self)
        self.signalling = Signalling(self.sfu, config)
        self.engines: list[engines.EngineDriver] = []
        self.associations: dict[engines.EngineDriver, Associations] = {}
        self.lag = Lag()
        self._runners: list[web.AppRunner] = []
        self._timers: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, config: Config) -> Server:
        """Raises OSError where something outside is not as the configuration says; nothing is left running then."""
        server = cls(config)
        try:
            server._start_workers()
            await server._start_http()
        except BaseException:
            await server.stop()
            raise
        server._timers = [
            asyncio.create_task(server._every(TICK, lambda: server.sfu.tick(now=time.monotonic()))),
            asyncio.create_task(server._every(WATCH, server._watch)),
        ]
        return server

    async def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for runner in self._runners:
            for site in list(runner.sites):
                await site.stop()  # stops listening; connections live on
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

    def announce(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        """`boundary.Announcer`: a line in the log. Decisions are worth a line each; ids only."""
        log.info("%s %s", event, " ".join(f"{key}={value}" for key, value in facts.items()))

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
        self.signalling.setup(app)
        Pages(PAGE).setup(app)
        runner = web.AppRunner(
            app,
            access_log=None,  # request lines carry tokens
            keepalive_timeout=HTTP_PATIENCE,
            lingering_time=0,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            shutdown_timeout=1.0,
            handle_signals=False,
        )
        await runner.setup()
        self._runners.append(runner)
        for listener in self.config.http.listeners:
            await self._listen(runner, listener)

    async def _listen(self, runner: web.AppRunner, listener: Listener) -> None:
        context = _tls_context(self.config.http.tls) if listener.tls else None
        site = web.TCPSite(
            runner, listener.address, listener.port, ssl_context=context, reuse_address=True, backlog=512
        )
        await site.start()
        log.info(
            "listening scheme=%s address=%s port=%d", "https" if context else "http", listener.address, listener.port
        )

    # --- time --------------------------------------------------------------------------------------------------------

    async def _every(self, interval: float, act: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                act()
            except Exception:
                log.exception("timer failed")

    def _watch(self) -> None:
        self.lag.seen(time.monotonic(), interval=WATCH)
        for each in self.engines:
            each.check()


class Lag:
    """How late the event loop comes to what is due: the sign of too much work, or of one thing that took too long."""

    def __init__(self) -> None:
        self.worst = 0.0  # s, since the last `take`
        self._then: float | None = None

    def seen(self, now: float, *, interval: float) -> None:
        if self._then is not None:
            self.worst = max(self.worst, now - self._then - interval)
        self._then = now

    def take(self) -> float:
        worst, self.worst = self.worst, 0.0
        return worst


def _tls_context(tls: Tls) -> ssl.SSLContext:
    if tls.certificate is None or tls.key is None:
        raise OSError("a listener has tls: true, and http.tls names no certificate and key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.certificate, tls.key)
    return context
