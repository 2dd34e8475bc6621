"""Webhooks over real sockets: the server's half, the connector, and a receiver that is the stock server SDK's."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from livekit import api
from livekit.protocol import models, webhook

from d4e_sfu.config import Config
from d4e_sfu.config import Webhooks as Settings
from d4e_sfu.core.tokens import sign_body
from d4e_sfu.drivers import connector, control
from d4e_sfu.drivers.connector import Connector
from d4e_sfu.drivers.webhooks import FILE, PATIENCE, Webhooks
from tests.conftest import KEY, WALL

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def listen(app: web.Application, one: socket.socket) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, one).start()
    return runner


class Receiver:
    """A portal's address, that answers as it is told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.statuses: list[int] = []
        """What to answer, the first first; then 200."""
        self.asked: list[tuple[str, str]] = []
        self.news = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/webhook+json"
        self.asked.append((await request.text(), request.headers["Authorization"]))
        self.news.set()
        await self.answering.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Location": self.url} if status == 302 else {})

    def events(self) -> list[webhook.WebhookEvent]:
        """As the stock SDK verifies them."""
        verifier = api.TokenVerifier(KEY.id, KEY.secret.decode())
        return [api.WebhookReceiver(verifier).receive(body, token) for body, token in self.asked]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.asked) < count:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    one = socket.create_server(("127.0.0.1", 0))
    made = Receiver(f"http://127.0.0.1:{one.getsockname()[1]}/hook")
    app = web.Application()
    app.router.add_post("/hook", made.take)
    runner = await listen(app, one)
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(path: Path, *urls: str) -> AsyncIterator[Path]:
    """A connector that may ask these addresses."""
    made, app = Connector(urls), web.Application()
    made.setup(app)
    await made.start()
    runner = await listen(app, control.listener(path))
    try:
        yield path
    finally:
        await runner.cleanup()
        await made.stop()


def config(path: Path, *urls: str, **more: Any) -> Config:
    return Config(keys=(KEY,), webhooks=Settings(urls=urls, socket=path, **more))


def webhooks(config: Config, **more: Any) -> Webhooks:

    return Webhooks(config, sign=lambda body: sign_body(KEY, body, now=time.time()), chance=random.Random(1), **more)


def event(name: str = "room_started", room: str = "RM_1") -> Callable[[], webhook.WebhookEvent]:
    return lambda: webhook.WebhookEvent(event=name, room=models.Room(sid=room, name="Phòng 7"))


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "connector"


async def test_the_stock_receiver_verifies_what_arrives_and_a_changed_body_not(at: Path) -> None:
    async with receiver() as portal, connected(at, portal.url):
        sending = webhooks(config(at, portal.url))
        sending.start()
        for name in ("room_started", "participant_joined", "room_finished"):
            sending.report(event(name))
        await portal.until(3)
        await sending.stop()
    events = portal.events()
    assert [each.event for each in events] == ["room_started", "participant_joined", "room_finished"]
    assert events[0].room.name == "Phòng 7"
    assert len({each.id for each in events}) == 3
    assert all(each.created_at > WALL for each in events)
    body, token = portal.asked[0]
    portal.asked = [(body.replace("room_started", "room_finished"), token)]
    with pytest.raises(Exception, match="hash mismatch"):
        portal.events()


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_what_is_refused_comes_again_under_the_same_id_and_before_what_is_behind(
    at: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d4e_sfu.core.outbox.FIRST_PAUSE", 0.01)
    async with receiver() as portal, connected(at, portal.url):
        portal.statuses = [status, status]
        sending = webhooks(config(at, portal.url))
        sending.start()
        sending.report(event("room_started"))
        sending.report(event("room_finished"))
        await portal.until(4)
        await sending.stop()
    events = portal.events()
    assert [each.event for each in events] == ["room_started"] * 3 + ["room_finished"]
    assert len({each.id for each in events}) == 2
    assert sending.outbox.failures == 2


async def test_a_connector_that_comes_later_is_waited_for(
    at: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("d4e_sfu.core.outbox.LONGEST_PAUSE", 0.05)
    async with receiver() as portal:
        sending = webhooks(config(at, portal.url))
        sending.start()
        for room in range(5):
            sending.report(event(room=f"RM_{room}"))
        async with asyncio.timeout(10):
            while sending.outbox.failures < 10:
                await asyncio.sleep(0.01)
        async with connected(at, portal.url):
            await portal.until(5)
            await sending.stop()
    assert sorted(each.room.sid for each in portal.events()) == [f"RM_{room}" for room in range(5)]
    assert caplog.text.count("connector reachable=False") == 1, "said once, not for each attempt"


async def test_what_is_not_told_when_the_server_ends_is_told_by_the_next(at: Path, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with receiver() as portal:
        before = webhooks(config(at, portal.url, folder=folder))
        before.start()
        before.report(event("room_started"))
        before.report(event("room_finished"))
        await before.stop()
        kept = folder / FILE
        assert kept.stat().st_mode & 0o077 == 0, "names are in it"
        ids = [each["id"] for each in json.loads(kept.read_text())["events"]]
        async with connected(at, portal.url):
            after = webhooks(config(at, portal.url, folder=folder))
            after.start()
            await portal.until(2)
            await after.stop()
    assert [each.id for each in portal.events()] == ids
    assert not kept.exists()


async def test_an_answer_in_the_last_moment_counts_and_the_end_waits_for_no_other(
    at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d4e_sfu.drivers.webhooks.LAST_MOMENT", 0.3)
    async with receiver() as portal, receiver() as silent, connected(at, portal.url, silent.url):
        for each in (portal, silent):
            each.answering.clear()
        sending = webhooks(config(at, portal.url, silent.url, folder=tmp_path))
        sending.start()
        sending.report(event())
        await portal.until(1)
        await silent.until(1)
        async with asyncio.timeout(10):
            stopping = asyncio.create_task(sending.stop())
            await asyncio.sleep(0)
            portal.answering.set()
            await stopping
        silent.answering.set()
    (kept,) = json.loads((tmp_path / FILE).read_text())["events"]
    assert kept["urls"] == [silent.url]


async def test_an_age_goes_on_over_a_restart(at: Path, tmp_path: Path) -> None:
    url = "https://nobody.invalid/hook"
    before = webhooks(config(at, url, folder=tmp_path), wall=lambda: WALL, clock=lambda: 1000.0)
    before.report(event())
    await before.stop()
    after = webhooks(config(at, url, folder=tmp_path), wall=lambda: WALL + 500, clock=lambda: 20.0)
    after._restore()
    ((waiting, urls),) = after.outbox.waiting()
    assert (20.0 - waiting.at, urls) == (500.0, [url])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": 1}', '{"at": 1, "events": [{}]}', '{"at": [], "events": []}'])
async def test_a_file_that_cannot_be_read_stops_nobody(at: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    sending = webhooks(config(at, "https://nobody.invalid/hook", folder=tmp_path))
    sending.start()
    await sending.stop()
    assert len(sending.outbox) == 0


async def test_without_addresses_nothing_is_made(at: Path) -> None:
    def never() -> webhook.WebhookEvent:
        raise AssertionError

    sending = webhooks(config(at))
    sending.report(never)
    assert len(sending.outbox) == 0


async def test_a_full_queue_drops_by_name_and_the_next_event_tells(at: Path) -> None:
    sending = webhooks(config(at, "https://nobody.invalid/hook", queue=1))
    for _ in range(3):
        sending.report(event())
    assert sending.drops == {"queue_full": 2, "gave_up": 0, "address_removed": 0}
    sending.reconfigure(config(at, "https://nobody.invalid/hook", queue=5))
    sending.report(event())
    _, (last, _) = sending.outbox.waiting()
    assert json.loads(last.body)["numDropped"] == 2
    sending.reconfigure(config(at, "https://other.invalid/hook"))
    assert (len(sending.outbox), sending.drops["address_removed"]) == (0, 2)


# --- the connector ---------------------------------------------------------------------------------------------------


async def ask(path: Path, **asked: Any) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
        http.post("http://connector/deliver", **asked) as answer,
    ):
        return answer.status, await answer.text()


def delivery(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, "authorization": "a.b.c", "body": "{}", **more}


async def test_only_addresses_of_the_configuration_are_asked(at: Path) -> None:
    async with receiver() as portal, receiver() as other, connected(at, portal.url):
        assert (await ask(at, json=delivery(other.url)))[0] == 403
        assert (await ask(at, json=delivery(portal.url + "?more")))[0] == 403
        assert await ask(at, json=delivery(portal.url)) == (200, '{"status": 200}')
    assert (len(portal.asked), other.asked) == (1, [])


async def test_a_redirection_is_not_followed_and_nothing_of_an_answer_but_its_status_goes_back(at: Path) -> None:
    async with receiver() as portal, connected(at, portal.url):
        portal.statuses = [302]
        assert await ask(at, json=delivery(portal.url)) == (200, '{"status": 302}')
        assert len(portal.asked) == 1


async def test_why_there_was_no_answer_is_one_of_a_few_words(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "PATIENCE", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    rude = socket.create_server(("127.0.0.1", 0))
    closed = socket.create_server(("127.0.0.1", 0))
    addresses = {name: one.getsockname()[1] for name, one in (("silent", silent), ("rude", rude), ("closed", closed))}
    closed.close()
    server = await asyncio.start_server(lambda _, writer: writer.write(b"\xff\r\n\r\n"), sock=rude)
    urls = {
        "timeout": f"http://127.0.0.1:{addresses['silent']}/",
        "http": f"http://127.0.0.1:{addresses['rude']}/",
        "connection": f"http://127.0.0.1:{addresses['closed']}/",
        "tls": f"https://127.0.0.1:{addresses['rude']}/",
    }
    async with connected(at, *urls.values()):
        for word, url in urls.items():
            assert await ask(at, json=delivery(url)) == (200, json.dumps({"error": word})), word
    server.close()
    silent.close()


async def test_what_the_server_no_longer_waits_for_does_not_go_out(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go out a second time, for it is tried again."""
    assert connector.PLACE_PATIENCE + connector.PATIENCE < PATIENCE
    monkeypatch.setattr(connector, "AT_ONCE", 1)
    monkeypatch.setattr(connector, "PLACE_PATIENCE", 0.05)
    async with receiver() as slow, receiver() as portal, connected(at, slow.url, portal.url):
        slow.answering.clear()
        under_way = asyncio.create_task(ask(at, json=delivery(slow.url)))
        await slow.until(1)
        assert await ask(at, json=delivery(portal.url)) == (200, '{"error": "busy"}')
        slow.answering.set()
        assert await under_way == (200, '{"status": 200}')
        assert portal.asked == []
        assert await ask(at, json=delivery(portal.url)) == (200, '{"status": 200}')


async def test_after_a_reload_of_all_addresses_everything_reaches_the_connector_at_once(at: Path) -> None:
    """Were some to wait for a connection to it, the server would give them up before it has."""
    asked, news, answering = 0, asyncio.Event(), asyncio.Event()

    async def deliver(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        news.set()
        await answering.wait()
        return web.json_response({"status": 200})

    app = web.Application()
    app.router.add_post("/deliver", deliver)
    runner = await listen(app, control.listener(at))
    old, new = [[f"https://{name}.example/{number}" for number in range(8)] for name in ("old", "new")]
    sending = webhooks(config(at, *old))
    sending.start()
    for urls, all_of_them in ((old, 64), (new, 128)):
        sending.reconfigure(config(at, *urls))
        for room in range(8):
            sending.report(event(room=f"RM_{room}"))
        async with asyncio.timeout(10):  # less than PATIENCE
            while asked < all_of_them:
                news.clear()
                await news.wait()
    answering.set()
    await sending.stop()
    await runner.cleanup()
    assert (sending.outbox.delivered, sending.drops["address_removed"]) == (64, 64)


@pytest.mark.parametrize(
    "asked",
    [
        {"data": b"{"},
        {"data": b"[" * 100_000},
        {"json": {}},
        {"json": delivery("https://a.example/", body=7)},
        {"json": delivery("https://a.example/", authorization="a\r\nX-Evil: 1")},
        {"json": delivery("https://a.example/", authorization="é")},
        {"data": b" " * (connector.MAX_REQUEST + 1)},
    ],
    ids=["cut", "deep", "empty", "no text", "lines", "not ascii", "huge"],
)
async def test_what_is_no_delivery_is_refused(at: Path, asked: dict[str, Any]) -> None:
    async with connected(at, "https://a.example/"):
        status, _ = await ask(at, **asked)
        assert status in (400, 413)


async def test_its_socket_is_for_its_owner_alone(at: Path) -> None:
    async with connected(at):
        assert at.stat().st_mode & 0o077 == 0
