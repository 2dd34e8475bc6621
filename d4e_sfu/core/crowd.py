"""Who comes and goes in a room with so many that the others hear of it together, every few seconds.

At once it would be two messages for each pair of them. Only who is neither seen nor heard waits to be told of; whoever
is about to be noticed in another way is told of first (`Room.introduce`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from livekit.protocol import models

    from d4e_sfu.core.participant import Participant

# From so many people on it is one; and how often they hear (the reference server's interval).
CROWD: Final = 30
CROWD_SECONDS: Final = 3.0


class Crowd:
    """Of one room: those of whom the others have not heard yet."""

    __slots__ = ("_told_at", "_unheard")

    def __init__(self, *, now: float) -> None:
        self._unheard: dict[str, models.ParticipantInfo | None] = {}  # by sid: who has come (None) or gone
        self._told_at = now

    def is_one(self, people: Collection[object]) -> bool:
        return len(people) >= CROWD

    def came(self, participant: Participant) -> None:
        self._unheard[participant.sid] = None

    def went(self, participant: Participant, departure: models.ParticipantInfo) -> None:
        self._unheard[participant.sid] = departure

    def forget(self, participant: Participant) -> None:
        """The others hear of him in another way."""
        self._unheard.pop(participant.sid, None)

    def holds(self, participant: Participant) -> bool:
        return participant.sid in self._unheard

    def has_left(self, identity: str) -> bool:
        """Whether somebody of this identity has gone, and the others do not know it."""
        return any(gone is not None and gone.identity == identity for gone in self._unheard.values())

    def is_due(self, *, now: float) -> bool:
        """Once in each interval."""
        if now - self._told_at < CROWD_SECONDS:
            return False
        self._told_at = now
        return True

    def take(self, people: Iterable[Participant]) -> list[models.ParticipantInfo]:
        """What the others are to be told now."""
        unheard, self._unheard = self._unheard, {}
        here = {each.sid: each for each in people if not each.rights.hidden}
        return [gone or here[sid].info() for sid, gone in unheard.items() if gone is not None or sid in here]
