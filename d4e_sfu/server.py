"""The composition root: builds the core and its drivers from one configuration, runs them, and stops them in order.

Start: media ports, workers, associations, core, HTTP; the sockets are systemd's where it passes some. SIGHUP or
`d4e-sfu reload`: the configuration is read again, whole or not at all. SIGTERM or `d4e-sfu drain`: no new rooms, calls
that run may end within the time that the configuration gives; then, as at once with SIGINT, everyone is asked to join
again, last words are sent, workers end. Nothing here decides about people.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib.metadata
import ipaddress
import logging
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web
from livekit.protocol import webhook

from d4e_sfu import config as configuration
from d4e_sfu._engine import Event
from d4e_sfu.config import Config
from d4e_sfu.core.boundary import PERSONAL, TransportId
from d4e_sfu.core.ending import Ending
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.core.tokens import sign_body
from d4e_sfu.core.turn import Turn
from d4e_sfu.drivers import certificates
from d4e_sfu.drivers import engine as engines
from d4e_sfu.drivers import front as fronts
from d4e_sfu.drivers.admin import Admin
from d4e_sfu.drivers.associations import Associations
from d4e_sfu.drivers.audit import CHECKPOINT_SECONDS, Audit, Secret
from d4e_sfu.drivers.beat import Lag, every
from d4e_sfu.drivers.control import Control, Verdict
from d4e_sfu.drivers.dtls import EngineCertificate
from d4e_sfu.drivers.entrance import Entrance
from d4e_sfu.drivers.http import HttpServer
from d4e_sfu.drivers.inspection import Inspection
from d4e_sfu.drivers.metrics import Metrics, Sources
from d4e_sfu.drivers.notify import Notifier, Pulse
from d4e_sfu.drivers.pages import Pages
from d4e_sfu.drivers.roomservice import ServerApi
from d4e_sfu.drivers.signal import Signalling
from d4e_sfu.drivers.sockets import Inherited
from d4e_sfu.drivers.status import INTERVAL, Status
from d4e_sfu.drivers.webhooks import Webhooks
from d4e_sfu.drivers.whip import Whip
from d4e_sfu.errors import EX_CONFIG, EX_OK, ClientError, ConfigError, Problem

log = logging.getLogger(__name__)

PAGE: Final = Path(__file__).parent / "web" / "dist"
STATUS_PAGE: Final = "status"  # in there; the admin listener's
M_MMAP_THRESHOLD: Final = -3  # malloc.h of glibc
# So late clients are told of what was put off: a re-offer, who has stopped speaking. A dead worker is found sooner.
TICK: Final = 0.25
WATCH: Final = 0.05
# How often the status page's hour gets a point.
SAMPLE: Final = INTERVAL
# How often the files of the certificate are looked at.
FRESH: Final = 2.0
# A certificate of DTLS is told to who joins within a day of its making.
DTLS_RENEWAL: Final = 86_400.0
# Last words have this long. Ours and the kernel's rest fit into the 5 s of a restart.
LAST_WORDS: Final = 3.0
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
    notifier = Notifier()
    try:
        server = await Server.start(config, load=reload, inherited=Inherited.from_environment(), notifier=notifier)
    except OSError as error:
        # An address that is not ours, a port that is taken, a certificate that cannot be read: the operator's.
        log.critical("cannot start: %s", error)
        return EX_CONFIG
    # What is here now stays until the end: the collector need not look through it again, which holds everyone up.
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.terminate)
    loop.add_signal_handler(signal.SIGINT, server.ended.set)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, server.reload, reload)
    notifier.ready("serving")
    await server.ended.wait()
    notifier.stopping("asking everyone to join again")
    await server.stop()
    return EX_OK


class Server:
    """Everything that runs, from `start` to `stop`."""

    def __init__(
        self,
        config: Config,
        *,
        load: Reload | None = None,
        inherited: Inherited | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.config = config
        self.ended = asyncio.Event()
        """Set when it is time to `stop`."""
        self._started_with = config
        self._load = load
        self._inherited = inherited
        self.http = HttpServer(inherited)
        self._notifier = notifier or Notifier({})
        self._pulse = Pulse()
        self._stopping = False  # systemd waits
        self._https: certificates.Https | None = None
        self.front: fronts.FrontDriver | None = None
        self.audit: Audit | None = None
        self.webhooks = Webhooks(config, sign=self._signed)
        self.lag = Lag()
        self._recent_lag = Lag()  # each has one reader
        self.engines: list[engines.EngineDriver] = []
        self.associations: dict[engines.EngineDriver, Associations] = {}
        sources = Sources(
            roles=lambda: self.config.roles.keys(),
            rooms=lambda: self.sfu.rooms.values(),
            workers=lambda: self.engines,
            front=lambda: self.front,
            associations=lambda: [each.counters for each in self.associations.values()],
            connections=lambda: self.signalling.connections,
            refusals=lambda: self.entrance.refusals,
            lag=self.lag.take,
            capacity=lambda: self.config.limits.participants,
            certificate_ends=lambda: certificates.ends(self.config.http.tls.certificate),
            draining=lambda: self.sfu.draining,
            audit=lambda: self.audit,
            webhooks=lambda: self.webhooks,
            version=_version(),
        )
        self.metrics = Metrics(sources)
        self.status = Status(
            sources,
            self.metrics,
            dead=lambda: sum(not each.alive for each in self.engines),
            lag=self._recent_lag.take,
            now=time.monotonic(),
        )
        self.sfu = Sfu(config, chance=random.SystemRandom(), announcer=self)
        self.entrance = Entrance(config)
        self.signalling = Signalling(self.sfu, self.entrance, on_refused=self.metrics.join_refused)
        self.whip = Whip(self.sfu, self.entrance)
        self._ending = Ending(self.sfu)
        self._timers: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls,
        config: Config,
        *,
        load: Reload | None = None,
        inherited: Inherited | None = None,
        notifier: Notifier | None = None,
    ) -> Server:
        """Raises OSError where something outside is not as the configuration says; nothing is left running then.

        `load` reads the configuration again when a command asks for it; `inherited` are sockets that systemd passed.
        """
        server = cls(config, load=load, inherited=inherited, notifier=notifier)
        try:
            if inherited is not None:
                inherited.check(config)
            server._start_audit()
            server._start_workers()
            await server._start_http()
            await server._start_admin()
            await server._start_control()
            server.webhooks.start()
            if config.testing.simulate:
                log.warning("clients may ask for failures of their connections: testing.simulate is on")
        except BaseException:
            await server.stop()
            raise
        server._timers = [
            asyncio.create_task(every(TICK, server._tick)),
            asyncio.create_task(every(WATCH, server._watch)),
            asyncio.create_task(every(FRESH, server._renew)),
            asyncio.create_task(every(SAMPLE, lambda: server.status.sample(time.monotonic()))),
            asyncio.create_task(every(CHECKPOINT_SECONDS, server._checkpoint)),
            asyncio.create_task(every(DTLS_RENEWAL, server._renew_dtls)),
        ]
        if server._notifier.interval is not None:
            server._timers.append(asyncio.create_task(every(server._notifier.interval, server._feed)))
        return server

    async def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self.http.close()
        self.sfu.close(now=time.monotonic())
        try:
            await asyncio.wait_for(self.signalling.closed(), LAST_WORDS)
        except TimeoutError:
            log.warning("stopping with %d connections open", self.signalling.connections)
        await self.http.cleanup()
        await self.webhooks.stop()
        for associations in self.associations.values():
            associations.stop()
        if self.front is not None:
            self.front.stop()
        for each in self.engines:
            each.stop()
        if self._inherited is not None:
            self._inherited.close()
        if self.audit is not None:
            self.audit.stop()

    # --- commands ----------------------------------------------------------------------------------------------------

    def reload(self, load: Reload, by: str = "signal") -> Verdict:
        """The whole new configuration, or every mistake in it and nothing changes."""
        try:
            self._require()
            config = load()
            self._replace_certificate(config)
        except (ConfigError, ClientError) as error:
            log.error("the configuration stays as it was:\n%s", error)
            self.metrics.reloaded(accepted=False)
            self._record("reload", by, reason="refused")
            return Verdict(False, (*str(error).splitlines(), "the configuration stays as it was"))
        lines = configuration.outlook(self._started_with, self.config, config)
        for line in lines:
            log.warning("config %s", line)
        # Settings that need a restart are read at the start alone, so the new values wait there.
        self.config = config
        self.entrance.reconfigure(config)
        if gone := self.sfu.reconfigure(config, now=time.monotonic()):
            lines.append(f"sent away, since their tokens are taken back: {gone}")
            log.warning("%s", lines[-1])
        self.webhooks.reconfigure(config)
        self._offer_turn()
        self.metrics.reloaded(accepted=True)
        self._record("reload", by, reason=", ".join(lines) or "nothing has changed")
        return Verdict(True, tuple(lines))

    def _require(self) -> None:
        """Raises ClientError where nothing can be recorded that has to be."""
        if self.audit is not None:
            self.audit.require()

    def _record(self, event: str, actor: str, *, reason: str) -> None:
        if self.audit is not None:
            self.audit.record(event, actor=actor, reason=reason)

    def terminate(self) -> None:
        """SIGTERM. The second one does not wait."""
        if self._stopping:
            self.ended.set()
            return
        self._stopping = True
        self._notifier.stopping("waiting for calls to end")
        self.drain(self.config.drain.on_stop)

    def drain(self, seconds: float) -> None:
        """No new rooms; `ended` once everyone has left, or after this time, or that of an earlier call."""
        if not self.sfu.draining:
            log.warning("draining people=%d seconds=%.0f", self.sfu.people, seconds)
        if self._ending.begin(seconds, now=time.monotonic()):
            self.ended.set()

    def _drained(self, now: float) -> None:
        left = self._ending.left(now=now)
        if self._stopping and left is not None:
            self._notifier.extend(left + 2 * LAST_WORDS)
        if self._ending.tick(spread=self.config.drain.spread, now=now):
            self.ended.set()

    async def _reload_command(self, by: str) -> Verdict:
        assert self._load is not None, "there is no such command without it"
        log.info("reload by=%s", by)
        return self.reload(self._load, by)

    async def _drain_command(self, by: str) -> Verdict:
        log.info("drain by=%s", by)
        try:
            self._require()
        except ClientError as error:
            return Verdict(False, (str(error),))
        self._record("drain", by, reason=f"at most {self.config.drain.timeout:.0f} s")
        self.drain(self.config.drain.timeout)
        await self.ended.wait()
        left = self.sfu.people
        return Verdict(True, (f"{left} people are asked to join again" if left else "everyone has left",))

    def announce(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        """`boundary.Announcer`: to the metrics, and a line in the log. Ids only, never a name or an address."""
        self.metrics.announce(event, facts)
        # Whoever sends refused data may do so a thousand times a second: counted, not logged.
        level = logging.DEBUG if event == "data_refused" else logging.INFO
        shown = (f"{key}={_shown(value)}" for key, value in facts.items() if key not in PERSONAL)
        log.log(level, "%s %s", event, " ".join(shown))
        if self.audit is not None:
            self.audit.announce(event, facts)

    def report(self, make: Callable[[], webhook.WebhookEvent]) -> None:
        """`boundary.Announcer`: to servers outside. Names are in it, so it goes nowhere else."""
        self.webhooks.report(make)

    def _signed(self, body: str) -> str:
        key = self.config.webhook_key
        assert key is not None, "a configuration without a key is not served"
        return sign_body(key, body, now=time.time())

    def _start_audit(self) -> None:
        audit = self.config.audit
        if audit.folder is not None:
            self.audit = Audit(audit.folder, Secret(audit.secret), keep=audit.keep, version=_version())
            self.entrance.on_refused = self.audit.refused

    def _checkpoint(self) -> None:
        if self.audit is not None:
            self.audit.tell_floods()
            if (point := self.audit.point()) is not None:
                asyncio.get_running_loop().run_in_executor(None, self.audit.checkpoint, point)

    # --- media -------------------------------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        certificate = EngineCertificate.generate()
        for number in range(self.config.media.workers):
            bind = engines.bind if self._inherited is None else self._inherited.media
            sockets, candidates = bind(self.config.media, number)
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
        ServerApi(self.sfu, self.entrance, require=self._require).setup(app)
        Pages(PAGE, without=STATUS_PAGE).setup(app)
        runner = await self.http.runner(app)
        self._start_front(runner)
        for listener in self.config.http.listeners:
            if listener.tls and self._https is None:
                tls = self.config.http.tls
                assert tls.certificate is not None, "the configuration was checked"
                assert tls.key is not None
                also = None if self.front is None else self.front.set_certificate
                self._https = certificates.Https(tls.certificate, tls.key, also=also)
            if not listener.is_front:
                context = self._https.context if listener.tls and self._https is not None else None
                await self.http.listen(runner, listener.address, listener.port, context)
            scheme = "https" if listener.tls else "http"
            log.info("listening scheme=%s address=%s port=%d", scheme, listener.address, listener.port)

    def _start_front(self, runner: web.AppRunner) -> None:
        """Before the first client: candidates of TCP belong into every answer."""
        listeners = [each for each in self.config.http.listeners if each.is_front]
        if not listeners:
            return
        sockets = [self.http.bind(each.address, each.port) for each in listeners]
        self.front = fronts.FrontDriver(self.config, sockets, self.engines, self.http.taking(runner))
        self.front.start()
        for each in self.engines:
            by_tcp = fronts.candidates(listeners, self.config, each.announced)
            each.candidates = (*each.announced, *by_tcp)
        self._offer_turn()

    def _offer_turn(self) -> None:
        host = self.config.front.host
        if self.front is None or host is None:
            self.sfu.turn = None
            return
        ports = dict.fromkeys(each.port for each in self.config.http.listeners if each.is_front)
        self.sfu.turn = Turn(host=host, ports=tuple(ports), secret=self.front.secret)

    async def _start_admin(self) -> None:
        address, port = self.config.admin.address, self.config.admin.port
        app = web.Application()
        inspection = Inspection(self.sfu, self.engines, self.associations, lambda: self.signalling.connections)
        Admin(
            not_ready=self.not_ready,
            metrics=self.metrics,
            status=lambda: self.status.view(now=time.monotonic(), today=time.time()),
            state=inspection.whole,
            rooms=self.sfu.debug_rooms,
            room=inspection.room,
            loopback=ipaddress.ip_address(address).is_loopback,
        ).setup(app)
        Pages(PAGE / STATUS_PAGE).setup(app)
        runner = await self.http.runner(app)
        await self.http.listen(runner, address, port)
        log.info("admin address=%s port=%d", address, port)

    async def _start_control(self) -> None:
        path = self.config.admin.control
        if path is None:
            return
        app = web.Application()
        commands = {"drain": self._drain_command}
        if self._load is not None:
            commands["reload"] = self._reload_command
        Control(commands).setup(app)
        runner = await self.http.runner(app)
        await self.http.listen_unix(runner, path)
        log.info("control path=%s", path)

    # --- what an operator sees ---------------------------------------------------------------------------------------

    def not_ready(self) -> Sequence[str]:
        reasons = [f"{each.name} is dead" for each in self.engines if not each.alive]
        if self.front is not None and not self.front.alive:
            reasons.append("the front is dead")
        return [*reasons, "draining"] if self.sfu.draining else reasons

    def _tick(self) -> None:
        now = time.monotonic()
        for each in self.engines:
            each.measure()
        self.sfu.tick(now=now)
        self._drained(now)

    def _feed(self) -> None:
        """systemd's watchdog: that this runs is the event loop's half of the proof."""
        hanging = self._pulse.missing(self.engines)
        if hanging:
            log.error("the watchdog is not fed: no sign of %s", ", ".join(hanging))
        else:
            self._notifier.feed()

    def _renew(self) -> None:
        """A certificate that was replaced under the same name. Until the pair is right, the old one serves."""
        try:
            if self._https is not None and self._https.renew():
                log.info("certificate renewed")
        except OSError as error:
            log.error("the certificate stays as it was: %s", error)

    def _renew_dtls(self) -> None:
        certificate = EngineCertificate.generate()
        for associations in self.associations.values():
            associations.renew(certificate)
        log.info("dtls certificate renewed")

    def _replace_certificate(self, config: Config) -> None:
        """Raises ConfigError; who is connected notices nothing."""
        tls = config.http.tls
        if self._https is None or tls.certificate is None or tls.key is None:
            return
        try:
            self._https.load(tls.certificate, tls.key)
        except OSError as error:
            raise ConfigError([Problem(str(tls.certificate), 1, 1, "http.tls", str(error))]) from None

    def _watch(self) -> None:
        for lag in (self.lag, self._recent_lag):
            lag.seen(time.monotonic(), interval=WATCH)
        for each in self.engines:
            each.check()
        if self.front is not None:
            self.front.check()


def _shown(value: str | int | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _version() -> str:
    try:
        return importlib.metadata.version("d4e-sfu")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"
