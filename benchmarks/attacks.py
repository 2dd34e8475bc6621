"""What attacks cost those who are not attacked: set-up beside a spray of hellos, memory after floods of SSRCs, the time
that one datagram of feedback and one descriptor that lies can take. That nobody is harmed is the tests' to prove.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import random
import signal
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import OPEN_POLICY
from benchmarks.memory import resident
from benchmarks.results import SHORT, record
from d4e_sfu._engine import Codec, Command, Encoding, Extension, PublicationSpec, SubscriptionSpec
from tests.engine.test_laboratory import EXTENSIONS, SERVER, Table
from tests.hostile.caller import Caller
from tests.hostile.test_media_port import forgeries
from tests.lab.client import Voice, lab
from tests.lab.hello import client_hello
from tests.lab.network import Conditions
from tests.lab.server import Server, running
from tests.lab.stream import Way

FILE = "bench.json"
HELLOS_PER_SECOND = 500
BLOCK = 10
JOINS = BLOCK if SHORT else 100
UNAUTHENTICATED, AUTHENTICATED = (5_000, 5_000) if SHORT else (200_000, 100_000)
SETTLE = 1.0  # s
LIES, REPEATS = (500, 2) if SHORT else (2_000, 7)
LONGEST = 255  # bytes of an element of a header extension (RFC 8285 §4.3)


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


async def pour(udp: Way, count: int) -> None:
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


def structure(frame: int, templates: int, targets: int, rest: Iterator[str]) -> bytes:
    """A dependency descriptor (RTP Payload Format for AV1, appendix A.8) with a structure of so many templates, in one
    layer, and decode targets; what follows comes from `rest`, up to the most that an element can hold.
    """
    bits = f"11{frame % 64:06b}{frame % 65_536:016b}" + "11000"  # a structure, and which targets are active
    bits += f"{frame % 64:06b}{targets - 1:05b}" + "00" * (templates - 1) + "11"
    bits += "10" * targets * templates  # each may be switched to at each
    bits += "0" * templates  # none refers to another
    bits += "".join(itertools.islice(rest, 8 * LONGEST - len(bits)))  # chains, resolutions, which targets are active
    return int(bits[: 8 * LONGEST].ljust(8 * LONGEST, "0"), 2).to_bytes(LONGEST)


def descriptors() -> None:
    """A publisher whose every packet has another structure, as large as fits, with chance behind it or nothing."""
    runs = [lie() for _ in range(REPEATS)]
    # The same packets each time: of each the least, which is what it costs undisturbed; of all the worst.
    record(FILE, "descriptor_lies", [max(map(min, zip(*runs, strict=True)))], "µs", "<= 50")


def lie() -> list[float]:
    """What each packet took, in µs of CPU, all the way through the router."""
    table = Table(seed=1, conditions=Conditions())
    publisher, viewer = table.seat(1), table.seat(2)
    extensions = [*EXTENSIONS, (Extension.DependencyDescriptor, 12)]
    publication = PublicationSpec(
        codec=Codec.Av1, mid="0", payload_type=96, encodings=[Encoding(ssrc=100)], max_bitrate=1 << 30, nack=False
    )
    subscription = SubscriptionSpec(mid="1", payload_type=98, ssrc=200, cname="c", spatial=0)
    table.submit(
        *(Command.SetExtensions(transport, extensions, True) for transport in (1, 2)),
        Command.AddPublication(7, 1, publication),
        Command.AddSubscription(8, 7, 2, subscription),
    )
    viewer.add_receiver({"receiver": 1, "codec": "av1", "mid": "1", "payload_type": 98, "ssrc": 200}, now=0.0)
    table.run(1.0)
    chance = random.Random(1)
    shapes = [(1, 1), (64, 1), (64, 8), (26, 32), (20, 32)]
    costs = []
    for n in range(LIES):
        templates, targets = shapes[n % len(shapes)]
        rest = (chance.choice("01") for _ in itertools.count()) if n % 2 else itertools.repeat("0")
        element = structure(n, templates, targets, rest)
        extension = (bytes([12, len(element)]) + element).ljust(260, b"\0")
        head = struct.pack("!BBHII", 0x90, 0xE0, n % 65_536, 3_000 * n, 100) + struct.pack("!HH", 0x1000, 65)
        payload = b"\x18\x30" + bytes(200)  # a new sequence, one OBU: a frame
        assert publisher.send_rtp(head + extension + payload, len(head) + len(extension))
        for source, _, datagram in publisher.transmits():
            began = time.thread_time()
            table.router.receive(datagram, local=SERVER, remote=source, now=table.now)
            costs.append(1_000_000 * (time.thread_time() - began))
        table.run(table.now + 0.001)
    drops: Any = table.router.snapshot()["drops"]
    assert LIES / 10 < drops["bad_dependency"] < LIES / 2, "some are refused, and the others are read"
    return costs[1:]  # with the first one its stream gets its memory


def main() -> None:
    feedback()
    descriptors()
    asyncio.run(ssrcs())
    asyncio.run(hello_spray())


if __name__ == "__main__":
    main()
