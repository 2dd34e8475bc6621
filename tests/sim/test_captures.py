"""Real clients, played to the whole server in virtual time: their signalling as they wrote it, their packets sealed
anew. What a viewer gets of them is opened by libsrtp, and must be theirs, in its order, without a hole.
"""

from __future__ import annotations

import collections
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from pylibsrtp import Policy, Session

from d4e_sfu._engine import Command, Event, Profile
from d4e_sfu.core import sdp, tokens
from tests.conftest import KEY, WALL
from tests.doubles import ClientDouble
from tests.hostile.caller import Credentials
from tests.lab.captures import Capture, is_rtcp, names
from tests.lab.offer import RTX
from tests.lab.virtual import Lab, Person

END = 48  # bytes of a payload that tell it from all others
ADDRESS = "198.51.100.200:5000"
# A client that probes sends padding and repeats; a layer that nobody watches goes nowhere. All else is a fault.
USUAL = {"padding", "duplicate", "paused", "other_layer", "awaiting_keyframe", "late"}


@dataclass(slots=True)
class Header:
    """Of RTP, as RFC 3550 §5.1 has it; no code of ours."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    @classmethod
    def read(cls, packet: bytes) -> Header:
        first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", packet)
        at = 12 + 4 * (first & 15)
        if first & 16:
            at += 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
        end = len(packet) - (packet[-1] if first & 32 else 0)
        return cls(second & 127, sequence, timestamp, ssrc, packet[at:end])


PROFILES = {
    Profile.AeadAes128Gcm: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    Profile.AeadAes256Gcm: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    Profile.Aes128CmHmacSha1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}


def session(profile: Profile, key: bytes, way: int) -> Session:
    return Session(Policy(key=key, ssrc_type=way, srtp_profile=PROFILES[profile]))


@dataclass
class Played:
    """A captured client in the lab, and one viewer of flesh and blood (a laboratory peer) who receives all of it."""

    capture: Capture
    lab: Lab
    viewer: Person
    client: ClientDouble = field(default_factory=ClientDouble)
    keys: dict[int, Command.SetKeys] = field(default_factory=dict)
    got: list[Header] = field(default_factory=list)
    """What has left for the viewer, opened."""
    gone = False

    @classmethod
    def play(cls, name: str) -> Played:
        lab = Lab(1)
        self = cls(Capture.load(name), lab, lab.join("viewer"))
        submit, send = lab.submit, lab.network.send
        opened: dict[str, Session] = {}

        def submitted(commands: Sequence[Command]) -> None:
            for command in commands:
                if isinstance(command, Command.SetKeys):
                    self.keys[command.transport] = command
            submit(commands)

        def sent(datagram: bytes, *, source: str, target: str, now: float) -> None:
            if target == self.viewer.address and 128 <= datagram[0] < 192 and not is_rtcp(datagram):
                assert self.viewer.participant is not None
                assert self.viewer.participant.transport is not None
                keys = self.keys[self.viewer.participant.transport]
                mine = opened.setdefault(target, session(keys.profile, bytes(keys.send), Policy.SSRC_ANY_INBOUND))
                self.got.append(Header.read(mine.unprotect(datagram)))
            send(datagram, source=source, target=target, now=now)

        lab.submit = submitted  # type: ignore[method-assign]
        lab.network.send = sent  # type: ignore[method-assign]
        lab.run(1)
        self._join()
        self._send()
        return self

    def _join(self) -> None:
        lab = self.lab
        grants = lab.sfu.verify(tokens.mint(KEY, identity="recorded", room="ward", role=None, now=WALL), wall=WALL)
        participant = lab.sfu.join(self.client, lab.sfu.admit(grants, self.capture.join, wall=WALL), now=lab.now)
        assert participant is not None
        assert participant.transport is not None
        lab._by_transport[participant.transport] = _Silent(lab)  # type: ignore[assignment]
        for request in self.capture.requests:
            lab.sfu.message(participant, request, now=lab.now)
            lab.run(0.02)
        assert self.client.closed is None, "nothing that a real client says is an offence"
        offers = [self.capture.join.publisher_offer, *(each.offer for each in self.capture.requests)]
        offer = sdp.parse(next(each.sdp for each in offers if each.sdp))
        answer = sdp.parse(self.client.last("answer").sdp)
        theirs, ours = (next(_credentials(each)) for each in (offer, answer))
        check = Credentials(*theirs, *ours).check()
        lab.network.send(check, source=ADDRESS, target=lab.servers[0], now=lab.now)
        lab.until(lambda: participant.transport in self.keys, within=2)
        lab.run(0.1)
        self.transport = participant.transport

    def _send(self) -> None:
        lab, began = self.lab, self.lab.now
        keys = self.keys[self.transport]
        sealing = session(keys.profile, bytes(keys.receive), Policy.SSRC_ANY_OUTBOUND)
        self.before = dict(lab.drops)
        for at, packet in self.capture.media:
            lab.run(max(0.0, began + at - lab.now))
            sealed = sealing.protect_rtcp(packet) if is_rtcp(packet) else sealing.protect(packet)
            lab.network.send(sealed, source=ADDRESS, target=lab.servers[0], now=lab.now)
        lab.run(0.2)

    @property
    def drops(self) -> Mapping[str, int]:
        drops = self.lab.drops
        return {reason: count - self.before.get(reason, 0) for reason, count in drops.items()}


def _credentials(session: sdp.Session) -> Iterator[tuple[str, str]]:
    scopes: list[sdp.Session | sdp.Section] = [session, *session.sections]
    for each in scopes:
        if each.ice_ufrag and each.ice_pwd:
            yield each.ice_ufrag, each.ice_pwd


class _Silent:
    """In the place of a person, for the lab: his packets are not made here."""

    peer: Any = None
    address = ADDRESS
    link = None

    def __init__(self, lab: Lab) -> None:
        self.data: list[Any] = []


def test_there_are_captures_of_two_stacks() -> None:
    assert {name.rpartition("-")[0] for name in names()} >= {"chromium", "livekit-python"}


@pytest.mark.parametrize("name", names())
def test_a_real_client_is_understood_to_the_last_packet(name: str) -> None:
    played = Played.play(name)
    unusual = {reason: count for reason, count in played.drops.items() if count and reason not in USUAL}
    assert not unusual
    # Every stream with media of its own is an encoding that has been found.
    active = {
        (event.publication, event.encoding) for _, event in played.lab.occurrences(Event.EncodingActive) if event.active
    }
    media = [Header.read(packet) for _, packet in played.capture.media if not is_rtcp(packet)]
    sizes: collections.Counter[int] = collections.Counter()
    for header in media:
        sizes[header.ssrc] += len(header.payload) > 0 and header.payload_type not in repairs(played)
    assert len(active) == sum(count > 0 for count in sizes.values())


def repairs(played: Played) -> set[int]:
    """Payload types of retransmissions, as the client's own offers name them."""
    offers = [played.capture.join.publisher_offer.sdp, *(each.offer.sdp for each in played.capture.requests)]
    sections = [section for text in offers if text for section in sdp.parse(text).sections]
    return {payload.number for section in sections for payload in section.payloads if payload.name == "rtx"}


@pytest.mark.parametrize("name", names())
def test_what_a_viewer_gets_of_a_real_client_is_whole_and_in_order(name: str) -> None:
    played = Played.play(name)
    # Where each packet's end is from: before it stands a descriptor, whose numbers are the subscriber's own. Some, such
    # as parameter sets, come more than once.
    places: dict[bytes, list[tuple[int, int]]] = collections.defaultdict(list)
    timestamps: dict[tuple[int, int], int] = {}
    counts: collections.Counter[int] = collections.Counter()
    for _, packet in played.capture.media:
        header = None if is_rtcp(packet) else Header.read(packet)
        if header is not None and header.payload and header.payload_type not in repairs(played):
            place = header.ssrc, counts[header.ssrc]
            places[header.payload[-END:]].append(place)
            timestamps[place] = header.timestamp
            counts[header.ssrc] += 1
    streams: dict[int, list[Header]] = collections.defaultdict(list)
    for header in played.got:
        if header.payload_type not in RTX.values():
            streams[header.ssrc].append(header)
    assert len(streams) == 2, "a voice and a picture"
    for stream in streams.values():
        switches = 0
        (here, *_) = places[stream[0].payload[-END:]]
        for a, b in itertools.pairwise(stream):
            assert (b.sequence - a.sequence) & 0xFFFF == 1, "no hole, and nothing twice"
            assert (b.timestamp - a.timestamp) & 0xFFFFFFFF < 1 << 31, "time does not run back"
            there = places[b.payload[-END:]]
            following = (here[0], here[1] + 1)
            if following in there:
                passed = (timestamps[following] - timestamps[here]) & 0xFFFFFFFF
                assert (b.timestamp - a.timestamp) & 0xFFFFFFFF == passed
                here = following
            else:
                switches += 1
                here = next(place for place in there if place[0] != here[0])
        assert switches <= 4, "up, one step after the other"
    # The voice is there from its beginning; of the picture it is more than a keyframe.
    assert min(len(stream) for stream in streams.values()) >= 5
    assert sum(len(stream) for stream in streams.values()) >= 20
