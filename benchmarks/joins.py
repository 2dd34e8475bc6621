"""Crowds that join one room: fifty within five seconds, and two hundred within a minute.

All are peers with signalling of their own on a real WebSocket. Ten of the fifty publish voice and picture; their clock
runs from the first byte of the opening to the first frame that could be decoded. Three of the two hundred publish; what
is measured there is the CPU of the server's process without its workers' threads (the control plane), and what each
client's signalling connection has carried, both ways, in that minute: bytes of TCP payload, once from clients that do
not inflate (the native ones) and once from clients that do (browsers). As in a grid of small views, everyone gets the
smallest layer.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Collection

from benchmarks.load import cpu_seconds, loaded
from benchmarks.results import SHORT, record
from d4e_sfu.core.crowd import CROWD_SECONDS
from tests.lab.client import Camera, Lab, Member, Voice
from tests.lab.server import Server

RUNS = 1 if SHORT else 5
# people, seconds in which they come, who of them publishes
FEW = (10, 1.0, {0, 1}) if SHORT else (50, 5.0, {0, 1, *range(10, 50, 5)})
MANY = (20, 6.0, {0, 1, 2}) if SHORT else (200, 60.0, {0, 1, 2})


async def main() -> None:
    waits = []
    for run in range(RUNS):
        waits.append(await first_media())
        print(f"run {run + 1}/{RUNS}: first media within {waits[-1]:.2f} s for 95 %", flush=True)
    record("bench.json", "join_50_first_media_p95", waits, "s", "<= 1")
    for form, compress in (("plain", False), ("deflated", True)):
        shares, worst = [], []
        for run in range(1 if SHORT else 3):
            share, carried = await control_plane(compress=compress)
            shares.append(share)
            worst.append(max(carried) / 1e3)
            middle = statistics.median(carried) / 1e3
            print(f"run {run + 1}, {form}: {share:.1f} % of one core; ", end="")
            print(f"signalling {middle:.0f} kB in the middle, {worst[-1]:.0f} kB at most", flush=True)
        record("bench.json", f"join_200_control_plane_{form}", shares, "% of one core", "<= 60")
        record("bench.json", f"join_200_signalling_{form}", worst, "kB of the worst client", "<= 100")


async def first_media() -> float:
    """Seconds within which 95 of 100 had their first frame."""
    people, seconds, publishers = FEW
    async with loaded() as (server, peers):
        members = await crowd(server, peers, people, seconds, publishers, compress=False)
        waited = sorted([await member.first_media() for member in members])
    return waited[-(-95 * people // 100) - 1]


async def control_plane(*, compress: bool) -> tuple[float, list[int]]:
    """Share of a core in percent, and bytes by client."""
    people, seconds, publishers = MANY
    async with loaded() as (server, peers):
        loop = asyncio.get_running_loop()
        began, before = loop.time(), await control_plane_cpu(server)
        members = await crowd(server, peers, people, seconds, publishers, compress=compress)
        await asyncio.sleep(max(0.0, began + seconds - loop.time()))
        used = await control_plane_cpu(server) - before
        share = 100 * used / (loop.time() - began)
        carried = [member.signalling_bytes() for member in members]
        await asyncio.sleep(2 * CROWD_SECONDS)  # the last are told of a little later
        for member in members:
            await member.first_media()
            assert len(member.people) == people - 1, "everyone knows of everyone"
    return share, carried


async def control_plane_cpu(server: Server) -> float:
    return cpu_seconds(server.pid) - await server.metric("d4e_sfu_worker_cpu_seconds_total")


async def crowd(
    server: Server, peers: Lab, people: int, seconds: float, publishers: Collection[int], *, compress: bool
) -> list[Member]:
    """They set out evenly over `seconds`, whether or not those before have arrived."""

    async def one(number: int) -> Member:
        await asyncio.sleep(number * seconds / people)
        publishes = number in publishers
        token = server.token("crowd", f"person-{number}", "doctor" if publishes else "observer")
        publish: list[Voice | Camera] = [Voice(), Camera()] if publishes else []
        return await peers.join(server.ws, token, publish=publish, adaptive_stream=True, compress=compress)

    return list(await asyncio.gather(*(one(number) for number in range(people))))


if __name__ == "__main__":
    asyncio.run(main())
