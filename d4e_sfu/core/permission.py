"""Whom a publisher lets receive what: his own wish, on top of what the policy allows.

The policy says what a role may subscribe to; this only takes away from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from livekit.protocol import rtc

if TYPE_CHECKING:
    from d4e_sfu.core.participant import Participant

MAX_ENTRIES: Final = 1000
MAX_TRACKS: Final = 64  # of one entry; a participant has fewer publications


class Permission:
    """Everyone and everything, until the publisher names some."""

    __slots__ = ("_by_identity", "_by_sid", "_everyone")

    def __init__(self, message: rtc.SubscriptionPermission | None = None) -> None:
        self._everyone = message is None or message.all_participants
        self._by_sid: Mapping[str, frozenset[str] | None] = {}  # publications' sids; None = all of them
        self._by_identity: Mapping[str, frozenset[str] | None] = {}
        if message is not None and not self._everyone:
            entries = message.track_permissions[:MAX_ENTRIES]
            self._by_sid = {each.participant_sid: _tracks(each) for each in entries if each.participant_sid}
            self._by_identity = {
                each.participant_identity: _tracks(each) for each in entries if each.participant_identity
            }

    @property
    def is_restricted(self) -> bool:
        return not self._everyone

    def allows(self, subscriber: Participant, publication_sid: str) -> bool:
        if self._everyone:
            return True
        for table, key in ((self._by_sid, subscriber.sid), (self._by_identity, subscriber.identity)):
            if key in table:
                tracks = table[key]
                if tracks is None or publication_sid in tracks:
                    return True
        return False


def _tracks(entry: rtc.TrackPermission) -> frozenset[str] | None:
    return None if entry.all_tracks else frozenset(entry.track_sids[:MAX_TRACKS])
