"""Publishing, subscribing and what everyone is told of it, in virtual time with real negotiation."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, rtc

from d4e_sfu._engine import Codec, Command
from d4e_sfu.config import CodecName, Config, RoomRule
from d4e_sfu.core import sections
from d4e_sfu.core.requests import MAX_PUBLICATIONS
from tests.conftest import MintToken
from tests.core.house import House, Person, join_request
from tests.doubles import Description, camera, microphone

Refusal = rtc.RequestResponse.Reason
Quality = models.VideoQuality


def satisfy(person: Person, *, now: float = 0.0) -> rtc.SessionDescription | None:
    """Answer a `media_sections_requirement` as clients do; None if there was none."""
    required = person.client.take("media_sections_requirement")
    if not required:
        return None
    assert len(required) == 1, "more than one outstanding"
    person.description.add_receiving("audio", required[0].num_audios)
    person.description.add_receiving("video", required[0].num_videos)
    return person.offer(now=now)


def tracks(person: Person, identity: str) -> list[models.TrackInfo]:
    """What he was last told of somebody's publications."""
    infos = [info for update in person.client.take("update") for info in update.participants]
    return list([info for info in infos if info.identity == identity][-1].tracks)


# --- publishing ------------------------------------------------------------------------------------------------------


def test_add_track_is_answered_with_what_will_be_published(house: House) -> None:
    an = house.join("an")
    an.ask(add_track=camera("cam-1"))
    published = an.client.last("track_published")
    assert published.cid == "cam-1"
    track = published.track
    assert track.sid.startswith("TR_VC")
    assert [layer.height for layer in track.layers] == [180, 360, 720]
    assert [codec.mime_type for codec in track.codecs] == ["video/VP8"]
    assert track.codecs[0].cid == "cam-1"
    assert track.stream == "camera"
    an.ask(add_track=microphone())
    track = an.client.last("track_published").track
    assert track.sid.startswith("TR_AM")
    assert [codec.mime_type for codec in track.codecs] == ["audio/opus"]


@pytest.mark.parametrize("asked", ["vp7", "h265", "", "x" * 10_000])
def test_a_codec_that_we_do_not_forward_becomes_the_first_of_the_room(house: House, asked: str) -> None:
    an = house.join("an")
    request = camera()
    request.simulcast_codecs[0].codec = asked
    an.ask(add_track=request)
    assert an.client.last("track_published").track.codecs[0].mime_type == "video/VP8"


@pytest.mark.parametrize("asked", ["VP8", "H264", "VP9", "AV1"])
def test_the_codec_asked_for_is_kept_where_the_room_allows_it(house: House, asked: str) -> None:
    an = house.join("an")
    request = camera()
    request.simulcast_codecs[0].codec = asked.lower()
    an.ask(add_track=request)
    assert an.client.last("track_published").track.codecs[0].mime_type == f"video/{asked}"


def test_publishing_binds_in_the_engine_and_reaches_others_through_a_new_section(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    binh.client.responses.clear()
    house.engine.commands.clear()
    sid = an.publish(camera())
    (publication,) = house.engine.take(Command.AddPublication)
    assert publication.transport == an.participant.transport
    assert publication.spec.codec == Codec.Vp8
    assert [encoding.rid for encoding in publication.spec.encodings] == ["q", "h", "f"]
    assert publication.spec.max_bitrate == 3_000_000
    # First the news, then the request for an offer: an answer that carried it earlier would be dropped.
    assert binh.client.kinds() == ["update", "media_sections_requirement"]
    (track,) = tracks(binh, "an")
    assert (track.sid, track.simulcast, track.mime_type) == (sid, True, "video/VP8")
    assert house.engine.take(Command.AddSubscription) == []
    answer = satisfy(binh)
    assert answer is not None
    assert answer.mid_to_track_id == {"3": sid}
    (subscription,) = house.engine.take(Command.AddSubscription)
    assert subscription.publication == publication.publication
    assert subscription.transport == binh.participant.transport
    assert (subscription.spec.mid, subscription.spec.spatial) == ("3", 2)
    assert f"{an.sid}|{sid}" in answer.sdp


def test_a_late_joiner_receives_everything_with_his_first_answer(house: House) -> None:
    an = house.join("an")
    sids = {an.publish(camera()), an.publish(microphone())}
    house.engine.commands.clear()
    binh = house.join("binh")
    assert binh.client.kinds() == ["join", "answer", "refresh_token"]
    (other,) = binh.client.last("join").other_participants
    assert {track.sid for track in other.tracks} == sids
    assert set(binh.client.last("answer").mid_to_track_id.values()) == sids
    subscriptions = house.engine.take(Command.AddSubscription)
    assert len(subscriptions) == 2
    assert len({subscription.spec.cname for subscription in subscriptions}) == 1, "voice and picture go together"
    ssrcs = [ssrc for each in subscriptions for ssrc in (each.spec.ssrc, each.spec.rtx_ssrc) if ssrc is not None]
    assert len(set(ssrcs)) == len(ssrcs)


def test_more_publications_than_sections_bring_one_request_at_a_time(unlimited: House) -> None:
    people = [unlimited.join(f"publisher-{n}") for n in range(5)]
    watcher = unlimited.join("watcher")
    for person in people:
        person.publish(camera())
        person.publish(microphone())
        for other in people:
            if other is not person:
                other.client.take("media_sections_requirement")
    rounds = 0
    for tick in range(1, 10):
        unlimited.sfu.tick(now=tick / 4)
        rounds += satisfy(watcher, now=tick / 4) is not None
    assert all(each.mid is not None for each in watcher.participant.subscriptions.values())
    assert len(watcher.participant.subscriptions) == 10
    assert rounds <= 2


def test_a_client_that_never_offers_is_not_asked_for_ever(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    for person in (an, binh):
        person.connect()
    an.publish(camera())
    binh.client.responses.clear()
    for tenth in range(1000):
        house.sfu.tick(now=tenth / 10)
    assert len(binh.client.take("media_sections_requirement")) <= sections.TRIES


def test_unpublishing_is_an_inactive_section(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(camera())
    satisfy(binh)
    house.engine.commands.clear()
    binh.client.responses.clear()
    an.description.unpublish(7)
    an.offer()
    assert tracks(binh, "an") == []
    assert len(house.engine.take(Command.RemovePublication)) == 1
    assert len(house.engine.take(Command.RemoveSubscription)) == 1
    assert sid not in binh.participant.subscriptions
    # His sections are free again, without a negotiation for everyone's departure.
    assert binh.client.take("media_sections_requirement") == []


def test_who_leaves_takes_his_publications_out_of_the_engine(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    an.publish(camera())
    satisfy(binh)
    house.engine.commands.clear()
    an.ask(leave=rtc.LeaveRequest())
    kinds = [type(command) for command in house.engine.commands]
    assert kinds == [Command.RemoveSubscription, Command.RemovePublication, Command.RemoveTransport]
    assert binh.participant.subscriptions == {}


def test_mute_is_told_to_others_and_what_is_muted_is_not_forwarded(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(microphone())
    satisfy(binh)
    an.client.responses.clear()
    binh.client.responses.clear()
    house.engine.commands.clear()
    an.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=True))
    assert [track.muted for track in tracks(binh, "an")] == [True]
    an.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=True))
    assert binh.client.kinds() == []
    assert an.client.kinds() == []
    subscription = binh.participant.subscriptions[sid].id
    assert house.engine.commands == [Command.SetLayer(subscription, None, 255)]
    chi = house.join("chi")
    satisfy(chi)
    assert [command.spec.spatial for command in house.engine.take(Command.AddSubscription)] == [None]
    house.engine.commands.clear()
    an.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=False))
    subscriptions = (subscription, chi.participant.subscriptions[sid].id)
    assert house.engine.commands == [Command.SetLayer(each, 0, 255) for each in subscriptions]
    an.ask(mute=rtc.MuteTrackRequest(sid="TR_other", muted=True))
    assert an.client.last("request_response").reason == Refusal.NOT_FOUND


def test_nobody_mutes_for_another(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(microphone())
    binh.ask(mute=rtc.MuteTrackRequest(sid=sid, muted=True))
    assert binh.client.last("request_response").reason == Refusal.NOT_FOUND
    assert not an.participant.publications[sid].info.muted


def test_what_may_not_be_published_is_refused_by_name(house: House) -> None:
    observer = house.join("observer", "observer")
    (command,) = house.engine.take(Command.AddTransport)
    assert not command.may_publish
    observer.ask(add_track=camera())
    assert observer.client.last("request_response").reason == Refusal.NOT_ALLOWED
    patient = house.join("patient", "patient")
    screen = camera()
    screen.source = models.TrackSource.SCREEN_SHARE
    patient.ask(add_track=screen)
    assert patient.client.last("request_response").reason == Refusal.NOT_ALLOWED
    patient.ask(add_track=camera())
    assert patient.client.last("track_published").track.sid


def test_a_section_without_a_promise_publishes_nothing(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    binh.client.responses.clear()
    house.engine.commands.clear()
    an.description.publish("video", "unannounced")
    an.offer()
    assert house.engine.take(Command.AddPublication) == []
    assert binh.client.kinds() == []


def test_promises_have_a_limit_and_no_repetition(house: House) -> None:
    an = house.join("an")
    an.ask(add_track=camera("same"))
    an.ask(add_track=camera("same"))
    assert an.client.last("request_response").reason == Refusal.QUEUED
    for number in range(30):
        an.ask(add_track=camera(f"cam-{number}"))
    assert an.client.last("request_response").reason == Refusal.LIMIT_EXCEEDED
    assert len(an.participant.publications) == 20


def test_publications_have_a_limit_as_well(house: House) -> None:
    an = house.join("an")
    for number in range(MAX_PUBLICATIONS):
        an.publish(microphone(f"mic-{number}"), now=float(number))
    an.ask(add_track=microphone("one-more"))
    assert an.client.last("request_response").reason == Refusal.LIMIT_EXCEEDED
    assert len(an.participant.publications) == MAX_PUBLICATIONS


def test_a_room_for_voice_alone_refuses_pictures(config: Config, mint: MintToken) -> None:
    house = House(config.model_copy(update={"rooms": (RoomRule(name="*", codecs=(CodecName.OPUS,)),)}), mint)
    an = house.join("an")
    an.ask(add_track=camera())
    assert an.client.last("request_response").reason == Refusal.UNSUPPORTED_TYPE
    an.ask(add_track=microphone())
    assert an.client.last("track_published").track.sid


def test_features_and_size_of_a_publication_are_passed_on(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    voice, picture = an.publish(microphone()), an.publish(camera())
    feature = models.AudioTrackFeature.TF_NOISE_SUPPRESSION
    an.ask(update_audio_track=rtc.UpdateLocalAudioTrack(track_sid=voice, features=[feature]))
    an.ask(update_video_track=rtc.UpdateLocalVideoTrack(track_sid=picture, width=640, height=480))
    told = {track.sid: track for track in tracks(binh, "an")}
    assert list(told[voice].audio_features) == [feature]
    assert (told[picture].width, told[picture].height) == (640, 480)


@pytest.mark.parametrize(
    "kind", [models.Encryption.Type.NONE, models.Encryption.Type.GCM, models.Encryption.Type.CUSTOM]
)
def test_what_is_encrypted_end_to_end_is_never_redundant_audio(house: House, kind: models.Encryption.Type) -> None:
    """To take a frame out of it for somebody would break it."""
    an, binh = house.join("an"), house.join("binh")
    request = microphone()
    request.encryption = kind
    an.publish(request)
    (info,) = tracks(binh, "an")
    assert info.encryption == kind
    assert info.disable_red == (kind != models.Encryption.Type.NONE)


def test_a_change_of_what_one_does_not_publish_is_refused_by_name(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    voice, picture = an.publish(microphone()), an.publish(camera())
    tracks(binh, "an")
    features = rtc.UpdateLocalAudioTrack(track_sid=voice, features=[models.AudioTrackFeature.TF_STEREO])
    binh.ask(update_audio_track=features)
    assert binh.client.last("request_response").reason == Refusal.NOT_FOUND
    an.ask(update_video_track=rtc.UpdateLocalVideoTrack(track_sid=voice, width=640, height=480))
    assert an.client.last("request_response").reason == Refusal.NOT_FOUND
    an.ask(update_video_track=rtc.UpdateLocalVideoTrack(track_sid=picture, width=640, height=100_000))
    answer = an.client.last("request_response")
    assert (answer.reason, answer.update_video_track.track_sid) == (Refusal.INVALID_REQUEST, picture)
    assert binh.client.take("update") == []


def test_a_publisher_hears_once_that_somebody_listens(house: House) -> None:
    an, binh, chi = house.join("an"), house.join("binh"), house.join("chi")
    sid = an.publish(microphone())
    assert an.client.take("track_subscribed") == []
    satisfy(binh)
    assert an.client.last("track_subscribed").track_sid == sid
    satisfy(chi)
    assert an.client.take("track_subscribed") == []


def test_counts_are_told_now_and_then(house: House) -> None:
    an = house.join("an")
    for identity in ("binh", "chi"):
        house.join(identity)
    an.publish(microphone())
    for second in range(5):
        house.sfu.tick(now=float(second))
    assert an.client.take("room_update") == []
    house.sfu.tick(now=5.0)
    room = an.client.last("room_update").room
    assert (room.name, room.num_participants, room.num_publishers) == ("ward", 3, 1)
    for second in range(6, 20):
        house.sfu.tick(now=float(second))
    assert an.client.take("room_update") == []


# --- subscribing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "layer"),
    [
        ({"width": 320, "height": 180}, 0),
        ({"width": 320, "height": 150}, 0),
        ({"width": 200, "height": 200}, 0),  # 180 is near enough
        ({"width": 640, "height": 360}, 1),
        ({"width": 360, "height": 640}, 1),  # a phone held upright
        ({"width": 1280, "height": 720}, 2),
        ({"width": 4000, "height": 3000}, 2),
        ({"quality": Quality.LOW}, 0),
        ({"quality": Quality.MEDIUM}, 1),
        ({"quality": Quality.HIGH}, 2),
        ({"disabled": True}, None),
        ({"disabled": True, "width": 320, "height": 180}, None),
    ],
)
def test_a_view_gets_the_smallest_encoding_that_fills_it(
    house: House, setting: dict[str, int], layer: int | None
) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(camera())
    satisfy(binh)
    binh.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[sid], disabled=True))
    binh.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[sid], quality=Quality.MEDIUM))
    house.engine.commands.clear()
    binh.client.responses.clear()
    binh.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[sid], **setting))  # type: ignore[arg-type]
    subscription = binh.participant.subscriptions[sid]
    assert subscription.layer()[0] == layer
    if layer != 1:
        assert house.engine.commands == [Command.SetLayer(subscription.id, layer, 255)]
    else:
        assert house.engine.commands == []
    assert binh.client.kinds() == [], "never a negotiation"


def test_with_adaptive_streams_a_picture_starts_small(house: House) -> None:
    an = house.join("an")
    an.publish(camera())
    house.join("binh", request=join_request(adaptive_stream=True))
    (command,) = house.engine.take(Command.AddSubscription)
    assert command.spec.spatial == 0


def test_a_setting_before_the_section_holds_when_it_comes(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(camera())
    binh.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[sid], disabled=True))
    assert house.engine.take(Command.SetLayer) == []
    satisfy(binh)
    (command,) = house.engine.take(Command.AddSubscription)
    assert command.spec.spatial is None


def test_unsubscribing_frees_the_section_and_resubscribing_takes_one(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    sid = an.publish(camera())
    satisfy(binh)
    house.engine.commands.clear()
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=False), now=10.0)
    assert len(house.engine.take(Command.RemoveSubscription)) == 1
    required = binh.client.last("media_sections_requirement")
    assert (required.num_audios, required.num_videos) == (0, 0)
    assert sid not in binh.offer(now=10.1).mid_to_track_id.values()
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True), now=11.0)
    answer = satisfy(binh, now=11.1)
    assert answer is not None
    assert sid in answer.mid_to_track_id.values()
    (again,) = house.engine.take(Command.AddSubscription)
    assert again.subscription == binh.participant.subscriptions[sid].id


def test_without_auto_subscribe_nothing_comes_until_it_is_asked_for(house: House) -> None:
    an = house.join("an")
    sid = an.publish(camera())
    binh = house.join("binh", request=join_request(auto_subscribe=False))
    assert binh.participant.subscriptions == {}
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True))
    assert satisfy(binh) is not None
    assert len(house.engine.take(Command.AddSubscription)) == 1


def test_a_wish_for_what_does_not_exist_yet_is_kept_for_a_minute(house: House) -> None:
    an = house.join("an")
    binh = house.join("binh", request=join_request(auto_subscribe=False))
    an.ask(add_track=camera())
    sid = an.client.last("track_published").track.sid
    binh.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True), now=1.0)
    an.description.publish("video", "camera", simulcast=True)
    an.offer(now=2.0)
    assert sid in binh.participant.subscriptions
    for number in range(1000):
        binh.ask(subscription=rtc.UpdateSubscription(track_sids=[f"TR_{number}"], subscribe=True), now=3.0)
    assert len(binh.participant.wishes) <= 256


def test_a_role_that_may_not_subscribe_receives_nothing(config: Config, mint: MintToken) -> None:
    role = config.roles["observer"].model_copy(update={"subscribe": False})
    house = House(config.model_copy(update={"roles": {**config.roles, "deaf": role}}), mint)
    an = house.join("an")
    sid = an.publish(camera())
    deaf = house.join("deaf", "deaf")
    deaf.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True))
    assert deaf.participant.subscriptions == {}
    assert deaf.client.last("subscription_response").track_sid == sid
    assert house.engine.take(Command.AddSubscription) == []


def test_one_publication_may_be_kept_from_one_person_and_be_asked_for_when_it_is_not(house: House) -> None:
    an, binh = house.join("an"), house.join("binh")
    chi = house.join("chi", request=join_request(auto_subscribe=False))
    voice, picture = an.publish(microphone()), an.publish(camera())
    chi.ask(subscription=rtc.UpdateSubscription(track_sids=[voice, picture], subscribe=True))
    for person in (binh, chi):
        satisfy(person)
        person.client.responses.clear()

    def permit(now: float, *permissions: rtc.TrackPermission) -> None:
        an.ask(subscription_permission=rtc.SubscriptionPermission(track_permissions=permissions), now=now)

    of_all = rtc.TrackPermission(participant_identity="binh", all_tracks=True)
    permit(5.0, of_all, rtc.TrackPermission(participant_sid=chi.sid, track_sids=[voice]))
    assert binh.client.take("subscription_permission_update") == []
    told = chi.client.take("subscription_permission_update")
    assert [(each.participant_sid, each.track_sid, each.allowed) for each in told] == [(an.sid, picture, False)]
    assert chi.participant.subscriptions.keys() == {voice}
    permit(6.0, of_all, rtc.TrackPermission(participant_sid=chi.sid, all_tracks=True))
    told = chi.client.take("subscription_permission_update")
    assert [(each.track_sid, each.allowed) for each in told] == [(picture, True)]
    assert chi.participant.subscriptions.keys() == {voice}, "he asks for what he wants"
    chi.ask(subscription=rtc.UpdateSubscription(track_sids=[picture], subscribe=True), now=7.0)
    assert chi.participant.subscriptions.keys() == {voice, picture}
    permit(8.0)
    assert binh.participant.subscriptions == chi.participant.subscriptions == {}
    late = an.publish(camera("second"), now=9.0)
    told = binh.client.take("subscription_permission_update")
    assert {each.track_sid for each in told if not each.allowed} == {voice, picture, late}


def test_a_publisher_decides_who_receives_him(house: House) -> None:
    an, binh, chi = house.join("an"), house.join("binh"), house.join("chi")
    sid = an.publish(camera())
    satisfy(binh)
    satisfy(chi)
    house.engine.commands.clear()
    only_binh = rtc.SubscriptionPermission(
        track_permissions=[rtc.TrackPermission(participant_identity="binh", all_tracks=True)]
    )
    an.ask(subscription_permission=only_binh, now=5.0)
    assert sid in binh.participant.subscriptions
    assert sid not in chi.participant.subscriptions
    told = chi.client.last("subscription_permission_update")
    assert (told.participant_sid, told.track_sid, told.allowed) == (an.sid, sid, False)
    assert binh.client.take("subscription_permission_update") == []
    chi.ask(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True), now=6.0)
    assert sid not in chi.participant.subscriptions
    duc = house.join("duc", now=7.0)
    assert sid not in duc.participant.subscriptions
    an.ask(subscription_permission=rtc.SubscriptionPermission(all_participants=True), now=8.0)
    assert chi.client.last("subscription_permission_update").allowed
    assert sid in chi.participant.subscriptions
    assert sid in duc.participant.subscriptions


# --- what is said of oneself -----------------------------------------------------------------------------------------


def test_metadata_is_told_to_all_including_oneself_then_answered(house: House) -> None:
    an = house.join("an", video={"canUpdateOwnMetadata": True})
    binh = house.join("binh")
    an.client.responses.clear()
    an.ask(
        update_metadata=rtc.UpdateParticipantMetadata(
            request_id=7, name="Dr An", metadata="m", attributes={"hand": "up", "d4e.role": "moderator"}
        )
    )
    assert an.client.kinds() == ["update", "request_response"], "what he asks next is said from what he was told"
    answer = an.client.last("request_response")
    assert (answer.request_id, answer.reason, answer.update_metadata.metadata) == (7, Refusal.OK, "m")
    info = binh.client.last("update").participants[0]
    assert (info.name, info.metadata, info.attributes["hand"]) == ("Dr An", "m", "up")
    assert info.attributes["d4e.role"] == "doctor", "a role is never the client's word"
    an.ask(update_metadata=rtc.UpdateParticipantMetadata(attributes={"hand": ""}))
    info = binh.client.last("update").participants[0]
    assert (info.name, "hand" in info.attributes) == ("Dr An", False)


def test_metadata_without_the_right_or_too_large_is_refused(house: House) -> None:
    patient = house.join("patient", "patient")
    binh = house.join("binh", video={"canUpdateOwnMetadata": True})
    patient.client.responses.clear()
    patient.ask(update_metadata=rtc.UpdateParticipantMetadata(request_id=1, name="Director"))
    assert patient.client.last("request_response").reason == Refusal.NOT_ALLOWED
    binh.ask(update_metadata=rtc.UpdateParticipantMetadata(request_id=2, metadata="x" * 100_000))
    answer = binh.client.last("request_response")
    assert (answer.request_id, answer.reason) == (2, Refusal.LIMIT_EXCEEDED)
    # What no token may say either, or the next fresh one would not join.
    for wrong in ({"name": "a\tb"}, {"attributes": {"k" * 300: "v"}}, {"attributes": {"a\nb": "v"}}):
        binh.client.responses.clear()
        binh.ask(update_metadata=rtc.UpdateParticipantMetadata(request_id=3, **wrong))
        assert binh.client.last("request_response").reason == Refusal.LIMIT_EXCEEDED, wrong
    assert patient.client.take("update") == []


def test_a_patient_raises_a_hand_and_changes_nothing_else_of_himself(house: House) -> None:
    patient, binh = house.join("patient", "patient", name="Chị Năm", metadata="m"), house.join("binh")

    def ask(**request: Any) -> Any:
        patient.ask(update_metadata=rtc.UpdateParticipantMetadata(**request))
        return patient.client.last("request_response").reason

    # As the stock clients ask: with the name and the metadata that he has.
    assert ask(name="Chị Năm", metadata="m", attributes={"d4e.hand": "true"}) == Refusal.OK
    assert binh.client.last("update").participants[0].attributes["d4e.hand"] == "true"
    assert house.join("late").client.last("join").other_participants[0].attributes["d4e.hand"] == "true"
    assert ask(attributes={"d4e.hand": ""}) == Refusal.OK
    assert "d4e.hand" not in binh.client.last("update").participants[0].attributes

    for more in (
        {"name": "Director", "attributes": {"d4e.hand": "true"}},
        {"metadata": "x", "attributes": {"d4e.hand": "true"}},
        {"attributes": {"d4e.hand": "true", "ward": "3"}},
        {"attributes": {"d4e.hand": "x" * 17}},
        {},
    ):
        assert ask(**more) == Refusal.NOT_ALLOWED, more


def test_who_moderates_is_the_servers_word(house: House) -> None:
    an = house.join("an", "moderator", video={"roomAdmin": True})
    assert an.client.last("join").participant.attributes["d4e.moderator"] == "true"
    without = house.join("binh", "moderator", attributes={"d4e.moderator": "true"})
    assert "d4e.moderator" not in without.client.last("join").participant.attributes


def test_what_is_not_built_is_refused_and_not_left_waiting(house: House) -> None:
    an = house.join("an")
    an.ask(publish_data_track_request=rtc.PublishDataTrackRequest(name="x"))
    assert an.client.last("request_response").reason == Refusal.UNSUPPORTED_TYPE
    an.ask(store_data_blob_request=rtc.StoreDataBlobRequest(request_id=9))
    answer = an.client.last("request_response")
    assert (answer.request_id, answer.reason) == (9, Refusal.INVALID_REQUEST)


def test_a_subscriber_without_the_codec_is_told_so(house: House) -> None:
    an, binh = house.join("an"), house.join("binh", description=Description("binh"))
    an.ask(add_track=camera())
    an.client.take("track_published")
    # He publishes H.264 after all; binh's sections know VP8 alone.
    an.description.publish("video", "camera", simulcast=True)
    sdp = an.description.sdp()
    head, _, last = sdp.rpartition("m=video")
    last = last.replace("VP8/90000", "H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f")
    an.ask(offer=rtc.SessionDescription(type="offer", sdp=head + "m=video" + last, id=2))
    (publication,) = house.engine.take(Command.AddPublication)
    assert publication.spec.codec == Codec.H264
    assert satisfy(binh) is None, "more sections of his would not help"
    response = binh.client.last("subscription_response")
    assert response.err == models.SubscriptionError.SE_CODEC_UNSUPPORTED
    assert binh.participant.subscriptions == {}
    house.sfu.tick(now=60.0)
    assert binh.client.take("media_sections_requirement") == []
