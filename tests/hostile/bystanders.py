"""Two people in another room who only want to go on talking: unmodified native clients, one showing and speaking, one
watching. Whatever a test does meanwhile must not cost them packets. It measures; the attack is the test's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab.livekit_client import LivekitClient
from tests.lab.server import Server

ROOM = "bystanders"
COLOUR, HERTZ = (30, 30, 200), 440.0
LOSS = 0.005  # of the packets, those that were repaired included
START_SECONDS = 30.0
# A machine that is busy encodes fewer than the 25 a second that the sender draws; a stopped call decodes none.
FRAMES_PER_SECOND = 5.0


@dataclass(frozen=True, slots=True)
class Received:
    """What the watcher's native stack has counted so far, over voice and picture."""

    packets: int
    missing: int
    frames: int
    kinds: int


@asynccontextmanager
async def bystanders(server: Server) -> AsyncIterator[None]:
    """A call that runs when the block begins, and must have lost nothing worth mentioning when it ends."""
    sender, watcher = LivekitClient(), LivekitClient()
    await sender.join(server.ws, server.token(ROOM, "sender"))
    await watcher.join(server.ws, server.token(ROOM, "watcher"))
    try:
        await sender.publish(colour=COLOUR, hertz=HERTZ, simulcast=False)
        async with asyncio.timeout(START_SECONDS):
            while (before := await _received(watcher)).frames < 10 or before.kinds < 2:
                await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        yield
        took = loop.time() - began
        after = await _received(watcher)
        packets, missing = after.packets - before.packets, after.missing - before.missing
        assert packets > 20 * took, "the voice alone is fifty a second"
        assert missing <= LOSS * packets, f"{missing} of {packets} packets missing"
        assert after.frames - before.frames >= FRAMES_PER_SECOND * took
        assert not [event for event in watcher.events + sender.events if event[0] != "participant_connected"]
    finally:
        await sender.leave()
        await watcher.leave()


async def _received(client: LivekitClient) -> Received:
    packets = missing = frames = kinds = 0
    for participant in client.room.remote_participants.values():
        for publication in participant.track_publications.values():
            for stats in await publication.track.get_stats() if publication.track else []:
                if stats.WhichOneof("stats") == "inbound_rtp":
                    inbound: Any = stats.inbound_rtp
                    kinds += inbound.received.packets_received > 0
                    packets += inbound.received.packets_received
                    missing += max(0, inbound.received.packets_lost) + inbound.inbound.retransmitted_packets_received
                    frames += inbound.inbound.frames_decoded
    return Received(packets, missing, frames, kinds)
