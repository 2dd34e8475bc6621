"""One room: who is in, who publishes, who subscribes to what, and what each is told of the others.

All publications and subscriptions are made and ended here, and all engine commands for them are given here. What a
single client may ask for is in requests.py; his description (SDP) is answered by exchange.py.

The one order that matters: everyone is told of a publication (`update`) before any answer carries it, else clients
drop its media as that of a stranger.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu._engine import Command, SubscriptionSpec, Voice
from d4e_sfu.core import audience, backup, bandwidth, dual, encodings, exchange, reports
from d4e_sfu.core.crowd import Crowd
from d4e_sfu.core.negotiation import LocalTransport, Negotiation
from d4e_sfu.core.participant import Participant, State
from d4e_sfu.core.publication import CODECS, Publication, PublicationState
from d4e_sfu.core.resume import Departed
from d4e_sfu.core.speakers import Speakers, silent
from d4e_sfu.core.subscription import Subscription, Wanted, not_subscribed

if TYPE_CHECKING:
    from d4e_sfu.core.boundary import Announcer, SubscriptionId, TransportId
    from d4e_sfu.core.ids import Ids
    from d4e_sfu.core.policy import Rights, RoomPolicy
    from d4e_sfu.core.roominfo import RoomInfo
    from d4e_sfu.core.tokens import Grants
    from d4e_sfu.core.workers import Worker

Reason = models.DisconnectReason
Action = rtc.LeaveRequest.Action

# Clients from this protocol on understand a new sid for a known identity as a replacement (signalling §5).
REPLACES_BY_IDENTITY: Final = 12
# Between two updates of how many are here.
COUNTS_SECONDS: Final = 5.0


class Room:
    """From its first participant until it has been empty for `idle_timeout`."""

    def __init__(
        self,
        name: str,
        sid: str,
        *,
        policy: RoomPolicy,
        worker: Worker,
        ids: Ids,
        transports: MutableMapping[TransportId, Participant],
        announcer: Announcer,
        about: RoomInfo,
        now: float,
    ) -> None:
        self.name = name
        self.sid = sid
        self.policy = policy
        self.about = about
        self.worker = worker
        self.participants: dict[str, Participant] = {}  # by identity, in order of joining
        self.empty_since: float | None = now
        self.speakers = Speakers()
        self.departed = Departed()
        self.forwarded: dict[SubscriptionId, Subscription] = {}  # those that the engine knows
        self._order: tuple[str | None, frozenset[str]] = (None, frozenset())  # who led and who spoke, as allocated by
        self._told = (0, 0)  # participants and publishers, as in the last room_update
        self._told_at = now
        self._crowd = Crowd(now=now)
        self._ids = ids
        self._transports = transports  # the process's table; the room keeps its own rows in it
        self.announcer = announcer

    # --- who is in ---------------------------------------------------------------------------------------------------

    def enter(
        self, participant: Participant, join_response: rtc.JoinResponse, *, max_sections: int, now: float
    ) -> None:
        """Replaces whoever has the same identity; tells the client of the others and the others of him."""
        existing = self.participants.get(participant.identity)
        crowd = existing is None and self._crowd.is_one(self.participants)
        if existing is not None:
            self._replace(existing, by=participant, now=now)
        self.participants[participant.identity] = participant
        self.empty_since, self.about.visited = None, True
        participant.transport, participant.local, participant.negotiation = self._connection(participant, max_sections)
        if participant.template is not None:
            participant.uplink = dual.Uplink(*self._connection(participant, max_sections))
        join_response.room.CopyFrom(self.info())
        join_response.participant.CopyFrom(participant.info())
        join_response.other_participants.extend(
            other.info() for other in self._others(participant) if not other.rights.hidden
        )
        participant.send(rtc.SignalResponse(join=join_response))
        if self._crowd.has_left(participant.identity):
            self._tell_crowd()  # clients take the end of his last visit for the end of this one, should it come later
        if crowd:
            self._crowd.came(participant)
        else:
            self.tell_others(participant, now=now)
        self.announcer.announce("participant_joined", participant.who)
        if participant.client_can.auto_subscribe:
            for other in self._others(participant):
                for publication in other.publications.values():
                    self._subscribe(participant, publication, quietly=True)
            if speaking := self.speakers.among(participant.hears()):
                participant.send(audience.speakers_changed(speaking))

    def _connection(
        self, participant: Participant, max_sections: int
    ) -> tuple[TransportId, LocalTransport, Negotiation]:
        transport = self._ids.transport()
        self._transports[transport] = participant
        ufrag, pwd = self._ids.credentials()
        fingerprint, candidates = self.worker.associations.fingerprint, tuple(self.worker.engine.candidates)
        local = LocalTransport(ufrag=ufrag, pwd=pwd, fingerprint=fingerprint, candidates=candidates)
        codecs, fresh = [CODECS[codec] for codec in self.policy.codecs], self._ids.credentials
        return transport, local, Negotiation(local, codecs=codecs, credentials=fresh, max_sections=max_sections)

    def leave(
        self,
        participant: Participant,
        reason: models.DisconnectReason,
        *,
        action: rtc.LeaveRequest.Action = Action.DISCONNECT,
        code: int = 1000,
        sentence: str = "",
        cause: str = "",
        now: float,
    ) -> None:
        """He is gone, whoever wanted it: his client is told if it is still there, and so are the others.

        `cause`: what our own records say, where the protocol's reason says less.
        """
        if participant.state is State.DISCONNECTED:
            return
        crowd = self._crowd.is_one(self.participants) and not participant.publications
        self._end(participant)
        del self.participants[participant.identity]
        participant.hang_up(reason, action, code=code, sentence=sentence)
        self._crowd.forget(participant)
        departure = self._departure(participant, reason, now=now)
        if not crowd:
            self._tell(self.participants.values(), _update([departure]), of=participant)
        elif not participant.rights.hidden:
            self._crowd.went(participant, departure)
        reports.participant_left(self.announcer, participant, reason, cause=cause)
        if not self.participants:
            self.empty_since = now

    def connected(self, participant: Participant, *, now: float) -> None:
        """His transport is up: media and data flow from here."""
        if participant.state is State.JOINED:
            participant.become(State.ACTIVE)
            participant.active_at = now
            bandwidth.share(participant, at_once=True, now=now)
            participant.changed()
            if self._crowd.is_one(self.participants) and not participant.publications:
                self._crowd.came(participant)
            else:
                self.tell_others(participant, now=now)
            reports.participant_active(self.announcer, participant, now=now)

    def tick(self, *, now: float) -> None:
        """What was put off; and the new counts, now and then: at once they would be a message per join and person."""
        for participant in self.participants.values():
            if participant.unapplied:
                participant.unapplied = False
                self.apply_permissions(participant, now=now)
            if participant.untold or participant.untold_himself:
                self.tell_others(participant, himself=participant.untold_himself, at_once=True, now=now)
        if self._crowd.is_due(now=now):
            self._tell_crowd()
        self.tell_speakers(now=now)
        self._judge(now=now)
        bandwidth.share_all(self.participants.values(), now=now)
        encodings.tell(self.participants.values(), now=now)
        backup.expire(self, now=now)
        info = self.info()
        counts = (info.num_participants, info.num_publishers)
        if counts == self._told or now - self._told_at < COUNTS_SECONDS:
            return
        self._told, self._told_at = counts, now
        update = rtc.SignalResponse(room_update=rtc.RoomUpdate(room=info))
        for participant in self.participants.values():
            participant.send(update)

    def introduce(self, participant: Participant, *, now: float) -> None:
        """He is about to be heard of in another way: who has come with a crowd is told of now."""
        if self._crowd.holds(participant):
            self.tell_others(participant, now=now)

    def signal_lost(self, participant: Participant) -> None:
        """Only his media is left: the engine now waits less long for his consent checks."""
        self.worker.engine.submit(participant.signal_lost(lost=True))

    def tell_others(
        self, participant: Participant, *, himself: bool = False, at_once: bool = False, now: float
    ) -> None:
        """His current information to everyone else, and to himself where it changes what he knows of himself.

        If he changes too much it waits for the next tick, unless it is to be told `at_once`.
        """
        update = _update([participant.info()])
        if not participant.telling.take(now=now, amount=update.ByteSize()) and not at_once:
            participant.untold = True
            participant.untold_himself |= himself
            return
        himself |= participant.untold_himself
        participant.untold = participant.untold_himself = False
        self._crowd.forget(participant)
        self._tell(self._others(participant), update, of=participant)
        if himself:
            participant.send(update)

    def _tell_crowd(self) -> None:
        """Who has come and gone in the last seconds, to everyone in one message; to themselves as well."""
        if infos := self._crowd.take(self.participants.values()):
            update = _update(infos)
            for participant in self.participants.values():
                participant.send(update)

    def _replace(self, old: Participant, *, by: Participant, now: float) -> None:
        """The same identity joins again. Nothing of the old one is taken over: new transport, new sids."""
        self._end(old)
        del self.participants[old.identity]
        old.hang_up(Reason.DUPLICATE_IDENTITY, Action.DISCONNECT)
        # To clients that know replacement, the new sid says it all, if they hear of it; the others need to hear of the
        # end first.
        elders = [
            each for each in self._others(by) if by.rights.hidden or each.client_can.protocol < REPLACES_BY_IDENTITY
        ]
        self._crowd.forget(old)
        self._tell(elders, _update([self._departure(old, Reason.DUPLICATE_IDENTITY, now=now)]), of=old)
        reports.participant_left(self.announcer, old, Reason.DUPLICATE_IDENTITY)

    def _end(self, participant: Participant) -> None:
        """Everything of his, in the tables and in the engine; nobody is told."""
        self.speakers.forget(participant.sid)
        participant.become(State.DISCONNECTED)
        participant.changed()
        for publication in list(participant.publications.values()):
            self._remove_publication(publication)
        for subscription in participant.subscriptions.values():
            self.forwarded.pop(subscription.id, None)
        participant.subscriptions.clear()
        for end in participant.ends():
            assert end.transport is not None
            del self._transports[end.transport]
            if end.remote is not None:
                self.worker.associations.close(end.transport)
                self.worker.engine.submit([Command.RemoveTransport(end.transport)])

    def _departure(
        self, participant: Participant, reason: models.DisconnectReason, *, now: float
    ) -> models.ParticipantInfo:
        info = participant.info(disconnect_reason=reason)
        info.state = models.ParticipantInfo.State.DISCONNECTED  # for those who see him
        del info.tracks[:]
        if not participant.rights.hidden:
            self.departed.add(info, now=now)
        return info

    def _others(self, participant: Participant) -> list[Participant]:
        return [other for other in self.participants.values() if other is not participant]

    def _tell(self, whom: Iterable[Participant], response: rtc.SignalResponse, *, of: Participant) -> None:
        if of.rights.hidden:
            return
        for participant in whom:
            participant.send(response)

    @property
    def is_quiet(self) -> bool:
        """People are here, and nobody receives anything yet."""
        return bool(self.participants) and not any(each.subscriptions for each in self.participants.values())

    # --- who publishes -----------------------------------------------------------------------------------------------

    def promise(self, publication: Publication) -> None:
        """`add_track`: the publisher has announced it, an offer will carry it."""
        publication.publisher.publications[publication.sid] = publication

    def unpublish(self, publication: Publication, *, now: float) -> None:
        """The publisher has ended it, or its second codec alone."""
        if publication.index:
            backup.ended(publication.first, self._ids.publication())
            self.worker.engine.submit([Command.RemovePublication(publication.id)])
        else:
            self._remove_publication(publication)
            publication.withdraw()
        publication.publisher.changed()
        self.tell_others(publication.publisher, now=now)

    def mute(self, publication: Publication, muted: bool, *, now: float) -> None:
        """Said by its publisher or by a moderator: what all are shown as muted is not forwarded. Nobody is told."""
        publication.info.muted = muted
        self._silence(publication)
        subscribers = [each for each in self.participants.values() if publication.sid in each.subscriptions]
        for each in subscribers:
            self.worker.engine.submit(each.subscriptions[publication.sid].steer())
            bandwidth.touch(each)
            if not muted:
                exchange.require_sections(each, now=now)  # who has never heard or seen it has none for it

    def set_rights(self, participant: Participant, grants: Grants, rights: Rights, *, now: float) -> None:
        """A moderator has given and taken. What he may no longer do ends now, in the engine; he need not join again."""
        before = participant.rights
        participant.changed()
        if rights.hidden and not before.hidden:  # for the others he goes
            gone = self._departure(participant, Reason.UNKNOWN_REASON, now=now)
            self._tell(self._others(participant), _update([gone]), of=participant)
        participant.grants, participant.rights = grants, rights
        sending = participant.sending
        assert sending.transport is not None
        if sending.remote is not None and bool(rights.publish) != bool(before.publish):
            self.worker.engine.submit([Command.SetMayPublish(sending.transport, bool(rights.publish))])
        for publication in list(participant.publications.values()):
            if publication.source not in rights.publish:
                self._withdraw(publication)
        if not rights.subscribe:
            for sid in list(participant.subscriptions):
                self.unsubscribe(participant, sid, now=now)
        participant.changed()
        self.tell_others(participant, himself=True, at_once=True, now=now)
        if rights.subscribe and not before.subscribe and participant.client_can.auto_subscribe:
            for other in self._others(participant):
                for publication in other.publications.values():
                    self._subscribe(participant, publication)
            exchange.require_sections(participant, now=now)

    def _withdraw(self, publication: Publication) -> None:
        """Its publisher may no longer publish it. He is told; his next offer ends its section."""
        self._remove_publication(publication)
        publication.withdraw()
        publication.publisher.send(
            rtc.SignalResponse(track_unpublished=rtc.TrackUnpublishedResponse(track_sid=publication.sid))
        )

    def publish(self, publication: Publication, *, now: float) -> list[Participant]:
        """An offer has carried it: the engine takes its packets, the others hear of it and subscribe. Returns these."""
        publisher = publication.publisher
        transport = publisher.sending.transport
        assert transport is not None
        assert publication.spec is not None
        self.worker.engine.submit([Command.AddPublication(publication.id, transport, publication.spec)])
        publisher.changed()
        self.tell_others(publisher, at_once=True, now=now)  # before any answer carries it
        if publication.index:
            return backup.bound(publication)
        reports.track_published(self.announcer, publication)
        subscribers = []
        for other in self._others(publisher):
            wished = publication.sid in other.wishes
            other.wishes.pop(publication.sid, None)
            if (other.client_can.auto_subscribe or wished) and self._subscribe(other, publication):
                subscribers.append(other)
        return subscribers

    def _remove_publication(self, publication: Publication) -> None:
        self._silence(publication)
        for participant in self.participants.values():
            participant.forbidden.discard(publication.sid)
            subscription = participant.subscriptions.pop(publication.sid, None)
            if subscription is not None:
                self._stop_forwarding(subscription)
                participant.retire(subscription)
                self._tell_silent(participant, publication.publisher)
        del publication.publisher.publications[publication.sid]
        bound = [each for each in publication.codecs if each.state is PublicationState.BOUND]
        self.worker.engine.submit([Command.RemovePublication(each.id) for each in bound])
        if publication in bound:
            reports.track_unpublished(self.announcer, publication)

    # --- who subscribes ----------------------------------------------------------------------------------------------

    def find_publication(self, sid: str) -> Publication | None:
        for participant in self.participants.values():
            publication = participant.publications.get(sid)
            if publication is not None and publication.state is PublicationState.BOUND:
                return publication
        return None

    def subscribe(self, participant: Participant, sid: str, *, now: float) -> None:
        """He asks for a publication by its sid; one that does not exist yet stays a wish."""
        publication = self.find_publication(sid)
        if not participant.rights.subscribe:
            participant.send(not_subscribed(sid, models.SubscriptionError.SE_UNKNOWN))
        elif publication is None:
            participant.wish(sid, now=now)
        elif self._subscribe(participant, publication):
            participant.sections.wanted_anew()
            exchange.require_sections(participant, now=now)

    def unsubscribe(self, participant: Participant, sid: str, *, now: float) -> None:
        participant.wishes.pop(sid, None)
        subscription = participant.subscriptions.pop(sid, None)
        if subscription is None:
            return
        carried = subscription.mid is not None
        self._stop_forwarding(subscription)
        participant.retire(subscription)
        self._tell_silent(participant, subscription.publication.publisher)
        if carried and participant.sections.may_ask(now=now):
            # His browser takes the picture away when its section is answered `inactive`: ask for an offer as it is.
            exchange.ask_for_sections(participant, (0, 0), now=now)

    def settle(self, subscription: Subscription, wanted: Wanted, *, now: float) -> None:
        """His view has changed: another layer, or none. Never a negotiation."""
        subscription.wanted = wanted
        bandwidth.share(subscription.subscriber, now=now)
        self.worker.engine.submit(subscription.steer())

    def apply_permissions(self, publisher: Participant, *, now: float) -> None:
        """The publisher has changed who may receive what: end what is no longer allowed, offer what is again."""
        for other in self._others(publisher):
            for publication in publisher.publications.values():
                if publication.state is not PublicationState.BOUND:
                    continue
                allowed = publisher.permission.allows(other, publication.sid)
                subscribed = publication.sid in other.subscriptions
                if allowed == subscribed:
                    continue
                if not allowed:
                    self._tell_permission(other, publication, allowed=False)
                    self.unsubscribe(other, publication.sid, now=now)
                elif publication.sid in other.forbidden:
                    self._tell_permission(other, publication, allowed=True)
                    if other.client_can.auto_subscribe and self._subscribe(other, publication):
                        exchange.require_sections(other, now=now)

    def _tell_permission(self, participant: Participant, publication: Publication, *, allowed: bool) -> None:
        (participant.forbidden.discard if allowed else participant.forbidden.add)(publication.sid)
        participant.send(
            rtc.SignalResponse(
                subscription_permission_update=rtc.SubscriptionPermissionUpdate(
                    participant_sid=publication.publisher.sid, track_sid=publication.sid, allowed=allowed
                )
            )
        )

    def _subscribe(self, participant: Participant, publication: Publication, *, quietly: bool = False) -> bool:
        """False: he may not, or already does. `quietly`: who speaks he is told by others."""
        publisher = publication.publisher
        if (
            publisher is participant
            or publication.state is not PublicationState.BOUND
            or publication.sid in participant.subscriptions
            or not participant.rights.subscribe
        ):
            return False
        if not publisher.permission.allows(participant, publication.sid):
            self._tell_permission(participant, publication, allowed=False)
            return False
        chosen = backup.choose(publication, participant)
        if chosen is None:
            participant.send(not_subscribed(publication.sid, models.SubscriptionError.SE_CODEC_UNSUPPORTED))
            return False
        speaking = self.speakers.among([publisher.sid])
        if speaking and not quietly and publisher.sid not in participant.hears():
            participant.send(audience.speakers_changed(speaking))
        # With adaptive streams the client tells the size of each view soon; until then the smallest is enough.
        quality = models.VideoQuality.LOW if participant.client_can.adaptive_stream else models.VideoQuality.HIGH
        participant.subscriptions[publication.sid] = self._subscription(participant, chosen, Wanted(quality=quality))
        return True

    def _subscription(self, participant: Participant, publication: Publication, wanted: Wanted) -> Subscription:
        id, ssrcs, spare = self._ids.subscription(), self._ssrcs(participant), self._ssrcs(participant)
        return Subscription(id, publication, participant, ssrcs=ssrcs, spare=spare, wanted=wanted)

    def switch(self, subscription: Subscription, publication: Publication) -> None:
        """The same source in another codec: streams of their own, in another section."""
        participant = subscription.subscriber
        self._stop_forwarding(subscription)
        participant.retire(subscription)
        participant.subscriptions[publication.sid] = self._subscription(participant, publication, subscription.wanted)

    def not_supported(self, subscription: Subscription) -> None:
        """His client cannot decode it, in any codec that there is."""
        participant, publication = subscription.subscriber, subscription.publication
        del participant.subscriptions[publication.sid]
        participant.retire(subscription)
        self._tell_silent(participant, publication.publisher)
        participant.send(not_subscribed(publication.sid, models.SubscriptionError.SE_CODEC_UNSUPPORTED))

    def displace(self, subscription: Subscription) -> None:
        """His client has taken its section for something else."""
        participant = subscription.subscriber
        self._stop_forwarding(subscription)
        participant.keep((subscription.ssrc, subscription.rtx_ssrc))
        subscription.move(spare=self._ssrcs(participant))

    def forward(self, subscription: Subscription, spec: SubscriptionSpec) -> None:
        transport = subscription.subscriber.transport
        assert transport is not None
        subscription.place(spec)
        self.forwarded[subscription.id] = subscription
        publication = subscription.publication
        if not publication.heard and not subscription.subscriber.rights.hidden:
            for codec in publication.first.codecs:
                codec.heard = True
            publication.publisher.send(
                rtc.SignalResponse(track_subscribed=rtc.TrackSubscribed(track_sid=publication.sid))
            )
        added = Command.AddSubscription(subscription.id, publication.id, transport, spec)
        self.worker.engine.submit([added, *subscription.steer()])

    def _ssrcs(self, participant: Participant) -> tuple[int, int]:
        return self._ids.ssrc(participant.ssrcs), self._ids.ssrc(participant.ssrcs)

    def _stop_forwarding(self, subscription: Subscription) -> None:
        if subscription.mid is not None:
            subscription.mid = subscription.current = None
            del self.forwarded[subscription.id]
            self.worker.engine.submit([Command.RemoveSubscription(subscription.id)])

    # --- who is speaking, and how good his link is --------------------------------------------------------------------

    def heard(self, participant: Participant, voice: Voice, *, now: float) -> None:
        """The engine has heard speech in one of his publications. The sound of a film is not his voice."""
        for publication in participant.publications.values():
            if publication.id == voice.publication and publication.is_voice and not publication.info.muted:
                self.speakers.hear(participant.sid, voice.level, voice.spoken_ms / 1000, now=now)

    def tell_speakers(self, *, now: float) -> None:
        """What has changed, to those whom it concerns."""
        changes = self.speakers.changes(now=now)
        audience.tell_speakers(self.participants.values(), changes)
        order = self.speakers.lead, frozenset(self.speakers.ranking)
        for participant in self.participants.values() if order != self._order else ():
            participant.bandwidth.due |= participant.bandwidth.is_short
        self._order = order

    def _judge(self, *, now: float) -> None:
        """Once for each telling of the engine, which is of everybody."""
        measured = [participant for participant in self.participants.values() if participant.quality.is_news]
        if not measured:
            return
        busy = self.worker.engine.busy
        for participant in measured:
            voices = (each for each in participant.publications.values() if each.is_voice)
            participant.quality.judge(sends=any(not voice.info.muted for voice in voices), busy=busy)
        audience.tell_quality(self.participants.values(), now=now)

    def _silence(self, publication: Publication) -> None:
        """His voice is muted or gone: he does not speak, whatever was heard a moment ago."""
        if publication.is_voice and (ended := self.speakers.silence(publication.publisher.sid)) is not None:
            audience.tell_speakers(self.participants.values(), [ended])

    def _tell_silent(self, participant: Participant, publisher: Participant) -> None:
        """He receives nothing of this publisher any more, and would not hear that he has stopped."""
        if self.speakers.among([publisher.sid]) and publisher.sid not in participant.hears():
            participant.send(audience.speakers_changed([silent(publisher.sid)]))

    # --- what is said of the room ------------------------------------------------------------------------------------

    def info(self) -> models.Room:
        return self.about.message(self.name, self.sid, self.policy, self.participants.values())

    @property
    def idle_timeout(self) -> float:
        """Seconds for which it is kept while nobody is in it."""
        return self.about.idle_timeout(self.policy)

    def debug_state(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "sid": self.sid,
            "capacity": self.about.capacity_of(self.policy),
            "participants": [participant.debug_state() for participant in self.participants.values()],
        }


def _update(infos: Iterable[models.ParticipantInfo]) -> rtc.SignalResponse:
    return rtc.SignalResponse(update=rtc.ParticipantUpdate(participants=infos))
