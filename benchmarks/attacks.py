"""What attacks cost those who are not attacked: set-up beside a spray of hellos, memory after floods of SSRCs, the time
that one datagram of feedback can take. That nobody is harmed is the tests' to prove.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.load import OPEN_POLICY
from benchmarks.memory import resident
from benchmarks.results import SHORT, record
from tests.drivers.test_dtls_hostile import client_hello
from tests.engine.test_laboratory import SERVER, Table
from tests.hostile.caller import Caller, Socket
from tests.hostile.test_media_port import forgeries
from tests.lab.client import Voice, lab
from tests.lab.network import Conditions
from tests.lab.server import Server, running

FILE = "bench.json"
HELLOS_PER_SECOND = 500
BLOCK = 10
JOINS = BLOCK if SHORT else 100
UNAUTHENTICATED, AUTHENTICATED = (5_000, 5_000) if SHORT else (200_000, 100_000)
SETTLE = 1.0  # s


def spray(port: int) -> None:
    """A process of its own: hellos from an address that nobody has proven, until it is killed."""
    hello, udp, began, sent = client_hello(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), time.monotonic(), 0
    udp.bind(("127.0.0.2", 0))
    while True:
        due = int((time.monotonic() - began) * HELLOS_PER_SECOND)
        for _ in range(min(due - sent, HELLOS_PER_SECOND // 10)):  # a pause is not followed by a burst
            udp.sendto(hello, ("127.0.0.1", port))
        sent = due
        time.sleep(0.005)


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), config=OPEN_POLICY) as started:
            yield started


async def hello_spray() -> None:
    """With and without, in turn, ten joins each."""
    async with server() as target:
        sprayer = multiprocessing.get_context("spawn").Process(target=spray, args=(target.media_port,), daemon=True)
        sprayer.start()
        assert sprayer.pid is not None
        while not await target.metric("d4e_sfu_drops_total", reason="unknown_address"):
            await asyncio.sleep(0.1)  # until it has begun
        took: dict[bool, list[float]] = {False: [], True: []}
        connected = 0
        try:
            for block in range(2 * JOINS // BLOCK):
                sprayed = block % 2 == 1
                os.kill(sprayer.pid, signal.SIGCONT if sprayed else signal.SIGSTOP)
                await asyncio.sleep(0.1)
                for n in range(BLOCK):
                    began = time.monotonic()
                    async with Caller.join(target, f"room {block}", f"caller {n}") as caller:
                        with contextlib.suppress(Exception):
                            await caller.connect()
                            took[sprayed].append(time.monotonic() - began)
                            connected += sprayed
            dropped = await target.metric("d4e_sfu_drops_total", reason="unknown_address")
            assert dropped > sum(took[True]) * HELLOS_PER_SECOND / 2, "the hellos came"
        finally:
            sprayer.kill()
    record(FILE, "hello_spray_connected", [100 * connected / JOINS], "of 100", ">= 100")
    ratio = statistics.median(took[True]) / statistics.median(took[False])
    record(FILE, "hello_spray_setup", [ratio], "ratio", "<= 1.1")


async def ssrcs() -> None:
    async with server() as target, lab() as peers:
        member = await peers.join(target.ws, target.token("ward", "member"), publish=[Voice()])
        async with Caller.join(target, "before", "caller") as caller:
            await caller.connect()
            # The first thousand are what the process grows by once: queues, counters, buffers.
            await pour(caller.udp, 1_000)
            await asyncio.sleep(SETTLE)
            before, counted = resident(target.pid), await target.metric("d4e_sfu_drops_total")
            await pour(caller.udp, UNAUTHENTICATED)
            await asyncio.sleep(SETTLE)
            assert await target.metric("d4e_sfu_drops_total") - counted > 0.9 * UNAUTHENTICATED
            record(FILE, "memory_unauthenticated_ssrcs", [(resident(target.pid) - before) / 1024], "MB", "<= 5")
            before = resident(target.pid)
            unknown = {"reason": "unknown_stream"}
            counted = await target.metric("d4e_sfu_drops_total", **unknown)
            peers.tell(cmd="storm", peer=member.name, storm={"ssrcs": 10_000})
            while await target.metric("d4e_sfu_drops_total", **unknown) - counted < AUTHENTICATED:
                await asyncio.sleep(0.2)
            peers.tell(cmd="storm", peer=member.name, storm={})
            await asyncio.sleep(SETTLE)
            record(FILE, "memory_authenticated_ssrcs", [(resident(target.pid) - before) / 1024], "MB", "<= 20")


async def pour(udp: Socket, count: int) -> None:
    """Media, each of an SSRC of its own, at about ten thousand a second: what the kernel drops proves nothing."""
    template = next(iter(forgeries(2)))
    for n in range(count):
        udp.send(b"\x80\x6f" + struct.pack("!HII", n & 0xFFFF, n, 0x1000_0000 + n) + template[12:])
        if n % 16 == 0:
            await asyncio.sleep(0.001)


def bombs() -> Iterator[bytes]:
    """Transport-wide feedback whose few bytes name as many packets as they can."""
    head = struct.pack("!BBHII", 0x8F, 205, 5, 1, 2)
    for base in range(0, 65_536, 997):
        # Twice as many as one compound may name at all; fifty times; and what one chunk cannot hold.
        for count, copies in ((8_191, 2), (8_191, 50), (65_535, 1)):
            yield (head + struct.pack("!HHIHH", base, count, 0x7FFFFF << 8, 0x1FFF, 0)) * copies


def feedback() -> None:
    table = Table(seed=1, conditions=Conditions())
    peer = table.seat(1)
    table.run(1.0)
    costs = []
    for bomb in bombs():
        peer.send_rtcp(bomb)
        for source, _, datagram in peer.transmits():
            began = time.thread_time()
            table.router.receive(datagram, local=SERVER, remote=source, now=table.now)
            costs.append(1_000 * (time.thread_time() - began))
    assert table.router.snapshot()["drops"]["bad_rtcp"] > 50  # type: ignore[index]
    # The worst of them, but one for each hundred, in which the kernel had something to do.
    record(FILE, "feedback_bomb", [sorted(costs)[-1 - len(costs) // 100]], "ms", "<= 1")


def main() -> None:
    feedback()
    asyncio.run(ssrcs())
    asyncio.run(hello_spray())


if __name__ == "__main__":
    main()
