"""One participant's share of his own link: wants gathered, the allocator asked, the engine and the client told.

What is decided is the allocator's; what a view wishes is the subscription's. Asked when the estimate or a want has
changed, at most every `INTERVAL`; what comes sooner waits for the next tick of the room.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu._engine import Command
from d4e_sfu.config import Source
from d4e_sfu.core import datapacket
from d4e_sfu.core.allocator import Allocation, Picture, Place, Reason, Voice, allocate, usable
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.weights import MOST_REDUNDANT, REDUNDANT_BLOCK, REDUNDANT_SHARE, USUAL_PICTURE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d4e_sfu._engine import Estimate
    from d4e_sfu.core.allocator import Rung
    from d4e_sfu.core.boundary import SubscriptionId
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.subscription import Subscription

# Between two allocations of one participant, s: the engine tells estimates as often.
INTERVAL: Final = 0.2
# Where an estimate changes nothing the weights may; looked at this often, s: where nothing is short, and where it is.
LOOK: Final = 2.0
LOOK_SHORT: Final = 1.0
# On a link of which nothing is known yet one picture goes ahead, and the others follow when it has told something, or
# so long after it came up, s. Where it is thin, two more would stand in the way of the voices for seconds; and so would
# the first, where it took so long to come up (s) and there are voices to learn by.
UNKNOWN: Final = 2.0
SLOW: Final = 1.0
# The engine's word for a client who gives no feedback after all.
NO_ESTIMATE: Final = 2**32 - 1
# A demand that differs by less is not told: how far to probe is no exact matter.
DEMAND_STEP: Final = 0.05
# What a link loses is sent again; in steps of so many per mille, and of a picture no oftener than repairs are allowed.
LOSS_STEP: Final = 20
LEAST_LEFT: Final = 2 / 3
# Why something is not as it was asked for has no field in the room protocol. See docs/signalling.md.
STREAMS_TOPIC: Final = "d4e.streams"


class Bandwidth:
    """Of one participant."""

    __slots__ = (
        "allocated_at",
        "allocation",
        "cap",
        "demand",
        "due",
        "estimate",
        "heard",
        "places",
        "redundancy",
        "waits",
    )

    def __init__(self) -> None:
        self.heard = False  # his feedback has moved the estimate from where it starts
        self.estimate: Estimate | None = None
        self.allocation = Allocation()
        self.allocated_at = float("-inf")
        self.due = False  # something has changed since
        self.waits = False  # pictures do, for a first word of what the link carries
        self.demand = 0  # as the engine was told
        self.redundancy = True  # his voices may have it; as the engine was told
        self.cap: int | None = None  # no more than this is taken to be carried, whatever is estimated
        self.places: int | None = None  # for voices, where his link carries no more; as the engine was told

    @property
    def budget(self) -> int | None:
        if self.estimate is None or self.estimate.bitrate == NO_ESTIMATE or not self.heard:
            return self.cap
        return self.estimate.bitrate if self.cap is None else min(self.estimate.bitrate, self.cap)

    @property
    def is_short(self) -> bool:
        """Not everyone is given what he wants, so it matters who is first."""
        return any(share.reason or not share.redundancy for share in self.allocation.shares.values())

    def debug_state(self) -> dict[str, Any]:
        estimate = self.estimate
        return {
            "estimate": None
            if estimate is None
            else {
                "bitrate": self.budget,
                "loss_per_mille": estimate.loss,
                "queue_ms": estimate.queue_ms,
                "limited": estimate.limited,
            },
            "allocation": self.allocation.debug_state(),
        }


def measure(participant: Participant, estimate: Estimate, *, now: float) -> None:
    """The engine has estimated what his link carries."""
    bandwidth = participant.bandwidth
    bandwidth.heard |= estimate.bitrate != participant.room.policy.start_bitrate or estimate.limited
    old, before = bandwidth.estimate, bandwidth.budget
    bandwidth.estimate = estimate
    budget, allocation = bandwidth.budget, bandwidth.allocation
    if budget is not None and old is not None and not bandwidth.due and allocation.holds(budget, now=now):
        full = allocation.is_full and usable(budget) >= allocation.demand
        same = (old.redundancy, old.copies) == (estimate.redundancy, estimate.copies) and bandwidth.places is None
        if same and now - bandwidth.allocated_at < (LOOK if full else LOOK_SHORT):
            return
    if budget is not None or before is not None:
        share(participant, now=now)


def share(participant: Participant, *, at_once: bool = False, now: float) -> None:
    """Something that counts has changed."""
    bandwidth = participant.bandwidth
    bandwidth.due = True
    if at_once or now - bandwidth.allocated_at >= INTERVAL - 1e-9:
        _allocate(participant, now=now)


def touch(participant: Participant) -> None:
    """Something may count, where something is short: at the next tick."""
    may_be_short = len(participant.subscriptions) > participant.room.policy.pictures
    participant.bandwidth.due |= participant.bandwidth.budget is not None or may_be_short


def share_all(participants: Iterable[Participant], *, now: float) -> None:
    """What had to wait."""
    for participant in participants:
        bandwidth = participant.bandwidth
        bandwidth.due |= bandwidth.waits and not _is_unknown(participant, now=now)
        if bandwidth.due and now - bandwidth.allocated_at >= INTERVAL - 1e-9:
            _allocate(participant, now=now)


def _allocate(participant: Participant, *, now: float) -> None:
    bandwidth = participant.bandwidth
    bandwidth.due, bandwidth.allocated_at = False, now
    voices, pictures, surplus = _wants(participant, now=now)
    given = allocate(bandwidth.budget, voices, pictures, surplus=surplus, previous=bandwidth.allocation, now=now)
    bandwidth.allocation = given
    slow = bool(voices) and (participant.active_at or now) - participant.joined_at >= SLOW
    ahead = None if slow or not pictures else pictures[0].subscription
    bandwidth.waits = len(pictures) > (ahead is not None) and _is_unknown(participant, now=now)
    assert participant.transport is not None
    commands: list[Command] = []
    places = _places(bandwidth.budget, voices)
    if places != bandwidth.places:
        bandwidth.places = places
        limits = [limit for limit in (places, participant.room.policy.voices) if limit is not None]
        commands.append(Command.SetVoices(participant.transport, min(limits, default=None)))
    told: list[tuple[Subscription, Reason]] = []
    for subscription in participant.subscriptions.values():
        before = subscription.reason
        found = given.shares.get(subscription.id)
        subscription.waits = bandwidth.waits and subscription.publication.is_video and subscription.id != ahead
        subscription.share = found if given.budget is not None or (found and found.reason) else None
        commands.extend(subscription.steer())
        if subscription.reason is not before:
            told.append((subscription, before))
    demand, known = given.demand + _withheld(participant), bandwidth.demand
    if given.budget is not None and abs(demand - known) > known * DEMAND_STEP:
        bandwidth.demand = demand
        commands.append(Command.SetDemand(participant.transport, min(demand, NO_ESTIMATE)))
    redundancy = all(given.shares[voice.subscription].redundancy for voice in voices)
    if redundancy != bandwidth.redundancy:
        bandwidth.redundancy = redundancy
        commands.append(Command.SetRedundancy(participant.transport, redundancy))
    if commands:
        participant.room.worker.engine.submit(commands)
    if told:
        _tell(participant, told, now=now)


def _places(budget: int | None, voices: list[Voice]) -> int | None:
    """How many voices may pass at a time, where the link would not carry all of them at once.

    The engine gives each place to whoever begins to speak; what it saves is the noise of the silent, a tenth of a thin
    link. One more than fit, for a turn changes before the last one's place is free.
    """
    loud = [voice.reserve - voice.redundancy for voice in voices]
    if budget is None or sum(loud) <= budget:
        return None
    return max(2, 1 + int(budget / max(loud)))


def _is_unknown(participant: Participant, *, now: float) -> bool:
    """Links are estimated, and his has told nothing yet."""
    bandwidth, since = participant.bandwidth, participant.active_at
    silent = bandwidth.estimate is not None and bandwidth.estimate.bitrate == NO_ESTIMATE
    if bandwidth.heard or silent or participant.room.policy.start_bitrate == 0:
        return False
    return since is None or now - since < UNKNOWN


def _tell(participant: Participant, changed: list[tuple[Subscription, Reason]], *, now: float) -> None:
    """Which are paused, in the protocol's words; and why, in ours."""
    states = [
        rtc.StreamStateInfo(
            participant_sid=subscription.publication.publisher.sid,
            track_sid=subscription.publication.sid,
            state=rtc.StreamState.PAUSED if subscription.reason.pauses else rtc.StreamState.ACTIVE,
        )
        for subscription, before in changed
        if subscription.reason.pauses != before.pauses
    ]
    if states:
        participant.send(rtc.SignalResponse(stream_state_update=rtc.StreamStateUpdate(stream_states=states)))
    updates = [
        {"track": subscription.publication.sid, "reason": subscription.reason.value} for subscription, _ in changed
    ]
    payload = json.dumps({"updates": updates}).encode()
    packet = models.DataPacket(user=models.UserPacket(payload=payload, topic=STREAMS_TOPIC))
    datapacket.deliver(participant, DataKind.RELIABLE, packet.SerializeToString(), now=now)


# --- wants ------------------------------------------------------------------------------------------------------------


def _wants(participant: Participant, *, now: float) -> tuple[list[Voice], list[Picture], list[SubscriptionId]]:
    """Voices and pictures, whom it would be worst to lose first; and the pictures over the room's number."""
    forwarded = [
        each for each in participant.subscriptions.values() if each.mid is not None and each.wanted_layer() is not None
    ]
    pinned = {each.publication.publisher.sid for each in forwarded if each.wanted.pinned}
    speakers = participant.room.speakers
    ranking = {sid: rank for rank, sid in enumerate(speakers.ranking)}

    def rank(subscription: Subscription) -> tuple[bool, bool, int, int, float]:
        publisher = subscription.publication.publisher
        return (
            not subscription.publication.is_voice,
            publisher.sid not in pinned,
            -publisher.rights.priority,
            ranking.get(publisher.sid, len(ranking)),
            -speakers.spoke(publisher.sid),
        )

    def recent(subscription: Subscription) -> tuple[bool, float]:
        sid = subscription.publication.publisher.sid
        return sid not in first, -speakers.spoke(sid)

    voices = [_voice(each, now=now) for each in sorted(_sounds(forwarded), key=rank)]
    cameras = [each for each in forwarded if each.publication.source is Source.CAMERA]
    first = pinned | _staged(cameras)
    cameras.sort(key=recent)
    number = participant.room.policy.pictures
    surplus = [each.id for each in cameras[number:]]
    if speakers.lead is not None:
        first.add(speakers.lead)
    screens = [each for each in forwarded if each.publication.source is Source.SCREEN_SHARE]
    pictures = [
        _picture(each, Place.SPEAKER if each.publication.publisher.sid in first else Place.FAR, now=now)
        for each in cameras[:number]
    ]
    pictures += [_picture(each, Place.SCREEN, now=now) for each in screens]
    return voices, pictures, surplus


def _withheld(participant: Participant) -> int:
    """What pictures would weigh that wait for a section until his link is known to carry them."""
    waiting = [each for each in participant.subscriptions.values() if each.mid is None and each.publication.is_video]
    return USUAL_PICTURE * sum(each.wanted_layer() is not None for each in waiting)


def _sounds(subscriptions: list[Subscription]) -> list[Subscription]:
    return [each for each in subscriptions if not each.publication.is_video]


def _staged(cameras: list[Subscription]) -> set[str]:
    """Whom he has put on the stage: the one view that is larger than all others. Protocol and SDKs know no pin."""
    heights = sorted(each.wanted.short_side for each in cameras)
    if len(heights) < 2 or heights[-1] == heights[-2]:
        return set()
    return {each.publication.publisher.sid for each in cameras if each.wanted.short_side == heights[-1]}


def _voice(subscription: Subscription, *, now: float) -> Voice:
    """A publisher's redundancy ends in the engine; what a viewer gets is made for him, while he loses packets."""
    publication, estimate = subscription.publication, subscription.subscriber.bandwidth.estimate
    assert publication.spec is not None
    plain = 1.0 if publication.spec.red_payload_type is None else 1 - REDUNDANT_SHARE
    bitrate = publication.weights.voice(now=now) * plain
    reserve = publication.weights.reserve(now=now) * plain
    blocks = estimate.redundancy if estimate is not None and subscription.redundant else 0
    redundancy = bitrate * min(blocks * REDUNDANT_BLOCK, MOST_REDUNDANT)
    return Voice(subscription.id, int(bitrate + redundancy), int(reserve + redundancy), int(redundancy))


def _picture(subscription: Subscription, place: Place, *, now: float) -> Picture:
    publication = subscription.publication
    assert publication.spec is not None
    top = subscription.wanted_layer()
    assert top is not None
    heights = publication.heights[: publication.sizes] if publication.sizes > 1 else publication.heights[-1:]
    encodings = len(publication.spec.encodings)
    ladder = publication.weights.ladder(top, heights, encodings=encodings, cap=publication.max_bitrate, now=now)
    estimate = subscription.subscriber.bandwidth.estimate
    return Picture(subscription.id, place, subscription.wanted.short_side, _repaired(ladder, estimate))


def _repaired(ladder: tuple[Rung, ...], estimate: Estimate | None) -> tuple[Rung, ...]:
    """With what is sent again of it on a link that loses so much: before he asks, and until it is there."""
    if estimate is None:
        return ladder
    share = max(LEAST_LEFT, 1 - estimate.loss // LOSS_STEP * LOSS_STEP / 1000) / (1 + estimate.copies)
    if share == 1:
        return ladder
    return tuple(dataclasses.replace(rung, bitrate=int(rung.bitrate / share)) for rung in ladder)
