"""What participants send each other on data channels: who may, in whose name, to whom.

Chat, text streams and remote calls are packets like any other here: they are relayed, never read. The channels
themselves (SCTP, its limits) are in drivers/datachannel.py.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.message import DecodeError
from livekit.protocol import models

from d4e_sfu.core.allowance import Allowance
from d4e_sfu.core.boundary import DataKind, Taken

if TYPE_CHECKING:
    from d4e_sfu.config import DataLimits
    from d4e_sfu.core.participant import Participant

# Why a packet was not passed on: the closed set of a metric's label.
REFUSALS: Final = ("not_permitted", "too_large", "too_fast", "malformed", "kind_not_relayed", "repeated")

MAX_DESTINATIONS: Final = 1000

# Reliable data for someone whose channels are not open yet is kept this long, and not more than this.
HELD_SECONDS: Final = 5.0
HELD_BYTES: Final = 256 * 1024

# Whoever sends reliably is slowed down by his association, so he hardly owes more than a second. Who owes this much is
# not slowed down by anything.
MAX_DEBT: Final = 5.0  # s

# Relayed as they are. Not in it: `metrics` (for a server that keeps them), `speaker` (ours to say), and what is newer
# than this list: a kind may one day mean something that a participant must not say.
_RELAYED: Final = frozenset(
    {
        "user",
        "chat_message",
        "sip_dtmf",
        "rpc_request",
        "rpc_ack",
        "rpc_response",
        "stream_header",
        "stream_chunk",
        "stream_trailer",
        "encrypted_packet",
    }
)
_KINDS: Final = {DataKind.RELIABLE: models.DataPacket.Kind.RELIABLE, DataKind.LOSSY: models.DataPacket.Kind.LOSSY}


# What somebody has sent reliably is kept this long, and not more than this, for whoever loses it with his connection.
SENT_SECONDS: Final = 30.0
SENT_BYTES: Final = 256 * 1024
# So much is sent again after a resume: the rest is still on its way, and this must not be what makes him too slow.
REPLAYED_BYTES: Final = 256 * 1024


class _Sent(NamedTuple):
    at: float
    sequence: int
    identities: frozenset[str]
    sids: frozenset[str]
    payload: bytes

    def is_for(self, participant: Participant) -> bool:
        everybody = not (self.identities or self.sids)
        return everybody or participant.identity in self.identities or participant.sid in self.sids


class Mail:
    """Of one participant: how much he may send, what he has sent, and what waits for him."""

    __slots__ = (
        "_bytes",
        "_held",
        "_limits",
        "_packets",
        "_sent",
        "_sent_bytes",
        "held_bytes",
        "last_sequence",
        "ready",
    )

    def __init__(self, limits: DataLimits, *, now: float) -> None:
        self.ready: set[DataKind] = set()  # his channels that are open
        self.last_sequence = 0  # of what he has sent reliably
        self.held_bytes = 0
        self._limits = limits
        self._held: list[tuple[float, bytes]] = []
        self._sent: collections.deque[_Sent] = collections.deque()
        self._sent_bytes = 0
        rates = limits.packets_per_second, limits.bytes_per_second
        # A packet that is allowed at all is allowed when nothing was sent for a while.
        self._packets, self._bytes = (
            Allowance(rate=rate, burst=max(rate * limits.burst, least), now=now)
            for rate, least in zip(rates, (1, limits.packet), strict=True)
        )

    def weigh(self, kind: DataKind, size: int, *, now: float) -> float | str:
        """Count one packet that he sends. Returns for how long he must pause after it, or why it may not pass."""
        if size > self._limits.packet:
            return "too_large"
        counts = ((self._packets, 1), (self._bytes, size))
        if kind is DataKind.LOSSY:
            passed = all(allowance.take(now=now, amount=amount) for allowance, amount in counts)
            return 0.0 if passed else "too_fast"
        if any(allowance.wait(now=now, amount=0.0) > MAX_DEBT for allowance, _ in counts):
            return "too_fast"
        return max(allowance.charge(now=now, amount=amount) for allowance, amount in counts)

    def remember(self, sent: _Sent) -> None:
        self._sent.append(sent)
        self._sent_bytes += len(sent.payload)
        self.forget(now=sent.at)

    def forget(self, *, now: float) -> None:
        """What nobody can ask for any more."""
        while self._sent and (self._sent_bytes > SENT_BYTES or now - self._sent[0].at > SENT_SECONDS):
            self._sent_bytes -= len(self._sent.popleft().payload)

    def after(self, sequence: int, *, since: float) -> list[_Sent]:
        """What he has sent reliably after this, and since then, as far as it is kept."""
        return [sent for sent in self._sent if sent.sequence > sequence and sent.at >= since]

    def hold(self, payload: bytes, *, now: float) -> None:
        """Keep a reliable packet until his channel opens; the oldest fall out."""
        self._held.append((now, payload))
        self.held_bytes += len(payload)
        while self.held_bytes > HELD_BYTES or now - self._held[0][0] > HELD_SECONDS:
            _, oldest = self._held.pop(0)
            self.held_bytes -= len(oldest)

    def release(self, *, now: float) -> list[bytes]:
        held = [payload for then, payload in self._held if now - then <= HELD_SECONDS]
        self._held.clear()
        self.held_bytes = 0
        return held


def relay(sender: Participant, kind: DataKind, payload: bytes, *, now: float) -> str | Taken:
    """Send one packet on to whom it is for. Returns what that costs, or why it was refused: one of `REFUSALS`."""
    if not sender.rights.data:
        return "not_permitted"
    pause = sender.mail.weigh(kind, len(payload), now=now)
    if isinstance(pause, str):
        return pause
    try:
        packet = models.DataPacket.FromString(payload)
    except DecodeError:
        return "malformed"
    value = packet.WhichOneof("value")
    agent = sender.kind == models.ParticipantInfo.Kind.AGENT
    if value not in _RELAYED and not (value == "transcription" and agent):
        return "kind_not_relayed"
    if kind is DataKind.RELIABLE and packet.sequence:
        if packet.sequence <= sender.mail.last_sequence:
            return "repeated"  # sent again by a client that was not sure
        sender.mail.last_sequence = packet.sequence
    identities = frozenset(packet.destination_identities[:MAX_DESTINATIONS])
    sids: frozenset[str] = frozenset()
    if value == "user":
        identities |= frozenset(packet.user.destination_identities[:MAX_DESTINATIONS])
        sids = frozenset(packet.user.destination_sids[:MAX_DESTINATIONS])
    _sign(packet, sender, kind)
    sent = _Sent(now, packet.sequence, identities, sids, packet.SerializeToString())
    deliveries = 0
    for participant in sender.room.participants.values():
        if participant is not sender and sent.is_for(participant):
            deliver(participant, kind, sent.payload, now=now)
            deliveries += 1
    if kind is DataKind.RELIABLE and packet.sequence:
        sender.mail.remember(sent)
    return Taken(deliveries, pause)


def replay(participant: Participant, received: Mapping[str, int], *, now: float) -> None:
    """Once more what was sent to him reliably, after the last sequence that he has received from each, by sid.

    Most of it is on its way to him all the same; whoever tells what he has received drops what comes twice. Who tells
    nothing gets nothing again.
    """
    if not received:
        return
    size = 0
    for sender in participant.room.participants.values():
        if sender is participant:
            continue
        for sent in sender.mail.after(received.get(sender.sid, 0), since=participant.joined_at):
            size += len(sent.payload)
            if size > REPLAYED_BYTES:
                return
            if sent.is_for(participant):
                deliver(participant, DataKind.RELIABLE, sent.payload, now=now)


def deliver(participant: Participant, kind: DataKind, payload: bytes, *, now: float) -> None:
    """To one participant: at once, or when his channel opens if it must not be lost."""
    if kind in participant.mail.ready:
        assert participant.transport is not None
        participant.room.worker.associations.send(participant.transport, kind, payload)
    elif kind is DataKind.RELIABLE:
        participant.mail.hold(payload, now=now)


def channel_open(participant: Participant, kind: DataKind, *, now: float) -> None:
    participant.mail.ready.add(kind)
    if kind is DataKind.RELIABLE:
        for payload in participant.mail.release(now=now):
            deliver(participant, kind, payload, now=now)


def _sign(packet: models.DataPacket, sender: Participant, kind: DataKind) -> None:
    """In whose name: never what the client wrote there."""
    sid, identity = ("", "") if sender.rights.hidden else (sender.sid, sender.identity)
    packet.kind = _KINDS[kind]
    packet.participant_sid, packet.participant_identity = sid, identity
    if packet.WhichOneof("value") == "user":
        packet.user.participant_sid, packet.user.participant_identity = sid, identity
