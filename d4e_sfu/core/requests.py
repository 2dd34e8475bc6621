"""What a client may ask once it is in a room: a function for each member of `SignalRequest` that we answer.

Each checks the right and the bounds, then calls the room. A request that is refused is answered
(`request_response`); one that no correct client makes raises `ClientError`. What is unknown is ignored, in both
directions, as the protocol demands. Pings are answered by the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu._engine import Codec
from d4e_sfu.config import CodecName
from d4e_sfu.core import backup, dual, exchange, policy, resume
from d4e_sfu.core.participant import HAND_ATTRIBUTE, Participant, clean_attributes
from d4e_sfu.core.permission import Permission
from d4e_sfu.core.publication import CODECS, MIME_TYPES, Publication, PublicationState, sid_prefix, track_info
from d4e_sfu.core.subscription import Wanted
from d4e_sfu.core.tokens import MAX_ATTRIBUTES, MAX_METADATA, is_name
from d4e_sfu.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from d4e_sfu.core.ids import Ids

Reason = rtc.RequestResponse.Reason

MAX_CODECS: Final = 4  # that a client names for one publication; there are no more for pictures
MAX_CID: Final = 256  # characters
MAX_PENDING: Final = 20  # announced publications without a section; the reference server's number
MAX_PUBLICATIONS: Final = 32  # of one participant
MAX_SIDS: Final = 1000  # in one message
MAX_ECHO: Final = 65536  # bytes of a request that are sent back in its answer
MAX_HAND: Final = 16  # characters of a raised hand
MAX_SIDE: Final = 16384  # pixels; no codec here goes further


def answer(participant: Participant, request: rtc.SignalRequest, *, ids: Ids, now: float) -> None:
    """Do what one message asks. Raises ClientError where the sender must go."""
    kind = request.WhichOneof("message")
    if kind is not None and kind in _REQUESTS:
        _REQUESTS[kind](participant, getattr(request, kind), ids=ids, now=now)


def offer(participant: Participant, description: rtc.SessionDescription, *, ids: Ids, now: float) -> None:
    if description.type != "offer":
        raise BadRequest("The offer is not of type offer.", rule="offer_type")
    if not participant.offers.take(now=now):
        raise TooLarge("Too many offers.", rule="offer_rate")
    exchange.answer(participant, description, now=now)


def answer_to_ours(participant: Participant, description: rtc.SessionDescription, *, ids: Ids, now: float) -> None:
    if not participant.offers.take(now=now):
        raise TooLarge("Too many answers.", rule="offer_rate")
    dual.answered(participant, description, now=now)


def add_track(participant: Participant, request: rtc.AddTrackRequest, *, ids: Ids, now: float) -> None:
    """Promise a publication, or the other codec of one; `track_published` tells its sid, the section comes with an
    offer."""
    if request.sid:
        _add_codec(participant, request)
        return
    reason = _refusal(participant, request)
    if reason is not None:
        _respond(participant, reason, add_track=request)
        return
    audio = request.type == models.TrackType.AUDIO
    source = policy.source_of(request.source, audio=audio)
    room = participant.room
    assert source is not None
    codecs = _codecs(request, room.policy.codecs)
    prefix = "audio/" if audio else "video/"
    asked = {_mime_type(each, prefix): each for each in reversed(request.simulcast_codecs)}
    mime_types = [MIME_TYPES[codec] for codec in codecs]
    named = asked.get(mime_types[0].lower(), rtc.SimulcastCodec())
    publication = Publication(
        ids.publication(),
        participant,
        track_info(ids.sid(sid_prefix(request)), request, mime_types, red=room.policy.red),
        cid=request.cid,
        codec_cids=[named.cid] if named.cid else (),
        max_bitrate=room.policy.max_bitrate[source],
    )
    if len(codecs) > 1:
        publication.backup = backup.named(publication, ids.publication())
        backup.announce(publication.backup, asked[mime_types[1].lower()])
    room.promise(publication)
    participant.send(
        rtc.SignalResponse(track_published=rtc.TrackPublishedResponse(cid=request.cid, track=publication.info))
    )


def _add_codec(participant: Participant, request: rtc.AddTrackRequest) -> None:
    """What was named as the backup of a publication is to be sent now."""
    publication = participant.publications.get(request.sid)
    found = None if publication is None else publication.backup
    named = next(iter(request.simulcast_codecs), rtc.SimulcastCodec())
    if publication is None or publication.state is not PublicationState.BOUND:
        _respond(participant, Reason.NOT_FOUND, add_track=request)
    elif found is None or _mime_type(named, "video/") != found.codec.mime_type.lower():
        _respond(participant, Reason.UNSUPPORTED_TYPE, add_track=request)
    elif found.state is not PublicationState.NAMED:
        _respond(participant, Reason.QUEUED, add_track=request)
    elif not _are_fit(request):
        _respond(participant, Reason.INVALID_REQUEST, add_track=request)
    else:
        layers = named.layers or request.layers
        backup.announce(found, rtc.SimulcastCodec(cid=named.cid or request.cid, layers=layers))
        participant.send(
            rtc.SignalResponse(track_published=rtc.TrackPublishedResponse(cid=request.cid, track=publication.info))
        )


def _refusal(participant: Participant, request: rtc.AddTrackRequest) -> rtc.RequestResponse.Reason | None:
    if request.type not in (models.TrackType.AUDIO, models.TrackType.VIDEO):
        return Reason.UNSUPPORTED_TYPE
    source = policy.source_of(request.source, audio=request.type == models.TrackType.AUDIO)
    if source is None or source not in participant.rights.publish:
        return Reason.NOT_ALLOWED
    if not _are_fit(request):
        return Reason.INVALID_REQUEST
    if not _codecs(request, participant.room.policy.codecs):
        return Reason.UNSUPPORTED_TYPE
    publications = participant.publications.values()
    pending = [each for each in publications if each.state is PublicationState.PENDING]
    if any(each.cid == request.cid for each in pending):
        return Reason.QUEUED
    if len(pending) >= MAX_PENDING or len(publications) >= MAX_PUBLICATIONS:
        return Reason.LIMIT_EXCEEDED
    return None


def _are_fit(request: rtc.AddTrackRequest) -> bool:
    """Its codecs: not too many, each with a name of its own for the section that carries it, or none yet."""
    cids = [codec.cid for codec in request.simulcast_codecs if codec.cid]
    few = len(request.simulcast_codecs) <= MAX_CODECS
    return few and len({*cids}) == len(cids) and all(len(cid) <= MAX_CID for cid in (request.cid, *cids))


def _codecs(request: rtc.AddTrackRequest, allowed: tuple[CodecName, ...]) -> list[Codec]:
    """The codec that the client prefers of those that the room allows, else the room's first of that kind; and for
    pictures the next that he names, as the backup. None: the room allows none of that kind."""
    prefix = "audio/" if request.type == models.TrackType.AUDIO else "video/"
    codecs = {MIME_TYPES[codec].lower(): codec for codec in map(CODECS.__getitem__, allowed)}
    codecs = {mime_type: codec for mime_type, codec in codecs.items() if mime_type.startswith(prefix)}
    asked = dict.fromkeys(_mime_type(each, prefix) for each in request.simulcast_codecs)
    found = [codecs[mime_type] for mime_type in asked if mime_type in codecs] or [*codecs.values()][:1]
    return found[:1] if prefix == "audio/" else found[:2]


def _mime_type(named: rtc.SimulcastCodec, prefix: str) -> str:
    """Clients write "vp8" or "video/VP8"."""
    lowered = named.codec.lower()
    return lowered if lowered.startswith(prefix) else prefix + lowered


def mute(participant: Participant, request: rtc.MuteTrackRequest, *, ids: Ids, now: float) -> None:
    publication = participant.publications.get(request.sid)
    if publication is None:
        _respond(participant, Reason.NOT_FOUND, mute=request)
    elif publication.info.muted != request.muted:
        participant.room.mute(publication, request.muted, now=now)
        _tell_if_bound(publication, now=now)


def subscription(participant: Participant, request: rtc.UpdateSubscription, *, ids: Ids, now: float) -> None:
    sids = [*request.track_sids, *(sid for each in request.participant_tracks for sid in each.track_sids)]
    if len(sids) > MAX_SIDS:
        raise TooLarge("Too many publications in one message.", rule="subscription_size")
    room = participant.room
    change = room.subscribe if request.subscribe else room.unsubscribe
    for sid in sids:
        change(participant, sid, now=now)


def track_setting(participant: Participant, request: rtc.UpdateTrackSettings, *, ids: Ids, now: float) -> None:
    if len(request.track_sids) > MAX_SIDS:
        raise TooLarge("Too many publications in one message.", rule="track_setting_size")
    wanted = Wanted.from_settings(request)
    for sid in request.track_sids:
        found = participant.subscriptions.get(sid)
        if found is not None:
            participant.room.settle(found, wanted, now=now)


def subscription_permission(
    participant: Participant, request: rtc.SubscriptionPermission, *, ids: Ids, now: float
) -> None:
    participant.permission = Permission(request)
    if participant.permissions.take(now=now):
        participant.room.apply_permissions(participant, now=now)
    else:
        participant.unapplied = True


def update_metadata(participant: Participant, request: rtc.UpdateParticipantMetadata, *, ids: Ids, now: float) -> None:
    """Empty metadata or name: unchanged. An attribute with an empty value: deleted."""
    if not (participant.rights.update_own_metadata or _only_the_hand(participant, request)):
        _respond(participant, Reason.NOT_ALLOWED, request_id=request.request_id, update_metadata=request)
        return
    few = len(request.attributes) <= MAX_ATTRIBUTES  # to copy what fits into a message would hold everyone for 200 ms
    attributes = clean_attributes({**participant.attributes, **request.attributes}) if few else {}
    if not (few and fits(request.name or participant.name, request.metadata or participant.metadata, attributes)):
        _respond(participant, Reason.LIMIT_EXCEEDED, request_id=request.request_id, update_metadata=request)
        return
    participant.name = request.name or participant.name
    participant.metadata = request.metadata or participant.metadata
    participant.attributes = attributes
    participant.changed()
    participant.room.tell_others(participant, himself=True, now=now)
    # After the change itself: native clients repeat name and metadata, as they know them, in the next request.
    if participant.client_can.protocol >= 15:
        _respond(participant, Reason.OK, request_id=request.request_id, update_metadata=request)


def _only_the_hand(participant: Participant, request: rtc.UpdateParticipantMetadata) -> bool:
    """Whether nothing changes but the raised hand. The stock clients repeat name and metadata in every request."""
    same = request.name in ("", participant.name) and request.metadata in ("", participant.metadata)
    alone = request.attributes.keys() == {HAND_ATTRIBUTE}
    return same and alone and len(request.attributes[HAND_ATTRIBUTE]) <= MAX_HAND


def fits(name: str, metadata: str, attributes: Mapping[str, str]) -> bool:
    """Whether we keep, and tell everyone, this much about one participant: as much as a token may say."""
    size = sum(len(key.encode()) + len(value.encode()) for key, value in attributes.items())
    small = len(metadata.encode()) <= MAX_METADATA and size <= MAX_METADATA and len(attributes) <= MAX_ATTRIBUTES
    return small and all(is_name(text) for text in (name, *attributes))


def update_audio_track(participant: Participant, request: rtc.UpdateLocalAudioTrack, *, ids: Ids, now: float) -> None:
    publication = participant.publications.get(request.track_sid)
    if publication is None:
        _respond(participant, Reason.NOT_FOUND, update_audio_track=request)
        return
    del publication.info.audio_features[:]
    publication.info.audio_features.extend(request.features[:16])
    _tell_if_bound(publication, now=now)


def update_video_track(participant: Participant, request: rtc.UpdateLocalVideoTrack, *, ids: Ids, now: float) -> None:
    publication = participant.publications.get(request.track_sid)
    if publication is None or not publication.is_video:
        _respond(participant, Reason.NOT_FOUND, update_video_track=request)
    elif max(request.width, request.height) > MAX_SIDE:
        _respond(participant, Reason.INVALID_REQUEST, update_video_track=request)
    else:
        publication.resize(request.width, request.height)
        _tell_if_bound(publication, now=now)


def leave(participant: Participant, request: rtc.LeaveRequest, *, ids: Ids, now: float) -> None:
    participant.room.leave(participant, models.DisconnectReason.CLIENT_INITIATED, now=now)


def publish_data_track(participant: Participant, request: rtc.PublishDataTrackRequest, *, ids: Ids, now: float) -> None:
    _respond(participant, Reason.UNSUPPORTED_TYPE, publish_data_track=request)


def unpublish_data_track(
    participant: Participant, request: rtc.UnpublishDataTrackRequest, *, ids: Ids, now: float
) -> None:
    _respond(participant, Reason.UNSUPPORTED_TYPE, unpublish_data_track=request)


def data_blob(participant: Participant, request: Any, *, ids: Ids, now: float) -> None:
    _respond(participant, Reason.INVALID_REQUEST, request_id=request.request_id)


def _respond(
    participant: Participant, reason: rtc.RequestResponse.Reason, *, request_id: int = 0, **request: Any
) -> None:
    """The answer to one request, with the request in it; not a large one, which takes longer to copy than to read."""
    if any(each.ByteSize() > MAX_ECHO for each in request.values()):
        request = {}
    participant.send(
        rtc.SignalResponse(request_response=rtc.RequestResponse(request_id=request_id, reason=reason, **request))
    )


def _tell_if_bound(publication: Publication, *, now: float) -> None:
    if publication.state is PublicationState.BOUND:
        publication.publisher.changed()
        publication.publisher.room.tell_others(publication.publisher, now=now)


# Left out, and ignored: `trickle` (we are ICE-lite and need no candidate of theirs), `update_layers`
# (deprecated), `simulate` (a test hook: simulation.py), `update_data_subscription`.
_REQUESTS: Final[Mapping[str, Callable[..., None]]] = {
    "offer": offer,
    "answer": answer_to_ours,
    "add_track": add_track,
    "mute": mute,
    "subscription": subscription,
    "track_setting": track_setting,
    "subscription_permission": subscription_permission,
    "update_metadata": update_metadata,
    "update_audio_track": update_audio_track,
    "update_video_track": update_video_track,
    "leave": leave,
    "sync_state": resume.sync,
    "publish_data_track_request": publish_data_track,
    "unpublish_data_track_request": unpublish_data_track,
    "store_data_blob_request": data_blob,
    "get_data_blob_request": data_blob,
}
