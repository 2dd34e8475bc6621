"""What the server adds to a packet's way: one publisher, 50 subscribers, 250 packets a second, one packet a frame.

Frames carry the time of their sending by the machine's clock. Five of the subscribers are probes, spread evenly over
the order in which the server serves them (the first and the last among them); the other 45 are never read, so that the
probe's own work on 50 sockets at once does not count as the server's. The generator, the probes and the same path
without the server (publisher → probe, same keys' cost, same sockets) run on the other core.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from typing import Any

from benchmarks import plots
from benchmarks.load import LOAD_CORE, PAYLOAD, loaded, pin, watchers
from benchmarks.results import record
from tests.lab.client import Camera, Lab, lab
from tests.lab.offer import EXTENSIONS

RUNS = 5
SUBSCRIBERS, PROBES, RATE = 50, 5, 250
SECONDS = 10.0
SHAPE = {"fps": float(RATE), "keyframe_factor": 1.0, "spread": 0.0, "max_payload": PAYLOAD + 100}


async def main() -> None:
    middle, tail = [], []
    histograms: list[Counter[float]] = [Counter(), Counter()]
    for run in range(RUNS):
        without, through = await direct(), await served()
        for histogram, measured in zip(histograms, (without, through), strict=True):
            for edge, count in measured.pop("histogram"):
                histogram[edge] += count
        middle.append((through["p50"] - without["p50"]) / 1e3)
        tail.append((through["p99"] - without["p99"]) / 1e3)
        print(f"run {run + 1}/{RUNS}: p50 {through['p50']:.0f} - {without['p50']:.0f} µs, ", end="")
        print(f"p99 {through['p99']:.0f} - {without['p99']:.0f} µs", flush=True)
    record("bench.json", "added_latency_p50", middle, "ms", "<= 0.5")
    record("bench.json", "added_latency_p99", tail, "ms", "<= 2")
    plots.latency(*(sorted(histogram.items()) for histogram in histograms))


async def served() -> dict[str, Any]:
    async with loaded() as (server, sinks), lab() as probes:
        pin(probes.process.pid, LOAD_CORE)
        between = (SUBSCRIBERS - PROBES) // (PROBES - 1)
        left = SUBSCRIBERS - PROBES
        for n in range(PROBES):
            await watchers(server, probes, "latency", 1, sink=False)
            count = min(between, left) if n < PROBES - 2 else left if n == PROBES - 2 else 0
            await watchers(server, sinks, "latency", count, sink=True)
            left -= count
        camera = Camera(encodings=(RATE * PAYLOAD * 8,), more=SHAPE)
        token = server.token("latency", "publisher", "doctor")
        await sinks.join(server.ws, token, publish=[camera])
        return await _measure(probes, PROBES)


async def direct() -> dict[str, Any]:
    """The same publisher, and a probe that answers its checks itself."""
    async with lab() as sending, lab() as probes:
        pin(sending.process.pid, LOAD_CORE)
        pin(probes.process.pid, LOAD_CORE)
        names = [secrets.token_hex(8) for _ in range(4)]
        keys = [secrets.token_hex(28), secrets.token_hex(28)]
        media: dict[str, Any] = {"codec": "vp8", "mid": "0", "payload_type": 96}
        probes.tell(
            cmd="add",
            peer="probe",
            spec=_spec(names[:2], names[2:]) | {"lite": True},
            security=_given(keys),
            receive=[media | {"receiver": 1, "ssrc": 1}],
        )
        address = (await probes.event("added", "probe"))["local"]
        publish = media | SHAPE | {"publication": 1, "encodings": [{"ssrc": 1, "bitrate": RATE * PAYLOAD * 8}]}
        sending.tell(
            cmd="add",
            peer="publisher",
            spec=_spec(names[2:], names[:2]) | {"remotes": [address]},
            security=_given(keys[::-1]),
            publish=[publish],
        )
        return await _measure(probes, 1)


def _spec(ours: list[str], theirs: list[str]) -> dict[str, Any]:
    return {
        "local_ufrag": ours[0],
        "local_pwd": ours[1],
        "remote_ufrag": theirs[0],
        "remote_pwd": theirs[1],
        "extensions": EXTENSIONS,
    }


def _given(keys: list[str]) -> dict[str, Any]:
    return {"keys": {"profile": "gcm", "receive": keys[0], "send": keys[1]}}


async def _measure(probes: Lab, count: int) -> dict[str, Any]:
    """Quantiles and histogram in microseconds over `SECONDS`, after a warm-up; every probe has had every frame."""
    await asyncio.sleep(2.0)
    before = await probes.stats(reset=True)
    await asyncio.sleep(SECONDS)
    after = await probes.stats()
    for name, peer in after["peers"].items():
        frames = sum(each["frames"] for each in peer["receivers"])
        frames -= sum(each["frames"] for each in before["peers"][name]["receivers"])
        assert frames >= 0.95 * RATE * SECONDS, (name, frames)
    assert len(after["peers"]) == count
    return dict(after["latency"], histogram=after["histogram"])


if __name__ == "__main__":
    asyncio.run(main())
