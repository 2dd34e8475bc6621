"""A call of two peers who come back when the server asks them to, as client libraries do: one shows and speaks, the
other watches and judges what arrives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from livekit.protocol import rtc

from tests.lab.client import Camera, Lab, Member, RefusedError, Voice
from tests.lab.server import Server

RETRIES = 10
RETRY_SECONDS = 0.3  # the stock clients' second try; their first comes at once


@dataclass(slots=True)
class Call:
    server: Server
    peers: Lab
    room: str
    watcher: Member
    publisher: Member

    @classmethod
    async def begin(cls, server: Server, peers: Lab, room: str) -> Call:
        call = cls(server, peers, room, *await _enter(server, peers, room))
        await call.flows()
        return call

    async def flows(self, frames: int = 2) -> list[dict[str, Any]]:
        """Waits for voice and picture, so many frames of each since the watcher came; returns how they arrived."""
        receivers: list[dict[str, Any]] = (await self.watcher.frames(frames, tracks=2))["receivers"]
        return receivers

    async def flawless(self) -> int:
        """The call goes on, and nothing was ever missing or wrong. Returns how many packets that were."""
        before = await self.flows()
        after = await self.flows(max(each["frames"] for each in before) + 10)
        for each in after:
            assert not each["seam_total"] + each["corrupt"] + each["skipped"] + each["lost"], each
        return sum(int(each["packets"]) for each in after)

    async def comes_back(self) -> None:
        """Both are asked to join again, do so, and the watcher hears and sees."""
        for member in (self.watcher, self.publisher):
            leave = await member.told_to_leave()
            assert leave.action == rtc.LeaveRequest.Action.RECONNECT
            await member.vanish()
        self.watcher, self.publisher = await _enter(self.server, self.peers, self.room)
        await self.flows()


async def _enter(server: Server, peers: Lab, room: str) -> tuple[Member, Member]:
    for _ in range(RETRIES):
        try:
            watcher = await peers.join(server.ws, server.token(room, "watcher", "observer"))
            token = server.token(room, "publisher", "doctor")
            return watcher, await peers.join(server.ws, token, publish=[Voice(), Camera(encodings=(300_000,))])
        except RefusedError:
            await asyncio.sleep(RETRY_SECONDS)
    raise AssertionError(f"{room} was refused {RETRIES} times")
