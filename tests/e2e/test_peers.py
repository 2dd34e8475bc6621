"""Participants made of `d4e-peer` in a real room: another DTLS, another ICE, and every frame judged."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lab.browser import until
from tests.lab.client import BINARY, Camera, Lab, Member, RefusedError, Voice, lab
from tests.lab.server import Server, free_ports, running

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="make peer builds it")


@pytest_asyncio.fixture
async def peers() -> AsyncIterator[Lab]:
    async with lab() as made:
        yield made


async def enter(server: Server, peers: Lab, identity: str, *publish: Voice | Camera, sink: bool = False) -> Member:
    return await peers.join(server.url, server.token("ward", identity, "doctor"), publish=publish, sink=sink)


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_two_peers_decode_each_other_without_a_seam(server: Server, peers: Lab, codec: str) -> None:
    camera = Camera(codec=codec) if codec == "vp8" else Camera(codec=codec, encodings=(800_000,))
    members = [await enter(server, peers, name, Voice(), camera) for name in ("lan", "minh")]
    for member, other in zip(members, reversed(members), strict=True):
        stats = await member.frames(60, tracks=2)
        assert {int(source) for r in stats["receivers"] for source in r["sources"]} == set(other.published.values())
        assert [r["seam_total"] + r["corrupt"] + r["skipped"] + r["lost"] for r in stats["receivers"]] == [0, 0], stats
        assert stats["replayed"] == stats["unauthentic"] == stats["malformed"] == 0, stats
        assert stats["feedback_received"] > 0, "no transport-wide feedback for the publisher"
        assert stats["told_lost"] == 0, stats


async def test_signalling_and_media_over_ipv6(tmp_path: Path, peers: Lab) -> None:
    (port,) = free_ports(socket.SOCK_STREAM, 1)
    config = {
        "http": {"listeners": [{"address": "::1", "port": port}]},
        "media": {"port": free_ports(socket.SOCK_DGRAM, 1)[0], "addresses": ["::1"]},
    }
    async with running(tmp_path, config=config) as server:
        lan, minh = [
            await peers.join(f"ws://[::1]:{port}", server.token("ward", name, "doctor"), publish=[Voice(), Camera()])
            for name in ("lan", "minh")
        ]
        for member in (lan, minh):
            assert member.answer is not None
            assert all(candidate.startswith("[::1]:") for candidate in member.answer.candidates)
            stats = await member.frames(30, tracks=2)
            assert [r["seam_total"] + r["corrupt"] + r["lost"] for r in stats["receivers"]] == [0, 0], stats


async def test_a_peer_that_changes_its_port_goes_on_hearing(server: Server, peers: Lab) -> None:
    await enter(server, peers, "lan", Voice())
    minh = await enter(server, peers, "minh")
    before = (await minh.frames(25))["receivers"][0]["frames"]
    peers.tell(cmd="rebind", peer=minh.name)
    stats = await minh.frames(before + 100)
    assert stats["receivers"][0]["frames"] >= before + 100


async def test_a_sink_is_sent_to_although_it_never_reads(server: Server, peers: Lab) -> None:
    await enter(server, peers, "minh", sink=True)
    lan = await enter(server, peers, "lan", Voice())
    before = await server.metric("d4e_sfu_packets_total", direction="sent", kind="audio")
    await until(
        "a second of her voice",
        lambda: server.metric("d4e_sfu_packets_total", direction="sent", kind="audio"),
        so=lambda sent: sent >= before + 50,
    )
    assert not (await lan.stats())["lost"]


async def test_a_bad_token_is_refused_before_anything_else(server: Server, peers: Lab) -> None:
    with pytest.raises(RefusedError, match="401"):
        await peers.join(server.url, "no.such.token")
