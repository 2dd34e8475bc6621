"""What holds in a room, by its name: how many, what they may send, and how much of it."""

from __future__ import annotations

import fnmatch
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, StrictBool, StrictInt, StrictStr

from d4e_sfu.settings.access import Source
from d4e_sfu.settings.setting import Settings, live
from d4e_sfu.settings.values import Bitrate, RoleName, Seconds


class CodecName(StrEnum):
    OPUS = "opus"
    VP8 = "vp8"
    H264 = "h264"
    VP9 = "vp9"
    AV1 = "av1"
    PCMU = "pcmu"
    PCMA = "pcma"


def _without_repetition(value: tuple[CodecName, ...]) -> tuple[CodecName, ...]:
    if len(set(value)) < len(value):
        raise ValueError("a codec is listed twice")
    return value


class MaxBitrate(Settings):
    """Bits per second of RTP, all encodings of one publication together; above it packets are dropped."""

    microphone: Annotated[Bitrate, live("Voice.", ge=6_000, le=2_000_000)] = 192_000
    camera: Annotated[Bitrate, live("Camera.", ge=30_000, le=100_000_000)] = 3_000_000
    screen_share: Annotated[Bitrate, live("Shared screen.", ge=30_000, le=100_000_000)] = 4_000_000
    screen_share_audio: Annotated[Bitrate, live("Sound of a shared screen.", ge=6_000, le=2_000_000)] = 256_000

    def of(self, source: Source) -> int:
        return int(getattr(self, source.value))


# What every client decodes first: a publisher who asks for nothing gets VP8, one who asks gets what he asks for.
ALL_CODECS: Final = (
    CodecName.OPUS,
    CodecName.VP8,
    CodecName.H264,
    CodecName.VP9,
    CodecName.AV1,
    CodecName.PCMU,
    CodecName.PCMA,
)


class RoomRule(Settings):
    """What holds in every room whose name it matches; the first rule that matches a name counts."""

    name: Annotated[
        StrictStr,
        live(
            "Name of a room, or a pattern: * any text, ? one character, [ab] one of these.",
            min_length=1,
            max_length=128,
        ),
    ]
    capacity: Annotated[StrictInt, live("Participants at the same time, in each such room.", ge=1, le=10_000)] = 50
    default_role: Annotated[RoleName | None, live("Role of tokens that name none.")] = None
    idle_timeout: Annotated[Seconds, live("An empty room is forgotten after this time.", ge=1, le=86_400)] = 300.0
    codecs: Annotated[
        tuple[CodecName, ...],
        AfterValidator(_without_repetition),
        live("Codecs that may be published, the preferred first.", min_length=1),
    ] = ALL_CODECS
    red: Annotated[
        StrictBool,
        live("Opus voices may bring in each packet the one before it again: twice the bits, no gap where one is lost."),
    ] = True
    voice_bitrate: Annotated[
        Bitrate, live("Bits per second that an Opus voice is asked to keep to on average.", ge=6_000, le=510_000)
    ] = 24_000
    voices: Annotated[
        StrictInt | None, live("So many who speak are heard at the same time; null = all.", ge=1, le=32)
    ] = None
    max_bitrate: Annotated[MaxBitrate, live("Caps for each publication, by its source.")] = MaxBitrate()
    pictures: Annotated[
        StrictInt,
        live("Cameras that one viewer is sent at the same time: of who is pinned, and who spoke last.", ge=1, le=1000),
    ] = 25
    remote_unmute: Annotated[StrictBool, live("A moderator may unmute others, not only mute them.")] = False

    def matches(self, room: str) -> bool:
        return fnmatch.fnmatchcase(room, self.name)
