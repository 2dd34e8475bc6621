"""The unmodified `livekit` client from PyPI as a participant: it publishes one colour and one pitch, and tells the
colour and pitch that it decodes of everybody else. Its WebRTC stack is native, and none of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy
from livekit import rtc

WIDTH, HEIGHT, FRAMES_PER_SECOND = 1280, 720, 25
SAMPLE_RATE = 48_000


@dataclass(slots=True)
class Decoded:
    """What was decoded of one participant: the last picture's size and mean colour, the pitch of the last 0.4 s."""

    frames: int = 0
    size: tuple[int, int] = (0, 0)
    colour: tuple[int, int, int] = (0, 0, 0)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    hertz: float = 0.0
    decibels: float = -200.0


class LivekitClient:
    """One participant. `join`, `publish`, look at `decoded[identity]`, `leave`."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.decoded: dict[str, Decoded] = {}
        self.texts: list[tuple[str, str]] = []
        self.numbers: dict[str, list[int]] = {}
        self.counted = 0
        """See `count`: how many were sent, and which came from whom."""
        self.events: list[tuple[str, str]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        on: Any = self.room.on  # typed by every name in turn, and these are names in a loop
        on("track_subscribed", self._subscribed)
        for name in ("participant_connected", "participant_disconnected"):
            on(name, lambda participant, name=name: self.events.append((name, participant.identity)))
        for name in ("track_muted", "track_unmuted"):
            on(name, lambda participant, _, name=name: self.events.append((name, participant.identity)))
        for name in ("reconnecting", "reconnected", "disconnected"):
            on(name, lambda *_, name=name: self.events.append((name, "")))
        on("data_received", self._number)
        self.room.register_text_stream_handler("lk.chat", self._text)

    async def join(self, url: str, token: str, *, dual: bool = False) -> None:
        """`dual`: with two peer connections, the server offering on one of them."""
        options = rtc.RoomOptions(single_peer_connection=False) if dual else rtc.RoomOptions()
        await self.room.connect(url, token, options)

    async def publish(
        self, *, colour: tuple[int, int, int], hertz: float, simulcast: bool = True, codec: str = "vp8"
    ) -> None:
        """Send a 720p picture of one colour and a voice of one pitch until `leave`."""
        audio = rtc.AudioSource(SAMPLE_RATE, 1)
        video = rtc.VideoSource(WIDTH, HEIGHT)
        me = self.room.local_participant
        voice = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False, red=False)
        picture = rtc.TrackPublishOptions(
            source=rtc.TrackSource.SOURCE_CAMERA,
            simulcast=simulcast,
            video_codec=rtc.VideoCodec.Value(codec.upper()),
            video_encoding=rtc.VideoEncoding(max_bitrate=2_000_000, max_framerate=FRAMES_PER_SECOND),
        )
        await me.publish_track(rtc.LocalAudioTrack.create_audio_track("voice", audio), voice)
        await me.publish_track(rtc.LocalVideoTrack.create_video_track("picture", video), picture)
        self._start(_sing(audio, hertz))
        self._start(_show(video, colour))

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.room.disconnect()

    def count(self, interval: float) -> None:
        """Numbers to everyone, reliably, one each so many seconds, until `stop_counting`."""

        async def send() -> None:
            while True:
                number, self.counted = self.counted, self.counted + 1
                await self.room.local_participant.publish_data(str(number).encode(), reliable=True, topic="number")
                await asyncio.sleep(interval)

        self._counting = self._start(send())

    def stop_counting(self) -> None:
        self._counting.cancel()

    def _number(self, packet: Any) -> None:
        if packet.topic == "number":
            self.numbers.setdefault(packet.participant.identity, []).append(int(packet.data))

    def _subscribed(self, track: Any, _publication: Any, participant: Any) -> None:
        decoded = self.decoded.setdefault(participant.identity, Decoded())
        self._start(_watch(track, decoded) if track.kind == rtc.TrackKind.KIND_VIDEO else _listen(track, decoded))

    def _text(self, reader: Any, identity: str) -> None:
        async def read() -> None:
            self.texts.append((identity, await reader.read_all()))

        self._start(read())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _show(source: Any, colour: tuple[int, int, int]) -> None:
    picture = numpy.empty((HEIGHT, WIDTH, 4), dtype=numpy.uint8)
    n = 0
    while True:
        picture[:, :] = (*colour, 255)
        left = n * 16 % WIDTH  # a bar that moves, so that every frame is a new one
        picture[:60, left : left + 64] = 255
        source.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, picture.tobytes()))
        n += 1
        await asyncio.sleep(1 / FRAMES_PER_SECOND)


async def _sing(source: Any, hertz: float) -> None:
    samples = SAMPLE_RATE // 100
    n = 0
    while True:
        at = (numpy.arange(samples) + n * samples) / SAMPLE_RATE
        tone = (12_000 * numpy.sin(2 * numpy.pi * hertz * at)).astype(numpy.int16)
        await source.capture_frame(rtc.AudioFrame(tone.tobytes(), SAMPLE_RATE, 1, samples))
        n += 1


async def _watch(track: Any, decoded: Decoded) -> None:
    stream = rtc.VideoStream(track, format=rtc.VideoBufferType.RGBA)
    try:
        async for event in stream:
            frame = event.frame
            pixels = numpy.frombuffer(frame.data, dtype=numpy.uint8).reshape(frame.height, frame.width, 4)
            # The middle, away from the bar.
            middle = pixels[frame.height // 2 :: 8, frame.width // 4 : -frame.width // 4 : 8, :3]
            red, green, blue = (round(float(v)) for v in middle.reshape(-1, 3).mean(axis=0))
            decoded.colour = (red, green, blue)
            decoded.size = (frame.width, frame.height)
            decoded.sizes.add(decoded.size)
            decoded.frames += 1
    finally:
        await stream.aclose()


async def _listen(track: Any, decoded: Decoded) -> None:
    stream = rtc.AudioStream(track, sample_rate=SAMPLE_RATE, num_channels=1)
    window = numpy.zeros(int(SAMPLE_RATE * 0.4), dtype=numpy.float64)
    heard = 0
    try:
        async for event in stream:
            samples = numpy.frombuffer(event.frame.data, dtype=numpy.int16) / 32768
            window = numpy.concatenate((window[len(samples) :], samples))
            heard += len(samples)
            if heard >= SAMPLE_RATE // 10:
                heard = 0
                decoded.hertz, decoded.decibels = pitch(window)
    finally:
        await stream.aclose()


def pitch(samples: Any) -> tuple[float, float]:
    """The strongest frequency in hertz and its level in dB of full scale."""
    spectrum = numpy.abs(numpy.fft.rfft(samples * numpy.hanning(len(samples)))) / (len(samples) / 4)
    best = int(spectrum.argmax())
    return best * SAMPLE_RATE / len(samples), float(20 * numpy.log10(spectrum[best] + 1e-10))
