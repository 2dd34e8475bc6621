"""The second codec of a publication, for viewers who cannot decode the first one.

Its publisher names it with the publication (`simulcast_codecs`) and sends nothing of it. Who cannot decode the first
codec waits for the second; the publisher is told that it is needed (encodings.py), announces its section (`add_track`
with the sid that the publication has), and an offer carries it. From then on it is for negotiation and engine a
publication of its own, while everybody knows it by the sid of the first. When nobody uses it any more it is paused like
an encoding. A publisher who does not answer is not waited for: the viewer is told that he cannot have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livekit.protocol import models, rtc

from d4e_sfu.core import payloads, sections
from d4e_sfu.core.publication import MAX_LAYERS, Publication, PublicationState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from d4e_sfu.core.boundary import PublicationId
    from d4e_sfu.core.negotiation import Answer, Kind
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.placement import Outgoing
    from d4e_sfu.core.room import Room
    from d4e_sfu.core.subscription import Subscription

# From the word to the publisher until a section carries it: an encoder, an announcement and an offer. The SDKs give up
# an announcement after as long.
PATIENCE: Final = 10.0  # s


def named(first: Publication, id: PublicationId) -> Publication:
    """The second codec of this publication, of which nothing is sent yet."""
    backup = Publication(id, first.publisher, first.info, index=1, max_bitrate=first.max_bitrate)
    backup.heard = first.heard
    return backup


def announce(backup: Publication, asked: rtc.SimulcastCodec) -> None:
    """A section for it will come, if the client has a name for it."""
    codec = backup.codec
    codec.cid = backup.cid = asked.cid
    del codec.layers[:]
    codec.layers.extend(asked.layers[:MAX_LAYERS])
    backup.read_layers()
    if backup.cid:
        backup.state = PublicationState.PENDING


def choose(publication: Publication, participant: Participant) -> Publication | None:
    """In which codec he is to receive it, as far as it is known what his client can decode. None: in none."""
    able = [each for each in publication.codecs if _decodes(participant, each)]
    regress = publication.info.backup_codec_policy == models.BackupCodecPolicy.REGRESSION
    if regress and able and able[-1].state is PublicationState.BOUND:
        return able[-1]
    return next(iter(able), None)


def fall_back(subscription: Subscription) -> bool:
    """His client cannot decode what he subscribed to: he gets the other codec, or waits for it. False: there is none
    for him."""
    backup = subscription.publication.backup
    if backup is None or not _decodes(subscription.subscriber, backup):
        return False
    subscription.subscriber.room.switch(subscription, backup)
    return True


def answer(participant: Participant, offer: str, *, now: float) -> Answer:
    """To his offer. What turns out to be nothing for him falls back before he hears of it: some clients never offer
    again. Raises ClientError, and has then changed nothing."""
    here, negotiation = participant.uplink is None, participant.sending.negotiation  # here he receives as well
    assert negotiation is not None
    pending = participant.sections_due()
    first = negotiation.answer(offer, pending=pending, outgoing=_outgoing(participant, now=now) if here else [])
    unsupported = {*first.unsupported}
    failed = [each for each in participant.subscriptions.values() if each.id in unsupported]
    fallen = {each.id for each in failed if fall_back(each)}
    if not fallen:
        return first
    again = negotiation.answer(offer, pending=pending, outgoing=_outgoing(participant, now=now))
    return again.after(first, fallen=fallen)


def _outgoing(participant: Participant, *, now: float) -> list[Outgoing]:
    return [each.outgoing() for each in sections.worthy(participant, now=now)]


def bound(backup: Publication) -> list[Participant]:
    """A section carries it: those for whom it is."""
    people = backup.publisher.room.participants.values()
    if backup.info.backup_codec_policy == models.BackupCodecPolicy.REGRESSION:
        for subscription in _subscriptions(people, backup.sid):
            if subscription.publication is not backup and _decodes(subscription.subscriber, backup):
                subscription.subscriber.room.switch(subscription, backup)
    return [each.subscriber for each in _subscriptions(people, backup.sid) if each.publication is backup]


def ended(first: Publication, id: PublicationId) -> None:
    """Its section has ended, and the first codec goes on: who needs it waits until it comes again."""
    before, first.backup = first.backup, named(first, id)
    for subscription in _subscriptions(first.publisher.room.participants.values(), first.sid):
        if subscription.publication is before:
            subscription.subscriber.room.switch(subscription, first.backup)


def expire(room: Room, *, now: float) -> None:
    """Nobody waits for ever for what does not come."""
    for participant in room.participants.values():
        for subscription in list(participant.subscriptions.values()):
            publication = subscription.publication
            asked_at = publication.asked_at
            if publication.spec is None and asked_at is not None and now - asked_at >= PATIENCE:
                room.not_supported(subscription)


def _subscriptions(people: Iterable[Participant], sid: str) -> Sequence[Subscription]:
    return [each.subscriptions[sid] for each in people if sid in each.subscriptions]


def _decodes(participant: Participant, publication: Publication) -> bool:
    """As far as his offers show."""
    codec = payloads.codec_of(publication.codec.mime_type)
    assert codec is not None
    assert participant.negotiation is not None
    kind: Kind = "video" if publication.is_video else "audio"
    return participant.negotiation.receives(kind, codec, publication.format)
