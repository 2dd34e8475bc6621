"""Negotiation: sections and offers that are refused, and new transports within one connection."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from d4e_sfu.core import sdp
from d4e_sfu.core.negotiation import NegotiationError
from d4e_sfu.core.sdp import Direction, Payload, SdpError, Section, Setup
from tests.core.offers import (
    LOCAL,
    application,
    audio,
    cam,
    directions,
    h264,
    mic,
    negotiation,
    offer_of,
    picture,
    publishing,
    session_of,
    video,
    voice,
)


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


def test_data_channels_may_be_added_to_a_connection_that_began_without() -> None:
    """Clients with two connections make them when they are needed."""
    talks = negotiation()
    assert talks.answer(offer_of(audio("0")), pending=[], outgoing=[]).remote.sctp_port is None
    for _ in range(2):
        answer = talks.answer(offer_of(audio("0"), application("1")), pending=[], outgoing=[])
        assert [section.port for section in sdp.parse(answer.sdp).sections] == [7882, 7882]
        assert (answer.remote.sctp_port, answer.remote.max_message_size) == (5000, 262_144)


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
    assert (answer.remote.role, sdp.parse(answer.sdp).setup) == ("client", Setup.ACTIVE)
    answer = talks.answer(sdp.write(session), pending=[], outgoing=[])
    assert (answer.remote.role, sdp.parse(answer.sdp).setup) == ("client", Setup.ACTIVE)
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
