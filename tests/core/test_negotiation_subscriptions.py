"""Negotiation: sections for what a client receives; how they are placed, freed and asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d4e_sfu._engine import Codec
from d4e_sfu.core.sdp import Direction, Payload, SdpError, Source, SourceGroup
from tests.core.offers import (
    VP8,
    application,
    audio,
    directions,
    h264,
    negotiation,
    offer_of,
    picture,
    sections_of,
    video,
    voice,
)


def test_a_carried_section_names_its_streams_and_their_repair() -> None:
    answer = negotiation().answer(offer_of(video("0")), pending=[], outgoing=[picture(1)])
    section = sections_of(answer)["0"]
    assert section.sources == (Source(101, "PA_x"), Source(201, "PA_x"))
    assert section.source_groups == (SourceGroup("FID", (101, 201)),)
    spec = answer.placed[0].spec
    assert (spec.mid, spec.payload_type, spec.rtx_payload_type) == ("0", 96, 97)
    assert (spec.ssrc, spec.rtx_ssrc, spec.cname, spec.spatial, spec.temporal) == (101, 201, "PA_x", None, 255)


def test_without_offered_repair_none_is_promised() -> None:
    answer = negotiation().answer(offer_of(video("0", Direction.RECVONLY, VP8)), pending=[], outgoing=[picture(1)])
    assert sections_of(answer)["0"].sources == (Source(101, "PA_x"),)
    assert sections_of(answer)["0"].source_groups == ()
    spec = answer.placed[0].spec
    assert (spec.rtx_payload_type, spec.rtx_ssrc) == (None, None)


def test_a_subscription_keeps_its_section_until_it_ends() -> None:
    talks = negotiation()
    offer = offer_of(video("0"), video("1"), video("2"))
    talks.answer(offer, pending=[], outgoing=[picture(1), picture(2)])
    # The first leaves; the second stays where it is, and a third does not take the place of the first yet.
    answer = talks.answer(offer, pending=[], outgoing=[picture(3), picture(2)])
    assert answer.mid_to_track_id == {"1": "TR_2", "2": "TR_3"}
    assert directions(answer)["0"] == "inactive"
    answer = talks.answer(offer, pending=[], outgoing=[picture(3), picture(2), picture(4)])
    assert answer.mid_to_track_id == {"0": "TR_4", "1": "TR_2", "2": "TR_3"}
    assert [placed.subscription for placed in answer.placed] == [4]


def test_a_freed_section_is_inactive_once_before_it_is_reused() -> None:
    talks = negotiation()
    offer = offer_of(video("0"))
    talks.answer(offer, pending=[], outgoing=[picture(1)])
    answer = talks.answer(offer, pending=[], outgoing=[picture(2)])
    assert (answer.mid_to_track_id, answer.placed, answer.missing) == ({}, [], (0, 0))
    assert directions(answer) == {"0": "inactive"}
    answer = talks.answer(offer, pending=[], outgoing=[picture(2)])
    assert (answer.mid_to_track_id, answer.missing) == ({"0": "TR_2"}, None)


def test_what_finds_no_section_is_counted_by_kind() -> None:
    talks = negotiation()
    outgoing = [voice(1), voice(2), voice(3), picture(4), picture(5)]
    answer = talks.answer(offer_of(audio("0"), video("1")), pending=[], outgoing=outgoing)
    assert answer.missing == (2, 1)
    assert answer.mid_to_track_id == {"0": "TR_1", "1": "TR_4"}
    sections = (audio("0"), video("1"), audio("2"), audio("3"), video("4"))
    assert talks.answer(offer_of(*sections), pending=[], outgoing=outgoing).missing is None


def test_a_client_without_media_sections_is_asked_for_them() -> None:
    answer = negotiation().answer(offer_of(application("0")), pending=[], outgoing=[voice(1), picture(2)])
    assert (answer.missing, answer.unsupported) == ((1, 1), [])
    assert sections_of(answer)["0"].candidates


def test_no_more_sections_are_asked_for_than_are_allowed() -> None:
    talks = negotiation(max_sections=4)
    outgoing = [voice(n) for n in range(3)] + [picture(n) for n in range(10, 13)]
    answer = talks.answer(offer_of(audio("0"), video("1")), pending=[], outgoing=outgoing)
    assert answer.missing == (2, 0)
    answer = talks.answer(offer_of(audio("0"), video("1"), audio("2"), audio("3")), pending=[], outgoing=outgoing)
    assert answer.missing is None
    with pytest.raises(SdpError, match="more than 4 sections"):
        talks.answer(offer_of(*(audio(str(n)) for n in range(5))), pending=[], outgoing=[])


def test_between_offers_the_negotiation_says_what_to_ask_for() -> None:
    talks = negotiation()
    offer = offer_of(audio("0"), video("1"), video("2"))
    talks.answer(offer, pending=[], outgoing=[picture(1)])
    assert talks.missing([picture(1)]) is None
    assert talks.missing([picture(1), picture(2)]) == (0, 0)  # a free section, which only an answer can fill
    assert talks.missing([picture(1), picture(2), picture(3)]) == (0, 1)
    assert talks.missing([]) == (0, 0)  # a section to free
    answer = talks.answer(offer, pending=[], outgoing=[picture(1), picture(2)])
    assert [placed.subscription for placed in answer.placed] == [2]


def test_a_codec_that_the_client_lacks_is_reported_and_not_asked_for() -> None:
    answer = negotiation().answer(offer_of(video("0")), pending=[], outgoing=[picture(1, Codec.H264), picture(2)])
    assert (answer.unsupported, answer.missing, answer.mid_to_track_id) == ([1], None, {"0": "TR_2"})


@pytest.mark.parametrize("end", ["port 0", "inactive", "gone"])
def test_a_section_that_the_client_closes_displaces_what_it_carried(end: str) -> None:
    talks = negotiation()
    talks.answer(offer_of(video("0"), video("1")), pending=[], outgoing=[picture(1)])
    after = {
        "port 0": replace(video("0"), port=0),
        "inactive": video("0", Direction.INACTIVE),
        "gone": audio("7"),
    }[end]
    answer = talks.answer(offer_of(after, video("1")), pending=[], outgoing=[picture(1)])
    assert answer.displaced == [1]
    assert [placed.spec.mid for placed in answer.placed] == ["1"]
    answer = talks.answer(offer_of(after, video("1")), pending=[], outgoing=[picture(1)])
    assert (answer.displaced, answer.placed) == ([], [])


CHROMIUM_H264 = (
    h264(102, "42001f", 1),
    h264(104, "42001f", 0),
    h264(108, "42e01f", 1),
    h264(114, "42e01f", 0),
    h264(116, "4d001f", 1),
    h264(41, "640c1f", 1),
)


@pytest.mark.parametrize(
    ("published", "offered", "chosen"),
    [
        (h264(1, "42e01f", 1), CHROMIUM_H264, 108),
        (h264(1, "42001f", 1), CHROMIUM_H264, 102),
        (h264(1, "42e01f", 0), CHROMIUM_H264, 114),
        (h264(1, "42e034", 1), CHROMIUM_H264, 108),  # levels may differ
        (h264(1, "42e01f", 1), (h264(102, "42001f", 1),), 102),
        (h264(1, "42001f", 1), (h264(108, "42e01f", 1),), 108),
        (h264(1, "42e01f", 1), (h264(116, "4d001f", 1),), 116),
        (h264(1, "42e01f", 0), (h264(108, "42e01f", 1),), 108),  # mode 1 includes single NAL units
        (h264(1, "42e01f", 1), (h264(114, "42e01f", 0),), None),  # and mode 0 nothing else
        (h264(1, "42e01f", None), (h264(114, "42e01f", None),), 114),
        (h264(1, "4d001f", 1), (h264(108, "42e01f", 1),), None),
        (h264(1, "4d401f", 1), (h264(108, "42e01f", 1), h264(99, "64001f", 1)), 99),
        (h264(1, "640c1f", 1), CHROMIUM_H264, 41),
        (h264(1, "zz", 1), CHROMIUM_H264, None),
    ],
)
def test_an_h264_picture_goes_out_under_a_payload_type_that_can_decode_it(
    published: Payload, offered: tuple[Payload, ...], chosen: int | None
) -> None:
    outgoing = [picture(1, Codec.H264, published.format)]
    answer = negotiation().answer(offer_of(video("0", Direction.RECVONLY, *offered)), pending=[], outgoing=outgoing)
    if chosen is None:
        assert answer.unsupported == [1]
    else:
        assert answer.placed[0].spec.payload_type == chosen
