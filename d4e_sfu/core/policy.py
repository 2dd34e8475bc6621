"""What the configuration says about rooms and roles → what one participant may do.

Pure functions of values: no room is looked at, nobody is counted. A right is grant AND role: the token's signer and the
operator both have to say yes. Metadata and attributes decide nothing. Second step of a join, and again after a reload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from livekit.protocol import models

from d4e_sfu.config import CodecName, Config, Source
from d4e_sfu.core.tokens import Grants
from d4e_sfu.errors import NOT_ACCEPTED, Forbidden, RoomNotFound, Unauthorized

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
    red: bool
    """A voice may bring what was lost before (RFC 2198)."""
    voice_bitrate: int
    """Bits per second that a voice in Opus is asked to keep to on average."""
    voices: int | None
    """So many are heard at the same time; None: all."""
    max_bitrate: Mapping[Source, int]
    """Bits per second, for each publication of a source."""
    start_bitrate: int
    """What a link is taken to carry until feedback has told, bits per second."""
    pictures: int
    """Cameras that one viewer is sent at the same time."""
    remote_unmute: bool
    """A moderator may open somebody else's microphone or camera, not only close it."""
    stay: float | None = None
    """Seconds after which whoever is in it has to go; None: nobody has to."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What one participant may do."""

    role: str
    priority: int
    """Whose voice stays where a link does not carry all of them: the higher."""
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
        red=rule.red,
        voice_bitrate=rule.voice_bitrate,
        voices=rule.voices,
        max_bitrate=MappingProxyType({source: rule.max_bitrate.of(source) for source in Source}),
        start_bitrate=config.links.start_bitrate,
        pictures=rule.pictures,
        remote_unmute=rule.remote_unmute,
    )


def rights(config: Config, grants: Grants) -> Rights:
    """What these grants come to in their room.

    The role is the token's, else the room's default, else the key's. Raises `RoomNotFound`; `Unauthorized` when the
    token is not for joining, or no role that exists comes out.
    """
    if not grants.room_join or not grants.room:
        raise Unauthorized(NOT_ACCEPTED, rule="no_room_join")
    if not grants.identity:
        raise Unauthorized(NOT_ACCEPTED, rule="identity")
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
        priority=role.priority,
        # Who publishes is seen; a client that is told so does not try, and wait for an answer.
        publish=frozenset() if hidden else grants.publish & role.publish,
        subscribe=grants.subscribe and role.subscribe,
        data=grants.data and role.data,
        moderate=grants.room_admin and role.moderate,
        hidden=hidden,
        update_own_metadata=grants.update_own_metadata and role.update_own_metadata,
    )


def check_moderator(config: Config, grants: Grants, room: str) -> None:
    """Raises unless these grants may mute, change and remove whoever is in this room: `roomAdmin` for it, AND the role.

    A token that could join acts with the role with which it joins: a moderator's page uses his own. A token that could
    not, and names no role, stands for nobody: it is the key holder's own, of a portal or a bot with a stock server SDK.
    He could as well sign a token for any role that there is, so his own moderates where any role does.
    """
    if not grants.room_admin or not grants.room or grants.room != room:
        raise Forbidden("This token does not moderate this room.", rule="not_room_admin")
    if not grants.room_join:
        room_policy(config, room)
    _check_moderates(config, grants)


def check_server(config: Config, grants: Grants, grant: Literal["room_create", "room_list"]) -> None:
    """Raises unless these grants may make and end rooms, or list them: the grant AND a role that may moderate."""
    if not getattr(grants, grant):
        raise Forbidden("This token does not grant this.", rule=f"not_{grant}")
    _check_moderates(config, grants)


def _check_moderates(config: Config, grants: Grants) -> None:
    if grants.room_join:
        # His token may moderate no room, and yet make or list them.
        moderates = rights(config, replace(grants, room_admin=True)).moderate
    else:
        roles = config.roles.values() if grants.role is None else [config.roles.get(grants.role)]
        moderates = any(role is not None and role.moderate for role in roles)
    if not moderates:
        raise Forbidden("This role does not moderate.", rule="not_moderator")


def permitted(grants: Grants, permission: models.ParticipantPermission) -> Grants:
    """The same grants with what a moderator gives and takes. It goes no further than a token could: `rights` follows.

    An empty list of sources restricts nothing, as in a token.
    """
    wanted = {_SOURCES[source] for source in permission.can_publish_sources if source in _SOURCES}
    sources = frozenset(wanted if permission.can_publish_sources else Source)
    return replace(
        grants,
        publish=sources if permission.can_publish else frozenset(),
        subscribe=permission.can_subscribe,
        data=permission.can_publish_data,
        hidden=permission.hidden,
        update_own_metadata=permission.can_update_metadata,
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
