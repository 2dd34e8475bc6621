"""Clients with two peer connections: they publish on one, as everybody does, and on the other it is we who offer.

What `Participant` and `Room` know as his connection is the one on which he receives; it is up first, and carries data
to him. `Uplink` is the other. Our offer is made as an answer to `Template`, an offer of all that a browser could
receive: so which section carries what, and how it is written, is decided where it always is (negotiation.py). One offer
at a time is on its way; what changes meanwhile waits for its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livekit.protocol import rtc

from d4e_sfu._engine import Command
from d4e_sfu.core import backup, bandwidth, connection, offer, payloads, placement, sdp, sections
from d4e_sfu.core.sdp import Direction
from d4e_sfu.errors import BadRequest

if TYPE_CHECKING:
    from d4e_sfu._engine import Extension
    from d4e_sfu.core.boundary import TransportId
    from d4e_sfu.core.negotiation import LocalTransport, Negotiation, RemoteTransport
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.subscription import Subscription

# A client answers within two round trips and some tens of ms; the reference server waits as long.
PATIENCE: Final = 15.0  # s

_TRANSPORT: Final = (
    "c=IN IP4 0.0.0.0",
    "a=fingerprint:sha-256 " + ":".join(["00"] * 32),
    "a=setup:actpass",
)
# What libwebrtc can receive, under the numbers that it uses itself.
_MEDIA: Final = {
    "audio": (
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0 8 126",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=rtpmap:111 opus/48000/2",
        "a=rtcp-fb:111 transport-cc",
        "a=rtcp-fb:111 nack",  # which libwebrtc does where it is offered, and offers nobody itself
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 111/111",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:126 telephone-event/8000",
    ),
    "video": (
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 102 103 104 105 106 107 108 109 45 46",
        "a=extmap:12 urn:3gpp:video-orientation",
        "a=extmap:13 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
        "a=extmap:8 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
        *(
            line
            for number, name, parameters in (
                (96, "VP8", ""),
                (98, "VP9", "profile-id=0"),
                (102, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
                (104, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
                (106, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"),
                (108, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640032"),
                (45, "AV1", "level-idx=5;profile=0;tier=0"),
            )
            for line in (
                f"a=rtpmap:{number} {name}/90000",
                *(
                    f"a=rtcp-fb:{number} {each}"
                    for each in ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
                ),
                *([f"a=fmtp:{number} {parameters}"] if parameters else []),
                f"a=rtpmap:{number + 1} rtx/90000",
                f"a=fmtp:{number + 1} apt={number}",
            )
        ),
    ),
}
_EXTENSIONS: Final = (
    "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:7 http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
)


class Uplink:
    """The connection on which he publishes: named as its twin in `Participant`."""

    __slots__ = ("local", "negotiation", "remote", "transport")

    def __init__(self, transport: TransportId, local: LocalTransport, negotiation: Negotiation) -> None:
        self.transport = transport
        self.local = local
        self.negotiation = negotiation
        self.remote: RemoteTransport | None = None


class Template:
    """What we would be offered on his other connection, and how far our own offers have come."""

    __slots__ = ("_kinds", "_restarts", "again", "local", "number", "offered_at")

    def __init__(self) -> None:
        self.number = 0  # of our last offer
        self.offered_at: float | None = None  # and it has no answer yet
        self.again = False  # something has changed since
        self.local: LocalTransport | None = None  # our end, as it was offered last
        self._kinds: list[str] = []
        self._restarts = 0

    def add(self, audios: int, videos: int) -> None:
        self._kinds += ["audio"] * audios + ["video"] * videos

    def restart(self) -> None:
        """With other ICE credentials; an offer that he may not have got counts no more."""
        self._restarts += 1
        self.offered_at, self.again = None, False

    def is_overdue(self, *, now: float) -> bool:
        return self.offered_at is not None and now - self.offered_at >= PATIENCE

    def sdp(self) -> str:
        credentials = (f"a=ice-ufrag:template{self._restarts}", "a=ice-pwd:0123456789abcdefghijklmn")
        mids = " ".join(str(mid) for mid in range(len(self._kinds) + 1))
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE {mids}", "a=extmap-allow-mixed"]
        lines += ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", *_TRANSPORT, *credentials, "a=mid:0"]
        lines += ["a=sctp-port:5000", "a=max-message-size:65536"]
        for mid, kind in enumerate(self._kinds, 1):
            media, *rest = _MEDIA[kind]
            lines += [media, *_TRANSPORT, *credentials, f"a=mid:{mid}", "a=recvonly", "a=rtcp-mux", "a=rtcp-rsize"]
            lines += [*_EXTENSIONS, *rest]
        return "\r\n".join(lines) + "\r\n"


def offer_to(participant: Participant, *, now: float) -> None:
    """All that he is to receive, as it is now; or after his answer to the last offer."""
    template, negotiation = participant.template, participant.negotiation
    assert template is not None
    assert negotiation is not None
    if template.offered_at is not None:
        template.again = True
        return
    outgoing = [each.outgoing() for each in sections.worthy(participant, now=now)]
    answer = negotiation.answer(template.sdp(), pending=(), outgoing=outgoing)
    if answer.missing is not None and any(answer.missing):
        template.add(*answer.missing)
        answer = negotiation.answer(template.sdp(), pending=(), outgoing=outgoing)
    template.number += 1
    template.offered_at = now
    template.again = False  # where a section is empty once before it carries another, the next tick asks for more
    template.local = answer.local
    participant.send(
        rtc.SignalResponse(
            offer=rtc.SessionDescription(
                type="offer",
                # He chooses to be active, as a browser does, and we wait for him.
                sdp=answer.sdp.replace("a=setup:passive\r\n", "a=setup:actpass\r\n"),
                id=template.number,
                mid_to_track_id=answer.mid_to_track_id,
            )
        )
    )


def answered(participant: Participant, description: rtc.SessionDescription, *, now: float) -> None:
    """His answer to our offer. Raises ClientError, and has then changed nothing."""
    template, negotiation, room = participant.template, participant.negotiation, participant.room
    if template is None or negotiation is None or template.offered_at is None:
        return  # who makes all offers himself has nothing to answer
    if description.id not in (0, template.number):
        return  # of an offer before
    if description.type != "answer":
        raise BadRequest("The answer is not of type answer.", rule="answer_type")
    session = sdp.parse(description.sdp, max_sections=negotiation.max_sections)
    found = offer.accept(session, negotiation.codecs, {})
    remote = offer.remote_transport(session, found, participant.remote)
    template.offered_at = None
    local = template.local
    assert local is not None
    if participant.remote is None:
        participant.local = local
        connection.establish(room, participant, remote, may_publish=False, offers_channels=True)
    elif local is not participant.local:
        connection.restart_ice(room, participant, local, remote)
    ids: dict[Extension, int] = {}
    for each in found.values():
        if each.choice is not None:
            payloads.extensions(each.section, ids, choice=each.choice)
    assert participant.transport is not None
    allow_mixed = session.extmap_allow_mixed
    room.worker.engine.submit([Command.SetExtensions(participant.transport, tuple(ids.items()), allow_mixed)])
    placed = False
    by_id = {each.id: each for each in participant.subscriptions.values()}
    for mid, id in negotiation.placed().items():
        subscription = by_id.get(id)  # it may have ended since we offered it
        if subscription is not None and subscription.mid is None:
            placed |= _accepted(subscription, found.get(mid))
    if placed:
        bandwidth.share(participant, at_once=True, now=now)
    participant.sections.helped()
    if template.again:
        offer_to(participant, now=now)


def restart(participant: Participant, *, now: float) -> None:
    """He is back on another connection: ICE anew, and whatever he has missed."""
    if participant.template is not None:
        participant.template.restart()
        offer_to(participant, now=now)


def _accepted(subscription: Subscription, found: offer.Offered | None) -> bool:
    """By what he has really taken of what we offered."""
    room, outgoing = subscription.subscriber.room, subscription.outgoing()
    choice = None
    if found is not None and found.direction in (Direction.RECVONLY, Direction.SENDRECV):
        choice = payloads.subscribable(found.section, outgoing.codec, outgoing.format)
    if found is None or choice is None:
        if not backup.fall_back(subscription):
            room.not_supported(subscription)
        return False
    room.forward(subscription, placement.spec_of(found, outgoing, choice))
    return True
