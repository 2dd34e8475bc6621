"""Negotiation: which track a section carries, its encodings, and the codec that is chosen for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d4e_sfu._engine import Codec
from d4e_sfu.core.negotiation import PendingTrack
from d4e_sfu.core.sdp import Direction, Payload, Rid, RidChoice, Section, Simulcast, Source, SourceGroup
from tests.core.offers import (
    ALL,
    LEVEL,
    MID,
    OPUS,
    PUBLISH,
    RTX,
    TWCC,
    VP8,
    audio,
    cam,
    directions,
    h264,
    mic,
    negotiation,
    offer_of,
    publishing,
    sections_of,
    simulcast,
    video,
)


def test_a_simulcast_camera_is_accepted_in_all_its_encodings() -> None:
    answer = negotiation().answer(PUBLISH, pending=[mic(), cam()], outgoing=[])
    section = sections_of(answer)["8"]
    assert section.direction is Direction.RECVONLY
    assert section.rids == (Rid("q", "recv"), Rid("h", "recv"), Rid("f", "recv"))
    assert section.simulcast == Simulcast(recv=((RidChoice("q"),), (RidChoice("h"),), (RidChoice("f"),)))
    # RFC 3890: without repair and padding, for which a fifth of the cap is left.
    assert section.bitrate == 2_400_000
    spec = answer.published[1].spec
    assert [(e.rid, e.ssrc, e.rtx_ssrc) for e in spec.encodings] == [
        ("q", None, None),
        ("h", None, None),
        ("f", None, None),
    ]
    assert (spec.mid, spec.max_bitrate) == ("8", 3_000_000)


@pytest.mark.parametrize(
    ("section", "order", "encodings", "answered"),
    [
        (simulcast("q", "h", "f"), (), ["q", "h", "f"], "q;h;f"),
        (simulcast("f", "h", "q"), (), ["q", "h", "f"], "f;h;q"),
        (simulcast("q", "~h", "~f"), (), ["q", "h", "f"], "q;h;f"),
        (simulcast("h", "q"), (), ["q", "h"], "h;q"),
        (simulcast("2", "0", "1"), (), ["2", "0", "1"], "2;0;1"),
        (simulcast("2", "0", "1"), ("0", "1", "2"), ["0", "1", "2"], "2;0;1"),
        (simulcast("a", "b", "c", "d"), (), ["a", "b", "c"], "a;b;c"),
        (simulcast("a", "b", "b"), (), ["a", "b"], "a;b"),
        (simulcast("a", "b", declared="b"), (), ["b"], "b"),
        (simulcast("a", "b", declared=""), (), [None], None),
        (simulcast("a" * 17, "b"), (), ["b"], "b"),
        (replace(simulcast("a", "b"), rids=(Rid("a", "send", "pt=111"), Rid("b", "send", "pt=96"))), (), ["b"], "b"),
        (replace(simulcast("a"), simulcast=None), (), ["a"], "a"),
        (video("0", Direction.SENDONLY), (), [None], None),
    ],
)
def test_encodings_are_lowest_first_and_answered_in_the_clients_order(
    section: Section, order: tuple[str, ...], encodings: list[str | None], answered: str | None
) -> None:
    answer = negotiation().answer(offer_of(section), pending=[replace(cam(), rids=order)], outgoing=[])
    assert [encoding.rid for encoding in answer.published[0].spec.encodings] == encodings
    line = f"a=simulcast:recv {answered}\r\n"
    assert (line in answer.sdp) if answered else ("simulcast" not in answer.sdp)


def test_a_section_without_rids_is_bound_by_its_ssrcs() -> None:
    section = replace(
        video("0", Direction.SENDONLY),
        sources=(Source(1), Source(2)),
        source_groups=(SourceGroup("FID", (1, 2)),),
    )
    (published,) = negotiation().answer(offer_of(section), pending=[cam()], outgoing=[]).published
    assert [(e.rid, e.ssrc, e.rtx_ssrc) for e in published.spec.encodings] == [(None, 1, 2)]


def test_legacy_simulcast_by_ssrc_group_gives_one_encoding_each() -> None:
    section = replace(
        video("0", Direction.SENDONLY),
        sources=tuple(map(Source, range(1, 7))),
        source_groups=(SourceGroup("SIM", (1, 2, 3)), *(SourceGroup("FID", (n, n + 3)) for n in (1, 2, 3))),
    )
    (published,) = negotiation().answer(offer_of(section), pending=[cam()], outgoing=[]).published
    assert [(e.ssrc, e.rtx_ssrc) for e in published.spec.encodings] == [(1, 4), (2, 5), (3, 6)]


def test_tracks_are_matched_by_name_before_they_are_matched_by_kind() -> None:
    offer = offer_of(publishing("0", "unknown"), publishing("1", "cid-b"), publishing("2", "codec-c"))
    pending = [cam("TR_b", "cid-b"), replace(cam("TR_c", "cid-c"), codec_cids=("codec-c",)), cam("TR_a", "cid-a")]
    answer = negotiation().answer(offer, pending=pending, outgoing=[])
    assert {each.spec.mid: (each.track_sid, each.sdp_cid) for each in answer.published} == {
        "0": ("TR_a", "unknown"),
        "1": ("TR_b", "cid-b"),
        "2": ("TR_c", "codec-c"),
    }


def test_a_track_is_never_matched_with_a_section_of_the_other_kind() -> None:
    answer = negotiation().answer(offer_of(publishing("0", "cid-cam", "audio")), pending=[cam()], outgoing=[])
    assert answer.published == []


def test_a_sending_section_that_nobody_announced_waits_inactive_and_is_bound_later() -> None:
    talks = negotiation()
    offer = offer_of(publishing("0", "x"))
    answer = talks.answer(offer, pending=[], outgoing=[])
    assert (answer.published, directions(answer)) == ([], {"0": "inactive"})
    answer = talks.answer(offer, pending=[cam()], outgoing=[])
    assert ([each.track_sid for each in answer.published], directions(answer)) == (["TR_cam"], {"0": "recvonly"})


@pytest.mark.parametrize("end", ["inactive", "port 0", "gone", "another track", "recvonly"])
def test_a_section_that_stops_sending_its_track_unpublishes_it(end: str) -> None:
    talks = negotiation()
    section = publishing("1", "one")
    talks.answer(offer_of(audio("0"), section), pending=[cam()], outgoing=[])
    after = {
        "inactive": replace(section, direction=Direction.INACTIVE),
        "port 0": replace(section, port=0),
        "gone": publishing("2", "two"),
        "another track": publishing("1", "two"),
        "recvonly": replace(section, direction=Direction.RECVONLY),
    }[end]
    answer = talks.answer(offer_of(audio("0"), after), pending=[], outgoing=[])
    assert (answer.unpublished, answer.published) == (["TR_cam"], [])
    # Published again: the same section, another announcement.
    answer = talks.answer(offer_of(audio("0"), section), pending=[cam("TR_again")], outgoing=[])
    assert (answer.unpublished, [each.track_sid for each in answer.published]) == ([], ["TR_again"])


def test_a_section_may_change_hands_within_one_offer() -> None:
    talks = negotiation()
    talks.answer(offer_of(publishing("0", "one")), pending=[cam("TR_1", "one")], outgoing=[])
    answer = talks.answer(offer_of(publishing("0", "two")), pending=[cam("TR_2", "two")], outgoing=[])
    assert (answer.unpublished, [each.track_sid for each in answer.published]) == (["TR_1"], ["TR_2"])


@pytest.mark.parametrize(
    ("track", "parameters"),
    [
        (replace(mic(), opus_bitrate=24_000), "minptime=10;useinbandfec=1;usedtx=1;maxaveragebitrate=24000"),
        (replace(mic(), dtx=False), "minptime=10;useinbandfec=1;maxaveragebitrate=64000"),
        (
            replace(mic(), opus_bitrate=24_000, max_bitrate=16_000),
            "minptime=10;useinbandfec=1;usedtx=1;maxaveragebitrate=16000",
        ),
        (
            replace(mic(), opus_bitrate=24_000, stereo=True),
            "minptime=10;useinbandfec=1;usedtx=1;stereo=1;maxaveragebitrate=64000",
        ),
        (replace(mic(), dtx=False, stereo=True), "minptime=10;useinbandfec=1;stereo=1;maxaveragebitrate=64000"),
        (
            replace(mic(), stereo=True, max_bitrate=2_000_000),
            "minptime=10;useinbandfec=1;usedtx=1;stereo=1;maxaveragebitrate=510000",
        ),
    ],
)
def test_opus_is_asked_for_as_the_track_was_announced(track: PendingTrack, parameters: str) -> None:
    answer = negotiation().answer(offer_of(audio("0", Direction.SENDONLY)), pending=[track], outgoing=[])
    section = sections_of(answer)["0"]
    assert section.payloads == (replace(OPUS, format=parameters),)
    assert section.bitrate is None
    assert {extension.uri for extension in section.extensions} == {LEVEL, TWCC, MID}
    assert not answer.published[0].spec.nack


CAMERA_CODECS = (
    h264(102, "42001f", 1),
    h264(104, "42e01f", 0),
    h264(108, "42e01f", 1),
    h264(116, "640c1f", 1),
    VP8,
    RTX,
)


@pytest.mark.parametrize(
    ("mime_type", "allowed", "payloads", "chosen"),
    [
        ("video/vp8", ALL, CAMERA_CODECS, 96),
        ("video/VP8", ALL, CAMERA_CODECS, 96),
        ("video/h264", ALL, CAMERA_CODECS, 108),
        ("video/h264", ALL, (h264(104, "42e01f", 0), h264(102, "42001f", 1)), 102),
        ("video/h264", ALL, (h264(104, "42e01f", 0), VP8), 104),
        ("", ALL, CAMERA_CODECS, 108),
        ("video/av1", ALL, (VP8, *CAMERA_CODECS[:3]), 96),
        ("video/vp8", (Codec.Opus, Codec.H264), CAMERA_CODECS, 108),
        ("video/h264", (Codec.Opus, Codec.Vp8), CAMERA_CODECS, 96),
        # What not every subscriber can decode is not accepted.
        ("video/h264", ALL, (h264(116, "640c1f", 1), VP8), 96),
    ],
)
def test_the_announced_codec_is_chosen_where_it_is_offered_and_allowed(
    mime_type: str, allowed: tuple[Codec, ...], payloads: tuple[Payload, ...], chosen: int
) -> None:
    offer = offer_of(video("0", Direction.SENDONLY, *payloads))
    answer = negotiation(allowed).answer(offer, pending=[cam(mime_type=mime_type)], outgoing=[])
    assert answer.published[0].spec.payload_type == chosen
