"""Takes the README's picture of the status page, of a server whose hour takes ninety seconds and whose two rooms fill
and empty: `python -m tests.lab.status_picture FILE`."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.lab.browser import Tab, chromium
from tests.lab.client import Camera, Lab, Member, Voice, lab
from tests.lab.server import Server, running

SECONDS = 88
WIDTH, HEIGHT = 1180, 1200


async def crowd(server: Server, peers: Lab) -> None:
    """Up to eight people who come and go."""
    chance = random.Random(3)
    here: list[Member] = []
    loop = asyncio.get_running_loop()
    ends = loop.time() + SECONDS
    number = 0
    while loop.time() < ends:
        if here and chance.random() < len(here) / 10:
            await here.pop(chance.randrange(len(here))).leave()
        else:
            number += 1
            token = server.token(f"clinic-{number % 2}", f"person-{number}", "doctor")
            sources: list[Voice | Camera] = [Voice(), Camera(encodings=(150_000, 500_000))]
            here.append(await peers.join(server.ws, token, publish=sources))
        await asyncio.sleep(chance.uniform(2, 6))


async def main(file: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), module="tests.lab.quick") as server, lab() as peers, chromium() as browser:
            await crowd(server, peers)
            size = {"width": WIDTH, "height": HEIGHT}
            tab = await Tab.open(browser, server, "operator", locale="vi-VN", viewport=size)
            await tab.page.goto(server.admin)
            await tab.page.wait_for_selector("body[data-state=told]")
            await tab.page.screenshot(path=file, full_page=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
