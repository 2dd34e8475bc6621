"""What real clients have sent, as it is kept under `tests/vectors/captures`: the frames of their signalling and their
decrypted RTP and RTCP, in two forms that other tools read too. `record.py` makes them, `tests/sim/test_captures.py`
plays them to the server.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from livekit.protocol import rtc

FOLDER = Path(__file__).parent.parent / "vectors" / "captures"
# rtptools' rtpdump: what Wireshark opens and libwebrtc's own tools replay.
MAGIC = b"#!rtpplay1.0 192.0.2.1/9\n"


@dataclass(frozen=True, slots=True)
class Capture:
    """One client's session from his join until the recording ended."""

    name: str
    join: rtc.JoinRequest
    requests: tuple[rtc.SignalRequest, ...]
    media: tuple[tuple[float, bytes], ...]
    """(seconds since the first, RTP packet or RTCP compound), each without its encryption."""

    @classmethod
    def load(cls, name: str) -> Capture:
        frames = list(_delimited((FOLDER / f"{name}.frames").read_bytes()))
        join = rtc.JoinRequest.FromString(frames[0])
        requests = tuple(map(rtc.SignalRequest.FromString, frames[1:]))
        return cls(name, join, requests, tuple(_rtpdump((FOLDER / f"{name}.rtpdump").read_bytes())))

    def save(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        messages = [self.join, *self.requests]
        frames = b"".join(_varint(message.ByteSize()) + message.SerializeToString() for message in messages)
        (FOLDER / f"{self.name}.frames").write_bytes(frames)
        (FOLDER / f"{self.name}.rtpdump").write_bytes(_as_rtpdump(self.media))


def is_rtcp(packet: bytes) -> bool:
    """RFC 5761 §4."""
    return 192 <= packet[1] <= 223


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.frames"))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _delimited(data: bytes) -> Iterable[bytes]:
    """Messages each behind its length, as protobuf's libraries write a row of them."""
    at = 0
    while at < len(data):
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        yield data[at : at + length]
        at += length


def _as_rtpdump(media: Iterable[tuple[float, bytes]]) -> bytes:
    out = bytearray(MAGIC + struct.pack("!IIIHH", 0, 0, 0, 9, 0))
    for at, packet in media:
        # The length of an RTP packet is said twice, that of RTCP once.
        out += struct.pack("!HHI", len(packet) + 8, 0 if is_rtcp(packet) else len(packet), round(at * 1000)) + packet
    return bytes(out)


def _rtpdump(data: bytes) -> Iterable[tuple[float, bytes]]:
    assert data.startswith(MAGIC)
    at = len(MAGIC) + 16
    while at < len(data):
        length, _, milliseconds = struct.unpack_from("!HHI", data, at)
        yield milliseconds / 1000, data[at + 8 : at + length]
        at += length
