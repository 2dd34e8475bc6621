"""Two hundred strings that nobody else would write, in the names, tokens, addresses and chat of a whole run with
browsers, stock clients and people who are refused, at level debug: none of them is in a log, a metric or the body of an
error."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from livekit import api
from livekit.protocol import rtc

from tests.lab.browser import Person, chromium, until
from tests.lab.client import Camera, Member, Voice, lab
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import KEY_ID, Server, free_ports, running

pytestmark = [pytest.mark.long, pytest.mark.browser]
EACH = 50


@dataclass
class Canaries:
    """Made as they are needed; a token is one by its signature."""

    chance: random.Random = field(default_factory=lambda: random.Random(6))
    names: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    chat: list[str] = field(default_factory=list)

    def name(self) -> str:
        return self._word(self.names)

    def line(self) -> str:
        return self._word(self.chat)

    def address(self) -> str:
        """Of the networks for tests (RFC 2544, RFC 3849)."""
        while True:
            made = f"198.{self.chance.choice((18, 19))}.{self.chance.randrange(256)}.{self.chance.randrange(1, 255)}"
            if len(self.addresses) % 3 == 2:
                made = f"2001:db8:{self.chance.randrange(1, 0xFFFF):x}::{self.chance.randrange(1, 0xFFFF):x}"
            if made not in self.addresses:
                self.addresses.append(made)
                return made

    def token(
        self, server: Server, room: str, identity: str, role: str = "doctor", *, name: str = "", **grants: bool
    ) -> str:
        made = server.token(room, identity, role, name=name, **grants)
        self.tokens.append(made.rpartition(".")[2])
        return made

    def _word(self, of: list[str]) -> str:
        made = "Q" + "".join(self.chance.choices("bcdfghjkmnpqrtvwxz", k=11))
        of.append(made)
        return made

    def found(self, text: str) -> list[str]:
        low = text.lower()
        return [each for each in (*self.names, *self.tokens, *self.addresses, *self.chat) if each.lower() in low]


async def refused(server: Server, canaries: Canaries, room: str) -> list[str]:
    """Who does not get in, each from an address of his own; the bodies of all answers."""
    bodies = []

    async def ask(http: aiohttp.ClientSession, method: str, path: str, token: str, **more: object) -> None:
        headers = {"X-Forwarded-For": canaries.address(), "Authorization": f"Bearer {token}"}
        async with http.request(method, path, headers=headers, **more) as answer:  # type: ignore[arg-type]
            assert answer.status >= 400, (method, path, answer.status)
            bodies.append(await answer.text())

    async with aiohttp.ClientSession(server.url) as http:
        for number in range(13):
            who = canaries.name() if number < 2 else canaries.names[0]
            forged = canaries.token(server, room, who)[:-4] + "AAAA"
            unknown = canaries.token(server, room, who, f"role-{number}")
            right = canaries.token(server, room, who)
            await ask(http, "GET", "/rtc/v1/validate", forged)
            await ask(http, "GET", "/rtc/v1", unknown)
            await ask(http, "POST", f"/whip/{room}", right, data=f"v=0 {canaries.line()}".encode())
            await ask(http, "POST", "/twirp/livekit.RoomService/RemoveParticipant", right, json={"room": room})
            await ask(http, "POST", f"/{who}", right, data=canaries.chat[-1].encode())
    # What is no HTTP.
    for text in (
        f"GET /{canaries.names[0]}\r\n\r\n",
        f"{canaries.chat[0]}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{canaries.names[1]}\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(text.encode())
        bodies.append((await asyncio.wait_for(reader.read(), 20)).decode(errors="replace"))
        writer.close()
    return bodies


async def moderated(server: Server, canaries: Canaries, room: str, identity: str) -> list[str]:
    bodies = []
    async with api.LiveKitAPI(server.url, KEY_ID, server.secret) as client:
        await client.room.update_participant(
            api.UpdateParticipantRequest(room=room, identity=identity, name=canaries.name(), metadata=canaries.name())
        )
        for _ in range(2):
            with pytest.raises(api.TwirpError) as error:
                await client.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=canaries.name()))
            bodies.append(str(error.value.message))
        await client.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=identity))
    return bodies


def trickles(canaries: Canaries, member: Member) -> None:
    address = canaries.address()
    init = json.dumps({"candidate": f"candidate:1 1 udp 2122260223 {address} 40000 typ host", "sdpMid": "0"})
    member.send(rtc.SignalRequest(trickle=rtc.TrickleRequest(candidateInit=init)))
    name = rtc.UpdateParticipantMetadata(name=canaries.name(), metadata=canaries.names[-1])
    member.send(rtc.SignalRequest(update_metadata=name))


async def test_two_hundred_canaries_reach_no_log_no_metric_and_no_error(tmp_path: Path) -> None:
    (port,) = free_ports(socket.SOCK_STREAM, 1)
    config = {
        "http": {"listeners": [{"address": "127.0.0.1", "port": port}], "trusted_proxies": ["127.0.0.0/8"]},
        "audit": {"folder": "audit", "secret_file": "test.secret"},
    }
    canaries = Canaries()
    room = canaries.name()
    async with running(tmp_path, arguments=["--log-level", "debug"], config=config) as server:
        server.port = port
        async with chromium() as browser, lab() as peers:
            pages = []
            for _ in range(2):
                who, called, address = canaries.name(), canaries.name(), canaries.address()
                headers = {"X-Forwarded-For": address}
                page = await Person.arrive(browser, server, room, who, name=called, extra_http_headers=headers)
                canaries.tokens.append(server.tokens[-1].rpartition(".")[2])
                await page.join()
                pages.append(page)
            stock = LivekitClient()
            lan = canaries.name()
            await stock.join(server.ws, canaries.token(server, room, lan, name=canaries.name()))
            await stock.publish(colour=(200, 30, 30), hertz=440)
            members = []
            for number in range(10):
                who, called = canaries.name(), canaries.name()
                token = canaries.token(server, room, who, name=called, can_update_own_metadata=True)
                sources: list[Voice | Camera] = [Voice()]
                if number < 3:
                    sources.append(Camera(encodings=(150_000,)))
                members.append(await peers.join(server.ws, token, publish=sources))
                trickles(canaries, members[-1])
            for page in pages:
                await page.press("chat")
                for _ in range(5):
                    await page.say(canaries.line())
            for _ in range(EACH - 13 - len(canaries.chat)):
                await stock.room.local_participant.send_text(canaries.line(), topic="lk.chat")

            async def read() -> int:
                return len(await pages[0].messages())

            await until("the chat has arrived", read, seconds=30, so=lambda count: count >= EACH - 13)
            await until(f"{lan} is seen", lambda: pages[1].frames(lan), seconds=30, so=lambda frames: frames > 10)

            bodies = await refused(server, canaries, room)
            bodies += await moderated(server, canaries, room, who)  # the last of them
            while len(canaries.names) < EACH:
                member = members[len(canaries.names) % 9]
                member.send(rtc.SignalRequest(update_metadata=rtc.UpdateParticipantMetadata(name=canaries.name())))
            metrics = [await server.get(path) for path in ("/metrics", "/status")]
            await stock.leave()
        await server.stop()
        log = server.log

    counts = [len(each) for each in (canaries.names, canaries.tokens, canaries.addresses, canaries.chat)]
    print(f"names, tokens, addresses, chat: {counts}; {len(server.lines)} lines of log, {len(bodies)} bodies")
    assert len(set(canaries.names + canaries.tokens + canaries.addresses + canaries.chat)) >= 200
    assert "participant_joined" in log
    assert any(line.startswith("DEBUG d4e_sfu") for line in server.lines) or "rule=" in log
    assert canaries.found(log) == []
    for text in (*metrics, *bodies):
        assert canaries.found(text) == []
    records = "".join(file.read_text() for file in (tmp_path / "audit").glob("*.jsonl"))
    assert records.count('"event":"join"') >= 13
    assert canaries.found(records) == []
