"""The unmodified SDK for Go as a participant: the program of tests/go, which `make go-client` builds, driven over its
standard input and output. It neither encodes nor decodes: what it sends is made here, and what it has received is
decoded here, by PyAV."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import json
import struct
from pathlib import Path
from typing import Any

import av
import numpy

from tests.lab.livekit_client import SAMPLE_RATE, Decoded, pitch
from tests.lab.server import TOP, Server

PROGRAM = TOP / "build/tools/go-client"
WIDTHS = (320, 640, 1280)
FRAMES, FRAMES_PER_SECOND = 24, 25  # of the picture that is sent over and over; every twelfth is a keyframe
SOUND = SAMPLE_RATE // 50  # samples of a packet
STOP_SECONDS = 10.0


class GoClient:
    """One participant. `join`, `publish`, look at `events` and at `decoded`, `leave`."""

    def __init__(self, folder: Path) -> None:
        self.events: list[tuple[str, str, str]] = []
        """What happened, of whom, and its detail."""
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def join(self, server: Server, room: str, identity: str) -> None:
        self._folder.mkdir(exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *(PROGRAM, server.ws, server.token(room, identity, "doctor"), self._folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._reading = asyncio.create_task(self._read())

    async def publish(self, *, colour: tuple[int, int, int], hertz: float) -> None:
        await asyncio.to_thread(_write_media, self._folder, colour, hertz)
        await self.ask("publish")

    async def ask(self, command: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        await self._process.stdin.drain()

    async def told(self, event: str) -> list[tuple[str, str]]:
        return [(who, detail) for name, who, detail in self.events if name == event]

    async def decoded(self, identity: str) -> Decoded:
        """Of all that has come from somebody so far."""
        return await asyncio.to_thread(_decode, self._folder, identity)

    async def leave(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            await self.ask("leave")
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        assert self._reading is not None
        await self._reading

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if line.startswith(b"{"):  # the SDK logs between
                said = json.loads(line)
                if "who" in said:
                    self.events.append((said["event"], said["who"], said["detail"]))


def _write_media(folder: Path, colour: tuple[int, int, int], hertz: float) -> None:
    for width in WIDTHS:
        height = width * 9 // 16
        encoder: Any = av.CodecContext.create("libvpx", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.bit_rate = width, height, "yuv420p", width * 800
        encoder.time_base = fractions.Fraction(1, FRAMES_PER_SECOND)
        encoder.options = {"deadline": "realtime", "cpu-used": "8", "g": "12", "lag-in-frames": "0"}
        packets = []
        for number in range(FRAMES):
            picture = numpy.full((height, width, 3), colour, dtype=numpy.uint8)
            left = number * 16 % width  # a bar that moves, so that every frame is a new one
            picture[: height // 12, left : left + 64] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, encoder.time_base
            packets += encoder.encode(frame)
        _write(folder / f"picture-{width}", packets + encoder.encode(None))
    sound: Any = av.CodecContext.create("libopus", "w")
    sound.sample_rate, sound.layout, sound.format = SAMPLE_RATE, "mono", "s16"
    sound.time_base = fractions.Fraction(1, SAMPLE_RATE)
    packets = []
    for number in range(100):
        at = (numpy.arange(SOUND) + number * SOUND) / SAMPLE_RATE
        wave = (12_000 * numpy.sin(2 * numpy.pi * hertz * at)).astype(numpy.int16)
        samples = av.AudioFrame.from_ndarray(wave[None, :], format="s16", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = SAMPLE_RATE, number * SOUND, sound.time_base
        packets += sound.encode(samples)
    _write(folder / "voice", packets)


def _write(path: Path, packets: list[Any]) -> None:
    path.write_bytes(b"".join(struct.pack("!I", packet.size) + bytes(packet) for packet in packets))


def _frames(path: Path) -> list[bytes]:
    """Whole ones: the last may just be written."""
    content = path.read_bytes() if path.exists() else b""
    frames, at = [], 0
    while at + 4 <= len(content):
        (size,) = struct.unpack_from("!I", content, at)
        if at + 4 + size > len(content):
            break
        frames.append(content[at + 4 : at + 4 + size])
        at += 4 + size
    return frames


def _decode(folder: Path, identity: str) -> Decoded:
    decoded = Decoded()
    pictures = av.CodecContext.create("vp8", "r")
    for data in _frames(folder / f"{identity}.video"):
        for frame in pictures.decode(av.Packet(data)):
            decoded.frames += 1
            decoded.size = (frame.width, frame.height)
            last = frame
    if decoded.frames:
        rgb = last.to_ndarray(format="rgb24")
        red, green, blue = (int(value) for value in rgb[rgb.shape[0] // 2, rgb.shape[1] // 2])
        decoded.colour = (red, green, blue)
    sounds: Any = av.CodecContext.create("opus", "r")
    sounds.sample_rate, sounds.layout = SAMPLE_RATE, "mono"
    samples = [
        frame.to_ndarray().reshape(-1, frame.samples)[0]
        for data in _frames(folder / f"{identity}.audio")[-20:]  # 0.4 s
        for frame in sounds.decode(av.Packet(data))
    ]
    if samples:
        decoded.hertz, decoded.decibels = pitch(numpy.concatenate(samples).astype(numpy.float64))
    return decoded
