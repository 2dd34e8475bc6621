"""Negotiation: every rule of an answer, against offers of real browsers and offers that no browser would make."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d4e_sfu._engine import Codec, Extension
from d4e_sfu.core import payloads, sdp
from d4e_sfu.core.boundary import SubscriptionId
from d4e_sfu.core.negotiation import (
    Answer,
    LocalTransport,
    Negotiation,
    NegotiationError,
    Outgoing,
    PendingTrack,
)
from d4e_sfu.core.sdp import (
    Direction,
    HeaderExtension,
    Payload,
    Rid,
    RidChoice,
    SdpError,
    Section,
    Session,
    Setup,
    Simulcast,
    Source,
    SourceGroup,
)
from d4e_sfu.errors import ClientError

VECTORS = Path(__file__).parent.parent / "vectors" / "sdp"
JOIN = (VECTORS / "chromium-join.sdp").read_bytes().decode()
PUBLISH = (VECTORS / "chromium-publish.sdp").read_bytes().decode()
ALL = (Codec.Opus, Codec.Vp8, Codec.H264, Codec.Pcmu, Codec.Pcma)
LOCAL = LocalTransport(
    ufrag="server00",
    pwd="0123456789abcdefghijklmn",
    fingerprint=("sha-256", ":".join(["A5"] * 32)),
    candidates=(("192.0.2.10", 7882), ("2001:db8::10", 7882)),
)

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TWCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

OPUS = Payload(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1", ("transport-cc",))
VIDEO_FEEDBACK = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
VP8 = Payload(96, "VP8", 90_000, feedback=VIDEO_FEEDBACK)
RTX = Payload(97, "rtx", 90_000, format="apt=96")


def h264(number: int, profile: str, mode: int | None) -> Payload:
    words = ["level-asymmetry-allowed=1", f"profile-level-id={profile}"]
    if mode is not None:
        words.insert(1, f"packetization-mode={mode}")
    return Payload(number, "H264", 90_000, format=";".join(words), feedback=VIDEO_FEEDBACK)


def audio(mid: str, direction: Direction = Direction.RECVONLY) -> Section:
    return Section(
        kind="audio",
        protocol="UDP/TLS/RTP/SAVPF",
        payloads=(OPUS, Payload(0, "PCMU", 8_000)),
        mid=mid,
        direction=direction,
        rtcp_mux=True,
        extensions=(HeaderExtension(1, LEVEL), HeaderExtension(3, TWCC), HeaderExtension(4, MID)),
    )


def video(mid: str, direction: Direction = Direction.RECVONLY, *payloads: Payload) -> Section:
    return Section(
        kind="video",
        protocol="UDP/TLS/RTP/SAVPF",
        payloads=payloads or (VP8, RTX),
        mid=mid,
        direction=direction,
        rtcp_mux=True,
        extensions=(
            HeaderExtension(3, TWCC),
            HeaderExtension(4, MID),
            HeaderExtension(10, RID),
            HeaderExtension(11, REPAIRED_RID),
        ),
    )


def application(mid: str) -> Section:
    return Section(
        kind="application",
        protocol="UDP/DTLS/SCTP",
        formats=("webrtc-datachannel",),
        mid=mid,
        sctp_port=5000,
        max_message_size=262_144,
    )


def session_of(*sections: Section) -> Session:
    return Session(
        bundles=(tuple(section.mid for section in sections if section.port and section.mid),),
        ice_ufrag="client",
        ice_pwd="0123456789abcdefghijklmn",
        fingerprints=(("sha-256", ":".join(["C1"] * 32)),),
        setup=Setup.ACTPASS,
        extmap_allow_mixed=True,
        sections=sections,
    )


def offer_of(*sections: Section) -> str:
    return sdp.write(session_of(*sections))


def negotiation(codecs: Sequence[Codec] = ALL, *, max_sections: int = 512) -> Negotiation:
    fresh = (f"again{number}" for number in itertools.count(1))
    return Negotiation(
        LOCAL, codecs=codecs, credentials=lambda: (next(fresh), "a-password-of-24-letters"), max_sections=max_sections
    )


def mic(sid: str = "TR_mic", cid: str = "cid-mic") -> PendingTrack:
    return PendingTrack(sid, cid, "audio", "audio/opus", 64_000)


def cam(sid: str = "TR_cam", cid: str = "cid-cam", mime_type: str = "video/vp8") -> PendingTrack:
    return PendingTrack(sid, cid, "video", mime_type, 3_000_000)


def voice(number: int) -> Outgoing:
    return Outgoing(
        SubscriptionId(number),
        f"TR_{number}",
        "PA_x",
        "audio",
        Codec.Opus,
        100 + number,
        200 + number,
        "PA_x",
        (300 + number, 400 + number),
    )


def picture(number: int, codec: Codec = Codec.Vp8, fmtp: str = "") -> Outgoing:
    return replace(voice(number), kind="video", codec=codec, format=fmtp)


def sections_of(answer: Answer) -> dict[str, Section]:
    return {section.mid or "": section for section in sdp.parse(answer.sdp).sections}


def directions(answer: Answer) -> dict[str, str]:
    return {mid: str(section.direction) for mid, section in sections_of(answer).items() if section.direction}


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
    for section in session.sections:
        assert section.setup is Setup.PASSIVE
        assert (section.ice_ufrag, section.ice_pwd) == (LOCAL.ufrag, LOCAL.pwd)
        assert section.fingerprints == (LOCAL.fingerprint,)
        assert section.port == 7882
    first, *others = session.sections
    assert [(c.address, c.port, c.type) for c in first.candidates] == [
        ("192.0.2.10", 7882, "host"), ("2001:db8::10", 7882, "host"),
    ]  # fmt: skip
    # RFC 8445 §5.1.2.1
    assert [c.priority for c in first.candidates] == [2130706431, 2130706175]
    assert first.end_of_candidates
    assert not any(section.candidates for section in others)


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


# --- publishing ------------------------------------------------------------------------------------------------------


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


def simulcast(*streams: str, declared: str | None = None) -> Section:
    return replace(
        video("0", Direction.SENDONLY),
        rids=tuple(Rid(name.strip("~"), "send") for name in (declared.split() if declared is not None else streams)),
        simulcast=Simulcast(send=tuple((RidChoice(name.strip("~"), name.startswith("~")),) for name in streams)),
    )


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


def publishing(mid: str, cid: str, kind: str = "video") -> Section:
    section = video(mid, Direction.SENDONLY) if kind == "video" else audio(mid, Direction.SENDONLY)
    return replace(section, msids=(("stream", cid),))


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


# --- subscriptions ---------------------------------------------------------------------------------------------------


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


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "section",
    [
        replace(audio("1"), port=0),
        replace(audio("1"), rtcp_mux=False),
        replace(audio("1"), protocol="RTP/AVP"),
        replace(audio("1"), payloads=(Payload(9, "G722", 8_000), Payload(3))),
        replace(audio("1"), payloads=(Payload(111, "opus", 48_000, 1),)),
        replace(audio("1"), kind="text"),
        replace(application("1"), protocol="DTLS/SCTP", formats=("5000",)),
        replace(application("1"), sctp_port=0),
        video("1", Direction.SENDONLY, h264(96, "64001f", 1)),
        video("1", Direction.RECVONLY, Payload(45, "AV1", 90_000)),
    ],
)
def test_a_section_that_we_cannot_use_is_answered_with_port_zero_outside_the_bundle(section: Section) -> None:
    answer = negotiation().answer(offer_of(audio("0"), section), pending=[], outgoing=[])
    session = sdp.parse(answer.sdp)
    assert session.bundles == (("0",),)
    rejected = session.sections[1]
    assert (rejected.kind, rejected.mid, rejected.port, rejected.setup) == (section.kind, "1", 0, None)


def test_only_one_application_section_is_accepted() -> None:
    answer = negotiation().answer(offer_of(application("0"), application("1")), pending=[], outgoing=[])
    assert [section.port for section in sdp.parse(answer.sdp).sections] == [7882, 0]


def test_data_channels_cannot_be_added_to_a_connection_that_began_without() -> None:
    talks = negotiation()
    assert talks.answer(offer_of(audio("0")), pending=[], outgoing=[]).remote.sctp_port is None
    answer = talks.answer(offer_of(audio("0"), application("1")), pending=[], outgoing=[])
    assert [section.port for section in sdp.parse(answer.sdp).sections] == [7882, 0]
    assert answer.remote.sctp_port is None


def test_a_bundle_only_section_has_port_zero_and_is_accepted() -> None:
    session = session_of(audio("0"), replace(video("1"), port=0, bundle_only=True))
    offer = sdp.write(replace(session, bundles=(("0", "1"),)))
    answer = negotiation().answer(offer, pending=[], outgoing=[picture(1)])
    assert answer.mid_to_track_id == {"1": "TR_1"}


def test_sections_outside_the_bundle_are_refused() -> None:
    session = replace(session_of(audio("0"), audio("1"), video("2")), bundles=(("0", "2", "absent"),))
    answer = negotiation().answer(sdp.write(session), pending=[], outgoing=[])
    assert [section.port for section in sdp.parse(answer.sdp).sections] == [7882, 0, 7882]


def test_without_a_bundle_one_section_is_accepted() -> None:
    session = replace(session_of(audio("0", Direction.SENDONLY), video("1")), bundles=())
    talks = negotiation()
    answer = talks.answer(sdp.write(session), pending=[mic()], outgoing=[])
    assert [section.port for section in sdp.parse(answer.sdp).sections] == [7882, 0]
    assert sdp.parse(answer.sdp).bundles == ()
    assert answer.published
    assert talks.answer(sdp.write(session), pending=[mic()], outgoing=[picture(1)]).sdp == answer.sdp


def test_a_section_that_sends_and_receives_only_sends() -> None:
    answer = negotiation().answer(offer_of(video("0", Direction.SENDRECV)), pending=[cam()], outgoing=[picture(1)])
    assert directions(answer) == {"0": "recvonly"}
    assert answer.missing == (0, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ice_lite": True}, "ICE-lite"),
        ({"ice_ufrag": None}, "ICE credentials"),
        ({"ice_pwd": None}, "ICE credentials"),
        ({"fingerprints": ()}, "fingerprint"),
        ({"fingerprints": (("sha-1", ":".join(["C1"] * 20)),)}, "fingerprint"),
        ({"setup": Setup.HOLDCONN}, "holdconn"),
        ({"sections": ()}, "no section"),
        ({"sections": (replace(audio("0"), port=0),)}, "no section"),
    ],
)
def test_an_offer_that_leads_to_no_connection_is_refused(change: dict[str, object], sentence: str) -> None:
    offer = sdp.write(replace(session_of(audio("0")), **change))  # type: ignore[arg-type]
    with pytest.raises(NegotiationError, match=sentence):
        negotiation().answer(offer, pending=[], outgoing=[])


SDES = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"


def test_keys_in_an_offer_are_no_keys() -> None:
    """RFC 8827 §6.5: never SDES (RFC 4568). Beside a fingerprint it is passed over, alone it leads to nothing."""
    offer = offer_of(audio("0", Direction.SENDRECV)).replace("a=mid:0\r\n", f"a=mid:0\r\n{SDES}")
    assert SDES in offer
    answer = negotiation().answer(offer, pending=[mic()], outgoing=[])
    assert "crypto" not in answer.sdp
    assert "inline" not in answer.sdp
    assert "a=fingerprint:sha-256" in answer.sdp
    alone = "".join(line for line in offer.splitlines(keepends=True) if not line.startswith("a=fingerprint"))
    with pytest.raises(NegotiationError, match="fingerprint"):
        negotiation().answer(alone.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF"), pending=[], outgoing=[])


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [((replace(audio("0"), mid=None),), "no a=mid"), ((audio("0"), audio("0")), "same a=mid")],
)
def test_every_section_has_a_mid_of_its_own(sections: tuple[Section, ...], sentence: str) -> None:
    with pytest.raises(SdpError, match=sentence):
        negotiation().answer(offer_of(*sections), pending=[], outgoing=[])


def test_a_passive_client_finds_us_active_and_roles_stay() -> None:
    talks = negotiation()
    session = session_of(audio("0"))
    answer = talks.answer(sdp.write(replace(session, setup=Setup.PASSIVE)), pending=[], outgoing=[])
    assert (answer.remote.role, sections_of(answer)["0"].setup) == ("client", Setup.ACTIVE)
    answer = talks.answer(sdp.write(session), pending=[], outgoing=[])
    assert (answer.remote.role, sections_of(answer)["0"].setup) == ("client", Setup.ACTIVE)
    with pytest.raises(NegotiationError, match="role"):
        talks.answer(sdp.write(replace(session, setup=Setup.ACTIVE)), pending=[], outgoing=[])


@pytest.mark.parametrize("change", [{"ice_ufrag": "other"}, {"ice_pwd": "abcdefghijklmnopqrstuvwx"}])
def test_other_credentials_are_an_ice_restart_and_nothing_else_changes(change: dict[str, str]) -> None:
    """RFC 8445 §9, RFC 8839 §4.4.1.1.1: a change of either half, answered by both of ours."""
    talks = negotiation()
    session = session_of(audio("0"), publishing("1", "x"))
    first = talks.answer(sdp.write(session), pending=[cam()], outgoing=[voice(1)])
    restarted = talks.answer(
        sdp.write(replace(session, **change)),  # type: ignore[arg-type]
        pending=[],
        outgoing=[voice(1)],
    )
    assert (restarted.local.ufrag, restarted.local.pwd) == ("again1", "a-password-of-24-letters")
    expected = replace(
        first.remote, ufrag=change.get("ice_ufrag", "client"), pwd=change.get("ice_pwd", first.remote.pwd)
    )
    assert restarted.remote == expected
    assert (restarted.published, restarted.unpublished, restarted.placed) == ([], [], [])
    ours = f"a=ice-ufrag:{LOCAL.ufrag}\r\na=ice-pwd:{LOCAL.pwd}\r\n"
    new = "a=ice-ufrag:again1\r\na=ice-pwd:a-password-of-24-letters\r\n"
    origin = re.compile(r"o=- (\d+) (\d+) .*\r\n")
    before, after = origin.search(first.sdp), origin.search(restarted.sdp)
    assert before is not None
    assert after is not None
    assert (before[1], int(before[2]) + 1) == (after[1], int(after[2])), "the same session, a version later"
    assert origin.sub("", restarted.sdp) == origin.sub("", first.sdp).replace(ours, new)
    again = talks.answer(sdp.write(replace(session, **change)), pending=[], outgoing=[voice(1)])  # type: ignore[arg-type]
    assert again.sdp == restarted.sdp
    assert again.local is restarted.local


def test_a_restart_in_an_offer_that_is_refused_has_not_happened() -> None:
    talks = negotiation()
    session = session_of(audio("0"))
    first = talks.answer(sdp.write(session), pending=[], outgoing=[])
    with pytest.raises(NegotiationError, match="holdconn"):
        talks.answer(sdp.write(replace(session, ice_ufrag="other", setup=Setup.HOLDCONN)), pending=[], outgoing=[])
    again = talks.answer(sdp.write(session), pending=[], outgoing=[])
    assert again.sdp == first.sdp
    assert again.local is first.local


def test_another_fingerprint_is_refused_and_the_old_transport_goes_on() -> None:
    talks = negotiation()
    session = session_of(audio("0"), publishing("1", "x"))
    first = talks.answer(sdp.write(session), pending=[cam()], outgoing=[voice(1)])
    other = replace(session, fingerprints=(("sha-256", ":".join(["C2"] * 32)),))
    with pytest.raises(NegotiationError, match="fingerprint"):
        talks.answer(sdp.write(other), pending=[mic()], outgoing=[])
    again = talks.answer(sdp.write(session), pending=[], outgoing=[voice(1)])
    assert (again.sdp, again.published, again.unpublished, again.placed) == (first.sdp, [], [], [])


def test_a_message_size_of_zero_means_any_and_none_means_64_kib() -> None:
    for said, meant in ((0, 2**31 - 1), (None, 65_536), (1_000, 1_000), (2**40, 2**31 - 1)):
        offer = offer_of(replace(application("0"), max_message_size=said))
        assert negotiation().answer(offer, pending=[], outgoing=[]).remote.max_message_size == meant


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
