"""What the configuration says about rooms and roles → what one participant may do.

Pure functions of values: no room is looked at, nobody is counted. A right is grant AND role: the token's signer and the
operator both have to say yes. Metadata and attributes decide nothing. Second step of a join, and again after a reload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from livekit.protocol import models

from d4e_sfu.config import CodecName, Config, Source
from d4e_sfu.core.tokens import NOT_ACCEPTED, Grants
from d4e_sfu.errors import RoomNotFound, Unauthorized

# Clients tell "no such room" from "no such path" by these words in a 404.
NO_SUCH_ROOM: Final = "requested room does not exist"

_SOURCES: Final[Mapping[int, Source]] = MappingProxyType(
    {
        models.TrackSource.CAMERA: Source.CAMERA,
        models.TrackSource.MICROPHONE: Source.MICROPHONE,
        models.TrackSource.SCREEN_SHARE: Source.SCREEN_SHARE,
        models.TrackSource.SCREEN_SHARE_AUDIO: Source.SCREEN_SHARE_AUDIO,
    }
)
_AUDIO: Final = frozenset({Source.MICROPHONE, Source.SCREEN_SHARE_AUDIO})


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """What holds in one room, for everyone in it."""

    capacity: int
    default_role: str | None
    idle_timeout: float
    """Seconds."""
    codecs: tuple[CodecName, ...]
    """The preferred first."""
    max_bitrate: Mapping[Source, int]
    """Bits per second, for each publication of a source."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What one participant may do."""

    role: str
    publish: frozenset[Source]
    subscribe: bool
    data: bool
    moderate: bool
    hidden: bool
    update_own_metadata: bool


def room_policy(config: Config, room: str) -> RoomPolicy:
    """The first rule that matches the name. Raises `RoomNotFound` when none does."""
    rule = next((rule for rule in config.rooms if rule.matches(room)), None)
    if rule is None:
        raise RoomNotFound(NO_SUCH_ROOM, rule="no_room_rule")
    return RoomPolicy(
        capacity=rule.capacity,
        default_role=rule.default_role,
        idle_timeout=rule.idle_timeout,
        codecs=rule.codecs,
        max_bitrate=MappingProxyType({source: rule.max_bitrate.of(source) for source in Source}),
    )


def rights(config: Config, grants: Grants) -> Rights:
    """What these grants come to in their room.

    The role is the token's, else the room's default, else the key's. Raises `RoomNotFound`; `Unauthorized` when the
    token is not for joining, or no role that exists comes out.
    """
    if not grants.room_join or not grants.room:
        raise Unauthorized(NOT_ACCEPTED, rule="no_room_join")
    key = config.key(grants.key)
    if key is None:  # a reload has taken it away since the token was verified
        raise Unauthorized(NOT_ACCEPTED, rule="unknown_key")
    room = room_policy(config, grants.room)
    name = grants.role or room.default_role or key.default_role
    if name is None:
        raise Unauthorized(NOT_ACCEPTED, rule="no_role")
    role = config.roles.get(name)
    if role is None:
        raise Unauthorized(NOT_ACCEPTED, rule="unknown_role", detail=f"role {name!r}")
    hidden = grants.hidden and role.hidden
    return Rights(
        role=name,
        # Who publishes is seen; a client that is told so does not try, and wait for an answer.
        publish=frozenset() if hidden else grants.publish & role.publish,
        subscribe=grants.subscribe and role.subscribe,
        data=grants.data and role.data,
        moderate=grants.room_admin and role.moderate,
        hidden=hidden,
        update_own_metadata=grants.update_own_metadata and role.update_own_metadata,
    )


def source_of(track_source: int, *, audio: bool) -> Source | None:
    """`TrackSource` of the room protocol → source.

    UNKNOWN, which older clients send, counts as microphone or camera. None: no such source, or not of this kind; a
    screen must not pass as a voice to get past a role that has only a microphone.
    """
    if track_source == models.TrackSource.UNKNOWN:
        return Source.MICROPHONE if audio else Source.CAMERA
    source = _SOURCES.get(track_source)
    return source if source is not None and (source in _AUDIO) == audio else None
