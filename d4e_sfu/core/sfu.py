"""The root of what decides: message | engine event | association event | tick -> the right room.

It owns the tables (rooms by name, participants by transport) and chance; rules about people are in room.py.
It is not a driver: every method is synchronous, takes `now` (monotonic seconds) and returns at once.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livekit.protocol import rtc

    from d4e_sfu._engine import Event
    from d4e_sfu.config import Config
    from d4e_sfu.core.boundary import Announcer, Associations, Client, DataKind, Engine, TransportId
    from d4e_sfu.core.participant import Participant


class JoinRefused(Exception):
    """A join that is refused before the upgrade: the HTTP status and a sentence for the client."""

    def __init__(self, status: int, text: str, *, rule: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.rule = rule  # for log and metric, from a closed set


@dataclasses.dataclass(frozen=True, slots=True)
class Admission:
    """Proof that a token and a join request were checked; `Sfu.join` takes it after the upgrade."""


class Sfu:
    """All rooms of this process."""

    def __init__(self, config: Config, *, chance: random.Random, announcer: Announcer) -> None: ...

    def add_worker(self, engine: Engine, associations: Associations) -> None:
        """A worker that rooms can be placed on. The first room needs at least one."""

    def admit(self, token: str, request: rtc.JoinRequest, *, wall: float, now: float) -> Admission:
        """Everything that can be refused before the upgrade. Changes nothing. Raises JoinRefused."""
        raise NotImplementedError

    def join(self, client: Client, admission: Admission, *, now: float) -> Participant | None:
        """After the upgrade: the join response, then the answer. None: refused with `leave`, client closed."""
        raise NotImplementedError

    def message(self, participant: Participant, request: rtc.SignalRequest, *, now: float) -> None:
        """One signalling message. Hostile input ends in a close, never in an exception."""

    def client_lost(self, participant: Participant, client: Client, *, now: float) -> None:
        """The signalling connection ended without our closing it."""

    def engine_event(self, engine: Engine, event: Event, *, now: float) -> None:
        """Every event of a worker but Dtls and Debug."""

    def transport_connected(self, transport: TransportId, *, now: float) -> None: ...

    def transport_failed(self, transport: TransportId, reason: str, *, now: float) -> None: ...

    def data_ready(self, transport: TransportId, kind: DataKind, *, now: float) -> None: ...

    def data_received(self, transport: TransportId, kind: DataKind, payload: bytes, *, now: float) -> None: ...

    def tick(self, *, now: float) -> None:
        """Time-outs; called a few times a second."""

    def reconfigure(self, config: Config, *, now: float) -> None:
        """Live settings from a newly loaded configuration."""

    def drain(self, *, now: float) -> None:
        """Ask everyone to join again elsewhere (or here, after a restart); joins are refused from now on."""

    def debug_state(self) -> dict[str, Any]: ...
