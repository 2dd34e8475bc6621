"""Fifty people in a guest's network, who come back by themselves as the stock clients do: told to, or cut off, they
join again at once, and then at livekit-client's intervals (DefaultReconnectPolicy). What happens is told line by line,
as JSON.

    … | nsenter --target LEADER --net python -m tests.boot.crowd URL      tokens on standard input, one a line
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from itertools import chain, repeat

import aiohttp

from tests.lab.client import Camera, Lab, Member, RefusedError, Voice, lab

DELAYS = (0.0, 0.3, 1.2, 2.7, 4.8, 7.0)
JITTER = 1.0  # from the second attempt on
ROOM = 5  # of so many one has a camera


def tell(event: str, who: int, **more: float) -> None:
    print(json.dumps({"event": event, "who": who, "at": time.monotonic(), **more}), flush=True)


async def attend(peers: Lab, url: str, token: str, who: int) -> None:
    """In the room for as long as this process lives, and back in it."""
    chance = random.Random(who)
    publish: list[Voice | Camera] = [Voice()]
    if who % ROOM == 0:
        publish.append(Camera(encodings=(300_000,)))
    while True:
        for number, delay in enumerate(chain(DELAYS, repeat(DELAYS[-1]))):
            await asyncio.sleep(delay + (chance.uniform(0, JITTER) if number > 1 else 0))
            try:
                member = await peers.join(url, token, publish=publish)
            except (RefusedError, ConnectionError, TimeoutError, aiohttp.ClientError) as error:
                print(f"{who}: {error!r}", file=sys.stderr)
                continue
            break
        await heard(member, who)
        while not member.gone:
            await asyncio.sleep(0.02)
        tell("gone", who)
        await member.vanish()


async def heard(member: Member, who: int) -> None:
    await member.lab.event("first_frame", member.name)
    tell("media", who)


async def main(url: str) -> None:
    tokens = [line.strip() for line in sys.stdin]
    async with lab() as peers:
        await asyncio.gather(*(attend(peers, url, token, who) for who, token in enumerate(tokens)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
