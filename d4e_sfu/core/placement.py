"""Placement of subscriptions in the sections that the client offers to receive on.

A client offers free sections, a subscription takes one of its kind and keeps it; where none is left, the client is
asked for more. Which subscriptions there are, and which matter most, is the room's. No SDP is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from d4e_sfu._engine import Codec, SubscriptionSpec
from d4e_sfu.core import payloads
from d4e_sfu.core.boundary import SubscriptionId
from d4e_sfu.core.offer import Kind, Offered
from d4e_sfu.core.sdp import Direction, Payload


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A subscription that wants a section (or has one). Once placed, everything but `spatial` and `temporal` stays."""

    subscription: SubscriptionId
    track_sid: str
    participant_sid: str  # of the publisher
    kind: Kind
    codec: Codec
    ssrc: int
    rtx_ssrc: int  # used where the client offered RTX
    cname: str
    # The SSRCs that it gets in another section: its numbers have begun under these keys, and must not begin again
    # (RFC 3711 §9.1).
    spare: tuple[int, int]
    format: str = ""  # `Published.format` of the publication: the H.264 profile must fit
    spatial: int | None = None
    temporal: int = 255


@dataclass(frozen=True, slots=True)
class Placed:
    """A subscription that has found its section. Replaces what was placed under the same subscription before."""

    subscription: SubscriptionId
    spec: SubscriptionSpec


@dataclass(frozen=True, slots=True)
class Place:
    """A section that carries a subscription."""

    mid: str
    outgoing: Outgoing
    choice: payloads.Choice
    offered: Sequence[Payload]  # what the section offered, and all that `choice` rests on
    spec: SubscriptionSpec


@dataclass(frozen=True, slots=True)
class Placement:
    places: dict[SubscriptionId, Place]
    displaced: list[SubscriptionId]
    unsupported: list[SubscriptionId]
    missing: tuple[int, int] | None


def place(
    offered: Mapping[str, Offered],
    old: Mapping[SubscriptionId, Place],
    outgoing: Sequence[Outgoing],
    *,
    room: int,
) -> Placement:
    """Which section carries which subscription: those placed stay, the others take free sections in order.

    A section that has just lost its track is answered inactive once before it carries another: a browser announces a
    track only where the direction changes (W3C WebRTC §4.4.1.5, [[FiredDirection]]), not where the msid does.
    """
    sections = {mid: each for mid, each in offered.items() if each.choice and each.direction is Direction.RECVONLY}
    places: dict[SubscriptionId, Place] = {}
    displaced: list[SubscriptionId] = []
    for out in outgoing:
        before = old.get(out.subscription)
        if before is None:
            continue
        section = sections.get(before.mid)
        if section and section.section.payloads == before.offered:
            # The same question has the same answer; in a full room it is asked a hundred times for each participant.
            places[out.subscription] = before
            continue
        choice = section and payloads.subscribable(section.section, out.codec, out.format)
        if section and choice and spec_of(section, out, choice) == spec_of(section, out, before.choice):
            places[out.subscription] = replace(before, choice=choice, offered=section.section.payloads)
        else:
            displaced.append(out.subscription)
    carried = {place.mid for place in old.values()}
    free = {mid: each for mid, each in sections.items() if mid not in carried}
    emptied = carried - {place.mid for place in places.values()}
    cooling = [each for mid, each in sections.items() if mid in emptied]
    full: set[tuple[Kind, Codec, str]] = set()
    homeless: list[Outgoing] = []
    for out in outgoing:
        if out.subscription in places:
            continue
        if out.subscription in displaced:
            out = replace(out, ssrc=out.spare[0], rtx_ssrc=out.spare[1])
        key = (out.kind, out.codec, out.format)
        found = None if key in full else _first_fit(free.values(), out)
        if found is None:
            full.add(key)
            homeless.append(out)
            continue
        section, choice = found
        del free[section.mid]
        spec = spec_of(section, out, choice)
        places[out.subscription] = Place(section.mid, out, choice, section.section.payloads, spec)
    hopeless = {key for key in full if _is_hopeless(sections.values(), *key)}
    unsupported = [out.subscription for out in homeless if (out.kind, out.codec, out.format) in hopeless]
    wanted = [out.kind for out in homeless if (out.kind, out.codec, out.format) not in hopeless]
    return Placement(places, displaced, unsupported, _missing(wanted, [each.section.kind for each in cooling], room))


def _first_fit(free: Iterable[Offered], out: Outgoing) -> tuple[Offered, payloads.Choice] | None:
    for each in free:
        if each.section.kind == out.kind:
            choice = payloads.subscribable(each.section, out.codec, out.format)
            if choice is not None:
                return each, choice
    return None


def _is_hopeless(sections: Iterable[Offered], kind: Kind, codec: Codec, stream_format: str) -> bool:
    """The client has sections of the kind, and none offers the codec: then another one would not either."""
    alike = [each.section for each in sections if each.section.kind == kind]
    return bool(alike) and not any(payloads.subscribable(section, codec, stream_format) for section in alike)


def spec_of(found: Offered, out: Outgoing, choice: payloads.Choice) -> SubscriptionSpec:
    return SubscriptionSpec(
        mid=found.mid,
        payload_type=choice.media.number,
        rtx_payload_type=None if choice.rtx is None else choice.rtx.number,
        red_payload_type=None if choice.red is None else choice.red.number,
        event_payload_type=None if choice.events is None else choice.events.number,
        ssrc=out.ssrc,
        rtx_ssrc=None if choice.rtx is None else out.rtx_ssrc,
        cname=out.cname,
        spatial=out.spatial,
        temporal=out.temporal,
        transport_wide=payloads.reports_arrivals(found.section, choice),
    )


def _missing(wanted: Sequence[str], cooling: Sequence[str], room: int) -> tuple[int, int] | None:
    """What to ask the client for. Sections that are free from the next offer on need not be asked for."""
    audios = max(0, wanted.count("audio") - cooling.count("audio"))
    videos = max(0, wanted.count("video") - cooling.count("video"))
    audios = min(audios, room)
    videos = min(videos, room - audios)
    if audios or videos or any(kind in cooling for kind in wanted):
        return audios, videos
    return None
