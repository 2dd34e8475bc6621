"""What a person costs the control plane while nothing happens: 300 of them in rooms of ten, each with the offer of a
Chromium page, signalling over TLS, DTLS and both data channels open. Resident memory of the server's process when all
have been quiet for a while, less what it was before the first came, by person. Nobody publishes, so there are no media
rings in it; those hold what is received, at most a second of it.

One person comes and goes before the first measurement: what is loaded once and for all is not his.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpTransport

from benchmarks.results import SHORT, record
from tests.hostile.caller import Caller
from tests.lab.server import Server, running

RUNS = 1 if SHORT else 3
PEOPLE = 20 if SHORT else 300
ROOM_SIZE = 10
AT_ONCE = 10
QUIET = 2.0 if SHORT else 15.0  # s
CHECKS = 8.0  # s; a client checks its path more often than every 30
CHANNELS = (("_reliable", True), ("_lossy", False))
DESCRIPTION = Path(__file__).parent.parent / "tests/vectors/sdp/chromium-join.sdp"


class Person(Caller):
    """Someone with a page open."""

    def description(self) -> str:
        return DESCRIPTION.read_text()

    async def listen(self) -> None:
        """Pings are answered by whoever reads, and without an answer the server lets go."""
        async for _ in self.signalling:
            pass

    async def connect(self) -> None:
        await super().connect()
        self.sctp = RTCSctpTransport(self.dtls)
        await self.sctp.start(RTCSctpTransport.getCapabilities(), 5000)
        channels = []
        for label, ordered in CHANNELS:
            parameters = RTCDataChannelParameters(label=label, ordered=ordered, maxRetransmits=None if ordered else 0)
            channels.append(RTCDataChannel(self.sctp, parameters))
        async with asyncio.timeout(30):
            while any(channel.readyState != "open" for channel in channels):
                await asyncio.sleep(0.02)


async def main() -> None:
    sizes = []
    for run in range(RUNS):
        sizes.append(await one_run())
        print(f"run {run + 1}/{RUNS}: {sizes[-1]:.0f} KiB for each of {PEOPLE}", flush=True)
    record("bench.json", "memory_per_participant", sizes, "KiB", "<= 200")


async def one_run() -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), tls=True) as server, contextlib.AsyncExitStack() as everyone:
            async with Person.join(server, "first", "first") as first:
                await first.connect()
            await asyncio.sleep(QUIET)
            before = resident(server.pid)
            people: list[Person] = []
            checking = asyncio.create_task(keep(people))
            gate = asyncio.Semaphore(AT_ONCE)
            stacks = await asyncio.gather(*(enter(server, number, gate, people) for number in range(PEOPLE)))
            for stack in stacks:
                everyone.push_async_exit(stack)
            await asyncio.sleep(QUIET)
            there = await server.metric("d4e_sfu_engine_transports_connected")
            assert there == PEOPLE, f"{there:.0f} of {PEOPLE} are still there"
            size = (resident(server.pid) - before) / PEOPLE
            checking.cancel()
            return size


async def enter(
    server: Server, number: int, gate: asyncio.Semaphore, people: list[Person]
) -> contextlib.AsyncExitStack:
    stack = contextlib.AsyncExitStack()
    async with gate:
        room = f"room-{number // ROOM_SIZE}"
        person = await stack.enter_async_context(Person.join(server, room, f"person-{number}"))
        await person.connect()
        people.append(person)
        stack.callback(asyncio.create_task(person.listen()).cancel)
    return stack


async def keep(people: list[Person]) -> None:
    """Their checks, or the server would let them go."""
    while True:
        await asyncio.sleep(CHECKS)
        for person in people:
            person.udp.send(person.credentials.check())


def resident(process: int) -> float:
    """KiB of its memory that are in no file, and so nobody else's."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return float(line.split()[1])
    raise AssertionError("the kernel does not say")


if __name__ == "__main__":
    asyncio.run(main())
