"""What a packet costs with two workers at work, against one: each with a room of its own, 50 subscribers whose sockets
are never read, 1,100 bytes, and as many packets as leave half of this machine's core to others. Nothing is shared
between workers, so twice the CPU should carry twice the packets: the row is 2 × ns(1) / ns(2), CPU time of the workers'
threads for each outgoing packet, system time included. One and two are taken in turn, so that the machine's mood
cancels out.
"""

from __future__ import annotations

import asyncio

from benchmarks.load import Counted, loaded, relentless, watchers
from benchmarks.results import SHORT, record

RUNS = 1 if SHORT else 5
SUBSCRIBERS = 5 if SHORT else 50
BURST = 21  # packets per frame
SHARE = 0.45  # of its core, for each worker
GUESS = 1_050  # packets per second, to find out how many make up that share
SECONDS = 1.0 if SHORT else 5.0


async def main() -> None:
    frames = SHARE / (await cost(1, GUESS) * SUBSCRIBERS * BURST)
    packets = max(1, round(frames)) * BURST
    print(f"{packets} packets/s come in for each worker", flush=True)
    ratios = []
    for run in range(RUNS):
        one, two = await cost(1, packets), await cost(2, packets)
        ratios.append(2 * one / two)
        print(f"run {run + 1}/{RUNS}: {1e9 * one:.0f} ns with one worker, {1e9 * two:.0f} with two", flush=True)
    record("bench.json", "two_workers_by_one", ratios, "workers' worth", ">= 1.9")


async def cost(workers: int, packets: int) -> float:
    """Seconds of thread CPU for each outgoing packet."""
    async with loaded(workers) as (server, peers):
        rooms = [f"room-{number}" for number in range(workers)]
        for room in rooms:
            await watchers(server, peers, room, SUBSCRIBERS, sink=True)
            token = server.token(room, "publisher", "doctor")
            await peers.join(server.ws, token, publish=[relentless(packets, BURST)])
        used = {await server.worker_of(room) for room in rooms}
        assert len(used) == workers, "each room on a worker of its own"
        await asyncio.sleep(2.0)
        before = await Counted.now(server)
        await asyncio.sleep(SECONDS)
        done = await Counted.now(server) - before
    assert SHORT or done.packets > 0.8 * workers * packets * SUBSCRIBERS * SECONDS, "the load was not what it should be"
    return done.each


if __name__ == "__main__":
    asyncio.run(main())
