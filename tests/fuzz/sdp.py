"""SDP: offers one after another at one negotiation, separated by NUL. A control character before an offer says which
tracks are announced and which subscriptions wait at that moment (without one: all of them).

Only a ClientError may come of it, and it changes nothing. An answer is read back, answers the offer section by section,
and tells the engine nothing that the engine would refuse.
"""

from __future__ import annotations

import itertools

from d4e_sfu._engine import Codec, Command, Profile, Router
from d4e_sfu.core import sdp
from d4e_sfu.core.boundary import SubscriptionId
from d4e_sfu.core.negotiation import Answer, LocalTransport, Negotiation, Outgoing, PendingTrack
from d4e_sfu.errors import ClientError

OFFERS = 6
LOCAL = LocalTransport(
    ufrag="server00",
    pwd="0123456789abcdefghijklmn",
    fingerprint=("sha-256", ":".join(["A5"] * 32)),
    candidates=(("192.0.2.10", 7882), ("2001:db8::10", 7882)),
)
PENDING = [
    PendingTrack(sid="TR_A", cid="audio", kind="audio", mime_type="audio/opus", max_bitrate=128_000),
    PendingTrack(sid="TR_V", cid="video", kind="video", mime_type="video/vp8", max_bitrate=3_000_000),
    PendingTrack(sid="TR_H", cid="h264", kind="video", mime_type="video/h264", max_bitrate=3_000_000, rids=("f", "q")),
]
OUTGOING = [
    Outgoing(SubscriptionId(1), "TR_X", "PA_X", "audio", Codec.Opus, 11, 12, "PA_X", (13, 14)),
    Outgoing(SubscriptionId(2), "TR_Y", "PA_X", "video", Codec.Vp8, 21, 22, "PA_X", (23, 24), spatial=2),
    Outgoing(
        SubscriptionId(3),
        "TR_Z",
        "PA_Z",
        "video",
        Codec.H264,
        31,
        32,
        "PA_Z",
        (33, 34),
        format="level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    ),
]


def once(data: bytes) -> None:
    codecs = [Codec.Opus, Codec.Vp8, Codec.H264, Codec.Vp9, Codec.Av1]
    fresh = (f"again{number:03}" for number in itertools.count())
    negotiation = Negotiation(LOCAL, codecs=codecs, credentials=lambda: (next(fresh), LOCAL.pwd), max_sections=64)
    engine = Engine()
    for part in data.split(b"\0")[:OFFERS]:
        chosen = 0o77
        if part[:1] and part[0] < 32 and part[:1] not in b"\r\n\t":
            chosen, part = part[0] * 2 + 1, part[1:]
        pending = [each for n, each in enumerate(PENDING) if chosen >> n & 1]
        outgoing = [each for n, each in enumerate(OUTGOING) if chosen >> n + 3 & 1]
        offer = part.decode("utf-8", "replace")
        carried = negotiation.carried().keys()
        try:
            answer = negotiation.answer(offer, pending=pending, outgoing=outgoing)
        except ClientError as error:
            refused(error)
            continue
        check(offer, answer)
        engine.take(answer)
        if carried - answer.mid_to_track_id.keys():  # a section that has lost its track carries another from now on
            answer = negotiation.answer(offer, pending=pending, outgoing=outgoing)
            check(offer, answer)
            engine.take(answer)
        again = negotiation.answer(offer, pending=pending, outgoing=outgoing)
        assert again.sdp == answer.sdp
        assert not again.published
        assert not again.unpublished
        assert not again.placed


def refused(error: ClientError) -> None:
    assert len(str(error)) < 1000, "a long sentence"
    assert len(error.detail) < 1000


def check(offer: str, answer: Answer) -> None:
    """RFC 3264 §6: as many sections as were offered, of the same kinds and with the same mids."""
    offered, answered = sdp.parse(offer), sdp.parse(answer.sdp)
    assert [(each.kind, each.mid) for each in offered.sections] == [(each.kind, each.mid) for each in answered.sections]
    assert sdp.write(answered) == answer.sdp
    assert len(answer.sdp) < 2 * len(offer) + 4096
    mids = {each.mid for each in answered.sections if each.port}
    assert answer.mid_to_track_id.keys() <= mids


class Engine:
    """The real router, given what the answers say; it raises on a command that is wrong in itself."""

    def __init__(self) -> None:
        self._router = Router()
        self._router.submit([Command.AddTransport(1, LOCAL.ufrag, LOCAL.pwd, "theirs", "", True, 600_000)], now=1.0)
        keys = bytes(28)
        self._router.submit([Command.SetKeys(1, Profile.AeadAes128Gcm, keys, keys)], now=1.0)
        self._router.submit([Command.AddTransport(2, "another0", LOCAL.pwd, "other", "", True, 600_000)], now=1.0)
        self._publications = 100

    def take(self, answer: Answer) -> None:
        commands: list[Command] = [Command.SetExtensions(1, list(answer.extensions), answer.allow_mixed)]
        for published in answer.published:
            self._publications += 1
            commands.append(Command.AddPublication(self._publications, 1, published.spec))
        for placed in answer.placed:
            commands.append(Command.RemoveSubscription(placed.subscription))
            commands.append(Command.AddSubscription(placed.subscription, self._publications, 1, placed.spec))
        self._router.submit(commands, now=1.0)
