"""FFmpeg's own WHIP muxer, as PyAV's wheel ships it: it offers `setup:passive`, so we are the DTLS client.

It sends at its full rate as long as no DTLS record of ours reaches it after its handshake has ended: then this build
(GnuTLS) would make its socket a blocking one, and wait for a datagram from us before each packet.
"""

from __future__ import annotations

import asyncio
import datetime
import fractions
import json
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import av
import numpy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab.browser import until
from tests.lab.livekit_client import Decoded, LivekitClient
from tests.lab.server import Server, running

ROOM = "clinic"
WIDTH, HEIGHT, RATE = 640, 360, 25
COLOUR = (200, 30, 30)
SAMPLES, HERTZ = 960, 440.0


def certificate(folder: Path) -> dict[str, str]:
    """Of its own it makes one on a curve (P-224) that OpenSSL refuses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "encoder")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    signed = made.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"cert_file": str(folder / "cert.pem"), "key_file": str(folder / "key.pem")}


class Stop(Protocol):
    """An event, of a thread's or a process's."""

    def is_set(self) -> bool: ...


def encode(url: str, token: str, options: dict[str, str], stop: Stop) -> None:
    """A picture of one colour and a voice of one pitch, in real time, until told to stop."""
    with av.open(url, "w", format="whip", options={"authorization": token, **options}) as out:
        video: Any = out.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 600_000
        video.options = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0", "g": "25", "profile": "baseline"}
        audio: Any = out.add_stream("libopus", rate=48_000, layout="stereo")
        picture = numpy.full((HEIGHT, WIDTH, 3), COLOUR, dtype=numpy.uint8)
        began, frames, sound = time.monotonic(), 0, 0
        while not stop.is_set():
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = frames, fractions.Fraction(1, RATE)
            out.mux(video.encode(frame))
            frames += 1
            while sound * SAMPLES / 48_000 < frames / RATE:
                at = (numpy.arange(SAMPLES) + sound * SAMPLES) / 48_000
                wave = (8_000 * numpy.sin(2 * numpy.pi * HERTZ * at)).astype(numpy.int16)
                samples = av.AudioFrame.from_ndarray(numpy.repeat(wave, 2)[None, :], format="s16", layout="stereo")
                samples.sample_rate, samples.pts = 48_000, sound * SAMPLES
                samples.time_base = fractions.Fraction(1, 48_000)
                out.mux(audio.encode(samples))
                sound += 1
            time.sleep(max(0.0, began + frames / RATE - time.monotonic()))


async def people(server: Server) -> list[str]:
    if ROOM not in json.loads(await server.get("/debug/rooms")):
        return []
    return [person["identity"] for person in (await server.room(ROOM))["participants"]]


async def test_ffmpegs_muxer_gets_its_dtls_client_and_the_stock_client_sees_and_hears_it(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        watcher, stop = LivekitClient(), threading.Event()
        await watcher.join(server.ws, server.token(ROOM, "watcher", "doctor"))
        token = server.token(ROOM, "encoder", "doctor")
        url, options = f"http://127.0.0.1:{server.port}/whip/{ROOM}", certificate(tmp_path)
        encoding = asyncio.create_task(asyncio.to_thread(encode, url, token, options, stop))
        try:

            async def decoded() -> Decoded:
                if encoding.done():
                    await encoding
                return watcher.decoded.get("encoder", Decoded())

            def right(seen: Decoded) -> bool:
                alike = all(abs(one - other) < 60 for one, other in zip(seen.colour, COLOUR, strict=True))
                # One a second would be half of them.
                return seen.frames >= 60 and alike and abs(seen.hertz - HERTZ) < 10

            await until("the stock client sees and hears the encoder", decoded, seconds=30, so=right)
            tracks = (await server.room(ROOM))["participants"][1]["publications"]
            assert sorted(each["mime_type"] for each in tracks) == ["audio/opus", "video/H264"]
            assert await server.metric("d4e_sfu_packets_total", direction="received", kind="audio") > 0
            stop.set()
            await encoding
            await until("it has ended its session", lambda: people(server), so=lambda here: here == ["watcher"])
        finally:
            stop.set()
            await asyncio.gather(encoding, return_exceptions=True)
            await watcher.leave()
