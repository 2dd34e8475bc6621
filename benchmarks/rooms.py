"""Many rooms on one machine: rooms of five, each of whom sends a voice and a camera and gets all others', one after
the other, on one worker. What is told: how busy the worker is, what the decisions cost, what goes out, and whether the
first room, which is judged frame by frame, notices the others.

The server has one core and its load the other. People of all rooms but the first are sinks: what they are sent is not
read, so that the load leaves room for the server.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.load import cpu_seconds, loaded
from benchmarks.results import SHORT, record
from tests.lab.client import Camera, Lab, Member, Voice
from tests.lab.server import Server

ROOMS = (2, 4) if SHORT else (5, 10)
PEOPLE = 5
SECONDS = 3.0 if SHORT else 20.0
CAMERA = Camera(encodings=(150_000, 500_000))
BUSY = 80.0  # percent: a worker that should stay below


@dataclass(frozen=True, slots=True)
class Moment:
    at: float
    process: float
    worker: float
    packets: float
    bytes: float

    @classmethod
    async def now(cls, server: Server) -> Moment:
        sent = {"direction": "sent"}
        return cls(
            time.monotonic(),
            cpu_seconds(server.pid),
            await server.metric("d4e_sfu_worker_cpu_seconds_total"),
            await server.metric("d4e_sfu_packets_total", **sent),
            await server.metric("d4e_sfu_bytes_total", **sent),
        )


async def main() -> None:
    async with loaded() as (server, peers):
        judged: list[Member] = []
        for count in ROOMS:
            there = len(peers.members) // PEOPLE
            for number in range(there, count):
                members = [await enter(server, peers, number, who) for who in range(PEOPLE)]
                judged = judged or members
            await asyncio.sleep(SECONDS / 4)
            await measure(server, peers, judged, count)


async def enter(server: Server, peers: Lab, room: int, who: int) -> Member:
    token = server.token(f"room-{room}", f"person-{who}", "doctor")
    return await peers.join(server.ws, token, publish=[Voice(), CAMERA], sink=room > 0)


async def measure(server: Server, peers: Lab, judged: list[Member], rooms: int) -> None:
    lost_before = await lost(peers, judged)
    before = await Moment.now(server)
    await asyncio.sleep(SECONDS)
    after = await Moment.now(server)
    seconds = after.at - before.at
    worker, process = after.worker - before.worker, after.process - before.process
    packets, size = after.packets - before.packets, after.bytes - before.bytes
    record(
        "bench.json",
        f"rooms_{rooms}_of_five",
        [100 * worker / seconds],
        "% of one worker",
        f"<= {BUSY:g}",
        people=rooms * PEOPLE,
        packets_per_second=round(packets / seconds),
        megabits_per_second=round(8e-6 * size / seconds, 1),
        microseconds_per_packet=round(1e6 * worker / packets, 2),
        decisions_percent_of_a_core=round(100 * (process - worker) / seconds, 1),
        frames_lost_in_the_judged_room=await lost(peers, judged) - lost_before,
    )


async def lost(peers: Lab, judged: list[Member]) -> int:
    stats = (await peers.stats())["peers"]
    return sum(each["lost"] + each["skipped"] for member in judged for each in stats[member.name]["receivers"])


if __name__ == "__main__":
    asyncio.run(main())
