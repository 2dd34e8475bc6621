"""What a viewer's link is used for: budget and wants → a layer for each of his subscriptions, with the reason.

A pure function of its arguments; the previous allocation is one of them, for what is given back must wait. What things
weigh is in weights.py, whose wants these are and who is told in bandwidth.py. The page beside this file (README.md) has
the same headings, and the reasons at length.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from d4e_sfu.core.boundary import SubscriptionId

# A picture or voice comes back only where so much of the budget stays free: an estimate swings by some percent, and a
# picture's own rate by more.
HEADROOM: Final = 0.1
MOST_FREE: Final = 160_000  # bit/s: more swings by less
# And not before so long after something had to go, s: as long as an estimator takes to find out that it was wrong.
HOLD: Final = 2.0
# What came back and had to go again within `REGRET` was more than the link carries, whatever it promised. So much comes
# back only after a hold that is twice as long each time, up to `LONGEST_HOLD`: many switches a minute are worse than a
# small picture. What is less waits no longer than usual.
LONGEST_HOLD: Final = 32.0
REGRET: Final = 15.0
FORGIVEN: Final = 60.0  # s without anything having to go, and the hold is as it was
# Halfway from what was carried to what was not it may go at once, and halfway from there in so long, s.
CLOSER: Final = 8.0
# And from then on, each `CLOSER`, beyond that by such a share: what one step is above it is not out of reach for long.
BEYOND: Final = 0.02
# What was given for so long, s, the link does carry.
PROVEN: Final = 5.0
# A link that promises so many times more than when it broke its word is another link.
ANOTHER: Final = 1.15
# Another encoding begins with a keyframe, which weighs as much with few of its layers as with all: where less than so
# much of its rate is to be had, that takes longer than a picture may wait, and ends in two seconds without any.
KEYFRAME: Final = 0.7
# Where not everything fits, what comes on top comes so far apart, s: what the estimate does not hold shows before it
# has become a long queue.
PACE: Final = 1.0
# One voice stays, whatever it weighs; so what one who speaks weighs is there for several. It is for who ends and who
# begins, at the change of a turn, and for the noise of who is silent (RFC 6716 §2.1.9): some packets a second each.
TURN: Final = 1.25


# --- What is wanted ---------------------------------------------------------------------------------------------------


class Place(enum.IntEnum):
    """Of a picture, for this viewer."""

    SPEAKER = 0
    """Of who leads the conversation, is pinned, or is shown larger than everyone else."""
    SCREEN = 1
    FAR = 2
    """Everyone else."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One of the forms in which a picture can be had."""

    spatial: int
    temporal: int
    bitrate: int
    height: int


@dataclass(frozen=True, slots=True)
class Picture:
    """`rungs`: up to what is wanted, each heavier than the one before. None are wanted: it has no place here."""

    subscription: SubscriptionId
    place: Place
    height: int
    """Of the view; 0 = not said."""
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class Voice:
    subscription: SubscriptionId
    bitrate: int
    """Now; `redundancy` of it could be left out."""
    reserve: int
    """What it will weigh when he speaks again; at least `bitrate`."""
    redundancy: int = 0


# --- What is given ----------------------------------------------------------------------------------------------------


class Reason(enum.StrEnum):
    """Why somebody gets less than he wants. Told to clients: docs/signalling.md."""

    NONE = ""
    SMALLER = "link_smaller"
    """His link carries it smaller, or with fewer pictures a second."""
    PAUSED = "link_paused"
    """His link does not carry it."""
    VOICE_PAUSED = "link_voice_paused"
    """His link does not even carry all voices."""
    NOT_RECENT = "not_recent"
    """As many pictures as the room allows are of people who have spoken more recently."""

    @property
    def pauses(self) -> bool:
        return self not in (Reason.NONE, Reason.SMALLER)


@dataclass(frozen=True, slots=True)
class Share:
    """Of one subscription; `spatial` None: it is paused."""

    spatial: int | None
    temporal: int
    bitrate: int
    reason: Reason = Reason.NONE
    redundancy: bool = True
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a link's promises are believed, by what came of earlier ones."""

    lowered_at: float = float("-inf")
    raised_at: float = float("-inf")
    proven: int = 0
    """What was used before the rises of which it is not yet known whether the link carries them."""
    hold: float = HOLD
    broken: float = float("inf")
    """So much was too much, and is not given again until the hold is over."""
    carried: int = 0
    """So much was not."""
    promised: float = float("inf")
    """The budget at that time."""

    def waits(self, *, now: float) -> bool:
        """Nothing comes back yet."""
        return now - self.lowered_at < HOLD

    def growth(self, budget: int, *, now: float) -> int:
        """How much may be used by whatever comes on top."""
        since = now - self.lowered_at
        if since < HOLD:
            return 0
        most = float(usable(budget))
        if since < self.hold and budget < self.promised * ANOTHER:
            closer = self.broken - (self.broken - self.carried) * 0.5 ** (1 + since / CLOSER)
            beyond = self.broken * BEYOND * max(0.0, since / CLOSER - 1)
            most = min(most, closer + beyond)
        return int(most)

    def raised(self, used: int, *, now: float) -> Trust:
        """Something came back; `used` before."""
        proven = used if now - self.raised_at >= PROVEN else self.proven
        return replace(self, raised_at=now, proven=proven)

    def lowered(self, used: int, left: int, budget: int, *, now: float) -> Trust:
        """Something has to go, and so much is left; `used` and promised before."""
        if now - self.raised_at <= REGRET:
            hold, carried = min(2 * self.hold, LONGEST_HOLD), max(self.proven, left)
            return Trust(now, float("-inf"), 0, hold, max(used, carried), carried, budget)
        if now - self.lowered_at > FORGIVEN:
            return Trust(now, self.raised_at)
        return replace(self, lowered_at=now)


@dataclass(frozen=True, slots=True)
class Allocation:
    shares: Mapping[SubscriptionId, Share] = field(default_factory=dict)
    budget: int | None = None
    """Bits per second; None: without limit."""
    used: int = 0
    """What is given, and reserved for voices."""
    demand: int = 0
    """What would be given without a limit."""
    trust: Trust = field(default_factory=Trust)
    needed: float = 0.0
    """The least that would be used if something more were given, as everything weighed then; 0: it is not to wait."""
    least: int = 0
    """What all voices and every picture in its smallest form would take."""

    def holds(self, budget: int, *, now: float) -> bool:
        """With this budget and the same wants the same would be given: there is nothing to decide."""
        if self.budget is None or self.used > budget or self.needed == 0:
            return False
        return self.trust.waits(now=now) or self.trust.growth(budget, now=now) < self.needed

    @property
    def is_full(self) -> bool:
        """Everyone gets what he wants, as far as the link is concerned."""
        link = (Reason.SMALLER, Reason.PAUSED, Reason.VOICE_PAUSED)
        return not any(share.reason in link or not share.redundancy for share in self.shares.values())

    def debug_state(self) -> dict[str, Any]:
        return {
            "budget": self.budget,
            "used": self.used,
            "demand": self.demand,
            "shares": {
                str(subscription): {
                    "layer": None if share.spatial is None else [share.spatial, share.temporal],
                    "bitrate": share.bitrate,
                    "reason": share.reason.value or None,
                    "redundancy": share.redundancy,
                }
                for subscription, share in self.shares.items()
            },
        }


def usable(budget: int) -> int:
    """By whatever comes on top, bit/s."""
    return budget - int(min(budget * HEADROOM, MOST_FREE))


def allocate(
    budget: int | None,
    voices: Sequence[Voice],
    pictures: Sequence[Picture],
    *,
    surplus: Iterable[SubscriptionId] = (),
    previous: Allocation,
    now: float,
) -> Allocation:
    """`voices` and `pictures`: whom it would be worst to lose first. `surplus`: pictures over the room's number."""
    demand = sum(voice.reserve for voice in voices) + sum(picture.rungs[-1].bitrate for picture in pictures)
    shares = {subscription: Share(None, 0, 0, Reason.NOT_RECENT) for subscription in surplus}
    if budget is None:
        shares |= {voice.subscription: Share(0, 0, voice.bitrate) for voice in voices}
        shares |= {each.subscription: _share(each, len(each.rungs) - 1) for each in pictures}
        return Allocation(shares, None, demand, demand)

    # Restoring has hysteresis: what is had already may take the whole budget, what comes on top leaves some of it free.
    # Who has begun to speak does not wait: what he needs is taken from others at once.
    trust = previous.trust
    growth = trust.growth(budget, now=now)
    shares |= _voices(budget, growth, voices, previous)
    reserved = _reserve(voices, shares)
    before = [_had(picture, previous) for picture in pictures]
    kept = reserved + sum(
        picture.rungs[rung].bitrate for picture, rung in zip(pictures, before, strict=True) if rung >= 0
    )
    promoted = [_is_promoted(picture, previous) for picture in pictures]
    soon = demand > growth and now - trust.raised_at < PACE
    limits = [min(budget, max(kept, growth)) if new else 0 if soon else growth for new in promoted]
    ladders = _Ladders(pictures, before, promoted, budget=budget, limits=limits, used=reserved)
    ladders.climb()
    rungs = ladders.at
    shares |= {picture.subscription: _share(picture, rung) for picture, rung in zip(pictures, rungs, strict=True)}

    lowered = any(now_at < had for now_at, had in zip(rungs, before, strict=True)) or any(
        _is_less(shares[voice.subscription], previous.shares.get(voice.subscription, _NOTHING)) for voice in voices
    )
    raised = any(
        now_at > had and picture.subscription in previous.shares
        for picture, now_at, had in zip(pictures, rungs, before, strict=True)
    )
    if lowered:
        trust = trust.lowered(previous.used, ladders.used, previous.budget or budget, now=now)
    elif raised:
        trust = trust.raised(previous.used, now=now)
    whole = all(share.spatial is not None and share.redundancy for share in (shares[v.subscription] for v in voices))
    needed = ladders.needed if whole else 0.0
    least = sum(voice.reserve for voice in voices) + sum(picture.rungs[0].bitrate for picture in pictures)
    return Allocation(shares, budget, ladders.used, demand, trust, needed, least)


_NOTHING: Final = Share(None, 0, 0, redundancy=False)


def _is_less(voice: Share, before: Share) -> bool:
    return (before.spatial is not None and voice.spatial is None) or (before.redundancy and not voice.redundancy)


# --- Voices first -----------------------------------------------------------------------------------------------------


def _voices(budget: int, growth: int, voices: Sequence[Voice], previous: Allocation) -> dict[SubscriptionId, Share]:
    """Redundancy goes before any voice, then voices go from the last in rank; the first stays, whatever it weighs.

    They come back as soon as they fit: a word that is not heard does not come again, and a voice that is given back too
    soon costs the time until this is asked again.
    """
    silent = {id for id, share in previous.shares.items() if share.reason is Reason.VOICE_PAUSED}
    bare = any(not share.redundancy for share in previous.shares.values())
    redundancy = sum(voice.bitrate for voice in voices) <= (growth if bare else budget)
    shares = {}
    used = 0
    one = int(TURN * max((voice.reserve - voice.redundancy for voice in voices), default=0))
    limit, again = max(budget, one), max(usable(budget), one)
    for rank, voice in enumerate(voices):
        bitrate = voice.bitrate - (0 if redundancy else voice.redundancy)
        fits = used + bitrate <= (again if voice.subscription in silent else limit)
        if fits or rank == 0:
            used += bitrate
            shares[voice.subscription] = Share(0, 0, bitrate, redundancy=redundancy)
        else:
            shares[voice.subscription] = Share(None, 0, 0, Reason.VOICE_PAUSED, redundancy)
    return shares


def _reserve(voices: Sequence[Voice], shares: Mapping[SubscriptionId, Share]) -> int:
    """What pictures must leave: all voices, as they weigh when they speak."""
    heard = [voice for voice in voices if shares[voice.subscription].spatial is not None]
    bare = any(not shares[voice.subscription].redundancy for voice in heard)
    return sum(
        max(voice.reserve - (voice.redundancy if bare else 0), shares[voice.subscription].bitrate) for voice in heard
    )


# --- Pictures ---------------------------------------------------------------------------------------------------------


def _had(picture: Picture, previous: Allocation) -> int:
    """The highest of its rungs that is not above what he had of it; -1 = nothing."""
    share = previous.shares.get(picture.subscription, _NOTHING)
    if share.spatial is None:
        return -1
    had = (share.spatial, share.temporal)
    return max((at for at, rung in enumerate(picture.rungs) if (rung.spatial, rung.temporal) <= had), default=0)


def _is_promoted(picture: Picture, previous: Allocation) -> bool:
    place = previous.shares.get(picture.subscription, _NOTHING).place
    return place is None or picture.place < place


class _Ladders:
    """Who stands how high. What is shed first is given last, so that each step has all the steps above it to lose.

    Read backwards it is the order of shedding: far pictures' frame rate and size, then the speaker's and the screen's,
    then far pictures, the screen's frame rate, the screen, the speaker's picture.
    """

    __slots__ = (
        "_before",
        "_budget",
        "_keyframes",
        "_limits",
        "_pictures",
        "_promoted",
        "at",
        "needed",
        "used",
    )

    def __init__(
        self,
        pictures: Sequence[Picture],
        before: Sequence[int],
        promoted: Sequence[bool],
        *,
        budget: int,
        limits: Sequence[int],
        used: int,
    ) -> None:
        self._pictures = pictures
        self._before = before
        self._promoted = promoted
        self._budget = budget
        self._limits = limits  # of each, for more than before
        self._keyframes = 0.0  # what those take that begin another encoding
        self.used = used
        self.needed = float("inf")  # what the lightest step would have taken that was not made
        self.at = [-1] * len(pictures)

    def climb(self) -> None:
        places: dict[Place, list[int]] = {place: [] for place in Place}
        for index, picture in enumerate(self._pictures):
            places[picture.place].append(index)
        for index in places[Place.SPEAKER]:
            self._step(index)
        for index in places[Place.SCREEN]:
            self._step(index)
        for index in places[Place.SCREEN]:
            while self._is_slow(index) and self._step(index):
                pass
        for index in sorted(places[Place.FAR], key=lambda far: -self._pictures[far].height):
            self._step(index)
        self._lowest_first(places[Place.SPEAKER] + places[Place.SCREEN])
        self._lowest_first(places[Place.FAR])

    def _step(self, index: int) -> bool:
        """One rung up, if it fits."""
        at = self.at[index] + 1
        rungs = self._pictures[index].rungs
        if at == len(rungs):
            return False
        used = self.used + rungs[at].bitrate - (rungs[at - 1].bitrate if at else 0)
        if at <= self._before[index]:
            fits, needed = used <= self._budget, used
        elif self._promoted[index]:
            fits, needed = used <= self._limits[index], used
        else:
            keyframe = KEYFRAME * self._new_encoding(index)
            fits = max(used, self._keyframes + keyframe) <= self._limits[index]
            needed = int(max(used, keyframe))
            if fits:
                self._keyframes += keyframe
        if not fits:
            self.needed = min(self.needed, needed)
            return False
        self.used, self.at[index] = used, at
        return True

    def _new_encoding(self, index: int) -> int:
        """What the next rung weighs with all its layers, if he has another encoding of that picture until then."""
        rungs, at = self._pictures[index].rungs, self.at[index] + 1
        if self._before[index] < 0 or at == 0 or rungs[at].spatial == rungs[at - 1].spatial:
            return 0
        return max(rung.bitrate for rung in rungs if rung.spatial == rungs[at].spatial)

    def _is_slow(self, index: int) -> bool:
        """It stands, and the next rung is the same picture more often."""
        rungs, at = self._pictures[index].rungs, self.at[index]
        return 0 <= at < len(rungs) - 1 and rungs[at + 1].spatial == rungs[at].spatial

    def _lowest_first(self, indices: Sequence[int]) -> None:
        """Max-min by height, and of one height by frame rate: whoever is smallest grows, until he cannot."""
        queue = [(*self._size(index), index) for index in indices if self.at[index] >= 0]
        heapq.heapify(queue)
        while queue:
            index = queue[0][-1]
            if self._step(index):
                heapq.heapreplace(queue, (*self._size(index), index))
            else:
                heapq.heappop(queue)

    def _size(self, index: int) -> tuple[int, int]:
        rung = self._pictures[index].rungs[self.at[index]]
        return rung.height, rung.temporal


def _share(picture: Picture, at: int) -> Share:
    if at < 0:
        return Share(None, 0, 0, Reason.PAUSED, place=picture.place)
    rung = picture.rungs[at]
    reason = Reason.NONE if at == len(picture.rungs) - 1 else Reason.SMALLER
    return Share(rung.spatial, rung.temporal, rung.bitrate, reason, place=picture.place)
