"""An offer as far as we accept it: which of its sections, and the client's end of the transport.

A section that is left out here is answered with port 0. What an accepted one then carries is decided in bindings.py
(the client publishes) and placement.py (the client receives); the answer is put together in negotiation.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from d4e_sfu._engine import Codec
from d4e_sfu.core import payloads
from d4e_sfu.core.boundary import DtlsRole
from d4e_sfu.core.sdp import Direction, SdpError, Section, Session, Setup
from d4e_sfu.errors import BadRequest

Kind = Literal["audio", "video"]

SCTP_PORT: Final = 5000  # what every browser uses; RFC 8841 §5 leaves the choice
MAX_MESSAGE_SIZE: Final = 65_536  # bytes that we accept in one data channel message
NO_LIMIT: Final = 2**31 - 1


class NegotiationError(BadRequest, ValueError):
    """The offer is well formed, and we cannot answer it; `str(error)` tells the client why. Nothing has changed."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, rule="negotiation")


@dataclass(frozen=True, slots=True)
class RemoteTransport:
    """The client's end, from its offer. `role` is ours in DTLS: "server" = we answered `a=setup:passive`."""

    ufrag: str
    pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    role: DtlsRole
    sctp_port: int | None  # None: no application section, no data channels
    max_message_size: int  # bytes that the client accepts; NO_LIMIT where it says 0


@dataclass(frozen=True, slots=True)
class Offered:
    """A section that we accept."""

    mid: str
    section: Section
    direction: Direction
    choice: payloads.Choice | None  # what to accept where nothing else decides; None: the application section


def accept(session: Session, codecs: frozenset[Codec], before: Mapping[str, Offered]) -> dict[str, Offered]:
    """The sections that are accepted, by mid, in the order of their BUNDLE group: the first one is the tagged one.

    `before`: what this function has said of the last offer, with the same codecs; what is unchanged stays so.
    """
    by_mid: dict[str, Section] = {}
    for each in session.sections:
        if each.mid is None and each.port:
            raise SdpError("A section has no a=mid.")
        if each.mid is not None:
            if each.mid in by_mid:
                raise SdpError("Two sections have the same a=mid.")
            by_mid[each.mid] = each
    group = session.bundles[0] if session.bundles else tuple(by_mid)
    found: dict[str, Offered] = {}
    data = True
    for mid in group:
        if found and not session.bundles:
            break  # one transport, hence one section where they are not bundled
        section = by_mid.get(mid)  # None: a group may name what is not there
        # RFC 9143 §6: port 0 with bundle-only is not a rejection.
        if section is None or not (section.port or section.bundle_only):
            continue
        direction = section.direction or session.direction or Direction.SENDRECV
        if section.kind in ("audio", "video"):
            # RFC 8829 §5.1.2 on protocols; RFC 5761 without multiplexing would need a second port.
            if not section.protocol.endswith("RTP/SAVPF") or not section.rtcp_mux:
                continue
            known = before.get(mid)
            if known is not None and known.section is section and known.direction is direction:
                found[mid] = known
                continue
            if direction in (Direction.SENDONLY, Direction.SENDRECV):
                choice = payloads.publishable(section, codecs, None)
            else:
                choice = payloads.placeholder(section, codecs)
            if choice is None:
                continue
            found[mid] = Offered(mid, section, direction, choice)
        elif (
            data
            and section.kind == "application"
            and section.protocol.endswith("/DTLS/SCTP")
            and section.sctp_port != 0
        ):
            found[mid] = Offered(mid, section, direction, None)
            data = False
    return found


def remote_transport(session: Session, offered: Mapping[str, Offered], old: RemoteTransport | None) -> RemoteTransport:
    if session.ice_lite:
        raise NegotiationError("Both sides are ICE-lite: nobody would check the connection.")
    if not offered:
        raise NegotiationError("The offer has no section that the server can use.")
    tagged = next(iter(offered.values())).section
    ufrag, pwd = tagged.ice_ufrag or session.ice_ufrag, tagged.ice_pwd or session.ice_pwd
    # RFC 8122 §5: SHA-1 and MD5 no longer prove anything.
    fingerprints = tuple(
        (name, digest)
        for name, digest in tagged.fingerprints or session.fingerprints
        if name in ("sha-256", "sha-384", "sha-512")
    )
    if ufrag is None or pwd is None:
        raise NegotiationError("The offer has no ICE credentials.")
    if not fingerprints:
        raise NegotiationError("The offer has no fingerprint of SHA-256 or better.")
    data = next((each.section for each in offered.values() if each.choice is None), None)
    remote = RemoteTransport(
        ufrag=ufrag,
        pwd=pwd,
        fingerprints=fingerprints,
        role=_role(tagged.setup or session.setup, old),
        sctp_port=None if data is None else data.sctp_port or SCTP_PORT,
        max_message_size=_message_limit(data),
    )
    if old is None:
        return remote
    if set(fingerprints) != set(old.fingerprints):
        raise NegotiationError("The fingerprint has changed; join again.")
    if old.sctp_port is None and remote.sctp_port is not None:  # data channels that are made when they are needed
        old = replace(old, sctp_port=remote.sctp_port, max_message_size=remote.max_message_size)
    # RFC 8839 §4.4.1.1.1: a change of either is an ICE restart. It is of the connection alone, DTLS and SCTP go on.
    return old if (ufrag, pwd) == (old.ufrag, old.pwd) else replace(old, ufrag=ufrag, pwd=pwd)


def _role(offered: Setup | None, old: RemoteTransport | None) -> DtlsRole:
    """Ours. We prefer to be the server: a lite agent should wait for the checks (RFC 8842 §5.3)."""
    if offered is Setup.HOLDCONN:
        raise NegotiationError("a=setup:holdconn is not supported.")
    if old is not None and offered in (None, Setup.ACTPASS):
        return old.role
    role: DtlsRole = "client" if offered is Setup.PASSIVE else "server"
    if old is not None and role != old.role:
        raise NegotiationError("The DTLS role has changed; join again.")
    return role


def _message_limit(data: Section | None) -> int:
    # RFC 8841 §6.1: 64 KiB where nothing is said, and 0 = any size.
    if data is None or data.max_message_size is None:
        return MAX_MESSAGE_SIZE
    return min(data.max_message_size, NO_LIMIT) or NO_LIMIT
