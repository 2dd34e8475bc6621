"""A signed token → grants: the one door to PyJWT.

Who may do what is not decided here (`core/policy.py`); this says only what a key holder has signed, or refuses. Claims
follow the access token of the room protocol, so that tokens of stock server SDKs work; `d4e` is ours. First step of a
join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from d4e_sfu.config import Config, Key, Source


@dataclass(frozen=True, slots=True)
class Grants:
    """What a token grants, tri-states resolved to what their absence means."""

    key: str
    """Id of the key that signed it."""
    identity: str
    name: str
    metadata: str
    attributes: Mapping[str, str]
    kind: str
    """standard, ingress, egress, sip, agent, connector or bridge: shown to others, decides nothing."""
    role: str | None
    """`d4e: {role}`, unchecked: the policy knows which roles exist."""
    expires: float
    """Seconds since the Unix epoch."""
    room: str
    room_join: bool
    room_admin: bool
    publish: frozenset[Source]
    subscribe: bool
    data: bool
    update_own_metadata: bool
    hidden: bool


def verify(token: str, config: Config, *, now: float) -> Grants:
    """The grants of a token that one of the configured keys has signed and that is valid at `now` (Unix seconds).

    Raises `Unauthorized`, whose sentence says expired, not yet valid or not accepted, and whose rule says which check.
    """
    raise NotImplementedError


def mint(
    key: Key,
    *,
    identity: str,
    room: str,
    role: str | None,
    now: float,
    ttl: float = 6 * 3600,
    name: str = "",
    metadata: str = "",
    attributes: Mapping[str, str] | None = None,
    video: Mapping[str, bool | str | Sequence[str]] | None = None,
) -> str:
    """A token for one participant; `video` adds to `roomJoin` and `room`. `now` in Unix seconds, `ttl` in seconds."""
    raise NotImplementedError
