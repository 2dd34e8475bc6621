"""`room.connect()` → first remote frame shown, in real browsers: what a person feels when she joins.

One Chromium page publishes 720p with simulcast; ten pages join one room and only subscribe. Seven come one after the
other, three within one second. The clock runs in the page, from the call of `connect` to the callback of the first
frame on screen. Five runs, each with a server and browsers of its own.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

from playwright.async_api import Browser

from benchmarks.results import record
from tests.lab.browser import Client, Tab, _serve, chromium, until
from tests.lab.server import Server, running

RUNS = 5
ALONE, TOGETHER = 7, 3
JOIN = """async ([url, token]) => {
  const room = new LivekitClient.Room({ adaptiveStream: false, dynacast: false });
  window.room = room;
  const shown = new Promise((resolve) => room.on("trackSubscribed", (track) => {
    if (track.kind !== "video") return;
    const video = track.attach();
    video.muted = true;
    video.width = 160;
    document.body.append(video);
    video.requestVideoFrameCallback(() => resolve(performance.now()));
  }));
  const began = performance.now();
  await room.connect(url, token);
  return (await shown) - began;
}"""


async def main() -> None:
    every: list[list[float]] = []
    for run in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            async with running(Path(folder)) as server, chromium() as publishing, chromium() as watching:
                every.append(await one_run(server, publishing, watching))
        print(f"run {run + 1}/{RUNS}: {', '.join(f'{ms:.0f}' for ms in every[-1])} ms", flush=True)
    record("bench.json", "first_frame_median", [statistics.median(run) for run in every], "ms", "<= 400")
    record("bench.json", "first_frame_worst", [max(max(run) for run in every)], "ms", "<= 1000")


async def one_run(server: Server, publishing: Browser, watching: Browser) -> list[float]:
    """Milliseconds from `connect` to the first frame, for each of the ten."""
    publisher = await Client.join(publishing, server, "bench", "publisher")
    await publisher.publish(colour="#206080", hertz=440)
    await until("the publisher sends all layers", lambda: publisher.stats("outbound-rtp", kind="video"), so=_all_sent)
    pages = [await _open(watching, server, f"viewer-{n}") for n in range(ALONE + TOGETHER)]
    times = [await _join(page, server) for page in pages[:ALONE]]

    async def later(page: Tab, n: int) -> float:
        await asyncio.sleep(n / TOGETHER)
        return await _join(page, server)

    times += await asyncio.gather(*(later(page, n) for n, page in enumerate(pages[ALONE:])))
    return times


def _all_sent(layers: list[dict[str, object]]) -> bool:
    return len(layers) == 3 and all(int(str(layer.get("framesEncoded", 0))) > 30 for layer in layers)


async def _open(browser: Browser, server: Server, identity: str) -> Tab:
    """A page with the library loaded, before it joins."""
    tab = await Tab.open(browser, server, identity)
    await tab.page.route(f"{server.url}/lab/**", _serve)
    await tab.page.goto(f"{server.url}/lab/client.html")
    return tab


async def _join(tab: Tab, server: Server) -> float:
    token = server.token("bench", tab.identity, "observer")
    return float(await tab.page.evaluate(JOIN, [server.url.replace("http", "ws"), token]))


if __name__ == "__main__":
    asyncio.run(main())
