"""Who can reach nothing but TCP 443 (clients.tcp-443): how soon is he in the call, and how long does his voice take?

Chromium is in a network namespace behind a firewall of ours (tests/lab/tunnel.py): 20 ms each way, 1 % of all IP
packets lost, each way. Three firewalls: one that lets pass TCP 443 alone (he comes by ICE-TCP); one that also drops
what is not
TLS (TURN over TLS); and one that lets nobody out but to an HTTP proxy, which tunnels. He joins, sends and receives a
voice; the path is what the firewall's packets really took, on a machine that has other things to do; the voice's round
trip is what his RTCP measures (of reports of ours on it), and what his checks take on the same
connection. "Joined" is from `connect` to the media path, as the client library counts. It takes root.
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import SHORT, record
from tests.lab import tunnel
from tests.lab.browser import Client, chromium
from tests.lab.client import Voice, lab
from tests.lab.link import Conditions
from tests.lab.proxy import proxy
from tests.lab.server import Server, running
from tests.lab.tunnel import SERVER, Rule

RUNS = 1 if SHORT else 3
SECONDS = 5.0 if SHORT else 15.0
DELAY, LOSS = 0.02, 0.01
PROXY = 3128
LEAST = 5  # samples of one run, or it says nothing


@dataclass(slots=True)
class Far(Server):
    """The server as it is reached from the other side."""

    @property
    def url(self) -> str:
        return f"https://{SERVER}"


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    rule: Rule
    protocols: tuple[str, ...]
    """One of which the pair in use has to have at the client's end: its own, or that to the relay."""
    proxied: bool = False
    turn: bool = True
    """Whether he is told of TURN: else, where both get through, he may take either."""


WAYS = (
    Way("ice_tcp", Rule(), ("tcp",), turn=False),
    Way("turns", Rule(tls=True), ("tls",)),
    Way("proxy", Rule(ports=(PROXY,)), ("tls", "tcp"), proxied=True),
)


async def main(names: list[str]) -> None:
    for way in WAYS:
        if names and way.name not in names:
            continue
        joins: list[float] = []
        medians: list[float] = []
        samples: list[float] = []
        for run in range(RUNS):
            joined, round_trips, path = await one_run(way)
            joins.append(joined)
            medians.append(statistics.median(round_trips) - path)
            samples += [each - path for each in round_trips]
            print(
                f"{way.name} {run + 1}/{RUNS}: joined {joined:.2f} s, path {path:.0f} + {medians[-1]:.0f} ms",
                flush=True,
            )
        p95 = statistics.quantiles(samples, n=20)[-1]
        record("bench.json", f"tcp_443_{way.name}_joined", joins, "s", "<= 3", pick=max)
        record(
            "bench.json",
            f"tcp_443_{way.name}_voice",
            medians,
            "ms above the path",
            "<= 40",
            p95=round(p95, 1),
            samples=len(samples),
        )
        print(f"tcp_443_{way.name}_voice p95: {p95:.0f} ms of {len(samples)}", flush=True)


async def one_run(way: Way) -> tuple[float, list[float], float]:
    """Seconds until he was in; the round trips of his voice, and that of the path, in ms."""
    config: dict[str, Any] = {
        "media": {"port": 7882, "addresses": [SERVER]},
        "front": {"host": SERVER if way.turn else None},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            tunnel.tunnel(folder, way.rule, Conditions(delay=DELAY, loss=LOSS)) as firewall,
            running(folder / "server", config=config, front=True, address=SERVER, port=443) as server,
            lab() as peers,
            proxy(SERVER, PROXY) as asked,
        ):
            await peers.join(server.ws, server.token("call", "near"), publish=[Voice()])
            arguments = ["--ignore-certificate-errors"]
            if way.proxied:
                arguments += [f"--proxy-server=http://{SERVER}:{PROXY}", "--proxy-bypass-list=<-loopback>"]
            async with chromium(*arguments, executable=firewall.wrapper) as browser:
                far = Far(**{each.name: getattr(server, each.name) for each in dataclasses.fields(Server)})
                client = await Client.visit(browser, far, "far")
                joined = await client.enter("call") / 1000
                await client.publish(hertz=440)
                round_trips = await watched(client)
                (pair,) = [
                    each
                    for each in await client.stats("candidate-pair")
                    if each.get("nominated") and each["state"] == "succeeded"
                ][:1]
                local = next(
                    each for each in await client.stats("local-candidate") if each["id"] == pair["localCandidateId"]
                )
                used = local.get("relayProtocol") or local["protocol"]
                assert used in way.protocols, local
                assert bool(asked) == way.proxied, asked
                heard = await client.heard("near")
                assert heard, "he hears the other"
            path = 1000 * sum(map(statistics.median, firewall.transits))
            return joined, round_trips, path


async def watched(client: Client) -> list[float]:
    """Each new round trip that RTCP has measured of his voice, for a while."""
    seen: dict[int, float] = {}
    until = time.monotonic() + SECONDS
    while time.monotonic() < until or len(seen) < LEAST:
        for each in await client.stats("candidate-pair"):
            if each.get("nominated") and each.get("currentRoundTripTime"):
                seen[each["responsesReceived"]] = 1000 * each["currentRoundTripTime"]
        for each in await client.stats("remote-inbound-rtp", kind="audio"):
            if each.get("roundTripTimeMeasurements"):
                seen[-each["roundTripTimeMeasurements"]] = 1000 * each["roundTripTime"]
        await asyncio.sleep(0.2)
    return list(seen.values())


if __name__ == "__main__":
    if tunnel.possible():
        tunnel.alone()
        asyncio.run(main([each for each in sys.argv[1:] if not each.startswith("--")]))
    else:
        print("left out: it takes root and /dev/net/tun")
