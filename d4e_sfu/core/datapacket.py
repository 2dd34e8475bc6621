"""What participants send each other on data channels: who may, in whose name, to whom.

Chat, text streams and remote calls are packets like any other here: they are relayed, never read. The channels
themselves (SCTP, its limits) are in drivers/datachannel.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError
from livekit.protocol import models

from d4e_sfu.core.boundary import DataKind

if TYPE_CHECKING:
    from d4e_sfu.core.participant import Participant

MAX_BYTES: Final = 64 * 1024  # of one packet; clients cut streams into chunks of 15 kB
MAX_DESTINATIONS: Final = 1000

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


def relay(sender: Participant, kind: DataKind, payload: bytes, *, now: float) -> str | int:
    """Send one packet on to whom it is for. Returns to how many, or why it was refused, from a closed set."""
    if not sender.rights.data:
        return "not_permitted"
    if len(payload) > MAX_BYTES:
        return "too_large"
    try:
        packet = models.DataPacket.FromString(payload)
    except DecodeError:
        return "malformed"
    value = packet.WhichOneof("value")
    agent = sender.kind == models.ParticipantInfo.Kind.AGENT
    if value not in _RELAYED and not (value == "transcription" and agent):
        return "kind_not_relayed"
    if kind is DataKind.RELIABLE and packet.sequence:
        if packet.sequence <= sender.last_sequence:
            return "repeated"  # sent again by a client that was not sure
        sender.last_sequence = packet.sequence
    identities = {*packet.destination_identities[:MAX_DESTINATIONS]}
    sids: set[str] = set()
    if value == "user":
        identities |= {*packet.user.destination_identities[:MAX_DESTINATIONS]}
        sids = {*packet.user.destination_sids[:MAX_DESTINATIONS]}
    _sign(packet, sender, kind)
    stamped = packet.SerializeToString()
    deliveries = 0
    for participant in sender.room.participants.values():
        if participant is sender:
            continue
        if (identities or sids) and participant.identity not in identities and participant.sid not in sids:
            continue
        deliver(participant, kind, stamped, now=now)
        deliveries += 1
    return deliveries


def deliver(participant: Participant, kind: DataKind, payload: bytes, *, now: float) -> None:
    """To one participant: at once, or when his channel opens if it must not be lost."""
    if kind in participant.data_ready:
        assert participant.transport is not None
        participant.room.worker.associations.send(participant.transport, kind, payload)
    elif kind is DataKind.RELIABLE:
        participant.hold(payload, now=now)


def channel_open(participant: Participant, kind: DataKind, *, now: float) -> None:
    participant.data_ready.add(kind)
    if kind is DataKind.RELIABLE:
        for payload in participant.release_held(now=now):
            deliver(participant, kind, payload, now=now)


def _sign(packet: models.DataPacket, sender: Participant, kind: DataKind) -> None:
    """In whose name: never what the client wrote there."""
    sid, identity = ("", "") if sender.rights.hidden else (sender.sid, sender.identity)
    packet.kind = _KINDS[kind]
    packet.participant_sid, packet.participant_identity = sid, identity
    if packet.WhichOneof("value") == "user":
        packet.user.participant_sid, packet.user.participant_identity = sid, identity
