"""What is told of somebody only to those whom it concerns: himself, and whoever receives something of him.

Who speaks, and how good his link is. Both change often, and in a large room most people receive few of the others: so
each is told of those few, and people with the same few are sent the same message.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from livekit.protocol import models, rtc

from d4e_sfu.core import datapacket
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.participant import State
from d4e_sfu.core.quality import Cause, Judgement, Word

if TYPE_CHECKING:
    from d4e_sfu.core.participant import Participant

# Which leg of a link is to blame, and for what, has no field in the room protocol: a data packet from the server says
# it, on this topic, to clients that listen for it. See docs/signalling.md.
QUALITY_TOPIC: Final = "d4e.quality"


NOTHING: Final = (None, "", Cause.NONE)


def speakers_changed(speakers: Sequence[models.SpeakerInfo]) -> rtc.SignalResponse:
    return rtc.SignalResponse(speakers_changed=rtc.SpeakersChanged(speakers=speakers))


def tell_speakers(participants: Collection[Participant], speakers: Sequence[models.SpeakerInfo]) -> None:
    """Each is told of those entries that concern him."""
    if not speakers:
        return
    responses: dict[tuple[str, ...], rtc.SignalResponse] = {}
    for participant in participants:
        concerns = {participant.sid, *participant.hears()}
        mine = [info for info in speakers if info.sid in concerns]
        sids = tuple(info.sid for info in mine)
        if sids and sids not in responses:
            responses[sids] = speakers_changed(mine)
        if sids:
            participant.send(responses[sids])


def tell_quality(participants: Collection[Participant], *, now: float) -> None:
    """Each is told what is not as he was told it last time."""
    known = {
        participant.sid: participant.quality.judgement
        for participant in participants
        if participant.quality.judgement is not None
    }
    for participant in participants:
        told = {sid: known[sid] for sid in (participant.sid, *sorted(participant.hears())) if sid in known}
        before, participant.told_quality = participant.told_quality, {s: j.said for s, j in told.items()}
        changed = [sid for sid, judgement in told.items() if before.get(sid) != judgement.said]
        words = [sid for sid in changed if before.get(sid, NOTHING)[0] != told[sid].word]
        if words:
            updates = [
                rtc.ConnectionQualityInfo(participant_sid=sid, quality=told[sid].word, score=told[sid].score)
                for sid in words
            ]
            participant.send(rtc.SignalResponse(connection_quality=rtc.ConnectionQualityUpdate(updates=updates)))
        blamed = [sid for sid in changed if before.get(sid, NOTHING)[1:] != told[sid].said[1:]]
        if blamed and participant.state is State.ACTIVE:
            payload = json.dumps({"updates": [_blame(sid, told[sid]) for sid in blamed]}).encode()
            packet = models.DataPacket(user=models.UserPacket(payload=payload, topic=QUALITY_TOPIC))
            datapacket.deliver(participant, DataKind.RELIABLE, packet.SerializeToString(), now=now)


def _blame(sid: str, judgement: Judgement) -> dict[str, str]:
    word, leg, cause = judgement.said
    return {"participant": sid, "quality": Word.Name(word).lower(), "leg": leg, "cause": cause}
