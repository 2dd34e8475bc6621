"""The exchange of descriptions (RFC 3264): a client's offer is answered, and what that says takes hold in his room.

Only the client makes offers, but for one with two connections (dual.py): where media sections are missing he is asked.
What the text says is negotiation.py's; what is worth a section, and how often to ask, is sections.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from livekit.protocol import rtc

from d4e_sfu._engine import Command
from d4e_sfu.core import backup, bandwidth, connection, dual, sections

if TYPE_CHECKING:
    from d4e_sfu.core.negotiation import Answer
    from d4e_sfu.core.participant import Participant


def answer(participant: Participant, offer: rtc.SessionDescription, *, now: float) -> None:
    """His offer: what it publishes, ends and has room for. Raises ClientError, and has then changed nothing."""
    sending, here = participant.sending, participant.uplink is None  # on that connection he receives as well
    room = participant.room
    assert sending.transport is not None
    answer = backup.answer(participant, offer.sdp, now=now)
    if sending.remote is None:
        connection.establish(room, sending, answer.remote, may_publish=bool(participant.rights.publish))
    else:
        connection.go_on(room, sending, answer.local, answer.remote)
    room.worker.engine.submit([Command.SetExtensions(sending.transport, answer.extensions, answer.allow_mixed)])
    _apply(participant, answer, now=now)
    if answer.placed:
        bandwidth.share(participant, at_once=True, now=now)
    participant.send(
        rtc.SignalResponse(
            answer=rtc.SessionDescription(
                type="answer", sdp=answer.sdp, id=offer.id, mid_to_track_id=answer.mid_to_track_id
            )
        )
    )
    if here and (answer.placed or answer.missing is None):
        participant.sections.helped()
    if answer.missing is not None and participant.sections.may_ask(now=now):
        ask_for_sections(participant, answer.missing, now=now)


def require_sections(participant: Participant, *, now: float) -> None:
    """Ask for what is missing; only the client makes offers. Nothing missing, or just asked: nothing is sent."""
    if participant.remote is None or participant.negotiation is None:
        return  # his first offer is on its way
    waiting = any(each.mid is None and each.publication.spec for each in participant.subscriptions.values())
    if not (waiting or participant.sections.deferred) or not participant.sections.may_ask(now=now):
        return
    worthy = sections.worthy(participant, now=now)
    if participant.sections.deferred or any(each.mid is None for each in worthy):
        missing = participant.negotiation.missing([each.outgoing() for each in worthy])
        participant.sections.deferred = missing is not None
        if missing is not None:
            ask_for_sections(participant, missing, now=now)


def ask_for_sections(participant: Participant, missing: tuple[int, int], *, now: float) -> None:
    """So many more for audio and for video. None at all: for an offer as it is."""
    audios, videos = missing
    if not participant.sections.ask(now=now):
        return
    if participant.template is not None:
        dual.offer_to(participant, now=now)
        return
    participant.send(
        rtc.SignalResponse(
            media_sections_requirement=rtc.MediaSectionsRequirement(num_audios=audios, num_videos=videos)
        )
    )


def _apply(participant: Participant, answer: Answer, *, now: float) -> None:
    room = participant.room
    for key in answer.unpublished:
        if (ended := participant.by_key().get(key)) is not None:  # a backup may have gone with the first codec
            room.unpublish(ended, now=now)
    subscribers: dict[str, Participant] = {}
    for published in answer.published:
        publication = participant.by_key().get(published.track_sid)
        if publication is None:  # a backup whose first codec has ended with this offer, or is the same
            assert participant.sending.negotiation is not None
            participant.sending.negotiation.withdraw(published.track_sid)
            continue
        publication.bind(published)
        subscribers.update({each.sid: each for each in room.publish(publication, now=now)})
    for each in subscribers.values():  # once for all that this offer has brought
        require_sections(each, now=now)
    by_id = {subscription.id: subscription for subscription in participant.subscriptions.values()}
    for displaced in answer.displaced:
        room.displace(by_id[displaced])
    for placed in answer.placed:
        room.forward(by_id[placed.subscription], placed.spec)
    for unsupported in answer.unsupported:
        room.not_supported(by_id[unsupported])
