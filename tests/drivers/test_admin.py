"""The admin listener, over real HTTP, with doubles for everything that it shows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from d4e_sfu.config import DEFAULT_ROLES, Config
from d4e_sfu.core.tokens import MAX_NAME
from d4e_sfu.drivers import admin
from d4e_sfu.drivers.admin import Admin
from d4e_sfu.drivers.metrics import Metrics, Sources
from d4e_sfu.drivers.webhooks import Webhooks


@dataclass
class Server:
    """What a server shows to its admin listener."""

    reasons: list[str] = field(default_factory=list)
    rooms: dict[str, Mapping[str, object]] = field(default_factory=dict)

    async def room(self, name: str) -> Mapping[str, object] | None:
        await asyncio.sleep(0)
        return self.rooms.get(name)

    def admin(self, *, loopback: bool = True) -> Admin:
        sources = Sources(
            roles=DEFAULT_ROLES.keys,
            rooms=list,
            workers=list,
            associations=list,
            connections=lambda: 0,
            refusals=Counter,
            capacity=lambda: 500,
            certificate_ends=lambda: None,
            draining=lambda: False,
            audit=lambda: None,
            webhooks=lambda: Webhooks(Config(), sign=lambda body: body),
            lag=lambda: 0.0,
            version="0.1",
        )
        return Admin(
            not_ready=lambda: self.reasons,
            metrics=Metrics(sources),
            status=lambda: {"people": 3},
            state=lambda: {"rooms": len(self.rooms)},
            rooms=lambda: {name: {"participants": len(room)} for name, room in self.rooms.items()},
            room=self.room,
            loopback=loopback,
        )


Client = TestClient[web.Request, web.Application]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    app = web.Application()
    server.admin().setup(app)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_healthz_is_ok_whatever_else_is(client: Client, server: Server) -> None:
    server.reasons = ["worker-0 is dead"]
    response = await client.get("/healthz")
    assert (response.status, await response.text()) == (200, "ok\n")


async def test_readyz_tells_every_reason(client: Client, server: Server) -> None:
    response = await client.get("/readyz")
    assert (response.status, await response.text()) == (200, "ready\n")
    server.reasons = ["worker-0 is dead", "draining"]
    response = await client.get("/readyz")
    assert (response.status, await response.text()) == (503, "worker-0 is dead\ndraining\n")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("text/plain", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
async def test_metrics_speak_the_form_that_is_asked_for(client: Client, accept: str, content_type: str) -> None:
    response = await client.get("/metrics", headers={"Accept": accept})
    assert response.status == 200
    assert response.headers["Content-Type"].startswith(content_type)
    assert "version=" in response.headers["Content-Type"]
    assert "d4e_sfu_rooms 0.0" in await response.text()


async def test_the_status_page_is_told_its_figures(client: Client) -> None:
    response = await client.get("/status")
    assert (response.status, await response.json()) == (200, {"people": 3})


async def test_a_room_shows_its_state(client: Client, server: Server) -> None:
    server.rooms["Khoa Nhi/phòng 3"] = {"capacity": 8, "state": DEFAULT_ROLES.keys()}
    assert await (await client.get("/debug")).json() == {"rooms": 1}
    assert await (await client.get("/debug/rooms")).json() == {"Khoa Nhi/phòng 3": {"participants": 2}}
    response = await client.get(f"/debug/rooms/{quote('Khoa Nhi/phòng 3', safe='')}")
    assert (await response.json())["capacity"] == 8
    assert "Khoa" not in await response.text()


@pytest.mark.parametrize("name", ["nobody", "x" * (MAX_NAME + 1), "..%2f..%2fetc%2fpasswd", "%00", "%ff"])
async def test_a_room_that_is_not_there_is_404(client: Client, name: str) -> None:
    assert (await client.get(f"/debug/rooms/{name}")).status == 404


@pytest.mark.parametrize("path", ["/", "/debug/", "/rtc/v1", "/metrics/x", "/healthz/x"])
async def test_nothing_else_is_there(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/status", "/debug", "/debug/rooms"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_it_is_read_only(client: Client, path: str, method: str) -> None:
    assert (await client.request(method, path)).status == 405


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/status", "/debug", "/debug/rooms"])
async def test_answers_are_not_kept_and_not_guessed_at(client: Client, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers  # no page of another site may read it


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:7881", 200),
        ("LocalHost", 200),
        ("127.0.0.1:7881", 200),
        ("[::1]:7881", 200),
        ("evil.example", 421),
        ("evil.example:7881", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[::1", 421),
        ("a b", 421),
        ("127.0.0.1:port", 421),
    ],
)
async def test_a_page_that_points_its_name_at_loopback_reads_nothing(client: Client, host: str, status: int) -> None:
    for path in ("/debug/rooms", "/metrics", "/status", "/nothing"):
        expected = 404 if (path, status) == ("/nothing", 200) else status
        assert (await client.get(path, headers={"Host": host})).status == expected


async def test_on_another_address_any_name_will_do(server: Server) -> None:
    app = web.Application()
    server.admin(loopback=False).setup(app)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/healthz", headers={"Host": "sfu.example.vn:7881"})).status == 200


async def test_a_fault_of_ours_shows_no_trace(client: Client, server: Server) -> None:
    class Broken(dict[str, Mapping[str, object]]):
        def items(self) -> None:  # type: ignore[override]
            raise RuntimeError("canary")

    server.rooms = Broken()
    response = await client.get("/debug/rooms")
    assert response.status == 500
    assert "canary" not in await response.text()


def test_the_name_of_a_room_may_be_as_long_as_a_token_allows() -> None:
    assert admin.MAX_NAME >= MAX_NAME
