"""What the load benchmarks share: a server and its generator on one core each, and what the server's counters say.

The room's policy is opened wide (a publisher of 100 Mbit/s is no camera); nothing else differs from a server for use.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.client import Camera, Lab, Member, lab
from tests.lab.server import TWO_WORKERS, Server, running

SERVER_CORE, LOAD_CORE = 0, 1
_NAMES = itertools.count(1)
# One packet is 1,100 bytes on the wire where it leaves: RTP header and MID 20, payload, GCM tag 16.
PAYLOAD = 1_064
OPEN_POLICY: dict[str, Any] = {
    "rooms": [{"name": "*", "capacity": 200, "max_bitrate": {"camera": "100M"}}],
    "limits": {"participants": 500},
}


@asynccontextmanager
async def loaded(workers: int = 1) -> AsyncIterator[tuple[Server, Lab]]:
    """A server on one core, and a peer process on the other; from the second worker on the server has both."""
    with tempfile.TemporaryDirectory() as folder:
        config = {**OPEN_POLICY, "media": {**TWO_WORKERS, "workers": workers}}
        async with running(Path(folder), config=config) as server:
            pin(server.pid, SERVER_CORE)
            for number in range(1, workers):
                pin_thread(server.pid, f"worker-{number}", LOAD_CORE)
            async with lab() as peers:
                pin(peers.process.pid, LOAD_CORE)
                yield server, peers


def pin(process: int, core: int) -> None:
    """All threads of a process to one core."""
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def pin_thread(process: int, name: str, core: int) -> None:
    """One thread of a process, by its name."""
    for thread in Path(f"/proc/{process}/task").iterdir():
        if (thread / "comm").read_text().strip() == name:
            os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Counted:
    """The workers' counters at one moment, or between two."""

    at: float
    cpu: float
    packets: float
    bytes: float

    @property
    def each(self) -> float:
        """Seconds of worker CPU for each packet, from a difference."""
        return self.cpu / self.packets

    def __sub__(self, before: Counted) -> Counted:
        return Counted(
            self.at - before.at, self.cpu - before.cpu, self.packets - before.packets, self.bytes - before.bytes
        )

    @classmethod
    async def now(cls, server: Server) -> Counted:
        # The snapshot is up to 250 ms old, but of one moment: its own CPU time and its own packets.
        sent = {"direction": "sent", "kind": "video"}
        return cls(
            time.monotonic(),
            await server.metric("d4e_sfu_worker_cpu_seconds_total"),
            await server.metric("d4e_sfu_packets_total", **sent),
            await server.metric("d4e_sfu_bytes_total", **sent),
        )


def relentless(packets: int, burst: int) -> Camera:
    """So many packets of `PAYLOAD` a second, so many of them at once."""
    shape = {"fps": packets / burst, "keyframe_factor": 1.0, "spread": 0.0, "max_payload": PAYLOAD + 10}
    return Camera(encodings=(packets * PAYLOAD * 8,), more=shape)


async def watchers(server: Server, peers: Lab, room: str, count: int, *, sink: bool) -> list[Member]:
    """Subscribers, in the order in which the server serves them."""
    return [
        await peers.join(server.ws, server.token(room, f"watcher-{next(_NAMES)}", "observer"), sink=sink)
        for _ in range(count)
    ]
