"""What is worth a media section of a client's (it alone makes offers), when to ask for more, and when to stop asking.

An offer costs the client and us milliseconds, and everyone who comes would cause one: so we ask at most once in
`INTERVAL`, for all that is missing by then. At most one request is outstanding. It is repeated after `PATIENCE` without
an offer that helped, and each time after twice as long, `TRIES` times; then only the next placement or a new want
starts it again. Without this bound, a client that ignores us would be asked for ever.

A section costs its kilobytes in every offer and answer to come, and so on a thin link seconds in which nobody is heard.
Voices have theirs first; pictures in as far as the link is known to carry them; who is muted and was never heard, none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from d4e_sfu.config import Source
from d4e_sfu.core.allocator import usable
from d4e_sfu.core.bandwidth import NO_ESTIMATE
from d4e_sfu.core.weights import USUAL_PICTURE

if TYPE_CHECKING:
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.subscription import Subscription

INTERVAL: Final = 0.3  # s
PATIENCE: Final = 2.0  # s; a client answers within two round trips and some tens of ms, if its link is no thin one
TRIES: Final = 5
# In a room of so many, what is muted gets a section only when it is heard or seen for the first time.
SPARING: Final = 10
# So many pictures are never too many: the stock clients' first offer has sections for them.
FIRST_PICTURES: Final = 3
# Whose link has told nothing so long after it came up (s) is not waited for.
SILENCE: Final = 5.0


def worthy(participant: Participant, *, now: float) -> list[Subscription]:
    """Those of his subscriptions that have a section or should have one, first what he would miss most."""
    room = participant.room
    sparing = len(room.participants) >= SPARING
    speakers = room.speakers

    def rank(each: Subscription) -> tuple[bool, bool, bool, float]:
        publication, sid = each.publication, each.publication.publisher.sid
        first = each.wanted.pinned or sid == speakers.lead or publication.source is Source.SCREEN_SHARE
        return publication.is_video, each.mid is None, not first, -speakers.spoke(sid)

    wanted = [
        each
        for each in participant.subscriptions.values()
        if each.publication.spec is not None  # a backup may have to be asked for first
        if each.mid is not None or not (sparing and each.publication.info.muted)
    ]
    wanted.sort(key=rank)
    limit = _pictures(participant, now=now)
    sounds = sum(not each.publication.is_video for each in wanted)
    return wanted if limit is None else wanted[: sounds + limit]


def _pictures(participant: Participant, *, now: float) -> int | None:
    """How many of them are worth a section; None: all."""
    bandwidth = participant.bandwidth
    estimate, budget = bandwidth.estimate, bandwidth.budget
    if participant.room.policy.start_bitrate == 0 or (estimate is not None and estimate.bitrate == NO_ESTIMATE):
        return None
    placed = [each for each in participant.subscriptions.values() if each.mid is not None and each.publication.is_video]
    here = max(FIRST_PICTURES, len(placed))
    if budget is None:
        silent = participant.active_at is not None and now - participant.active_at >= SILENCE
        return None if silent else here
    more = int((usable(budget) - bandwidth.allocation.least) / USUAL_PICTURE)
    if more > 0:
        return max(here, len(placed) + more)
    # Whoever leads the conversation is seen instead of another.
    lead = participant.room.speakers.lead
    shown = {each.publication.publisher.sid for each in placed}
    seen = any(each.share is not None and each.share.spatial is not None for each in placed)
    return here + (seen and lead is not None and lead not in shown)


class SectionsRequirement:
    """Towards one client."""

    __slots__ = ("_asked_at", "_outstanding", "_tries", "deferred")

    def __init__(self) -> None:
        self.deferred = False  # wanted too soon after the last one: at a later tick
        self._asked_at = float("-inf")
        self._outstanding = False
        self._tries = 0

    def may_ask(self, *, now: float) -> bool:
        patience = PATIENCE * 2 ** max(0, self._tries - 1)
        return self._tries < TRIES and (not self._outstanding or now - self._asked_at >= patience)

    def ask(self, *, now: float) -> bool:
        """The request goes out; or, if False, it waits."""
        self.deferred = now - self._asked_at < INTERVAL
        if self.deferred:
            return False
        self._asked_at = now
        self._outstanding = True
        self._tries += 1
        return True

    def helped(self) -> None:
        """An offer placed something, or nothing is missing."""
        self._outstanding = False
        self._tries = 0

    def wanted_anew(self) -> None:
        """Something else is wanted than when we gave up."""
        self._tries = min(self._tries, TRIES - 1)
