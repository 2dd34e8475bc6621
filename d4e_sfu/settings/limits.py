"""Bounds for what comes from outside: how often, how much, how many."""

from __future__ import annotations

from typing import Annotated

from pydantic import StrictInt

from d4e_sfu.settings.setting import Settings, live
from d4e_sfu.settings.values import Bitrate, Seconds, Size


class Rate(Settings):
    """A token bucket: `burst` at once, `per_second` after that."""

    per_second: Annotated[float, live("Of each, in the long run.", ge=0.01, le=100_000)]
    burst: Annotated[StrictInt, live("Of each, at once.", ge=1, le=1_000_000)]


class Rates(Settings):
    """How often someone may ask to join, whether he may join, or for a call of the server API: all together."""

    address: Annotated[Rate, live("From one address; a station or a carrier may share it. Of IPv6, a /64.")] = Rate(
        per_second=50, burst=500
    )
    key: Annotated[Rate, live("With tokens that one key has signed.")] = Rate(per_second=200, burst=2000)
    identity: Annotated[Rate, live("By one person in one room.")] = Rate(per_second=2, burst=60)


class DataLimits(Settings):
    """What one participant may send on his data channels. Whoever sends reliably is slowed down, else packets drop."""

    packet: Annotated[Size, live("Bytes of one packet; clients cut streams into 15 kB.", ge=1024, le=65_536)] = 65_536
    packets_per_second: Annotated[StrictInt, live("Packets, of both kinds.", ge=1, le=10_000)] = 200
    bytes_per_second: Annotated[Size, live("Bytes, of both kinds.", ge=1024, le=64 << 20)] = 1 << 20
    burst: Annotated[Seconds, live("So much of both may be saved up.", ge=1, le=60)] = 2.0


class Links(Settings):
    """What the links to clients carry."""

    start_bitrate: Annotated[Bitrate, live("What one carries until it tells; 0 = no limit.", le=100_000_000)] = 600_000


class Limits(Settings):
    """Bounds for what comes from outside."""

    message: Annotated[Size, live("Bytes of one signalling message, inflated.", ge=65_536, le=16 << 20)] = 1 << 20
    message_compressed: Annotated[
        Size, live("Bytes of one that is compressed, as it comes.", ge=65_536, le=16 << 20)
    ] = 256 << 10
    join_request: Annotated[Size, live("Bytes of an inflated join request.", ge=65_536, le=16 << 20)] = 1 << 20
    sections: Annotated[StrictInt, live("Media sections in one session description.", ge=8, le=4096)] = 512
    participants: Annotated[StrictInt, live("Participants on this server at the same time.", ge=1, le=100_000)] = 500
    rooms: Annotated[
        StrictInt, live("Rooms at the same time, the empty ones included: those go first.", ge=1, le=100_000)
    ] = 1000
    resume: Annotated[
        Seconds,
        live("Who has lost his signalling is kept so long, while his media goes on; 0 = he joins anew.", le=120),
    ] = 15.0
    data: Annotated[DataLimits, live("Data packets (chat, files) of one participant.")] = DataLimits()
