"""What the receive buffer of a media socket is worth: the worker is stopped for a moment while packets arrive, as where
the machine had something else to do, and the kernel counts what it had to drop. Once with the kernel's own buffer, once
with the one that the socket unit and `media.buffer` ask for, which needs no kernel setting: systemd and root may exceed
`net.core.rmem_max`. The share is of what comes within a second around the stop. Where that loses nothing there is
nothing left for a kernel setting to gain.

Needs root, or the server could not exceed it either.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path

from benchmarks.load import LOAD_CORE, OPEN_POLICY, SERVER_CORE, pin, relentless
from benchmarks.results import SHORT, record
from d4e_sfu.config import Media
from tests.lab.client import lab
from tests.lab.server import Server, running

RMEM_DEFAULT = Path("/proc/sys/net/core/rmem_default")
PACKETS, BURST = 10_000, 10  # per second; at once
STALL = 0.15
STALLS = 2 if SHORT else 10


async def main() -> None:
    kernels = int(RMEM_DEFAULT.read_text()) // 2  # what is asked for is doubled (socket(7))
    ours = int(Media().buffer)
    await one("kernel_default", kernels, "")
    await one("ours", ours, "== 0")


async def one(name: str, size: int, target: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        media = {"port": 0, "addresses": ["127.0.0.1"], "buffer": size}
        async with running(Path(folder), config={**OPEN_POLICY, "media": media}) as server, lab() as peers:
            pin(server.pid, SERVER_CORE)
            pin(peers.process.pid, LOAD_CORE)
            await peers.join(server.ws, server.token("room", "speaker", "doctor"), publish=[relentless(PACKETS, BURST)])
            await asyncio.sleep(1)
            shares = [await stall(server) for _ in range(STALLS)]
    record("bench.json", f"burst_loss_{name}", shares, "% of the packets", target, buffer=size, stall_seconds=STALL)


async def stall(server: Server) -> float:
    """Percent of what arrived from its beginning until all is read again that was dropped."""
    before, read = dropped(server.pid), await taken(server)
    server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(STALL)
    server.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(1)
    lost, read = dropped(server.pid) - before, await taken(server) - read
    return 100 * lost / (lost + read)


async def taken(server: Server) -> float:
    return await server.metric("d4e_sfu_packets_total", direction="received", kind="video")


def dropped(process: int) -> int:
    """By the kernel, of all UDP sockets in its network that this process holds."""
    held = {link.readlink().name for link in Path(f"/proc/{process}/fd").iterdir()}
    lines = Path(f"/proc/{process}/net/udp").read_text().splitlines()[1:]
    return sum(int(line.split()[-1]) for line in lines if f"socket:[{line.split()[9]}]" in held)


if __name__ == "__main__":
    asyncio.run(main())
