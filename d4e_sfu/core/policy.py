"""What the configuration says about rooms and roles → what one participant may do.

Pure functions of values: no room is looked at, nobody is counted. A right is grant AND role: the token's signer and the
operator both have to say yes. Metadata and attributes decide nothing. Second step of a join, and again after a reload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from d4e_sfu.config import CodecName, Config, Source
from d4e_sfu.core.tokens import Grants


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
    """Raises `RoomNotFound` when no rule matches the name."""
    raise NotImplementedError


def rights(config: Config, grants: Grants) -> Rights:
    """What these grants come to in their room. Raises `RoomNotFound`, or `Unauthorized` when no known role comes out."""
    raise NotImplementedError


def source_of(track_source: int, *, audio: bool) -> Source | None:
    """`TrackSource` of the room protocol → source; UNKNOWN counts as camera or microphone by kind. None: no such source."""
    raise NotImplementedError
