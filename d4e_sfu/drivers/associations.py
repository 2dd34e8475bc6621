"""DTLS and SCTP of all transports of one worker: the table, and all that the rest of the server sees of them.

It implements `core.boundary.Associations` with one `dtls.EngineDtls` and at most one `datachannel.GuardedSctp` for
each transport. Everything runs in the event loop: one task for each association, a few of them working in one turn of
the loop. It decides nothing; what a failure means for a participant is the core's to say.

On the path of a join: validated datagram → `Associations.receive` → handshake (`dtls`) → `Command.SetKeys` →
`transport_connected`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from d4e_sfu._engine import Command
from d4e_sfu.core.boundary import AssociationEvents, DataKind, DtlsRole, Taken, TransportId
from d4e_sfu.drivers.counters import Counters
from d4e_sfu.drivers.datachannel import GuardedSctp
from d4e_sfu.drivers.dtls import EngineCertificate, EngineDtls, Limits, complete, verifiable
from d4e_sfu.drivers.inbox import Inbox

log = logging.getLogger(__name__)
T = TypeVar("T")


class Associations:
    """DTLS and SCTP of all transports of one worker (`core.boundary.Associations`).

    Whoever owns the engine calls `receive` for each `Event.Dtls`, `path_changed` for each `Event.PathChanged`, and
    `stop` at the end. Datagrams and keys go to the engine through `submit`; `events` hears of the rest.
    """

    def __init__(
        self,
        submit: Callable[[Sequence[Command]], None],
        events: AssociationEvents,
        *,
        certificate: EngineCertificate | None = None,
        limits: Limits | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._submit = submit
        self._events = events
        self._certificates = [certificate or EngineCertificate.generate()]  # the newest last
        self._limits = limits or Limits()
        self._loop = loop or asyncio.get_running_loop()
        self._handshakes = asyncio.Semaphore(self._limits.handshakes)
        self._turn = asyncio.Semaphore(self._limits.steps)
        self._table: dict[TransportId, _Association] = {}
        self.counters = Counters()

    @property
    def fingerprint(self) -> tuple[str, str]:
        return self._certificates[-1].fingerprint

    def renew(self, certificate: EngineCertificate) -> None:
        """For who joins from now on. Who was told of the one before connects with that; associations keep theirs."""
        self._certificates = [self._certificates[-1], certificate]

    @property
    def max_message_size(self) -> int:
        """What to advertise as `a=max-message-size`."""
        return self._limits.data.message_size

    def open(
        self,
        transport: TransportId,
        *,
        ours: tuple[str, str],
        fingerprints: Sequence[tuple[str, str]],
        role: DtlsRole,
        sctp_port: int | None,
        max_message_size: int,
        offers_channels: bool = False,
    ) -> None:
        self.close(transport)
        inbox = Inbox(self._loop, limit=self._limits.datagrams, rate=self._limits.datagrams_per_second)
        certificate = next((each for each in self._certificates if each.fingerprint == ours), self._certificates[-1])
        association = _Association(
            transport, certificate, tuple(fingerprints), role, sctp_port, max_message_size, inbox
        )
        association.offers_channels = offers_channels
        self._table[transport] = association
        if not verifiable(fingerprints):
            # Nothing that we could verify: no handshake, hence no keys (RFC 8827 §6.5).
            association.timer = self._loop.call_later(0, self._failed, association, "fingerprint")
        elif role == "client":
            self._start(association)
        else:
            association.timer = self._loop.call_later(self._limits.silence, self._failed, association, "silent")

    def open_data(self, transport: TransportId, *, sctp_port: int, max_message_size: int) -> None:
        """The client has added its application section after the first offer."""
        association = self._table.get(transport)
        if association is not None and association.sctp_port is None:
            association.sctp_port = sctp_port
            association.max_message_size = max_message_size
            if association.connected:
                self._open_data(association)

    def close(self, transport: TransportId) -> None:
        association = self._table.pop(transport, None)
        if association is not None:
            self._release(association)

    def send(self, transport: TransportId, kind: DataKind, payload: bytes) -> bool:
        association = self._table.get(transport)
        return association is not None and association.data is not None and association.data.send(kind, payload)

    def receive(self, transport: TransportId, datagram: bytes) -> None:
        """A datagram from this transport's validated address."""
        association = self._table.get(transport)
        if association is None:
            self.counters.datagrams_dropped += 1
            return
        if not association.inbox.put(datagram, now=self._loop.time()):
            self.counters.datagrams_dropped += 1
        elif association.task is None:
            self._start(association)

    def path_changed(self, transport: TransportId) -> None:
        """The transport has a validated path (or another one). Not needed, but a DTLS client then loses no time."""
        association = self._table.get(transport)
        if association is not None and association.dtls is not None:
            association.dtls.resend()

    def stop(self) -> None:
        """Close all, each with its close_notify."""
        for transport in list(self._table):
            self.close(transport)

    def debug_state(self, transport: TransportId | None = None) -> dict[str, object]:
        """Of one association, or of all: numbers and states, no address and no key."""
        if transport is not None:
            association = self._table.get(transport)
            return {} if association is None else association.debug_state()
        states = Counter(str(association.debug_state()["dtls"]) for association in self._table.values())
        return {"associations": dict(states), **self.counters.debug_state()}

    # --- one association's way -------------------------------------------------------------------------------------

    def _start(self, association: _Association) -> None:
        if association.timer is not None:
            association.timer.cancel()
        association.started = self._loop.time()
        association.task = self._loop.create_task(self._run(association), name=f"dtls {association.transport}")

    async def _run(self, association: _Association) -> None:
        transport = association.transport
        try:
            async with self._handshakes:
                association.dtls = dtls = EngineDtls(
                    association.inbox,
                    association.certificate,
                    role=association.role,
                    fingerprints=association.fingerprints,
                    send=lambda datagrams: self._submit(
                        [Command.SendDtls(transport=transport, datagram=datagram) for datagram in datagrams]
                    ),
                    keys=lambda profile, receive, send: self._submit(
                        [Command.SetKeys(transport=transport, profile=profile, receive=receive, send=send)]
                    ),
                    on_end=lambda reason: self._failed(association, reason),
                    turn=self._turn,
                    limits=self._limits,
                )
                await dtls.run()
        except Exception:
            log.exception("handshake of transport %d ended by a fault of ours", transport)
            self._failed(association, "internal")
            return
        self.counters.replays += dtls.replayed
        if dtls.failure is not None or self._table.get(transport) is not association:
            return
        self.counters.handshakes["connected"] += 1
        self.counters.durations.observe(self._loop.time() - association.started)
        association.connected = True
        self._call(self._events.transport_connected, transport)
        if association.sctp_port is not None and self._table.get(transport) is association:
            self._open_data(association)

    def _open_data(self, association: _Association) -> None:
        transport, dtls, port = association.transport, association.dtls, association.sctp_port
        assert dtls is not None
        assert port is not None
        association.data = data = GuardedSctp(
            dtls,
            limits=self._limits.data,
            on_open=lambda kind: self._call(self._events.data_ready, transport, kind),
            on_message=lambda kind, payload: (
                self._call(self._events.data_received, transport, kind, payload) or Taken()
            ),
            on_end=lambda reason: self._data_ended(association, reason),
            nudge=association.inbox.nudge,
            clock=self._loop.time,
        )
        dtls.on_nudge = data.pump
        complete(data.open(remote_port=port, max_message_size=association.max_message_size))
        if association.offers_channels:
            data.offer_channels()

    def _data_ended(self, association: _Association, reason: str) -> None:
        self.counters.data_ends[reason] += 1
        if reason == "closed":
            return
        log.info("transport=%d data channels ended: %s", association.transport, reason)
        # Not from inside `send`.
        self._loop.call_soon(self._call, self._events.data_ended, association.transport, reason)

    def _failed(self, association: _Association, reason: str) -> None:
        transport = association.transport
        if self._table.get(transport) is not association:
            return
        del self._table[transport]
        if association.connected:
            self.counters.ends[reason] += 1
        else:
            self.counters.handshakes[reason] += 1
            log.info("transport=%d DTLS failed: %s", transport, reason)
        self._release(association)
        self._call(self._events.transport_failed, transport, reason)

    def _release(self, association: _Association) -> None:
        if association.timer is not None:
            association.timer.cancel()
        if association.data is not None:
            association.data.end("closed")
        if association.dtls is not None:
            association.dtls.close()
        association.inbox.close()
        if association.task is not None and association.task is not asyncio.current_task(self._loop):
            association.task.cancel()
        association.dtls = association.data = association.task = None

    def _call(self, method: Callable[..., T], *arguments: object) -> T | None:
        """Up to the core. A fault there is not the peer's, and must not cost it its association."""
        try:
            return method(*arguments, now=self._loop.time())
        except Exception:
            self.counters.faults += 1
            log.exception("the core failed on %s", getattr(method, "__name__", method))
            return None


class _Association:
    """One row of the table."""

    __slots__ = (
        "certificate", "connected", "data", "dtls", "fingerprints", "inbox", "max_message_size", "offers_channels",
        "role", "sctp_port", "started", "task", "timer", "transport",
    )  # fmt: skip

    def __init__(
        self,
        transport: TransportId,
        certificate: EngineCertificate,
        fingerprints: tuple[tuple[str, str], ...],
        role: DtlsRole,
        sctp_port: int | None,
        max_message_size: int,
        inbox: Inbox,
    ) -> None:
        self.transport = transport
        self.certificate = certificate
        self.fingerprints = fingerprints
        self.role = role
        self.sctp_port = sctp_port
        self.max_message_size = max_message_size
        self.inbox = inbox
        self.dtls: EngineDtls | None = None
        self.data: GuardedSctp | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.started = 0.0
        self.connected = False
        self.offers_channels = False

    def debug_state(self) -> dict[str, object]:
        return {
            "dtls": "waiting" if self.dtls is None else self.dtls.state,
            "role": self.role,
            "queued": len(self.inbox),
            "dropped": self.inbox.dropped,
            "data": None if self.data is None else self.data.debug_state(),
        }
