"""Attacks against the whole server, each beside a call of two others in another room, in virtual time. What the attack
must not reach is the attack's own test; that the two notice nothing is `bystanders`, and it is the same for all. So is
the log: a line for each packet would let anyone fill a disk.
"""

from __future__ import annotations

import json
import logging
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from livekit.protocol import rtc

from tests.lab.network import Conditions
from tests.lab.virtual import Camera, Lab, Person
from tests.sim.scene import FPS, SEEDS, SMALL, VOICE

LOSS = 0.005  # of the packets that the two exchange, those that were repaired included
SECONDS = 3.0
LINES = 20  # in the log, whatever is done
STRANGER = "203.0.113.77:7777"
STEP = 0.01
SERVER = "192.0.2.1:7882"


@dataclass(frozen=True, slots=True)
class Attack:
    """A call that is attacked: alice is seen by bob, mallory has keys and a camera of his own, in the same room."""

    lab: Lab
    alice: Person
    bob: Person
    mallory: Person
    wire: list[tuple[str, bytes]]
    """(source, datagram) of what the attacked have sent to the server so far."""

    def stranger(self, datagram: bytes, address: str = STRANGER) -> None:
        """Sent by somebody whom the server does not know."""
        self.lab.network.send(datagram, source=address, target=SERVER, now=self.lab.now)

    def forged(self, datagram: bytes) -> None:
        """With alice's address as its source: a neighbour of hers."""
        self.stranger(datagram, self.alice.address)

    def over(self, seconds: float, act: Callable[[int], None]) -> None:
        """Every hundredth of a second."""
        for n in range(round(seconds / STEP)):
            act(n)
            self.lab.flush(self.mallory)
            self.lab.run(STEP)
        self.lab.run(0.05)  # what is on its way arrives


@contextmanager
def bystanders(lab: Lab) -> Iterator[None]:
    """Two in a room of their own, who miss nothing of each other while the block runs."""
    two = [lab.join(name, room="theirs", publish=[SMALL, VOICE]) for name in ("binh", "chi")]
    lab.run(2)
    before = [counts(viewer, other) for viewer, other in zip(two, reversed(two), strict=True)]
    began = lab.now
    yield
    took = lab.now - began
    for viewer, other, old in zip(two, reversed(two), before, strict=True):
        new = counts(viewer, other)
        packets, missing, frames = (after - earlier for after, earlier in zip(new, old, strict=True))
        assert packets > 45 * took, "the voice alone is fifty a second"
        assert missing <= LOSS * packets
        assert frames >= (FPS - 1) * took
        for name in ("camera", "microphone"):
            assert viewer.received(other, name).flawless
            assert set(viewer.received(other, name).sources) == {other.numbers[name]}
        assert viewer.left is None
        assert viewer.stats["unauthentic"] == viewer.stats["unknown_stream"] == 0


def counts(viewer: Person, other: Person) -> tuple[int, int, int]:
    """Packets, packets that were missing, frames of the picture."""
    both = [viewer.received(other, name) for name in ("camera", "microphone")]
    return sum(r.packets for r in both), sum(r.lost + r.nacked for r in both), both[0].frames


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    assert len(caplog.records) < LINES, caplog.text[:2000]


@pytest.fixture(params=[SEEDS[0], *SEEDS[5:8]])
def attack(request: pytest.FixtureRequest) -> Iterator[Attack]:
    lab = Lab(request.param)
    with bystanders(lab):
        alice = lab.join("alice", publish=[SMALL, VOICE])
        bob, mallory = lab.join("bob"), lab.join("mallory", publish=[SMALL])
        wire: list[tuple[str, bytes]] = []
        send = lab.network.send

        def tapped(datagram: bytes, *, source: str, target: str, now: float) -> None:
            if target in lab.servers and source in (alice.address, bob.address):
                wire.append((source, datagram))
            send(datagram, source=source, target=target, now=now)

        lab.network.send = tapped  # type: ignore[method-assign]
        lab.run(2)
        yield Attack(lab, alice, bob, mallory, wire)
        # Whatever the attack was for: alice's picture is whole, and hers.
        lab.run(1)
        seen = bob.received(alice)
        assert seen.flawless
        assert set(seen.sources) == {alice.numbers["camera"]}
        assert alice.left is bob.left is None


def header(ssrc: int, sequence: int, payload_type: int = 96) -> bytes:
    """Twelve bytes of RTP, and the first of a VP8 keyframe."""
    return struct.pack("!BBHII", 0x80, payload_type, sequence & 0xFFFF, 90_000, ssrc) + bytes.fromhex(
        "10000000009d012a"
    )


def media_of(wire: list[tuple[str, bytes]], source: str) -> list[bytes]:
    return [datagram for address, datagram in wire if address == source and 128 <= datagram[0] < 192]


# --- strangers ------------------------------------------------------------------------------------------------------


def test_a_copy_of_the_wire_from_elsewhere_gets_nothing_and_moves_nothing(attack: Attack) -> None:
    """No latch on whoever sends: what alice and bob sent, checks among it, comes again from another address."""
    to_stranger: list[bytes] = []
    send = attack.lab.network.send

    def recorded(datagram: bytes, *, source: str, target: str, now: float) -> None:
        if target == STRANGER:
            to_stranger.append(datagram)
        send(datagram, source=source, target=target, now=now)

    attack.lab.network.send = recorded  # type: ignore[method-assign]
    moved = attack.lab.counters["path_changes"]
    keyframes = attack.alice.sent()[0]["keyframes"]

    def act(n: int) -> None:
        for _, datagram in attack.wire[-40:]:
            attack.stranger(datagram)
        attack.wire[:] = attack.wire[-200:]

    attack.over(SECONDS, act)
    # Among the copies are good checks, and a check does not say where it comes from: they are answered, and the address
    # counts as proven. But media goes where fresh media comes from, and a copy of media is not fresh.
    assert attack.lab.drops["unknown_address"] > 100
    assert attack.lab.drops["replayed"] > 5_000
    assert to_stranger
    assert all(0 <= datagram[0] < 4 for datagram in to_stranger), "no media to whoever only has a copy"
    assert attack.lab.counters["path_changes"] == moved
    assert attack.alice.sent()[0]["keyframes"] == keyframes


def test_copies_from_the_right_address_reach_nobody_twice(attack: Attack) -> None:
    def act(n: int) -> None:
        copies = media_of(attack.wire, attack.alice.address)
        for datagram in [*copies[-20:], *copies[-100:-90]]:
            attack.forged(datagram)

    attack.over(SECONDS, act)
    assert attack.lab.drops["replayed"] + attack.lab.drops.get("too_old", 0) > 8_000
    assert attack.bob.stats["replayed"] == 0


def test_ten_thousand_forgeries_a_second_from_the_right_address_end_no_call(attack: Attack) -> None:
    ssrcs = [encoding["ssrc"] for name in ("camera", "microphone") for encoding in attack.alice.sent(name)]

    def act(n: int) -> None:
        for k in range(100):
            attack.forged(header(ssrcs[k % 2], 100 * n + k) + bytes(40))

    attack.over(SECONDS, act)
    refused = sum(attack.lab.drops.get(reason, 0) for reason in ("bad_authentication", "replayed", "too_old"))
    assert refused == 10_000 * SECONDS


def test_any_bytes_from_anyone_are_silence(attack: Attack) -> None:
    chance = random.Random(1)
    before = attack.lab.network.counts.sent
    answers: list[bytes] = []
    send = attack.lab.network.send

    def recorded(datagram: bytes, *, source: str, target: str, now: float) -> None:
        if target.startswith("203.0.113."):
            answers.append(datagram)
        send(datagram, source=source, target=target, now=now)

    attack.lab.network.send = recorded  # type: ignore[method-assign]

    def act(n: int) -> None:
        for k in range(20):
            first = bytes([chance.randrange(256)])
            attack.stranger(first + chance.randbytes(chance.randrange(1400)), f"203.0.113.{k}:{1024 + n}")
            attack.forged(first + chance.randbytes(chance.randrange(1400)))

    attack.over(SECONDS, act)
    assert attack.lab.network.counts.sent - before > 12_000
    assert not answers


# --- somebody with keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("storm", "refused"),
    [
        ({"nacks": 1000}, ("repair_limit",)),
        ({"plis": 1000}, ()),
        ({"ssrcs": 1000}, ("unknown_stream",)),
        ({"stun": 1000}, ("bad_integrity", "unknown_ufrag")),
        ({"replays": 1000}, ("replayed", "too_old")),
        ({"noise": 1000}, ("unknown_protocol", "bad_authentication")),
        (dict.fromkeys(("nacks", "plis", "ssrcs", "stun", "replays", "noise"), 200), ("unknown_stream", "replayed")),
    ],
    ids=lambda value: "+".join(value),
)
def test_a_storm_by_someone_in_the_room_is_no_weather_for_the_others(
    attack: Attack, storm: dict[str, float], refused: tuple[str, ...]
) -> None:
    keyframes = attack.alice.sent()[0]["keyframes"]
    rtx = attack.lab.counters["packets_sent_rtx"]
    sent = attack.mallory.received(attack.alice).packets
    attack.mallory.peer.set_storm(storm, now=attack.lab.now)
    attack.mallory.settle()
    attack.lab.run(SECONDS)
    attack.mallory.peer.set_storm({}, now=attack.lab.now)
    for reasons in [refused] if refused else []:
        assert sum(attack.lab.drops.get(reason, 0) for reason in reasons) > SECONDS * 100, attack.lab.drops
    # His requests cost the publisher a keyframe a second at most, and bring him half of her stream again at most.
    assert attack.alice.sent()[0]["keyframes"] - keyframes <= SECONDS + 1
    assert (
        attack.lab.counters["packets_sent_rtx"] - rtx <= (attack.mallory.received(attack.alice).packets - sent) / 2 + 8
    )


def test_streams_reports_and_goodbyes_in_anothers_name_change_nothing(attack: Attack) -> None:
    hers = [attack.alice.sent()[0]["ssrc"], attack.bob.ssrc_of(attack.alice)]

    def act(n: int) -> None:
        for ssrc in hers:
            attack.mallory.peer.send_rtp(header(ssrc, n), 12)
            attack.mallory.peer.send_rtcp(struct.pack("!BBHI", 0x81, 203, 1, ssrc))
            # A sender report whose clock would tear voice and picture apart (RFC 3550 §6.4.1).
            attack.mallory.peer.send_rtcp(struct.pack("!BBHIQIII", 0x80, 200, 6, ssrc, n << 40, 7 * n, 1, 1))

    attack.over(SECONDS, act)
    assert attack.lab.drops["unknown_stream"] >= 2 * SECONDS / STEP
    assert attack.bob.received(attack.alice).byes == 0
    assert attack.bob.received(attack.alice).max_timestamp_error < 0.02


def test_descriptors_and_extensions_that_change_in_every_packet(attack: Attack) -> None:
    chance = random.Random(2)
    encoding = attack.mallory.sent()[0]

    def act(n: int) -> None:
        for k in range(10):
            body = chance.randbytes(chance.randrange(1, 40))
            elements = chance.randbytes(4 * chance.randrange(0, 9))
            form = chance.choice([b"\xbe\xde", b"\x10\x00", chance.randbytes(2)])
            packet = struct.pack("!BBHII", 0x90, 96, (10 * n + k) & 0xFFFF, n, encoding["ssrc"] + 1 + k % 3)
            packet += form + struct.pack("!H", len(elements) // 4) + elements
            attack.mallory.peer.send_rtp(packet + body, len(packet))

    attack.over(SECONDS, act)


# --- what is only said ----------------------------------------------------------------------------------------------


NOWHERE = [
    "169.254.169.254 80",
    "127.0.0.1 22",
    "0.0.0.0 7882",
    "::1 7881",
    "::ffff:127.0.0.1 7881",
    "192.0.2.1 7882",
    "internal.example 443",
    "8d3c1f5e-2f0e-4a8e-9a56-3f2f6a3b9c11.local 5000",
]


def test_candidates_of_all_kinds_make_us_send_nothing(attack: Attack) -> None:
    """RFC 8445 §2.5: a lite agent answers and does not ask. The names are looked up by nobody: the core cannot."""
    targets: set[str] = set()
    send = attack.lab.network.send

    def recorded(datagram: bytes, *, source: str, target: str, now: float) -> None:
        if source in attack.lab.servers:
            targets.add(target)
        send(datagram, source=source, target=target, now=now)

    attack.lab.network.send = recorded  # type: ignore[method-assign]
    known = {person.address for person in attack.lab.people}

    def act(n: int) -> None:
        where = NOWHERE[n % len(NOWHERE)]
        candidate = f"candidate:{n} 1 udp {2**31 - n} {where} typ {('host', 'srflx raddr 0.0.0.0 rport 0')[n % 2]}"
        init = json.dumps({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0})
        if n % 4 == 0:
            attack.mallory.ask(trickle=rtc.TrickleRequest(candidateInit=init, target=rtc.SignalTarget.PUBLISHER))

    attack.over(SECONDS, act)
    assert targets <= known
    assert len(targets) == 5


# --- the measure itself ---------------------------------------------------------------------------------------------


def lossy(lab: Lab, binh: Person, chi: Person) -> None:
    lab.network.set(SERVER, chi.address, Conditions(delay=0.02, loss=0.02), now=lab.now)
    lab.run(SECONDS)


def frozen(lab: Lab, binh: Person, chi: Person) -> None:
    binh.peer.set_publication(binh.numbers["camera"], False)
    lab.run(1)
    binh.peer.set_publication(binh.numbers["camera"], True)
    lab.run(SECONDS)


def taken_for_another(lab: Lab, binh: Person, chi: Person) -> None:
    binh.numbers["camera"] += 1
    lab.run(SECONDS)


@pytest.mark.parametrize("harm", [lossy, frozen, taken_for_another])
def test_the_two_would_notice(harm: Callable[[Lab, Person, Person], None]) -> None:
    """Without this their silence would prove nothing."""
    lab = Lab(1)
    watch = bystanders(lab)
    watch.__enter__()
    harm(lab, *lab.people)
    with pytest.raises(AssertionError):
        watch.__exit__(None, None, None)


def test_a_camera_with_three_sizes_is_a_camera_too() -> None:
    """The harness with simulcast and a thousand keyframe requests a second from everyone in the other room."""
    lab = Lab(7)
    with bystanders(lab):
        alice = lab.join("alice", publish=[Camera(encodings=(60_000, 150_000, 400_000), more={"fps": FPS})])
        viewers = [lab.join(f"viewer{n}") for n in range(4)]
        lab.run(2)
        before = [encoding["keyframes"] for encoding in alice.sent()]
        for viewer in viewers:
            viewer.peer.set_storm({"plis": 250}, now=lab.now)
            viewer.settle()
        lab.run(SECONDS)
        after = [encoding["keyframes"] for encoding in alice.sent()]
        assert all(new - old <= SECONDS + 1 for new, old in zip(after, before, strict=True))
