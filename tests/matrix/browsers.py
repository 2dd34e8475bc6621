"""Rows in real Chromium, through the relay, in real time: what the viewer's own statistics say (webrtc-stats)."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.lab.browser import Client, chromium, until
from tests.lab.link import Conditions, blackout
from tests.lab.relay import Relay, relay
from tests.lab.scenario import Run, quantile
from tests.lab.server import running

GOOD: Final = Conditions(delay=0.05, rate=2_000_000, queue=0.3)
LOOK: Final = 0.25  # s between two looks
TOP: Final = 1280  # pixels
STANDS: Final = 1.0  # s without a picture at the end of a run, which no later one has counted
# A picture that costs what a camera's does: a square of it is noise, another piece of it in every frame; made before,
# for the encoders need the processor. And a voice as a microphone's: one channel, of which the browser makes 24 kbit/s.
SOURCES: Final = """() => {
  lab.picture = () => {
    const [canvas, noise] = [[1280, 720], [1024, 1024]].map(([width, height]) =>
      Object.assign(document.createElement("canvas"), { width, height }));
    const dots = new ImageData(1024, 1024);
    for (let at = 0; at < dots.data.length; at++) dots.data[at] = at % 4 === 3 ? 255 : Math.random() * 256;
    noise.getContext("2d").putImageData(dots, 0, 0);
    const draw = canvas.getContext("2d");
    draw.fillRect(0, 0, 1280, 720);
    setInterval(() => {
      const [x, y] = [Math.random() * 704, Math.random() * 704];
      draw.drawImage(noise, x, y, 320, 320, 480, 200, 320, 320);
    }, 1000 / 30);
    return canvas.captureStream(30).getVideoTracks()[0];
  };
  const tone = lab.tone.bind(lab);
  lab.tone = (hertz) => {
    const make = lab.sound.createMediaStreamDestination.bind(lab.sound);
    lab.sound.createMediaStreamDestination = () => Object.assign(make(), { channelCount: 1 });
    return tone(hertz);
  };
}"""


@dataclass(frozen=True, slots=True)
class Look:
    """What the viewer had received at a time."""

    at: float
    frames: int
    width: int
    bytes: int
    samples: int
    concealed: int
    frozen: float  # s, as the browser counts them (webrtc-stats, totalFreezesDuration)


class Viewer:
    """Looks at a client's statistics until closed."""

    def __init__(self, client: Client) -> None:
        self.looks: list[Look] = []
        self._client = client
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def frozen(self, begin: float, end: float) -> float:
        """Seconds in which the picture was frozen, by the browser's own count (webrtc-stats): each wait for a picture
        that is longer than three usual ones and 150 ms longer than one. What stands at the end it does not count yet.
        """
        looks = [look for look in self.looks if begin <= look.at < end]
        last = max((b.at for a, b in pairwise(looks) if b.frames != a.frames), default=looks[0].at)
        standing = looks[-1].at - last
        return looks[-1].frozen - looks[0].frozen + (standing if standing > STANDS else 0.0)

    def concealment(self, begin: float, end: float) -> float:
        """Share of what was played that had to be invented."""
        looks = [look for look in self.looks if begin <= look.at < end]
        samples = looks[-1].samples - looks[0].samples
        return (looks[-1].concealed - looks[0].concealed) / max(1, samples)

    def since(self, begin: float, so: Callable[[Look, Look], bool]) -> float | None:
        """Seconds from then until two looks in a row are so."""
        looks = [look for look in self.looks if look.at >= begin]
        return next((after.at - begin for before, after in pairwise(looks) if so(before, after)), None)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            video = await self._client.stats("inbound-rtp", kind="video")
            audio = await self._client.stats("inbound-rtp", kind="audio")
            if video and audio:
                self.looks.append(
                    Look(
                        loop.time(),
                        sum(each.get("framesDecoded", 0) for each in video),
                        max(each.get("frameWidth", 0) for each in video),
                        sum(each.get("bytesReceived", 0) for each in video),
                        sum(each.get("totalSamplesReceived", 0) for each in audio),
                        sum(each.get("concealedSamples", 0) for each in audio),
                        sum(each.get("totalFreezesDuration", 0.0) for each in video),
                    )
                )
            await asyncio.sleep(LOOK)


async def _meet(run: Run, what: Callable[[Relay, Viewer], Awaitable[None]]) -> None:
    """One sends voice and picture, one watches through the relay until he has the top layer; then it happens."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            running(Path(folder)) as server,
            chromium() as browser,
            relay(server.media_port, seed=run.seed, conditions=GOOD) as way,
        ):
            sender = await Client.join(browser, server, "ward", "sender")
            await sender.page.evaluate(SOURCES)
            await sender.publish(colour="grey", hertz=440, voice=24_000)
            client = await Client.join(browser, server, "ward", "viewer", script=way.script)
            run.step("a viewer behind 2 Mbit/s, 50 ms each way, has the top layer")
            await until("the top layer", lambda: client.seen("sender"), seconds=60, so=_is_top)
            viewer = Viewer(client)
            await asyncio.sleep(5)
            await what(way, viewer)
            await viewer.close()
            await client.close()
            await sender.close()


def _is_top(seen: dict[str, int] | None) -> bool:
    return seen is not None and seen["width"] == TOP


async def fall(run: Run) -> None:
    """2 Mbit/s → 150 kbit/s for 20 s → 2 Mbit/s (50 ms each way, 300 ms queue)."""

    async def what(way: Relay, viewer: Viewer) -> None:
        now = asyncio.get_running_loop().time
        passages = way.down.watch()
        run.step("150 kbit/s")
        fell = now()
        way.change(down=dataclasses.replace(GOOD, rate=150_000))
        await asyncio.sleep(20)
        run.step("2 Mbit/s")
        rose = now()
        way.change(down=GOOD)
        await asyncio.sleep(40)
        waits = [each.wait for each in passages if fell + 5 <= each.at < rose and not each.dropped]
        run.figure("fall_frozen", viewer.frozen(fell, now()), "s", "<= 3")
        run.figure("fall_queue_p95", 1000 * quantile(waits, 0.95), "ms after 5 s", "<= 100")
        run.figure("fall_concealment", 100 * viewer.concealment(fell + 2, rose), "% of the voice after 2 s", "<= 1")
        back = viewer.since(rose, lambda before, after: after.width == TOP and after.frames > before.frames)
        run.figure("fall_top_layer", 80.0 if back is None else back, "s after it is over", "<= 20")

    await _meet(run, what)


async def lossy(run: Run) -> None:
    """30 % loss for 10 s."""

    async def what(way: Relay, viewer: Viewer) -> None:
        now = asyncio.get_running_loop().time
        usual = _rate(viewer, now() - 4, now())
        run.step("30 % loss, both ways")
        bad = dataclasses.replace(GOOD, loss=0.3)
        began = now()
        way.change(up=bad, down=bad)
        await asyncio.sleep(10)
        ended = now()
        way.change(up=GOOD, down=GOOD)
        run.step("none")
        await asyncio.sleep(25)
        run.figure("lossy_frozen", viewer.frozen(began, now()), "s", "<= 5")
        run.figure("lossy_concealment", 100 * viewer.concealment(began, ended), "% of the voice", "<= 8")
        back = next((t for t in range(1, 24) if _rate(viewer, ended + t, ended + t + 2) >= 0.8 * usual), 50)
        run.figure("lossy_rate_back", back, "s until 80 % of the rate", "<= 10")

    await _meet(run, what)


async def gone(run: Run) -> None:
    """A blackout of 10 s; and the client's address changes."""

    async def what(way: Relay, viewer: Viewer) -> None:
        now = asyncio.get_running_loop().time

        def comes(before: Look, after: Look) -> bool:
            return after.frames > before.frames

        run.step("nothing gets through for 10 s")
        way.change(up=blackout(GOOD), down=blackout(GOOD))
        await asyncio.sleep(10)
        ended = now()
        way.change(up=GOOD, down=GOOD)
        await asyncio.sleep(15)
        back = viewer.since(ended, comes)
        run.figure("blackout_media_back", 30.0 if back is None else back, "s", "<= 1.5")
        run.step("the NAT forgets his address")
        moved = now()
        await way.rebind()
        await asyncio.sleep(15)
        # Pictures that were on their way at that moment still come.
        back = viewer.since(moved + 0.3, comes)
        run.figure("address_media_back", 30.0 if back is None else 0.3 + back, "s", "<= 1.5")

    await _meet(run, what)


def _rate(viewer: Viewer, begin: float, end: float) -> float:
    looks = [look for look in viewer.looks if begin <= look.at <= end]
    return (looks[-1].bytes - looks[0].bytes) / (looks[-1].at - looks[0].at) if len(looks) > 1 else 0.0
