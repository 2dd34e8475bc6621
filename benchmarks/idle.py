"""What a quiet room costs: three Chromium pages told that they are hidden and 17 peers, all muted, for 60 seconds; the
CPU time of the whole server process (both languages, system time included) as a share of one core.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.load import cpu_seconds
from benchmarks.results import record
from tests.lab.browser import Client, chromium
from tests.lab.client import Camera, Voice, lab
from tests.lab.server import running

RUNS = 5
PAGES, PEERS = 3, 17
SECONDS = 60.0
HIDE = """() => {
  Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
  Object.defineProperty(document, "hidden", { get: () => true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
# As a person does it, with the client's own defaults: camera and microphone on, then muted.
MUTE = """async () => {
  const me = lab.room.localParticipant;
  await me.enableCameraAndMicrophone();
  await me.setMicrophoneEnabled(false);
  await me.setCameraEnabled(false);
}"""


async def main() -> None:
    shares = []
    for run in range(RUNS):
        shares.append(await one_run())
        print(f"run {run + 1}/{RUNS}: {shares[-1]:.2f} % of one core", flush=True)
    record("bench.json", "idle_room_cpu", shares, "% of one core", "<= 2")


async def one_run() -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as server, chromium() as browser, lab() as peers:
            for n in range(PEERS):
                token = server.token("idle", f"peer-{n}", "doctor")
                member = await peers.join(server.ws, token, publish=[Voice(dtx=True), Camera()])
                for cid in list(member.published):
                    await member.mute(cid)
            for n in range(PAGES):
                page = await Client.join(browser, server, "idle", f"page-{n}", adaptiveStream=True)
                await page.page.evaluate(MUTE)
                await page.page.evaluate(HIDE)
            await asyncio.sleep(5.0)  # what joining led to is over
            began, before = time.monotonic(), cpu_seconds(server.pid)
            await asyncio.sleep(SECONDS)
            return 100 * (cpu_seconds(server.pid) - before) / (time.monotonic() - began)


if __name__ == "__main__":
    asyncio.run(main())
