"""What the core needs from outside, as Protocols, and what it offers to the outside in return.

Nothing here has behaviour. `drivers/` implements the first half, tests pass doubles; `core/sfu.py` implements
the second half (`AssociationEvents`). Everything is synchronous and returns at once: an implementation queues.
A worker is one `Engine` with its `Associations`; a room lives on one worker, and workers share nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, NewType, Protocol

from livekit.protocol import rtc, webhook

from d4e_sfu._engine import Command

# Ids on the engine's side of the boundary: made by the core, unique for the life of the process.
TransportId = NewType("TransportId", int)
PublicationId = NewType("PublicationId", int)
SubscriptionId = NewType("SubscriptionId", int)

DtlsRole = Literal["server", "client"]

Candidate = tuple[str, int] | tuple[str, int, Literal["tcp"]]
"""Where clients reach a worker: an address and a port, of UDP where nothing else is said."""


class DataKind(enum.Enum):
    """The two channels on which clients exchange data, by their label."""

    RELIABLE = "_reliable"  # ordered
    LOSSY = "_lossy"  # unordered, no retransmission


class Engine(Protocol):
    """One worker of the packet engine: its thread, its UDP port, its table of transports."""

    @property
    def candidates(self) -> Sequence[Candidate]:
        """Announced ones, best first, the first by UDP; every answer lists all of them."""

    @property
    def busy(self) -> float | None:
        """Share of a core that its thread has used in the last seconds, 0 to 1; None: dead, and not replaced yet."""

    def submit(self, commands: Sequence[Command]) -> None:
        """Queue commands in order. Never blocks, never raises; a dead worker swallows them."""


class Associations(Protocol):
    """DTLS and SCTP of all transports of one worker.

    It takes `Event.Dtls` datagrams from its driver, emits `Command.SendDtls` and `Command.SetKeys` itself, and
    calls up through `AssociationEvents`, never from inside `open`, `close` or `send`.
    """

    @property
    def fingerprint(self) -> tuple[str, str]:
        """Of our newest certificate, as in `a=fingerprint`: ("sha-256", "AB:CD:…")."""

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
        """Expect a handshake. `ours` is the `fingerprint` that the client was told; `fingerprints` are his.

        `role` is ours; `max_message_size` is what the client accepts; `offers_channels`: it is we who open the channels
        on which data goes.
        """

    def open_data(self, transport: TransportId, *, sctp_port: int, max_message_size: int) -> None:
        """The client has added its application section after the first offer."""

    def close(self, transport: TransportId) -> None:
        """End it: close_notify, all state dropped. Unknown or already closed: nothing happens."""

    def send(self, transport: TransportId, kind: DataKind, payload: bytes) -> bool:
        """Queue one message. False = the channel is not open, or the client reads too slowly: not queued."""


class Taken(NamedTuple):
    """What became of a message from a client, and so what it costs him."""

    deliveries: int = 0
    """To how many it went: he pays for each."""
    pause: float = 0.0
    """Seconds for which nothing more is to be taken from him: he has sent more than he may."""


class AssociationEvents(Protocol):
    """What associations report; `core.sfu.Sfu` is one."""

    def transport_connected(self, transport: TransportId, *, now: float) -> None:
        """DTLS is up, the fingerprint matched, keys are on their way to the engine."""

    def transport_failed(self, transport: TransportId, reason: str, *, now: float) -> None:
        """DTLS failed, timed out or was closed by the client. The association no longer exists."""

    def data_ready(self, transport: TransportId, kind: DataKind, *, now: float) -> None:
        """The client has opened this channel."""

    def data_received(self, transport: TransportId, kind: DataKind, payload: bytes, *, now: float) -> Taken:
        """One whole message from the client, at most 64 KiB."""

    def data_ended(self, transport: TransportId, reason: str, *, now: float) -> None:
        """The data channels ended, by the client or for a fault of his; media goes on. None will open again."""


class Client(Protocol):
    """The signalling connection of one participant."""

    def send(self, response: rtc.SignalResponse) -> None:
        """Queue one message. A client that reads too slowly is closed by its driver; nothing is raised."""

    def close(self, code: int, reason: str) -> None:
        """Close after what is queued. Closing twice is harmless. `Sfu.client_lost` follows, as for every end."""


PERSONAL: Final = frozenset({"identity", "room_name", "by_identity"})
"""Facts of announcements that are for the audit log alone, which makes pseudonyms of them."""


class Announcer(Protocol):
    """Observers (metrics, audit) hear of what happened. Never a decision, never on the media path."""

    def announce(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        """`event` is from a closed set: see the calls in core/."""

    def report(self, make: Callable[[], webhook.WebhookEvent]) -> None:
        """For servers outside: made only if anybody is told. Never from inside a call that could be refused."""
