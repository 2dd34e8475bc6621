"""Clients with two peer connections: what we offer them, when, and what their answers change."""

from __future__ import annotations

import dataclasses
import re

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Command, Event, Leg, Link
from d4e_sfu.core import dual
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.dual import PATIENCE
from d4e_sfu.core.participant import State
from tests.conftest import WALL, MintToken
from tests.core.house import House, Person, join_request
from tests.core.test_datapacket import packet, received, send
from tests.doubles import ClientDouble, Description, Section, answer_to, camera, microphone

Action = rtc.LeaveRequest.Action


def join(house: House, identity: str, *, now: float = 0.0, **claims: object) -> Person:
    grants = house.sfu.verify(house.mint(identity, room="ward", **claims), wall=WALL)
    admission = house.sfu.admit(grants, join_request(), wall=WALL)
    client = ClientDouble()
    participant = house.sfu.join(client, admission, dual=True, now=now)
    return Person(house, participant, client, Description(identity, audios=0, videos=0))


def answer_of(offer: rtc.SessionDescription, *, ufrag: str = "subs", refuse: str = "") -> rtc.SessionDescription:
    return rtc.SessionDescription(type="answer", sdp=answer_to(offer.sdp, ufrag=ufrag, refuse=refuse), id=offer.id)


def answer(person: Person, *, now: float = 0.0, **how: str) -> rtc.SessionDescription:
    """Answers the last offer, and gives it back."""
    offer: rtc.SessionDescription = person.client.last("offer")
    person.ask(answer=answer_of(offer, **how), now=now)
    return offer


def sent(offer: rtc.SessionDescription) -> list[str]:
    return re.findall(r"a=msid:\S+ (\S+)", offer.sdp)


def test_the_join_says_so_and_is_followed_by_our_offer(house: House) -> None:
    an = join(house, "an")
    assert an.client.kinds()[:2] == ["join", "offer"]
    assert an.client.last("join").subscriber_primary
    offer = an.client.last("offer")
    assert (offer.type, offer.id, dict(offer.mid_to_track_id)) == ("offer", 1, {})
    assert "m=application" in offer.sdp
    assert "a=setup:actpass\r\n" in offer.sdp
    assert "a=ice-lite\r\n" in offer.sdp
    assert "a=candidate:" in offer.sdp
    assert house.engine.take(Command.AddTransport) == []
    an.ask(answer=answer_of(offer))
    (opened,) = house.engine.take(Command.AddTransport)
    assert (opened.transport, opened.remote_ufrag, opened.may_publish) == (an.participant.transport, "subs", False)
    assert f"a=ice-ufrag:{opened.local_ufrag}\r\n" in offer.sdp
    details = house.associations.opened[an.participant.transport]  # type: ignore[index]
    assert (details["role"], details["offers_channels"], details["sctp_port"]) == ("server", True, 5000)
    an.connect()
    assert an.participant.state is State.ACTIVE


def test_what_is_there_is_in_the_first_offer_and_what_comes_in_the_next(house: House) -> None:
    an = house.join("an")
    voice, picture = an.publish(microphone()), an.publish(camera())
    binh = join(house, "binh")
    first = answer(binh)
    assert sorted(sent(first)) == sorted([voice, picture])
    assert sorted(first.mid_to_track_id.values()) == sorted([voice, picture])
    added = house.engine.take(Command.AddSubscription)
    assert {each.transport for each in added} == {binh.participant.transport}
    assert {each.spec.mid for each in added} == set(first.mid_to_track_id)
    chi = house.join("chi", now=1.0)
    other = chi.publish(microphone(), now=1.0)
    assert binh.client.kinds().index("update") < binh.client.kinds().index("offer"), "never a stranger's track"
    second = answer(binh, now=1.0)
    assert second.id == 2
    assert sorted(sent(second)) == sorted([voice, picture, other])
    (only,) = [
        each for each in house.engine.take(Command.AddSubscription) if each.transport == binh.participant.transport
    ]
    assert second.mid_to_track_id[only.spec.mid] == other


def test_one_offer_at_a_time_and_what_changes_meanwhile_comes_after_its_answer(house: House) -> None:
    binh = join(house, "binh")
    answer(binh)
    an = house.join("an")
    voice = an.publish(microphone(), now=1.0)
    offer = binh.client.last("offer")
    picture = an.publish(camera(), now=2.0)
    house.sfu.tick(now=3.0)
    assert binh.client.take("offer") == []
    assert sent(offer) == [voice]
    binh.ask(answer=answer_of(offer), now=4.0)
    house.sfu.tick(now=4.5)
    assert sorted(sent(answer(binh, now=5.0))) == sorted([voice, picture])


def test_a_section_that_is_free_again_is_empty_once_and_then_carries_another(house: House) -> None:
    an, binh = house.join("an"), join(house, "binh")
    answer(binh)
    voice = an.publish(microphone("one"), now=1.0)
    carried = answer(binh, now=1.0)
    an.ask(leave=rtc.LeaveRequest(), now=2.0)
    chi = house.join("chi", now=3.0)
    other = chi.publish(microphone("two"), now=3.0)
    offers = []
    for step in range(6):
        house.sfu.tick(now=4.0 + step)
        if binh.client.kinds().count("offer"):
            offers.append(answer(binh, now=4.0 + step))
    assert voice in carried.mid_to_track_id.values()
    assert sent(offers[-1]) == [other]
    assert offers[-1].sdp.count("m=audio") <= 2
    subscription = binh.participant.subscriptions[other]
    assert subscription.mid is not None


def test_he_publishes_on_the_other_connection_and_only_there(house: House) -> None:
    an, binh = join(house, "an"), house.join("binh")
    answer(an)
    house.engine.commands.clear()
    an.ask(add_track=microphone("cid"))
    an.description.publish("audio", "cid")
    reply = an.offer()
    assert "a=recvonly" in reply.sdp
    uplink = an.participant.uplink
    assert uplink is not None
    (opened,) = house.engine.take(Command.AddTransport)
    assert (opened.transport, opened.may_publish) == (uplink.transport, True)
    (published,) = house.engine.take(Command.AddPublication)
    assert published.transport == uplink.transport != an.participant.transport
    assert not house.associations.opened[uplink.transport]["offers_channels"]
    binh.offer()
    assert len(binh.participant.subscriptions) == 1
    rights = dataclasses.replace(an.participant.rights, publish=frozenset())
    an.participant.room.set_rights(an.participant, an.participant.grants, rights, now=1.0)
    assert house.engine.take(Command.SetMayPublish) == [Command.SetMayPublish(uplink.transport, False)]
    assert an.client.take("track_unpublished")


def test_data_goes_to_him_on_our_channels_and_comes_on_his(house: House) -> None:
    an, binh = join(house, "an"), house.join("binh")
    answer(an)
    an.offer()
    for person in (an, binh):
        person.connect()
    uplink = an.participant.uplink
    assert uplink is not None
    for kind in DataKind:
        house.sfu.data_ready(uplink.transport, kind, now=0.0)
        house.sfu.data_ready(binh.participant.transport, kind, now=0.0)  # type: ignore[arg-type]
    send(binh, packet(sequence=1))
    assert received(an) == [], "his own channels are not for us to send on"
    for kind in DataKind:
        house.sfu.data_ready(an.participant.transport, kind, now=0.0)  # type: ignore[arg-type]
    assert [each.sequence for each in received(an)] == [1], "kept until ours are open"
    house.sfu.data_received(uplink.transport, DataKind.RELIABLE, packet(sequence=1), now=0.0)
    assert [each.participant_identity for each in received(binh)] == ["an"]


def test_he_may_make_his_channels_when_he_needs_them(house: House) -> None:
    an = join(house, "an")
    answer(an)
    an.ask(add_track=microphone("cid"))
    an.description.sections.clear()
    an.description.publish("audio", "cid")
    an.offer()
    uplink = an.participant.uplink
    assert uplink is not None
    assert house.associations.opened[uplink.transport]["sctp_port"] is None
    an.description.sections.append(Section("application", ""))
    an.offer()
    an.offer()
    assert house.associations.opened[uplink.transport]["sctp_port"] == 5000


def test_a_codec_that_his_answer_leaves_out_is_not_sent_to_him(house: House) -> None:
    an = house.join("an")
    picture = an.publish(camera())
    binh = join(house, "binh")
    answer(binh, refuse="VP8")
    assert house.engine.take(Command.AddSubscription) == []
    told = binh.client.last("subscription_response")
    assert (told.track_sid, told.err) == (picture, models.SubscriptionError.SE_CODEC_UNSUPPORTED)
    assert binh.participant.subscriptions == {}


def test_who_goes_takes_both_connections_with_him(house: House) -> None:
    an = join(house, "an")
    answer(an)
    an.offer()
    uplink = an.participant.uplink
    assert uplink is not None
    an.ask(leave=rtc.LeaveRequest())
    gone = {command.transport for command in house.engine.take(Command.RemoveTransport)}
    assert gone == {an.participant.transport, uplink.transport} == set(house.associations.closed)
    assert house.sfu.debug_state()["participants"] == 0
    house.sfu.transport_connected(uplink.transport, now=1.0)


def test_a_resume_restarts_both_and_offers_what_was_missed(house: House) -> None:
    an, binh = join(house, "an"), house.join("binh")
    answer(an)
    an.offer()
    an.connect()
    binh.connect()
    before = an.participant.local
    assert before is not None
    house.sfu.client_lost(an.participant, an.client, now=1.0)
    assert len(house.engine.take(Command.SetSignalLost)) == 2
    voice = binh.publish(microphone(), now=2.0)
    house.engine.commands.clear()
    back = house.resume(an, now=3.0)
    assert back.client.kinds()[0] == "reconnect"
    assert back.client.kinds().index("update") < back.client.kinds().index("offer")
    offer = answer(back, now=3.0, ufrag="again")
    assert sent(offer) == [voice]
    (restart,) = house.engine.take(Command.RestartIce)
    assert (restart.transport, restart.remote_ufrag) == (an.participant.transport, "again")
    assert restart.local_ufrag != before.ufrag
    assert f"a=ice-ufrag:{restart.local_ufrag}\r\n" in offer.sdp
    assert len(house.engine.take(Command.AddSubscription)) == 1
    assert house.associations.closed == []


def test_an_offer_without_an_answer_ends_in_a_new_join(house: House) -> None:
    an = join(house, "an")
    house.sfu.tick(now=PATIENCE - 0.1)
    assert an.client.closed is None
    house.sfu.tick(now=PATIENCE)
    assert an.client.last("leave").action == Action.RECONNECT


@pytest.mark.parametrize(
    "how", ["nothing", "an offer", "no fingerprint", "other fingerprint", "of another offer", "twice"]
)
def test_an_answer_that_is_none_costs_him_at_most_his_place(house: House, how: str) -> None:
    an, binh = join(house, "an"), house.join("binh")
    good = answer_of(an.client.last("offer"))
    match how:
        case "nothing":
            an.ask(answer=rtc.SessionDescription(type="answer", sdp="?"))
        case "an offer":
            an.ask(answer=rtc.SessionDescription(type="offer", sdp=good.sdp, id=1))
        case "no fingerprint":
            an.ask(answer=rtc.SessionDescription(type="answer", sdp=good.sdp.replace("sha-256", "sha-1"), id=1))
        case "other fingerprint":
            an.ask(answer=good)
            binh.publish(microphone(), now=1.0)
            again = answer_of(an.client.last("offer"))
            an.ask(answer=rtc.SessionDescription(type="answer", sdp=again.sdp.replace("CE:", "CF:"), id=2), now=1.0)
        case "of another offer":
            an.ask(answer=rtc.SessionDescription(type="answer", sdp=good.sdp, id=7))
            assert an.client.closed is None
            assert house.associations.opened.keys() == {binh.participant.transport}
            return
        case _:
            an.ask(answer=good)
            an.ask(answer=good)
            assert an.client.closed is None
            return
    assert an.client.last("leave").action == Action.RECONNECT
    assert binh.client.closed is None


def test_his_link_is_judged_by_what_comes_on_one_and_goes_on_the_other(house: House, mint: MintToken) -> None:
    an = join(house, "an")
    answer(an)
    an.offer()
    uplink, transport = an.participant.uplink, an.participant.transport
    assert uplink is not None
    assert transport is not None
    down = Link(transport=transport, up=Leg(), down=Leg(expected=100, lost=3), sent=100, silent_ms=500)
    up = Link(transport=uplink.transport, up=Leg(expected=50, lost=1), down=Leg(), silent_ms=100)
    for links in ([down, up], [up, down]):
        house.sfu.engine_event(house.engine, Event.Links(links), now=2.0)
        latest = an.participant.quality._latest
        assert latest is not None
        assert (latest.up, latest.down, latest.sent, latest.silent_ms) == (up.up, down.down, 100, 100)


def test_every_codec_of_a_room_can_be_offered(house: House) -> None:
    text = dual.Template()
    text.add(1, 1)
    for name in ("opus", "PCMU", "PCMA", "VP8", "VP9", "H264", "AV1", "red", "rtx"):
        assert f" {name}/" in text.sdp()
