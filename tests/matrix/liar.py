"""A subscriber that lies about what he receives: only he suffers."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.lab.client import Camera, Voice
from tests.lab.network import Conditions
from tests.lab.person import Person
from tests.lab.scenario import Ear, Meter, Run, gather, keyframe_requests, payload_type
from tests.lab.virtual import Lab

CAMERA = Camera(encodings=(60_000, 150_000, 400_000), more={"fps": 15, "temporal_layers": 2})
SECONDS = 8
SENDER = 0x4C494152  # of his RTCP
TRANSPORT_CC = 3  # its header extension's id, as offer.py numbers them
EVERY = 0.1  # s between two lies


def liar(run: Run) -> None:
    """All received, nothing received, absurd REMB, 10,000 NACKs/s, a PLI storm; one after the other."""
    lab = run.lab()
    run.step("a doctor with voice and picture, an honest viewer, and one who reports nothing yet")
    doctor, honest = gather(lab, [CAMERA, Voice(bitrate=24_000)], [])
    crook = lab.join("crook", peer={"feedback": 0})
    lab.link(crook, down=Conditions(delay=0.02, rate=300_000))
    lab.run(8)
    meter = Meter(lab.down(crook))
    lies: dict[str, Callable[[], None]] = {
        "all_received": lambda: _feedback(lab, crook, meter, received=True),
        "nothing_received": lambda: _feedback(lab, crook, meter, received=False),
        "absurd_remb": lambda: _send(
            lab, crook, _remb(lab.chance.choice([0, 1, 2**18 - 1]), lab.chance.choice([0, 63]))
        ),
        "nacks": lambda: None,
        "plis": lambda: None,
    }
    frames = size = heard = 1.0
    asked = 0.0
    for name, lie in lies.items():
        run.step(name.replace("_", " "))
        storm = {"nacks": {"nacks": 10_000 / (17 * 60)}, "plis": {"plis": 1000}}.get(name, {})
        crook.peer.set_storm(storm, now=lab.now)
        crook.settle()
        telling = _Telling(lab, lie)
        now = _measure(lab, doctor, honest)
        telling.stop()
        frames, size, heard = min(frames, now[0]), min(size, now[1]), min(heard, now[3])
        asked = max(asked, now[2] / (SECONDS / 2))
    run.figure("liar_frames", 100 * frames, "% of the frames reach the honest one", ">= 97")
    run.figure("liar_bytes", 100 * size, "% of the bytes reach the honest one", ">= 97")
    run.figure("liar_keyframe_requests", asked, "per 2 s at the publisher", "<= 1")
    run.figure("liar_voice_in_time", 100 * heard, "% of voice frames of the honest one", ">= 99.9")


def _measure(lab: Lab, doctor: Person, honest: Person) -> tuple[float, float, float, float]:
    """Of what was sent in some seconds, what the honest one got: frames, bytes; keyframes asked for; voice in time."""
    before, ear = (*_got(doctor, honest), keyframe_requests(doctor)), Ear(honest, doctor)
    lab.run(SECONDS)
    now = (*_got(doctor, honest), keyframe_requests(doctor))
    frames, made, size, sent, asked = (after - was for was, after in zip(before, now, strict=True))
    return frames / made, size / sent, asked, ear.close().in_time(0.1)


def _got(doctor: Person, honest: Person) -> tuple[float, float, float, float]:
    top = doctor.sent()[-1]
    (picture,) = (each for each in honest.stats["receivers"] if str(doctor.numbers["camera"]) in each["sources"])
    return picture["frames"], top["frames"], picture["bytes"], top["octets"]


class _Telling:
    """Tells the lie again and again."""

    def __init__(self, lab: Lab, lie: Callable[[], None]) -> None:
        self._lab, self._lie, self._on = lab, lie, True
        self._again()

    def stop(self) -> None:
        self._on = False

    def _again(self) -> None:
        if self._on:
            self._lie()
            self._lab.later(self._again, after=EVERY)


def _send(lab: Lab, crook: Person, compound: bytes) -> None:
    crook.peer.send_rtcp(compound)
    lab.flush(crook)


def _feedback(lab: Lab, crook: Person, meter: Meter, *, received: bool) -> None:
    """Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01) of what was sent to him lately,
    whatever came of it: all of it, 250 µs apart, or nothing."""
    numbers = [
        number
        for passage in meter.between(lab.now - EVERY, lab.now)
        if payload_type(passage.packet) is not None and (number := transport_number(passage.packet.payload)) is not None
    ]
    if len(numbers) < 2:
        return
    base, count = numbers[0], min(len(numbers), 400)
    symbol = 1 if received else 0
    # Two run-length chunks make a whole word.
    chunks = struct.pack("!HH", symbol << 13 | 1, symbol << 13 | (count - 1))
    deltas = bytes([1] * count) if received else b""
    deltas += bytes(-len(deltas) % 4)
    body = struct.pack("!IIHHI", SENDER, 0, base, count, int(lab.now / 0.064) << 8) + chunks + deltas
    _send(lab, crook, struct.pack("!BBH", 0x8F, 205, len(body) // 4) + body)


def _remb(mantissa: int, exponent: int) -> bytes:
    """draft-alvestrand-rmcat-remb-03, for no stream in particular."""
    body = struct.pack("!II4sI", SENDER, 0, b"REMB", 1 << 24 | exponent << 18 | mantissa) + struct.pack("!I", 1)
    return struct.pack("!BBH", 0x8F, 206, len(body) // 4) + body


def transport_number(packet: bytes) -> int | None:
    """Header extensions are not encrypted (RFC 3711 §3.1)."""
    if not packet[0] & 0x10:
        return None
    at = 12 + 4 * (packet[0] & 0x0F)
    profile, words = struct.unpack("!HH", packet[at : at + 4])
    at, end = at + 4, at + 4 + 4 * words
    while profile == 0xBEDE and at < end:
        kind, length = packet[at] >> 4, (packet[at] & 0x0F) + 1
        if packet[at] == 0:
            at += 1
            continue
        if kind == TRANSPORT_CC:
            return int.from_bytes(packet[at + 1 : at + 3], "big")
        at += 1 + length
    return None
