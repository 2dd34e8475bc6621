"""The second codec of a publication: who needs it gets it, the others keep the first, and nobody waits for ever."""

from __future__ import annotations

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Codec, Command
from d4e_sfu.core import whip
from d4e_sfu.core.backup import PATIENCE
from d4e_sfu.core.encodings import DELAY
from d4e_sfu.core.requests import MAX_CID, MAX_CODECS
from tests.conftest import WALL
from tests.core.house import House, Person
from tests.core.test_dual import answer as dual_answer
from tests.core.test_dual import answer_of as dual_answer_of
from tests.core.test_dual import join as dual_join
from tests.core.test_room import satisfy, tracks
from tests.doubles import ClientDouble, Description, camera

Refusal = rtc.RequestResponse.Reason
Policy = models.BackupCodecPolicy
BOTH = ("VP8", "VP9")


def two_codecs(cid: str = "camera", *names: str) -> rtc.AddTrackRequest:
    """A camera as a browser announces it in VP9, with VP8 for who cannot decode that."""
    request = camera(cid)
    del request.simulcast_codecs[:]
    request.simulcast_codecs.add(codec="vp9", cid=cid)
    for name in names or ("vp8",):
        request.simulcast_codecs.add(codec=name)
    return request


def publish(person: Person, request: rtc.AddTrackRequest | None = None, *, now: float = 0.0) -> str:
    person.ask(add_track=request or two_codecs(), now=now)
    sid = str(person.client.last("track_published").track.sid)
    person.description.publish("video", "camera", codecs=("VP9", "VP8"))
    person.offer(now=now)
    return sid


def add_codec(person: Person, sid: str, *, codec: str = "vp8", now: float = 0.0) -> models.TrackInfo:
    """As the client library answers the word that the backup is needed."""
    request = camera("clone")
    request.sid = sid
    del request.simulcast_codecs[:]
    request.simulcast_codecs.add(codec=codec, cid="clone", layers=request.layers)
    person.ask(add_track=request, now=now)
    info: models.TrackInfo = person.client.last("track_published").track
    person.description.publish("video", "clone", simulcast=True, codecs=("VP8", "VP9"))
    person.offer(now=now)
    return info


def viewer(house: House, identity: str, *decodes: str) -> Person:
    person = house.join(identity, description=Description(identity, decodes=decodes))
    person.connect()
    return person


def told(publisher: Person) -> list[dict[str, list[bool]]]:
    """Which qualities of which codecs are on, as he was told."""
    return [
        {each.codec: [quality.enabled for quality in each.qualities] for each in message.subscribed_codecs}
        for message in publisher.client.take("subscribed_quality_update")
    ]


def carried_by(person: Person) -> dict[str, str]:
    assert person.participant.negotiation is not None
    return person.participant.negotiation.carried()


ON, OFF = [True] * 3, [False] * 3


def test_who_cannot_decode_the_first_codec_gets_the_second_and_the_others_keep_the_first(house: House) -> None:
    an = house.join("an")
    old, young = viewer(house, "old", "VP8"), viewer(house, "young", *BOTH)
    sid = publish(an)
    satisfy(young)
    (first,) = house.engine.take(Command.AddPublication)
    assert first.spec.codec == Codec.Vp9
    house.sfu.tick(now=0.5)
    assert told(an) == [{"vp9": ON, "vp8": ON}]
    assert not old.client.take("subscription_response"), "he waits"
    info = add_codec(an, sid, now=1.0)
    assert info.sid == sid
    (second,) = house.engine.take(Command.AddPublication)
    assert second.spec.codec == Codec.Vp8
    assert [each.rid for each in second.spec.encodings] == ["q", "h", "f"]
    satisfy(old, now=1.5)
    carried = {each.transport: each.publication for each in house.engine.take(Command.AddSubscription)}
    assert carried == {
        young.participant.transport: first.publication,
        old.participant.transport: second.publication,
    }
    assert carried_by(old) == {"3": sid}, "everybody knows it by one name"
    assert house.engine.take(Command.RemoveSubscription) == []


def test_the_codecs_of_a_publication_are_told_with_where_they_are(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.ask(add_track=two_codecs())
    promised = an.client.last("track_published").track
    assert [(each.mime_type, each.cid) for each in promised.codecs] == [("video/VP9", "camera"), ("video/VP8", "")]
    an.description.publish("video", "camera", codecs=("VP9", "VP8"))
    an.offer()
    add_codec(an, promised.sid)
    (info,) = tracks(binh, "an")
    assert info.mime_type == "video/VP9"
    first, second = info.codecs
    assert (first.mime_type, first.mid, first.sdp_cid) == ("video/VP9", "7", "camera")
    assert (second.mime_type, second.mid, second.cid, second.sdp_cid) == ("video/VP8", "8", "clone", "clone")
    assert [layer.height for layer in second.layers] == [180, 360, 720]
    modes = models.VideoLayer.Mode
    assert first.video_layer_mode == modes.MULTIPLE_SPATIAL_LAYERS_PER_STREAM
    assert second.video_layer_mode == modes.ONE_SPATIAL_LAYER_PER_STREAM


def test_whoever_comes_when_the_second_codec_is_there_gets_it_with_his_first_answer(house: House) -> None:
    an, _ = house.join("an"), viewer(house, "old", "VP8")
    sid = publish(an)
    add_codec(an, sid)
    house.engine.commands.clear()
    late = viewer(house, "late", "VP8")
    assert late.client.last("answer").mid_to_track_id == {"3": sid}
    (subscription,) = house.engine.take(Command.AddSubscription)
    assert subscription.transport == late.participant.transport
    assert not late.client.take("subscription_response")


def test_what_nobody_uses_any_more_is_paused_and_comes_back_at_once(house: House) -> None:
    an, old = house.join("an"), viewer(house, "old", "VP8")
    young = viewer(house, "young", *BOTH)
    sid = publish(an)
    satisfy(young)
    house.sfu.tick(now=0.5)
    add_codec(an, sid, now=1.0)
    satisfy(old, now=1.5)
    told(an)
    old.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=False), now=2.0)
    satisfy(old, now=2.5)
    house.sfu.tick(now=2.5)
    house.sfu.tick(now=2.5 + DELAY)
    assert told(an)[-1] == {"vp9": ON, "vp8": OFF}
    old.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True), now=10.0)
    satisfy(old, now=10.5)
    house.sfu.tick(now=10.5)
    house.sfu.tick(now=11.0)
    assert told(an)[-1]["vp8"] != OFF


def test_the_first_codec_is_paused_when_all_who_watch_have_the_second(house: House) -> None:
    an, old = house.join("an"), viewer(house, "old", "VP8")
    sid = publish(an)
    house.sfu.tick(now=0.5)
    add_codec(an, sid, now=1.0)
    satisfy(old, now=1.5)
    told(an)
    house.sfu.tick(now=1.0 + DELAY)
    house.sfu.tick(now=2.0 + DELAY)
    assert told(an)[-1]["vp9"] == OFF


def test_nothing_is_asked_of_a_publisher_while_nobody_needs_it(house: House) -> None:
    an, young = house.join("an"), viewer(house, "young", *BOTH)
    publish(an)
    satisfy(young)
    for second in range(20):
        house.sfu.tick(now=float(second))
    assert told(an) == []


def test_who_can_decode_neither_is_told_so_and_nothing_is_asked_of_the_publisher(house: House) -> None:
    an, odd = house.join("an"), viewer(house, "odd", "H264")
    sid = publish(an)
    for person in (odd, viewer(house, "late", "H264")):
        refused = person.client.last("subscription_response")
        assert (refused.track_sid, refused.err) == (sid, models.SubscriptionError.SE_CODEC_UNSUPPORTED)
        assert person.participant.subscriptions == {}
    house.sfu.tick(now=0.5)
    assert told(an) == []


def test_a_publisher_who_does_not_answer_is_not_waited_for_for_ever(house: House) -> None:
    an, old = house.join("an"), viewer(house, "old", "VP8")
    sid = publish(an)
    old.offer()
    house.sfu.tick(now=0.5)
    assert told(an)[-1]["vp8"] == ON
    house.sfu.tick(now=PATIENCE + 0.25)
    assert not old.client.take("subscription_response")
    house.sfu.tick(now=PATIENCE + 0.5)
    refused = old.client.last("subscription_response")
    assert (refused.track_sid, refused.err) == (sid, models.SubscriptionError.SE_CODEC_UNSUPPORTED)
    assert old.participant.subscriptions == {}


def test_on_two_connections_who_refuses_the_first_codec_is_offered_the_second(house: House) -> None:
    an = house.join("an")
    an.connect()
    sid = publish(an)
    binh = dual_join(house, "binh")
    dual_answer(binh, refuse="VP9")
    assert not binh.client.take("subscription_response")
    house.sfu.tick(now=0.5)
    assert told(an)[-1]["vp8"] == ON
    add_codec(an, sid, now=1.0)
    (_, second) = house.engine.take(Command.AddPublication)
    for tenth in range(15, 40):
        house.sfu.tick(now=tenth / 10)
        if any(response.WhichOneof("message") == "offer" for response in binh.client.responses):
            dual_answer(binh)
    (subscription,) = house.engine.take(Command.AddSubscription)
    assert subscription.publication == second.publication


@pytest.mark.parametrize("policy", [Policy.PREFER_REGRESSION, Policy.SIMULCAST, Policy.REGRESSION])
def test_a_publisher_who_wants_to_send_one_codec_only_sends_the_second_to_all(
    house: House, policy: models.BackupCodecPolicy
) -> None:
    an, old = house.join("an"), viewer(house, "old", "VP8")
    young = viewer(house, "young", *BOTH)
    request = two_codecs()
    request.backup_codec_policy = policy
    sid = publish(an, request)
    satisfy(young)
    house.sfu.tick(now=0.5)
    add_codec(an, sid, now=1.0)
    second = house.engine.take(Command.AddPublication)[1].publication
    satisfy(old, now=1.5)
    house.engine.commands.clear()
    for tenth in range(15, 30):
        house.sfu.tick(now=tenth / 10)
        satisfy(young, now=tenth / 10)
    moved = [each.publication for each in house.engine.take(Command.AddSubscription)]
    assert moved == ([second] if policy == Policy.REGRESSION else [])


def test_whoever_can_no_longer_decode_what_he_has_falls_back_as_well(house: House) -> None:
    an, young = house.join("an"), viewer(house, "young", *BOTH)
    sid = publish(an)
    satisfy(young)
    add_codec(an, sid, now=1.0)
    first, second = (each.publication for each in house.engine.take(Command.AddPublication))
    for section in young.description.sections:
        section.codecs = ("VP8",)
    young.offer(now=2.0)
    young.offer(now=3.0)
    carried = [each.publication for each in house.engine.take(Command.AddSubscription)]
    assert carried == [first, second]
    assert len(house.engine.take(Command.RemoveSubscription)) == 1
    assert not young.client.take("subscription_response")


def test_an_answer_to_an_offer_of_the_first_codec_says_nothing_of_the_second(house: House) -> None:
    an, _ = house.join("an"), viewer(house, "old", "VP8")
    request = two_codecs()
    request.backup_codec_policy = Policy.REGRESSION
    sid = publish(an, request)
    binh = dual_join(house, "binh")
    offered = binh.client.last("offer")
    add_codec(an, sid, now=1.0)  # everybody is to have it, and his answer is on its way
    second = house.engine.take(Command.AddPublication)[1].publication
    binh.ask(answer=dual_answer_of(offered), now=1.5)
    assert not binh.client.take("subscription_response")
    for tenth in range(16, 40):
        house.sfu.tick(now=tenth / 10)
        if any(response.WhichOneof("message") == "offer" for response in binh.client.responses):
            dual_answer(binh, now=tenth / 10)
    (subscription,) = house.engine.take(Command.AddSubscription)
    assert subscription.publication == second


def test_a_player_that_offers_once_gets_the_codec_that_it_knows_with_the_only_answer(house: House) -> None:
    an, _ = house.join("an"), viewer(house, "old", "VP8")
    add_codec(an, publish(an))
    second = house.engine.take(Command.AddPublication)[1].publication
    house.engine.commands.clear()
    client, grants = ClientDouble(), house.sfu.verify(house.mint("player", room="ward"), wall=WALL)
    player = whip.play(house.sfu, client, grants, Description("player").sdp(), wall=WALL, now=1.0)
    assert player is not None
    (subscription,) = house.engine.take(Command.AddSubscription)
    assert (subscription.transport, subscription.publication) == (player.transport, second)


def test_of_two_publications_he_falls_back_from_one_and_can_decode_nothing_of_the_other(house: House) -> None:
    an, _ = house.join("an"), viewer(house, "old", "VP8")
    sid = publish(an)
    add_codec(an, sid)
    an.ask(add_track=two_codecs("screen", "vp9"))
    other = an.client.last("track_published").track.sid
    an.description.publish("video", "screen", codecs=("VP9",))
    an.offer()
    late = viewer(house, "late", "VP8")
    assert carried_by(late) == {"3": sid}
    assert [each.track_sid for each in late.client.take("subscription_response")] == [other]


def test_a_second_codec_that_comes_when_the_first_one_ends_is_not_published(house: House) -> None:
    an = house.join("an")
    sid = publish(an)
    request = two_codecs("clone", "vp8")
    request.sid, request.simulcast_codecs[0].codec, request.simulcast_codecs[0].cid = sid, "vp8", "clone"
    an.ask(add_track=request)
    an.description.unpublish(7)
    an.description.publish("video", "clone", simulcast=True)
    an.offer()
    (first,) = house.engine.take(Command.AddPublication)
    assert [each.publication for each in house.engine.take(Command.RemovePublication)] == [first.publication]
    assert an.participant.publications == {}


def test_two_sections_in_the_same_codec_are_no_backup_of_each_other(house: House) -> None:
    an = house.join("an")
    request = two_codecs()
    request.simulcast_codecs[1].cid = "clone"
    an.ask(add_track=request)
    for cid in ("camera", "clone"):
        an.description.publish("video", cid)
    an.offer()
    assert len(house.engine.take(Command.AddPublication)) == 1
    (publication,) = an.participant.publications.values()
    assert [each.mime_type for each in publication.info.codecs] == ["video/VP8"]


def test_with_the_publication_both_codecs_end(house: House) -> None:
    an, old = house.join("an"), viewer(house, "old", "VP8")
    sid = publish(an)
    add_codec(an, sid)
    satisfy(old)
    first, second = (each.publication for each in house.engine.take(Command.AddPublication))
    for section in (7, 8):
        an.description.unpublish(section)
    an.offer()
    assert {each.publication for each in house.engine.take(Command.RemovePublication)} == {first, second}
    assert an.participant.publications == {}
    assert old.participant.subscriptions == {}


def test_a_publisher_who_ends_the_second_codec_alone_is_asked_for_it_again(house: House) -> None:
    an, old = house.join("an"), viewer(house, "old", "VP8")
    sid = publish(an)
    house.sfu.tick(now=0.5)
    add_codec(an, sid, now=1.0)
    satisfy(old, now=1.0)
    second = house.engine.take(Command.AddPublication)[1].publication
    an.description.unpublish(8)
    told(an)
    an.offer(now=2.0)
    assert [each.publication for each in house.engine.take(Command.RemovePublication)] == [second]
    assert sid in an.participant.publications
    house.sfu.tick(now=2.5)
    assert told(an)[-1]["vp8"] == ON
    add_codec(an, sid, now=3.0)
    old.offer(now=3.5)
    old.offer(now=4.0)
    (again,) = house.engine.take(Command.AddPublication)
    assert house.engine.take(Command.AddSubscription)[-1].publication == again.publication


def test_a_browser_that_lacks_the_first_codec_publishes_the_second_as_the_only_one(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.ask(add_track=two_codecs())
    an.description.publish("video", "camera", simulcast=True)
    an.offer()
    (info,) = tracks(binh, "an")
    assert [each.mime_type for each in info.codecs] == ["video/VP8"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["vp9"], ["video/VP9"]),
        (["vp9", "vp8"], ["video/VP9", "video/VP8"]),
        (["video/AV1", "H264"], ["video/AV1", "video/H264"]),
        (["h265", "vp8"], ["video/VP8"]),
        (["vp9", "vp9"], ["video/VP9"]),
        (["vp9", "h265", "h264", "vp8"], ["video/VP9", "video/H264"]),
        (["vp9", "x" * 10_000], ["video/VP9"]),
    ],
)
def test_of_the_codecs_that_a_client_names_the_first_two_that_the_room_knows_count(
    house: House, names: list[str], expected: list[str]
) -> None:
    an = house.join("an")
    request = camera()
    del request.simulcast_codecs[:]
    for name in names:
        request.simulcast_codecs.add(codec=name)
    an.ask(add_track=request)
    info = an.client.last("track_published").track
    assert [each.mime_type for each in info.codecs] == expected


def test_codecs_that_no_client_names_are_refused(house: House) -> None:
    an = house.join("an")
    many, alike, long = two_codecs("a", *["vp8"] * MAX_CODECS), two_codecs("b"), two_codecs("c")
    alike.simulcast_codecs[1].cid = alike.simulcast_codecs[0].cid
    long.simulcast_codecs[1].cid = "x" * (MAX_CID + 1)
    for request in (many, alike, long):
        an.ask(add_track=request)
        assert an.client.last("request_response").reason == Refusal.INVALID_REQUEST
    assert an.participant.publications == {}


def test_a_second_codec_is_refused_where_none_was_named_or_it_is_there(house: House) -> None:
    an = house.join("an")
    sid = publish(an)

    def ask(sid: str, codec: str) -> rtc.RequestResponse.Reason:
        request = rtc.AddTrackRequest(cid="x", sid=sid, type=models.TrackType.VIDEO)
        request.simulcast_codecs.add(codec=codec, cid="x")
        an.ask(add_track=request)
        reason: rtc.RequestResponse.Reason = an.client.last("request_response").reason
        return reason

    assert ask("TR_other", "vp8") == Refusal.NOT_FOUND
    assert ask(sid, "h264") == Refusal.UNSUPPORTED_TYPE
    add_codec(an, sid)
    assert ask(sid, "vp8") == Refusal.QUEUED


def test_two_codecs_that_are_announced_together_come_together(house: House) -> None:
    an, old = house.join("an"), viewer(house, "old", "VP8")
    request = two_codecs()
    request.simulcast_codecs[1].cid = "clone"
    an.ask(add_track=request)
    sid = an.client.last("track_published").track.sid
    an.description.publish("video", "clone", simulcast=True)
    an.description.publish("video", "camera", codecs=("VP9", "VP8"))
    an.offer()
    assert {each.spec.codec for each in house.engine.take(Command.AddPublication)} == {Codec.Vp9, Codec.Vp8}
    satisfy(old)
    assert carried_by(old) == {"3": sid}
