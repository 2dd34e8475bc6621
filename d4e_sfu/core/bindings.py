"""Bindings of publishing sections to announced tracks: which m-section sends which track, in what form.

Whether a track may be published was decided before it became pending; here its section is found (a client names it,
or does not) and read into what the engine needs to know. No SDP is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from d4e_sfu._engine import Codec, Encoding, PublicationSpec
from d4e_sfu.core import payloads
from d4e_sfu.core.offer import Kind, Offered
from d4e_sfu.core.sdp import Direction, Section

MAX_ENCODINGS: Final = 3  # of the engine
MAX_RID: Final = 16  # bytes in a one-byte header extension (RFC 8285 §4.2)
MAX_OPUS_BITRATE: Final = 510_000  # RFC 7587 §6.1
_QUALITIES: Final = ("q", "h", "f")  # the rids of LiveKit clients, lowest first


@dataclass(frozen=True, slots=True)
class PendingTrack:
    """A track that the client has announced (`add_track`) and that we accepted; its section may come in any offer."""

    sid: str
    cid: str
    kind: Kind
    mime_type: str  # "video/vp8", as returned in TrackInfo; "" or one not offered: the first allowed one offered
    max_bitrate: int  # bits per second; for video also told to the client, as b=TIAS less room for retransmissions
    codec_cids: Sequence[str] = ()  # simulcast_codecs[].cid
    rids: Sequence[str] = ()  # lowest first, where the client named them (VideoLayer.rid); q, h, f need no naming
    dtx: bool = True  # False: TF_NO_DTX
    stereo: bool = False
    red: bool = True  # redundant audio where the client offers it
    opus_bitrate: int | None = None  # what it is asked to keep to on average; None, and in stereo: all of max_bitrate


@dataclass(frozen=True, slots=True)
class Published:
    """A pending track that has found its section."""

    track_sid: str
    sdp_cid: str  # track id in the section's a=msid, "" without; often not the `cid` of add_track
    spec: PublicationSpec
    format: str  # the codec's a=fmtp as negotiated; goes into `Outgoing.format` of its subscribers


@dataclass(frozen=True, slots=True)
class Bound:
    """A section that publishes: for whom, and what was negotiated."""

    track: PendingTrack
    choice: payloads.Choice
    rids: tuple[str, ...]  # in the order of the offer, which the answer repeats
    published: Published


def bind(
    offered: Mapping[str, Offered],
    old: Mapping[str, Bound],
    pending: Sequence[PendingTrack],
    codecs: frozenset[Codec],
) -> dict[str, Bound]:
    """Which section publishes which track. A section that goes on sending the same thing keeps its track."""
    kept: dict[str, Bound] = {}
    unbound: dict[str, Offered] = {}
    for mid, each in offered.items():
        if each.choice is None or each.direction not in (Direction.SENDONLY, Direction.SENDRECV):
            continue
        before = old.get(mid)
        if before is not None:
            again = _read(each, before.track, codecs)
            if again is not None and again.published == before.published:
                kept[mid] = again
                continue
        unbound[mid] = each
    taken = {each.track.sid for each in kept.values()}
    waiting = {track.sid: track for track in pending if track.sid not in taken}
    # Every section by name before any section by order, or a nameless one would take what another one names.
    for match in (_named, _same_kind):
        for mid, each in list(unbound.items()):
            track = next((track for track in waiting.values() if match(each.section, track)), None)
            found = None if track is None else _read(each, track, codecs)
            if found is not None:
                kept[mid] = found
                del unbound[mid], waiting[found.track.sid]
    return kept


def _named(section: Section, track: PendingTrack) -> bool:
    cid = _sdp_cid(section)
    return track.kind == section.kind and bool(cid) and (cid == track.cid or cid in track.codec_cids)


def _same_kind(section: Section, track: PendingTrack) -> bool:
    return track.kind == section.kind


def _sdp_cid(section: Section) -> str:
    return section.msids[0][1] if section.msids else ""


def _read(offered: Offered, track: PendingTrack, codecs: frozenset[Codec]) -> Bound | None:
    section = offered.section
    choice = payloads.publishable(section, codecs, payloads.codec_of(track.mime_type))
    if choice is None:
        return None
    if not track.red:
        choice = replace(choice, red=None)
    if choice.codec == Codec.Opus:
        choice = replace(choice, media=replace(choice.media, format=_opus_format(track)))
    rids = _send_rids(section, choice)
    spec = PublicationSpec(
        codec=choice.codec,
        mid=offered.mid,
        payload_type=choice.media.number,
        rtx_payload_type=None if choice.rtx is None else choice.rtx.number,
        red_payload_type=None if choice.red is None else choice.red.number,
        event_payload_type=None if choice.events is None else choice.events.number,
        encodings=_encodings(section, choice, rids, track.rids),
        max_bitrate=track.max_bitrate,
        nack="nack" in choice.media.feedback,
    )
    return Bound(track, choice, tuple(rids), Published(track.sid, _sdp_cid(section), spec, choice.media.format))


def _opus_format(track: PendingTrack) -> str:
    """How we want to receive (RFC 7587 §7)."""
    words = ["minptime=10", "useinbandfec=1"]
    if track.dtx:
        words.append("usedtx=1")
    if track.stereo:
        words.append("stereo=1")
    bitrate = None if track.stereo else track.opus_bitrate
    return ";".join((*words, f"maxaveragebitrate={min(bitrate or MAX_OPUS_BITRATE, track.max_bitrate)}"))


def _encodings(section: Section, choice: payloads.Choice, rids: Sequence[str], order: Sequence[str]) -> list[Encoding]:
    """Lowest first: by rid (RFC 8853), else by the SSRCs that the section signals, else one bound by its MID alone."""
    if rids:
        ranks = next((names for names in (order, _QUALITIES) if set(rids) <= set(names)), rids)
        return [Encoding(rid=rid) for rid in sorted(rids, key=list(ranks).index)]
    repair = {g.ssrcs[0]: g.ssrcs[1] for g in section.source_groups if g.semantics == "FID" and len(g.ssrcs) == 2}
    layers = next((g.ssrcs for g in section.source_groups if g.semantics == "SIM"), ())
    media = [source.ssrc for source in section.sources if source.ssrc not in repair.values()]
    ssrcs = list(dict.fromkeys(layers))[:MAX_ENCODINGS] or media[:1]
    if not ssrcs:
        return [Encoding()]
    return [Encoding(ssrc=ssrc, rtx_ssrc=repair.get(ssrc) if choice.rtx is not None else None) for ssrc in ssrcs]


def _send_rids(section: Section, choice: payloads.Choice) -> list[str]:
    """The rids that we receive, in the client's order, paused ones too: they may start without another offer."""
    declared = {
        rid.id
        for rid in section.rids
        if rid.direction == "send" and len(rid.id) <= MAX_RID and _allows(rid.restrictions, choice.media.number)
    }
    if section.simulcast is None:
        named = [rid.id for rid in section.rids]
    else:
        named = [choices[0].rid for choices in section.simulcast.send]
    return [rid for rid in dict.fromkeys(named) if rid in declared][:MAX_ENCODINGS]


def _allows(restrictions: str, payload_type: int) -> bool:
    """RFC 8851 §4: pt= lists the only payload types of an encoding."""
    for part in restrictions.split(";"):
        key, _, value = part.partition("=")
        if key.strip() == "pt":
            return str(payload_type) in value.split(",")
    return True
