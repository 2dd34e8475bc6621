"""The whole process in one test's event loop, with the real engine: start, what is served, reload, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from livekit.protocol import rtc

from d4e_sfu import server as servers
from d4e_sfu.config import Admin, Config, Http, Limits, Listener, Media, MediaAddress, Tls
from d4e_sfu.drivers import certificates
from d4e_sfu.errors import EX_CONFIG, ConfigError, Problem
from d4e_sfu.server import Lag, Server
from tests.conftest import MintToken
from tests.drivers.test_signal import PATH, query, receive, receive_kinds


def small(config: Config) -> Config:
    """On free loopback ports."""
    return config.model_copy(
        update={
            "http": Http(listeners=(Listener(port=0),)),
            "admin": Admin(port=0),
            "media": Media(port=0, addresses=(MediaAddress(listen="127.0.0.1"),)),
        }
    )


@pytest.fixture
async def server(config: Config) -> AsyncIterator[Server]:
    server = await Server.start(small(config))
    yield server
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def url(server: Server, path: str = "/", *, admin: bool = False) -> str:
    listening = server._listening[-1 if admin else 0]
    host, port = listening.sockets[0].getsockname()[:2]
    return f"http://{host}:{port}{path}"


async def test_a_join_reaches_the_engine_and_leaves_no_token_in_the_log(
    server: Server, http: aiohttp.ClientSession, mint: MintToken, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = mint("an", name="Nguyen Van An", now=time.time())
    async with http.ws_connect(url(server, PATH), params=query(token)) as socket:
        assert (await receive(socket)).WhichOneof("message") == "join"
        answer = (await receive(socket)).answer.sdp
        address, port = server.engines[0].candidates[0]
        assert f" {address} {port} typ host" in answer
        async with http.get(url(server, "/debug/rooms/ward", admin=True)) as state:
            room = await state.json()
        assert [each["keys"] for each in room["engine"]["transports"]] == [False]
        assert room["worker"] == "worker-0"
        async with http.get(url(server, "/metrics", admin=True)) as answered:
            metrics = await answered.text()
        assert 'd4e_sfu_participants{role="doctor"} 1.0' in metrics
        assert "d4e_sfu_signalling_connections 1.0" in metrics
    for secret in (token, "Nguyen", "access_token"):
        assert secret not in caplog.text


async def test_what_a_client_writes_into_its_opening_stays_out_of_the_log(
    server: Server, http: aiohttp.ClientSession, mint: MintToken, caplog: pytest.LogCaptureFixture
) -> None:
    token = mint("an", now=time.time())
    async with http.ws_connect(url(server, PATH), params=query(token), protocols=["a-canary"]) as socket:
        assert (await receive(socket)).WhichOneof("message") == "join"
    assert "canary" not in caplog.text
    assert "127.0.0.1:" not in caplog.text.replace("candidates=127.0.0.1:", "")


async def test_the_page_and_readiness_are_served(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(url(server)) as page:
        assert page.status == 200
        assert page.headers["X-Content-Type-Options"] == "nosniff"
    async with http.get(url(server, "/readyz", admin=True)) as ready:
        assert ready.status == 200
    server.sfu.draining = True
    async with http.get(url(server, "/readyz", admin=True)) as ready:
        assert (ready.status, await ready.text()) == (503, "draining\n")


async def test_stopping_asks_everyone_to_come_again_and_takes_no_five_seconds(
    config: Config, http: aiohttp.ClientSession, mint: MintToken
) -> None:
    server = await Server.start(small(config))
    reading = await http.ws_connect(url(server, PATH), params=query(mint("an", now=time.time())))
    deaf = await http.ws_connect(url(server, PATH), params=query(mint("binh", now=time.time())), autoclose=False)
    address = url(server)
    began = time.monotonic()
    stopping = asyncio.create_task(server.stop())
    kinds = await receive_kinds(reading)
    assert kinds[-1] == "leave"
    assert reading.close_code == 1000
    await stopping
    assert time.monotonic() - began < 5
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(address)
    await deaf.close()


async def test_a_dead_worker_is_noticed_and_its_people_may_come_back_at_once(
    server: Server, http: aiohttp.ClientSession, mint: MintToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "0")  # symbols take longer than all the rest
    took = []
    for deaths in range(3):
        async with http.ws_connect(url(server, PATH), params=query(mint("an", now=time.time()))) as socket:
            assert (await receive(socket)).WhichOneof("message") == "join"
            await receive(socket)
            (transport,) = (await server.engines[0].debug_state())["transports"]
            assert transport["id"] == server.sfu.rooms["ward"].participants["an"].transport
            assert server.engines[0].deaths == deaths
            began = time.monotonic()
            server.engines[0]._worker.panic_for_test()  # type: ignore[attr-defined]
            while (message := await receive(socket)).WhichOneof("message") != "leave":
                pass  # he is told of other things as well
            took.append(time.monotonic() - began)
            assert message.leave.action == rtc.LeaveRequest.Action.RECONNECT
    assert min(took) < 0.1, "a busy machine may be late once, not always"


async def test_a_silent_connection_is_not_held(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "HTTP_PATIENCE", 0.2)
    server = await Server.start(small(config))
    host, port = server._listening[0].sockets[0].getsockname()[:2]
    silent = await asyncio.open_connection(host, port)
    slow = await asyncio.open_connection(host, port)
    slow[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    began = time.monotonic()
    for reader, writer in (silent, slow):
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()
    assert time.monotonic() - began < 2
    await server.stop()


async def test_a_reload_holds_for_whoever_joins_next(
    server: Server, http: aiohttp.ClientSession, mint: MintToken
) -> None:
    def refused() -> Config:
        raise ConfigError([Problem("x.yaml", 1, 2, "limits", "wrong")])

    before = server.config
    server.reload(refused)
    assert server.config is before
    server.reload(lambda: before.model_copy(update={"keys": ()}))
    params = query(mint("an", now=time.time()))
    async with http.get(url(server, PATH + "/validate"), params=params) as answer:
        assert answer.status == 401
    server.reload(lambda: before.model_copy(update={"limits": Limits(join_request=65_536)}))
    async with http.get(url(server, PATH + "/validate"), params=params) as answer:
        assert answer.status == 200


async def test_what_the_operator_got_wrong_outside_the_file_ends_the_start(
    server: Server, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = server._listening[0].sockets[0].getsockname()[:2]
    taken = small(config).model_copy(update={"http": Http(listeners=(Listener(address=host, port=port),))})
    assert await servers._serve(taken, None) == EX_CONFIG
    assert str(port) in caplog.text
    assert "Traceback" not in caplog.text
    foreign = small(config).model_copy(update={"media": Media(addresses=(MediaAddress(listen="203.0.113.9"),))})
    assert await servers._serve(foreign, None) == EX_CONFIG
    assert "203.0.113.9" in caplog.text


async def test_https_serves_the_same(config: Config, tmp_path: Path, mint: MintToken) -> None:
    certificate, key = certificates.development(tmp_path)
    tls = Http(listeners=(Listener(port=0, tls=True),), tls=Tls(certificate=certificate, key=key))
    server = await Server.start(small(config).model_copy(update={"http": tls}))
    address = url(server, PATH).replace("http:", "https:")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        params = query(mint("an", now=time.time()))
        async with http.ws_connect(address, params=params, headers={"Origin": address.removesuffix(PATH)}) as socket:
            assert (await receive(socket)).WhichOneof("message") == "join"
    await server.stop()


async def test_fifty_joins_and_departures_leave_nothing_behind(
    server: Server, http: aiohttp.ClientSession, mint: MintToken
) -> None:
    for number in range(50):
        params = query(mint(f"p{number}", now=time.time()))
        async with http.ws_connect(url(server, PATH), params=params) as socket:
            await receive(socket)
            await socket.send_bytes(rtc.SignalRequest(leave=rtc.LeaveRequest()).SerializeToString())
            await receive_kinds(socket)
    await asyncio.wait_for(server.signalling.closed(), 2)
    gc.collect()
    state = await server.engines[0].debug_state()
    assert state["transports"] == []
    assert server.sfu.debug_state()["participants"] == 0
    assert server.associations[server.engines[0]].debug_state()["associations"] == {}


def test_lag_is_the_worst_since_it_was_asked_for() -> None:
    lag = Lag()
    for now in (0.0, 0.05, 0.30, 0.35):
        lag.seen(now, interval=0.05)
    assert lag.take() == pytest.approx(0.2)
    assert lag.take() == 0.0
