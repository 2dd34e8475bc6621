"""One connection of a client, as an offer or an answer of his makes it: opened, led on, on another path.

Which of his two it is (dual.py) makes no difference here. What it carries is told to the engine by the room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from d4e_sfu._engine import Command

if TYPE_CHECKING:
    from d4e_sfu.core.dual import Uplink
    from d4e_sfu.core.negotiation import LocalTransport, RemoteTransport
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.room import Room


def establish(
    room: Room,
    end: Participant | Uplink,
    remote: RemoteTransport,
    *,
    may_publish: bool,
    offers_channels: bool = False,
) -> None:
    local, transport, voices = end.local, end.transport, room.policy.voices
    assert transport is not None
    assert local is not None
    end.remote = remote
    start = room.policy.start_bitrate
    commands: list[Command] = [
        Command.AddTransport(transport, local.ufrag, local.pwd, remote.ufrag, remote.pwd, may_publish, start)
    ]
    if voices is not None:
        commands.append(Command.SetVoices(transport, voices))
    room.worker.engine.submit(commands)
    room.worker.associations.open(
        transport,
        ours=local.fingerprint,
        fingerprints=remote.fingerprints,
        role=remote.role,
        sctp_port=remote.sctp_port,
        max_message_size=remote.max_message_size,
        offers_channels=offers_channels,
    )


def go_on(room: Room, end: Participant | Uplink, local: LocalTransport, remote: RemoteTransport) -> None:
    """What another offer may change of a connection."""
    before, end.remote = end.remote, remote
    assert before is not None
    assert end.transport is not None
    if local is not end.local:
        restart_ice(room, end, local, remote)
    if before.sctp_port is None and remote.sctp_port is not None:
        port, size = remote.sctp_port, remote.max_message_size
        room.worker.associations.open_data(end.transport, sctp_port=port, max_message_size=size)


def restart_ice(room: Room, end: Participant | Uplink, local: LocalTransport, remote: RemoteTransport) -> None:
    """His client looks for another path, on the same association; what is under way goes on meanwhile."""
    end.local, end.remote = local, remote
    assert end.transport is not None
    restart = Command.RestartIce(end.transport, local.ufrag, local.pwd, remote.ufrag, remote.pwd)
    room.worker.engine.submit([restart])
