"""Signalling lost and regained: what is kept for who is away, and what he is told when he is back (signalling §10).

His media never stops: transport, publications and subscriptions stay as he left them, for `limits.resume`. No message
is kept for him. What he missed is told from what holds now; only who has left meanwhile must be remembered
(`Departed`), and what was sent to him reliably (`datapacket.Mail`). Both are bounded.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu.core import audience, datapacket, dual, encodings
from d4e_sfu.core.participant import Participant, State
from d4e_sfu.core.publication import PublicationState
from d4e_sfu.core.sections import SectionsRequirement
from d4e_sfu.core.speakers import silent
from d4e_sfu.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d4e_sfu.core.boundary import Client
    from d4e_sfu.core.ids import Ids
    from d4e_sfu.core.room import Room

# Departures that one room remembers, and for how long: whoever was away for longer, or missed more, joins anew.
MAX_DEPARTED: Final = 1000
DEPARTED_SECONDS: Final = 180.0
# A connection may have been dead for so long before we saw it: the driver's heartbeat, and something for the way.
UNNOTICED: Final = 20.0
# Entries that are read of one SyncState.
MAX_ENTRIES: Final = 1000


class Departed:
    """Who has left one room of late."""

    __slots__ = ("_gone", "_known_from")

    def __init__(self) -> None:
        self._gone: collections.deque[tuple[float, models.ParticipantInfo]] = collections.deque()
        self._known_from = float("-inf")  # whoever left before it may be forgotten

    def add(self, info: models.ParticipantInfo, *, now: float) -> None:
        short = models.ParticipantInfo(
            sid=info.sid,
            identity=info.identity,
            state=info.state,
            version=info.version,
            disconnect_reason=info.disconnect_reason,
        )
        self._gone.append((now, short))
        while len(self._gone) > MAX_DEPARTED or now - self._gone[0][0] > DEPARTED_SECONDS:
            self._known_from = self._gone.popleft()[0]

    def knows(self, since: float) -> bool:
        return since > self._known_from

    def since(self, then: float) -> list[models.ParticipantInfo]:
        return [info for at, info in self._gone if at >= then]


def is_possible(participant: Participant, *, now: float) -> bool:
    """Whether he can be given back all that he had."""
    gone = participant.state is State.DISCONNECTED or participant.closed_at is not None
    return not gone and participant.room.departed.knows(_away_since(participant, now=now))


def resume(
    participant: Participant,
    client: Client,
    server_info: models.ServerInfo,
    *,
    ice_servers: Iterable[rtc.ICEServer] = (),
    now: float,
) -> None:
    """The same participant behind another connection; the one before it, if we have not missed it yet, is closed."""
    since = _away_since(participant, now=now)
    old, participant.client = participant.client, client
    if old is not None:
        old.close(1000, "resumed on another connection")
    if participant.lost_at is not None:
        participant.lost_at = None
        participant.room.worker.engine.submit(participant.signal_lost(lost=False))
    participant.syncing = True
    participant.send(
        rtc.SignalResponse(
            reconnect=rtc.ReconnectResponse(
                server_info=server_info,
                ice_servers=ice_servers,
                last_message_seq=participant.mail.last_sequence,
                client_configuration=models.ClientConfiguration(
                    resume_connection=models.ClientConfigSetting.ENABLED,
                ),
            )
        )
    )
    _tell_room(participant.room, participant, since=since)
    _tell_own(participant)
    _tell_received(participant)
    # What is told when it changes is told anew.
    participant.told_quality.clear()
    participant.refreshed = None
    participant.sections = SectionsRequirement()
    for publication in participant.publications.values():
        encodings.forget(publication)
    dual.restart(participant, now=now)


def sync(participant: Participant, state: rtc.SyncState, *, ids: Ids, now: float) -> None:
    """What his client takes to be so; once after each resume. Raises ClientError where we do not know what it knows."""
    if not participant.syncing:
        return
    participant.syncing = False
    lists = (state.publish_tracks, state.track_sids_disabled, state.subscription.track_sids)
    if any(len(each) > MAX_ENTRIES for each in (*lists, state.datachannel_receive_states)):
        raise TooLarge("Too many entries in one message.", rule="sync_size")
    if any(each.track.sid not in participant.publications for each in state.publish_tracks):
        raise BadRequest("A publication of yours is not known here; join again.", rule="sync_publication")
    change = participant.room.subscribe if state.subscription.subscribe else participant.room.unsubscribe
    for sid in state.subscription.track_sids:
        change(participant, sid, now=now)
    for sid in state.track_sids_disabled:
        found = participant.subscriptions.get(sid)
        if found is not None:
            participant.room.settle(found, found.wanted.off(), now=now)
    received = {each.publisher_sid: each.last_seq for each in state.datachannel_receive_states}
    datapacket.replay(participant, received, now=now)


def _away_since(participant: Participant, *, now: float) -> float:
    return (now if participant.lost_at is None else participant.lost_at) - UNNOTICED


def _tell_room(room: Room, participant: Participant, *, since: float) -> None:
    """Who has left, then everybody as he is now; himself too, with his rights."""
    # Clients take the end of somebody's last visit for the end of this one.
    here = [each.info() for each in room.participants.values() if each is participant or not each.rights.hidden]
    seen = {info.identity for info in here}
    gone = [info for info in room.departed.since(since) if info.identity not in seen]
    for infos in (gone, here):
        if infos:
            participant.send(rtc.SignalResponse(update=rtc.ParticipantUpdate(participants=infos)))
    participant.send(rtc.SignalResponse(room_update=rtc.RoomUpdate(room=room.info())))


def _tell_own(participant: Participant) -> None:
    """Answers that he may not have got, and what a moderator has muted."""
    for publication in participant.publications.values():
        if publication.state is PublicationState.PENDING:
            published = rtc.TrackPublishedResponse(cid=publication.cid, track=publication.info)
            participant.send(rtc.SignalResponse(track_published=published))
        elif publication.info.muted:
            participant.send(rtc.SignalResponse(mute=rtc.MuteTrackRequest(sid=publication.sid, muted=True)))


def _tell_received(participant: Participant) -> None:
    """Of what he receives: what he may not, what is paused, who speaks."""
    permitted = [
        (publisher.sid, sid, allowed)
        for publisher in participant.room.participants.values()
        for sid in publisher.publications
        if (allowed := sid in participant.subscriptions) or sid in participant.forbidden
        if publisher.permission.is_restricted
    ]
    for publisher_sid, sid, allowed in permitted:
        told = rtc.SubscriptionPermissionUpdate(participant_sid=publisher_sid, track_sid=sid, allowed=allowed)
        participant.send(rtc.SignalResponse(subscription_permission_update=told))
    states = [
        rtc.StreamStateInfo(
            participant_sid=each.publication.publisher.sid,
            track_sid=each.publication.sid,
            state=rtc.StreamState.PAUSED if each.reason.pauses else rtc.StreamState.ACTIVE,
        )
        for each in participant.subscriptions.values()
    ]
    if states:
        participant.send(rtc.SignalResponse(stream_state_update=rtc.StreamStateUpdate(stream_states=states)))
    concerned = [participant.sid, *sorted(participant.hears())]
    speaking: dict[str, Any] = {info.sid: info for info in participant.room.speakers.among(concerned)}
    participant.send(audience.speakers_changed([speaking.get(sid) or silent(sid) for sid in concerned]))
