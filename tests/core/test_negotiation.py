"""Negotiation: the shape of an answer, its header extensions and payload types, against offers of real browsers and
offers that no browser would make."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d4e_sfu._engine import Codec, Extension
from d4e_sfu.core import payloads, sdp
from d4e_sfu.core.sdp import Direction, HeaderExtension, Section, Setup
from d4e_sfu.errors import ClientError
from tests.core.offers import (
    ABS_SEND_TIME,
    JOIN,
    LEVEL,
    LOCAL,
    MID,
    OPUS,
    PUBLISH,
    REPAIRED_RID,
    RID,
    RTX,
    TWCC,
    VECTORS,
    VP8,
    application,
    audio,
    cam,
    directions,
    h264,
    mic,
    negotiation,
    offer_of,
    picture,
    sections_of,
    session_of,
    video,
    voice,
)

# --- the shape of an answer ---------------------------------------------------------------------------------------


def test_the_answer_to_a_joining_browser_keeps_its_sections_and_fills_the_first_free_ones() -> None:
    answer = negotiation().answer(JOIN, pending=[], outgoing=[voice(1), picture(2)])
    offered, answered = sdp.parse(JOIN), sdp.parse(answer.sdp)
    assert [(s.kind, s.mid) for s in answered.sections] == [(s.kind, s.mid) for s in offered.sections]
    assert answered.bundles == offered.bundles
    assert directions(answer) == {
        "0": "sendonly", "1": "inactive", "2": "inactive", "3": "sendonly", "4": "inactive", "5": "inactive",
    }  # fmt: skip
    assert answer.mid_to_track_id == {"0": "TR_1", "3": "TR_2"}
    assert answered.sections[3].msids == (("PA_x|TR_2", "TR_2"),)
    assert answered.extmap_allow_mixed


def test_our_transport_is_lite_passive_and_lists_every_candidate_once() -> None:
    answer = negotiation().answer(JOIN, pending=[], outgoing=[])
    session = sdp.parse(answer.sdp)
    assert session.ice_lite
    assert session.setup is Setup.PASSIVE
    assert (session.ice_ufrag, session.ice_pwd) == (LOCAL.ufrag, LOCAL.pwd)
    assert session.fingerprints == (LOCAL.fingerprint,)
    for section in session.sections:
        assert (section.ice_ufrag, section.ice_pwd, section.fingerprints) == (None, None, ())
        assert section.port == 7882
    first, *others = session.sections
    assert [(c.address, c.port, c.type) for c in first.candidates] == [
        ("192.0.2.10", 7882, "host"), ("2001:db8::10", 7882, "host"),
    ]  # fmt: skip
    # RFC 8445 §5.1.2.1
    assert [c.priority for c in first.candidates] == [2130706431, 2130706175]
    assert first.end_of_candidates
    assert not any(section.candidates for section in others)
    # pion looks for it in a section, and takes the first that it finds.
    assert (first.setup, {section.setup for section in others}) == (Setup.PASSIVE, {None})


def test_what_is_learned_of_the_client_is_enough_to_meet_it() -> None:
    answer = negotiation().answer(JOIN, pending=[], outgoing=[])
    first = sdp.parse(JOIN).sections[0]
    remote = answer.remote
    assert (remote.ufrag, remote.pwd, remote.fingerprints) == (first.ice_ufrag, first.ice_pwd, first.fingerprints)
    assert (remote.role, remote.sctp_port, remote.max_message_size) == ("server", 5000, 262_144)


def test_the_same_offer_again_gets_the_same_answer_and_nothing_new() -> None:
    talks = negotiation()
    outgoing, pending = [voice(1), picture(2)], [mic(), cam()]
    first = talks.answer(PUBLISH, pending=pending, outgoing=outgoing)
    assert (len(first.published), len(first.placed)) == (2, 2)
    again = talks.answer(PUBLISH, pending=[], outgoing=outgoing)
    assert again.sdp == first.sdp
    assert again == replace(first, published=[], placed=[])
    assert sdp.parse(first.sdp).version == 1


def test_a_different_answer_has_a_later_version() -> None:
    talks = negotiation()
    talks.answer(JOIN, pending=[], outgoing=[])
    assert sdp.parse(talks.answer(JOIN, pending=[], outgoing=[voice(1)]).sdp).version == 2


def test_the_recorded_session_of_a_browser_is_followed_to_its_end() -> None:
    talks = negotiation()
    outgoing = [voice(1), picture(2)]
    for name, pending, published, unpublished in (
        ("join", [], [], []),
        ("join-again", [], [], []),
        ("publish", [mic(), cam()], ["TR_mic", "TR_cam"], []),
        ("publish-h264", [cam("TR_h264", mime_type="video/h264")], ["TR_h264"], []),
        ("unpublish", [], [], ["TR_cam"]),
        ("more-sections", [], [], []),
        ("stop-and-publish", [cam("TR_cam2")], ["TR_cam2"], ["TR_h264"]),
        ("recycle", [], [], []),
        ("stop-received", [], [], []),
    ):
        offer = (VECTORS / f"chromium-{name}.sdp").read_bytes().decode()
        answer = talks.answer(offer, pending=pending, outgoing=outgoing)
        assert [each.track_sid for each in answer.published] == published, name
        assert answer.unpublished == unpublished, name
        assert [s.mid for s in sdp.parse(answer.sdp).sections] == [s.mid for s in sdp.parse(offer).sections], name
    # The section of the picture was stopped by the browser: it moved to another.
    assert answer.displaced == [2]
    assert [placed.subscription for placed in answer.placed] == [2]
    # Under numbers that have not begun: SRTP must not seal two packets under one index (RFC 3711 §9.1).
    assert (answer.placed[0].spec.ssrc, answer.placed[0].spec.rtx_ssrc) == (302, 402)


def test_debug_state_says_what_each_section_does() -> None:
    talks = negotiation()
    assert talks.debug_state()["role"] is None
    talks.answer(PUBLISH, pending=[mic(), cam()], outgoing=[voice(1)])
    assert talks.debug_state() == {
        "answers": 1,
        "role": "server",
        "sections": 9,
        "sections_read": 9,
        "published": {"7": "TR_mic", "8": "TR_cam"},
        "carried": {"0": "TR_1"},
    }


def test_the_recorded_session_of_a_native_client_is_followed_to_its_end() -> None:
    talks = negotiation()
    for name, pending, published, unpublished in (
        ("join", [], [], []),
        ("publish", [mic(), cam()], [("TR_mic", Codec.Opus, [None]), ("TR_cam", Codec.Vp8, ["q", "h", "f"])], []),
        ("publish-h264", [cam("TR_h264", mime_type="")], [("TR_h264", Codec.H264, [None])], []),
        ("unpublish", [], [], ["TR_cam"]),
        ("republish", [cam("TR_again")], [("TR_again", Codec.Vp8, ["q", "h", "f"])], []),
    ):
        offer = (VECTORS / f"livekit-python-{name}.sdp").read_bytes().decode()
        answer = talks.answer(offer, pending=pending, outgoing=[voice(1), picture(2)])
        assert [
            (each.track_sid, each.spec.codec, [encoding.rid for encoding in each.spec.encodings])
            for each in answer.published
        ] == published, name
        assert answer.unpublished == unpublished, name
        assert answer.mid_to_track_id == {"0": "TR_1", "3": "TR_2"}
    assert "a=simulcast:recv f;h;q\r\n" in answer.sdp
    # It publishes without retransmission, and by the SSRC that it signals where there are no rids.
    assert all(bound.spec.rtx_payload_type is None for bound in answer.published)


# --- header extensions and payload types -----------------------------------------------------------------------------


def test_every_video_section_accepts_mid_rid_and_repaired_rid_also_while_free() -> None:
    answer = negotiation().answer(PUBLISH, pending=[cam()], outgoing=[picture(1)])
    videos = [s for s in sdp.parse(answer.sdp).sections if s.kind == "video"]
    assert {s.direction for s in videos} == {Direction.SENDONLY, Direction.INACTIVE, Direction.RECVONLY}
    for section in videos:
        ids = {extension.uri: extension.id for extension in section.extensions}
        assert (ids[MID], ids[RID], ids[REPAIRED_RID], ids[TWCC]) == (4, 10, 11, 3)
        assert ABS_SEND_TIME not in ids
    assert dict(answer.extensions)[Extension.RepairedRid] == 11
    assert dict(answer.extensions)[Extension.AudioLevel] == 1


def test_an_id_with_two_meanings_keeps_its_first_one_in_the_whole_bundle() -> None:
    confused = replace(
        video("1"), extensions=(HeaderExtension(4, RID), HeaderExtension(5, MID), HeaderExtension(3, TWCC))
    )
    answer = negotiation().answer(offer_of(audio("0"), confused), pending=[], outgoing=[])
    assert sections_of(answer)["1"].extensions == (HeaderExtension(3, TWCC),)
    assert dict(answer.extensions) == {Extension.AudioLevel: 1, Extension.TransportWideCc: 3, Extension.Mid: 4}


def test_a_section_that_stayed_the_same_is_answered_anew_where_the_mapping_of_the_bundle_has_changed() -> None:
    talks = negotiation()
    moved = replace(
        audio("0"), extensions=(HeaderExtension(1, LEVEL), HeaderExtension(3, TWCC), HeaderExtension(5, MID))
    )
    for first, mid_there, mid_here in ((audio("0"), 4, 4), (moved, 5, None), (audio("0"), 4, 4)):
        answer = talks.answer(offer_of(first, video("1")), pending=[], outgoing=[])
        assert dict(answer.extensions)[Extension.Mid] == mid_there
        ids = [extension.id for extension in sections_of(answer)["1"].extensions if extension.uri == MID]
        assert ids == ([] if mid_here is None else [mid_here])


def test_a_section_that_stayed_the_same_follows_the_direction_of_the_whole_description() -> None:
    talks, silent = negotiation(), session_of(replace(audio("0"), direction=None))
    for direction, carried in ((Direction.RECVONLY, {"0": "TR_1"}), (Direction.INACTIVE, {})):
        answer = talks.answer(sdp.write(replace(silent, direction=direction)), pending=[], outgoing=[voice(1)])
        assert answer.mid_to_track_id == carried


def test_of_a_repeated_offer_only_what_has_changed_is_read_and_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    talks = negotiation()
    sections = [audio(str(n)) if n % 2 else video(str(n)) for n in range(40)]
    outgoing = [voice(n) if n % 2 else picture(n) for n in range(38)]
    talks.answer(offer_of(*sections), pending=[], outgoing=outgoing)
    assert talks._sections.read == 40
    chosen: list[str | None] = []
    placeholder = payloads.placeholder

    def counted(section: Section, allowed: frozenset[Codec]) -> payloads.Choice | None:
        chosen.append(section.mid)
        return placeholder(section, allowed)

    monkeypatch.setattr(payloads, "placeholder", counted)
    sections[7] = replace(sections[7], rtcp_rsize=True)
    again = talks.answer(offer_of(*sections), pending=[], outgoing=outgoing)
    assert talks._sections.read == 41
    assert chosen == ["7"]
    assert len(again.mid_to_track_id) == 38
    assert sections_of(again)["7"].rtcp_rsize


def test_extension_ids_that_cannot_be_used_are_not_accepted() -> None:
    odd = (HeaderExtension(15, MID), HeaderExtension(0, RID), HeaderExtension(256, TWCC))
    answer = negotiation().answer(offer_of(replace(video("0"), extensions=odd)), pending=[], outgoing=[])
    assert answer.extensions == ()


def test_a_one_way_extension_is_answered_the_other_way_round() -> None:
    one_way = (
        HeaderExtension(4, MID, Direction.SENDONLY),
        HeaderExtension(3, TWCC, Direction.INACTIVE),
        HeaderExtension(10, RID, Direction.SENDRECV),
    )
    answer = negotiation().answer(offer_of(replace(video("0"), extensions=one_way)), pending=[], outgoing=[])
    assert sections_of(answer)["0"].extensions == (
        HeaderExtension(4, MID, Direction.RECVONLY),
        HeaderExtension(10, RID, Direction.SENDRECV),
    )


def test_payload_types_are_the_clients_and_only_the_chosen_codec_is_answered() -> None:
    odd = video(
        "0",
        Direction.SENDONLY,
        replace(VP8, number=41),
        replace(RTX, number=42, format="apt=41"),
        h264(43, "42e01f", 1),
    )
    answer = negotiation().answer(offer_of(odd), pending=[cam()], outgoing=[])
    (published,) = answer.published
    assert (published.spec.codec, published.spec.payload_type, published.spec.rtx_payload_type) == (Codec.Vp8, 41, 42)
    assert published.spec.nack
    section = sections_of(answer)["0"]
    assert [payload.number for payload in section.payloads] == [41, 42]
    assert section.payloads[0].feedback == ("transport-cc", "ccm fir", "nack", "nack pli")
    assert section.payloads[1].parameters() == {"apt": "41"}


def test_payload_types_that_look_like_rtcp_are_not_used() -> None:
    risky = video("0", Direction.SENDONLY, replace(VP8, number=72), VP8, replace(RTX, number=80))
    (published,) = negotiation().answer(offer_of(risky), pending=[cam()], outgoing=[]).published
    assert (published.spec.payload_type, published.spec.rtx_payload_type) == (96, None)


# --- any sequence of offers, and what all of a bundle has ----------------------------------------------------------

OFFERS = [path.read_bytes().decode() for path in sorted(VECTORS.glob("*.sdp"))]


@st.composite
def shuffled_sessions(draw: st.DrawFn) -> str:
    """Well-formed offers made of parts of real ones: what a parser lets through and a negotiation must stand."""
    session = sdp.parse(draw(st.sampled_from(OFFERS)))
    pool = [section for offer in OFFERS for section in sdp.parse(offer).sections]
    sections = []
    for section in session.sections:
        what = draw(st.integers(0, 9))
        if what == 0:
            section = replace(section, direction=draw(st.sampled_from([*Direction, None])))
        elif what == 1:
            section = replace(section, port=0)
        elif what == 2:
            section = replace(draw(st.sampled_from(pool)), mid=section.mid)
        elif what == 3:
            section = replace(section, payloads=tuple(draw(st.permutations(section.payloads))))
        elif what == 4:
            section = replace(section, extensions=draw(st.sampled_from(pool)).extensions)
        sections.append(section)
    return sdp.write(replace(session, sections=tuple(sections)))


@settings(max_examples=40, deadline=None)
@given(st.lists(shuffled_sessions(), min_size=1, max_size=4), st.data())
def test_any_sequence_of_offers_is_answered_in_step_or_refused(offers: list[str], data: st.DataObject) -> None:
    talks, forgetful = negotiation(), negotiation()
    live: set[str] = set()
    for number, offer in enumerate(offers):
        pending = [cam(f"TR_v{number}"), mic(f"TR_a{number}")]
        wanted = data.draw(st.sets(st.integers(0, 9)))
        outgoing = [voice(n) if n % 2 else picture(n) for n in sorted(wanted)]
        forgetful._sections = sdp.Sections()
        try:
            answer = talks.answer(offer, pending=pending, outgoing=outgoing)
        except ClientError as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                forgetful.answer(offer, pending=pending, outgoing=outgoing)
            continue
        assert forgetful.answer(offer, pending=pending, outgoing=outgoing) == answer, (
            "what is remembered changes nothing"
        )
        offered, answered = sdp.parse(offer), sdp.parse(answer.sdp)
        assert [(s.kind, s.mid) for s in answered.sections] == [(s.kind, s.mid) for s in offered.sections]
        sending = {s.mid for s in answered.sections if s.port and s.direction is Direction.SENDONLY}
        assert sending == set(answer.mid_to_track_id)
        assert {f"TR_{n}" for n in wanted} >= set(answer.mid_to_track_id.values())
        for ours, theirs in zip(answered.sections, offered.sections, strict=True):
            if ours.direction is Direction.SENDONLY:
                assert theirs.direction is Direction.RECVONLY
            if ours.direction is Direction.RECVONLY:
                assert theirs.direction in (Direction.SENDONLY, Direction.SENDRECV, None)
            assert {p.number for p in ours.payloads} <= {p.number for p in theirs.payloads}
        ids = [number for _, number in answer.extensions]
        assert len(ids) == len(set(ids))
        assert live >= set(answer.unpublished)
        live = live - set(answer.unpublished) | {each.track_sid for each in answer.published}
        receiving = [s for s in answered.sections if s.port and s.direction is Direction.RECVONLY]
        assert len(receiving) == len(live)


@pytest.mark.parametrize(
    ("session", "sections", "mixed"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_both_forms_of_header_extensions_are_sent_where_all_media_allows_them(
    session: bool, sections: bool, mixed: bool
) -> None:
    offered = [replace(section, extmap_allow_mixed=sections) for section in (audio("0"), video("1"))]
    text = sdp.write(replace(session_of(*offered, application("2")), extmap_allow_mixed=session))
    assert negotiation().answer(text, pending=[], outgoing=[]).allow_mixed is mixed


@pytest.mark.parametrize("name", ["chromium-join", "livekit-python-join"])
def test_what_is_received_bears_transport_wide_numbers_and_feedback_is_agreed_on(name: str) -> None:
    offer = (VECTORS / f"{name}.sdp").read_bytes().decode()
    answer = negotiation().answer(offer, pending=[], outgoing=[voice(1), picture(2)])
    assert [placed.spec.transport_wide for placed in answer.placed] == [True, True]
    sections = sections_of(answer)
    for placed in answer.placed:
        section = sections[placed.spec.mid]
        assert TWCC in [extension.uri for extension in section.extensions]
        media = next(each for each in section.payloads if each.number == placed.spec.payload_type)
        assert "transport-cc" in media.feedback


def test_a_section_without_its_feedback_or_without_its_extension_bears_no_numbers() -> None:
    silent = replace(audio("0"), payloads=(replace(OPUS, feedback=()),))
    nameless = replace(video("1"), extensions=(HeaderExtension(4, MID),))
    answer = negotiation().answer(offer_of(silent, nameless), pending=[], outgoing=[voice(1), picture(2)])
    assert [placed.spec.transport_wide for placed in answer.placed] == [False, False]
