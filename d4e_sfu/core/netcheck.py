"""The network check: would a call work from here? Each person has a place of his own for it, where nobody else is.

It needs no protocol of its own: WHIP and WHEP (whip.py) into that place, which ends by itself. Nobody is told of it: it
is no consultation, so neither the audit log nor the metrics of joins know it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from d4e_sfu.config import Source
from d4e_sfu.core import policy

if TYPE_CHECKING:
    from livekit.protocol import webhook

    from d4e_sfu.config import Config
    from d4e_sfu.core.policy import Rights, RoomPolicy
    from d4e_sfu.core.tokens import Grants
    from d4e_sfu.core.turn import Turn

SECONDS: Final = 10.0
"""What a check takes."""
STAY: Final = 20.0
"""s; after which whoever is still in it is gone: a slow network needs time to connect."""
NEEDS: Final = {
    "voice": {"bits_per_second": 40_000, "loss": 0.15, "round_trip": 1.0},
    "picture": {"bits_per_second": 200_000, "loss": 0.08, "round_trip": 0.6},
}
"""What of it must be there in both directions; loss as a share, the round trip in seconds. A voice in Opus at 24 kbit/s
takes 40 with its headers; the smallest picture, a voice and repairs stay below 200. Repair of losses (packet-path: one
round trip) is what limits both."""


class Way(enum.StrEnum):
    """What one connection of a check is for; at the same time its identity there."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    """These three only try a way, each with a voice."""
    SEND = "send"
    RECEIVE = "receive"
    """What was sent comes back: rates, loss and round trip."""


class Unheard:
    """An announcer that tells nobody."""

    def announce(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        pass

    def report(self, make: Callable[[], webhook.WebhookEvent]) -> None:
        pass


def place(grants: Grants, way: Way) -> Grants:
    """What somebody's token grants in his own place. Its name is none that a token could say."""
    return dataclasses.replace(
        grants,
        identity=way.value,
        name="",
        metadata="",
        attributes={},
        room="\x1f".join(("check", grants.key, grants.room, grants.identity)),
        room_admin=False,
    )


def terms(config: Config, grants: Grants, turn: Turn | None, sid: str) -> dict[str, Any]:
    """What a check takes and must find: an app that does its own says the same as our page. Raises as `rules`."""
    rules(config, grants)
    servers = [] if turn is None else [turn.server(sid, expires=grants.expires)]
    ice_servers = [{"urls": [*each.urls], "username": each.username, "credential": each.credential} for each in servers]
    return {"seconds": SECONDS, "needs": NEEDS, "iceServers": ice_servers}


def rules(config: Config, grants: Grants) -> tuple[Rights, RoomPolicy]:
    """What holds there: that of his room, and he may send and receive, whoever he is. Raises as `policy.rights`."""
    rights = dataclasses.replace(
        policy.rights(config, grants),
        publish=frozenset({Source.MICROPHONE, Source.CAMERA}),
        subscribe=True,
        data=False,
        moderate=False,
        hidden=False,
        update_own_metadata=False,
    )
    room_policy = dataclasses.replace(
        policy.room_policy(config, grants.room), capacity=len(Way), idle_timeout=0.0, stay=STAY
    )
    return rights, room_policy
