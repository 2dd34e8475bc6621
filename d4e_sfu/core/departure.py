"""In which order a server that drains sends people away, once their calls have had their time.

Room by room: whoever talks with each other has to meet again, on one server. The rooms are spread over some seconds
(`drain.spread`), so that they do not all come to another server at once; who loses least goes first. A pure order over
what there is; when it is time is the server's clock, and the sending is the root's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.room import Room


def next_room(rooms: Iterable[Room]) -> Room | None:
    """Where nobody speaks goes before where somebody does, few people before many."""
    return min(
        (room for room in rooms if room.participants),
        key=lambda room: (bool(room.speakers.ranking), len(room.participants), room.name),
        default=None,
    )


def in_order(participants: Iterable[Participant]) -> list[Participant]:
    """Who is seen and heard goes first, so that he is there when those come who only watch."""
    return sorted(participants, key=lambda participant: not participant.is_publisher)
