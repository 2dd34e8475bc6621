"""What a room is beside the people in it: when it was made, what whoever made it wished for, its metadata.

Values and the message that tells of them. A room that somebody joins is made with nothing wished for; the server API
(`roomcalls.py`) makes one with more, and changes its metadata.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from livekit.protocol import models

if TYPE_CHECKING:
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.policy import RoomPolicy


@dataclass(slots=True, kw_only=True)
class RoomInfo:
    """Of one room."""

    made_wall: float
    """Unix seconds."""
    metadata: str = ""
    capacity: int | None = None
    """Fewer than the policy's; None: as many."""
    empty_timeout: float | None = None
    """Seconds until it is forgotten if nobody comes; None: the policy's."""
    departure_timeout: float | None = None
    """Seconds until it is forgotten after the last has left; None: the policy's."""
    visited: bool = False
    """Somebody has been in it."""

    def capacity_of(self, policy: RoomPolicy) -> int:
        return policy.capacity if self.capacity is None else min(policy.capacity, self.capacity)

    def idle_timeout(self, policy: RoomPolicy) -> float:
        """Seconds for which it is kept while nobody is in it."""
        wished = self.departure_timeout if self.visited else self.empty_timeout
        return policy.idle_timeout if wished is None else wished

    def message(self, name: str, sid: str, policy: RoomPolicy, people: Collection[Participant]) -> models.Room:
        """As everyone in it may know it; who is hidden does not count."""
        seen = [participant for participant in people if not participant.rights.hidden]
        empty, departure = self.empty_timeout, self.departure_timeout
        return models.Room(
            sid=sid,
            name=name,
            creation_time=int(self.made_wall),
            creation_time_ms=int(self.made_wall * 1000),
            empty_timeout=int(policy.idle_timeout if empty is None else empty),
            departure_timeout=int(policy.idle_timeout if departure is None else departure),
            max_participants=self.capacity_of(policy),
            metadata=self.metadata,
            num_participants=len(seen),
            num_publishers=sum(participant.is_publisher for participant in seen),
        )
