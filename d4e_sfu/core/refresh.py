"""A fresh token for whoever is in a room, so that his client can join again after the one it came with has expired.

It says what holds now: rights as a moderator has left them, name, metadata, attributes. It is signed with the key that
signed the original, and names the same role, or none. Clients keep the latest and use it for the next connection.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, NamedTuple

from livekit.protocol import rtc

from d4e_sfu.core import tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d4e_sfu.config import Config, Key
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.tokens import Grants

# As often as the reference server, and for as long.
INTERVAL: Final = 300.0  # s
LIFE: Final = 600.0  # s; the rest of the original's, where that is longer
# After a change it follows at once, but not after every one of many.
CHANGE_INTERVAL: Final = 1.0  # s


class Refreshed(NamedTuple):
    """What the latest token says, and when it was sent."""

    at: float
    grants: Grants
    name: str
    metadata: str
    attributes: Mapping[str, str]


def send_if_due(participant: Participant, config: Config, *, now: float) -> None:
    """After the join, every `INTERVAL`, and when something that it says has changed."""
    if participant.client is None:
        return
    last = participant.refreshed
    if last is not None:
        same = (last.grants, last.name, last.metadata) == (participant.grants, participant.name, participant.metadata)
        same = same and last.attributes == participant.attributes
        if now - last.at < (INTERVAL if same else CHANGE_INTERVAL):
            return
    key = config.key(participant.grants.key)
    # One that is no longer in the configuration signs nothing more, nor does one of which we know the public half.
    if key is not None and key.can_sign:
        wall = participant.joined_wall + (now - participant.joined_at)
        expires = max(wall + LIFE, participant.grants.expires)
        # Whoever is removed takes his latest token with him: so long is he remembered.
        not_before = max(participant.grants.not_before, float(int(wall)))
        participant.grants = dataclasses.replace(participant.grants, not_before=not_before, expires=expires)
        participant.send(rtc.SignalResponse(refresh_token=_token(participant, key, wall=wall)))
    participant.refreshed = Refreshed(
        now, participant.grants, participant.name, participant.metadata, dict(participant.attributes)
    )


def _token(participant: Participant, key: Key, *, wall: float) -> str:
    grants = participant.grants

    def signed(metadata: str, attributes: Mapping[str, str]) -> str:
        return tokens.mint(
            key,
            identity=grants.identity,
            room=grants.room,
            role=grants.role,
            now=wall,
            ttl=grants.expires - wall,
            name=participant.name,
            metadata=metadata,
            attributes=attributes,
            kind=grants.kind,
            id=grants.id,
            first=grants.first,
            video={
                "roomAdmin": grants.room_admin,
                "roomCreate": grants.room_create,
                "roomList": grants.room_list,
                "canPublish": bool(grants.publish),
                "canPublishSources": sorted(grants.publish),
                "canSubscribe": grants.subscribe,
                "canPublishData": grants.data,
                "canUpdateOwnMetadata": grants.update_own_metadata,
                "hidden": grants.hidden,
            },
        )

    token = signed(participant.metadata, participant.attributes)
    # Rather one that joins without them than one that is too long to join at all.
    return token if len(token) <= tokens.MAX_TOKEN else signed("", {})
