"""The whole process in one test's event loop, with the real engine: start, what is served, reload, stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from livekit.protocol import models, rtc

from d4e_sfu import config as configuration
from d4e_sfu import server as servers
from d4e_sfu.config import Admin, Audit, Config, Drain, Http, Limits, Listener, Media, MediaAddress, Tls
from d4e_sfu.core import ending
from d4e_sfu.core.tokens import token_id
from d4e_sfu.drivers import certificates
from d4e_sfu.drivers import http as http_driver
from d4e_sfu.drivers.beat import Lag
from d4e_sfu.drivers.control import Verdict, ask
from d4e_sfu.drivers.notify import Notifier
from d4e_sfu.drivers.sockets import Inherited, Mismatch
from d4e_sfu.errors import EX_CONFIG, ConfigError, Problem
from d4e_sfu.server import Server
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
    listening = server.http.listening[-1 if admin else 0]
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
        address, port = server.engines[0].announced[0]
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
    monkeypatch.setattr(http_driver, "HTTP_PATIENCE", 0.2)
    server = await Server.start(small(config))
    host, port = server.http.listening[0].sockets[0].getsockname()[:2]
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
    host, port = server.http.listening[0].sockets[0].getsockname()[:2]
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


async def test_the_sockets_of_systemd_are_served_and_no_other_is_opened(
    config: Config, http: aiohttp.ClientSession, mint: MintToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, admin = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    media.bind(("127.0.0.1", 0))
    media.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
    given = media.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    ports = [one.getsockname()[1] for one in (page, admin, media)]
    wanted = config.model_copy(
        update={
            "http": Http(listeners=(Listener(port=ports[0]),)),
            "admin": Admin(port=ports[1]),
            "media": Media(port=ports[2], addresses=(MediaAddress(listen="127.0.0.1"),)),
        }
    )
    other = wanted.model_copy(update={"media": Media(port=1, addresses=(MediaAddress(listen="127.0.0.1"),))})
    with pytest.raises(Mismatch):
        await Server.start(other, inherited=Inherited([each.dup() for each in (page, admin, media)]))

    def bind(*_: object) -> None:
        raise AssertionError("a socket of its own")

    monkeypatch.setattr(socket, "create_server", bind)
    monkeypatch.setattr("d4e_sfu.drivers.engine.bind", bind)
    server = await Server.start(wanted, inherited=Inherited([page, admin, media]))
    async with http.ws_connect(url(server, PATH), params=query(mint("an", now=time.time()))) as socket_:
        assert (await receive(socket_)).WhichOneof("message") == "join"
        assert f" 127.0.0.1 {ports[2]} typ host" in (await receive(socket_)).answer.sdp
    async with http.get(url(server, "/readyz", admin=True)) as ready:
        assert ready.status == 200
    assert media.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == given, "its buffer is as systemd wants it"
    await server.stop()


async def test_systemd_hears_of_workers_that_turn_and_of_none_that_hangs(config: Config, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1200000"}
        server = await Server.start(small(config), notifier=Notifier(environment))
        loop = asyncio.get_running_loop()
        for _ in range(3):
            assert await asyncio.wait_for(loop.sock_recv(systemd, 99), 2) == b"WATCHDOG=1"
        frozen = dict(server.engines[0].snapshot())
        server.engines[0].snapshot = lambda: frozen  # type: ignore[method-assign]
        with contextlib.suppress(BlockingIOError):  # one may have been on its way, and one be sent before it is seen
            await asyncio.sleep(0.5)
            while True:
                systemd.recv(99)
        await asyncio.sleep(1)
        with pytest.raises(BlockingIOError):
            systemd.recv(99)
        await server.stop()


async def join(http: aiohttp.ClientSession, server: Server, token: str) -> aiohttp.ClientWebSocketResponse:
    socket = await http.ws_connect(url(server, PATH), params=query(token))
    assert (await receive(socket)).WhichOneof("message") == "join"
    return socket


async def test_a_drain_refuses_new_rooms_lets_calls_go_on_and_ends_with_the_last(
    config: Config, http: aiohttp.ClientSession, mint: MintToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "QUIET", 0.3)
    admin = Admin(port=0, control=tmp_path / "control")
    server = await Server.start(small(config).model_copy(update={"admin": admin}))
    first = await join(http, server, mint("an", now=time.time()))
    draining = asyncio.create_task(asyncio.to_thread(ask, tmp_path / "control", "drain", timeout=None))
    while not server.sfu.draining:
        await asyncio.sleep(0.01)
    assert b"d4e_sfu_draining 1.0" in server.metrics.render("")[0]
    params = query(mint("binh", room="theatre", now=time.time()))
    async with http.get(url(server, PATH + "/validate"), params=params) as answer:
        assert answer.status == 503
        assert "takes no new calls" in await answer.text()
        assert answer.headers["Retry-After"]
    second = await join(http, server, mint("binh", now=time.time()))  # into a call that runs
    await first.close()
    await asyncio.sleep(0.7)
    assert not server.ended.is_set(), "one is still there"
    assert not draining.done()
    await second.close()
    await asyncio.wait_for(server.ended.wait(), 3)
    assert await draining == Verdict(True, ("everyone has left",))
    await server.stop()


async def test_a_drain_is_bounded_and_sigterm_takes_the_time_that_the_configuration_gives(
    config: Config, http: aiohttp.ClientSession, mint: MintToken, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        patient = small(config).model_copy(update={"drain": Drain.model_validate({"on_stop": "800ms"})})
        server = await Server.start(patient, notifier=notifier)
        client = await join(http, server, mint("an", now=time.time()))
        began = time.monotonic()
        server.terminate()
        await asyncio.wait_for(server.ended.wait(), 5)
        assert 0.8 <= time.monotonic() - began < 4
        assert systemd.recv(99).startswith(b"STOPPING=1")
        assert systemd.recv(99).startswith(b"EXTEND_TIMEOUT_USEC=")
        await server.stop()
        await client.close()


async def test_who_is_still_there_is_sent_away_room_by_room_at_the_end_of_that_time(
    config: Config, http: aiohttp.ClientSession, mint: MintToken
) -> None:
    drain = Drain.model_validate({"on_stop": "2s", "spread": "1200ms"})
    server = await Server.start(small(config).model_copy(update={"drain": drain}))
    clients = [await join(http, server, mint(name, room=name, now=time.time())) for name in ("an", "binh", "chi")]
    left: list[tuple[str, float]] = []
    went = server.sfu.send_away

    def watched(share: float, *, now: float) -> None:
        before = [name for name, room in server.sfu.rooms.items() if room.participants]
        went(share, now=now)
        left.extend((name, share) for name in before if not server.sfu.rooms[name].participants)

    server.sfu.send_away = watched  # type: ignore[method-assign]
    began = time.monotonic()
    server.terminate()
    await asyncio.wait_for(server.ended.wait(), 8)
    assert time.monotonic() - began >= 2
    # However late a tick comes, nobody goes before his share of the time is over.
    assert [name for name, _ in left] == ["an", "binh", "chi"]
    assert all(share >= number / 3 for number, (_, share) in enumerate(left, 1))
    await server.stop()
    for client in clients:
        await client.close()


@pytest.mark.parametrize(("on_stop", "terms"), [("0s", 1), ("1m", 2)])
async def test_without_a_time_or_at_the_second_sigterm_the_server_ends_at_once(
    config: Config, http: aiohttp.ClientSession, mint: MintToken, on_stop: str, terms: int
) -> None:
    server = await Server.start(small(config).model_copy(update={"drain": Drain.model_validate({"on_stop": on_stop})}))
    client = await join(http, server, mint("an", now=time.time()))
    for _ in range(terms):
        assert not server.ended.is_set()
        server.terminate()
    assert server.ended.is_set()
    await server.stop()
    await client.close()


async def test_nobody_there_is_drained_already(server: Server) -> None:
    server.drain(3600)
    assert server.ended.is_set()


async def test_the_verdict_of_a_reload_reaches_whoever_asked(
    config: Config, http: aiohttp.ClientSession, mint: MintToken, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    (tmp_path / "k").write_text("a secret of thirty-two bytes, or more")
    (tmp_path / "k").chmod(0o600)

    def write(more: str) -> None:
        file.write_text(
            "http: {listeners: [{port: 0}]}\nadmin: {port: 0, control: control}\n"
            "keys: [{id: test, secret_file: k, default_role: doctor}]\n" + more
        )

    media = "media: {port: 0, addresses: [127.0.0.1]}\n"
    write(media)

    def load() -> Config:
        return configuration.load(file)

    async def reload() -> Verdict:
        return await asyncio.to_thread(ask, tmp_path / "control", "reload")

    server = await Server.start(load(), load=load)
    client = await join(http, server, mint("an", now=time.time()))
    assert await reload() == Verdict(True, ())
    write(media + "limits: {sections: 99}\n")
    assert await reload() == Verdict(True, ("limits.sections changed",))
    write("media: {port: 0, addresses: [127.0.0.1], workers: 2}\nlimits: {sections: 99}\n")
    assert await reload() == Verdict(True, ("media.workers needs a restart",))
    assert await reload() == Verdict(True, ("media.workers needs a restart",)), "until there was one"
    before = server.config
    write(media + "limits: {sections: many}\n")
    refused = await reload()
    assert not refused.accepted
    assert refused.lines[0] == f"{file}:5:20: limits.sections: expected a whole number, not 'many'"
    assert server.config is before
    assert not server.metrics.last_reload_accepted
    assert not client.closed
    assert "an" in server.sfu.rooms["ward"].participants
    await client.close()
    await server.stop()


@pytest.fixture
async def recorded(config: Config, tmp_path: Path) -> AsyncIterator[Server]:
    audit = Audit(folder=tmp_path / "audit", secret_file=tmp_path / "secret")
    audit._secret = b"s" * 40
    server = await Server.start(small(config).model_copy(update={"audit": audit}))
    yield server
    await server.stop()


def records(server: Server) -> list[dict[str, str]]:
    assert server.audit is not None
    assert server.config.audit.folder is not None
    files = sorted(server.config.audit.folder.glob("audit-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


async def moderate(http: aiohttp.ClientSession, server: Server, token: str, identity: str) -> tuple[int, str]:
    address = url(server, "/twirp/livekit.RoomService/RemoveParticipant")
    headers = {"Authorization": f"Bearer {token}"}
    async with http.post(address, json={"room": "ward", "identity": identity}, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_every_privileged_call_is_exactly_one_record(
    recorded: Server, http: aiohttp.ClientSession, mint: MintToken
) -> None:
    now = time.time()
    moderator = mint("mai", "moderator", video={"roomAdmin": True}, now=now)
    first = await join(http, recorded, mint("an", now=now))
    second = await join(http, recorded, moderator)
    assert (await moderate(http, recorded, moderator, "an"))[0] == 200
    assert (await moderate(http, recorded, moderator, "nobody"))[0] == 404
    assert (await moderate(http, recorded, mint("chi", now=now), "mai"))[0] == 403
    assert recorded.reload(lambda: recorded.config).accepted
    await second.close()
    await first.close()
    await asyncio.wait_for(recorded.signalling.closed(), 3)
    audit = recorded.audit
    assert audit is not None
    an, mai = audit.person("an"), audit.person("mai")
    assert [(each["event"], each["actor"], each["reason"]) for each in records(recorded)] == [
        ("start", "server", ""),
        ("join", an, ""),
        ("join", mai, ""),
        ("leave", an, "participant_removed"),
        ("moderation", mai, ""),
        ("refusal", mai, "no_such_participant"),
        ("refusal", audit.person("chi"), "not_room_admin"),
        ("reload", "signal", "nothing has changed"),
        ("leave", mai, "signal_close"),
    ]


async def test_a_reload_ends_the_call_of_whoever_came_with_a_token_that_is_taken_back(
    recorded: Server, http: aiohttp.ClientSession, mint: MintToken
) -> None:
    now = time.time()
    lost = mint("an", now=now)
    call, other = await join(http, recorded, lost), await join(http, recorded, mint("mai", now=now))
    config = recorded.config.model_copy()
    config._revoked = frozenset({token_id(lost)})
    verdict = recorded.reload(lambda: config)
    assert verdict == Verdict(True, ("revoked changed", "sent away, since their tokens are taken back: 1"))
    while (message := await receive(call)).WhichOneof("message") != "leave":
        pass
    assert message.leave.reason == models.DisconnectReason.PARTICIPANT_REMOVED
    assert message.leave.action == rtc.LeaveRequest.Action.DISCONNECT
    assert (await call.receive()).type is aiohttp.WSMsgType.CLOSE
    assert call.close_code == 1008
    assert list(recorded.sfu.rooms["ward"].participants) == ["mai"]
    assert not other.closed
    assert recorded.audit is not None
    assert [(each["event"], each["actor"], each["reason"]) for each in records(recorded)[-2:]] == [
        ("leave", recorded.audit.person("an"), "token_revoked"),
        ("reload", "signal", ", ".join(verdict.lines)),
    ]
    assert b'd4e_sfu_leaves_total{reason="token_revoked"} 1.0' in recorded.metrics.render("")[0]
    async with http.get(url(recorded, PATH + "/validate"), params=query(lost)) as answer:
        assert answer.status == 401
    assert recorded.reload(lambda: config) == Verdict(True, ()), "once"


async def test_on_a_full_disk_a_privileged_call_is_refused_with_that_reason_and_calls_go_on(
    recorded: Server, http: aiohttp.ClientSession, mint: MintToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, __: object) -> int:
        raise OSError(28, "No space left on device")

    now = time.time()
    moderator = mint("mai", "moderator", video={"roomAdmin": True}, now=now)
    with monkeypatch.context() as patch:
        patch.setattr("d4e_sfu.drivers.audit.os.write", full)
        client = await join(http, recorded, mint("an", now=now))
        status, text = await moderate(http, recorded, moderator, "an")
        assert (status, "the disk of the audit log is full" in text) == (503, True)
        assert "an" in recorded.sfu.rooms["ward"].participants
        refused = recorded.reload(lambda: recorded.config)
        assert "the disk of the audit log is full" in refused.text
        assert b"d4e_sfu_audit_records_lost_total 3.0" in recorded.metrics.render("")[0]
    assert (await moderate(http, recorded, moderator, "an"))[0] == 200
    assert [each["event"] for each in records(recorded)] == ["start", "gap", "leave", "moderation"]
    await client.close()


async def test_the_certificate_of_dtls_is_renewed_for_every_worker(
    config: Config, http: aiohttp.ClientSession, mint: MintToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "DTLS_RENEWAL", 0.3)
    server = await Server.start(small(config))
    first = server.associations[server.engines[0]].fingerprint
    await asyncio.sleep(0.5)
    assert server.associations[server.engines[0]].fingerprint != first
    async with http.ws_connect(url(server, PATH), params=query(mint("an", now=time.time()))) as socket:
        await receive(socket)
        answer = (await receive(socket)).answer.sdp
        assert "a=fingerprint:sha-256 " in answer
        assert first[1] not in answer
    await server.stop()


async def fingerprint(server: Server) -> bytes:
    host, port = server.http.listening[0].sockets[0].getsockname()[:2]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


def replace(folder: Path, other: Path, *, only: str = "") -> None:
    for suffix in (only,) if only else ("key", "crt"):
        (other / f"development.{suffix}").rename(folder / f"development.{suffix}")


async def test_a_certificate_that_is_replaced_is_served_within_five_seconds_and_no_call_notices(
    config: Config, tmp_path: Path, mint: MintToken, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = certificates.development(tmp_path)
    tls = Http(listeners=(Listener(port=0, tls=True),), tls=Tls(certificate=certificate, key=key))
    served = small(config).model_copy(update={"http": tls})
    server = await Server.start(served)
    first = await fingerprint(server)
    address = url(server, PATH).replace("http:", "https:")
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http,
        http.ws_connect(address, params=query(mint("an", now=time.time()))) as call,
    ):
        assert (await receive(call)).WhichOneof("message") == "join"
        certificates.development(tmp_path / "second")
        replace(tmp_path, tmp_path / "second")
        began = time.monotonic()
        while (second := await fingerprint(server)) == first:
            await asyncio.sleep(0.1)
            assert time.monotonic() - began < 5
        # A pair that does not belong together: the old one stays, whichever way it comes.
        certificates.development(tmp_path / "third")
        replace(tmp_path, tmp_path / "third", only="crt")
        refused = server.reload(lambda: served)
        assert not refused.accepted
        assert refused.lines[0].startswith(f"{certificate}:1:1: http.tls: ")
        assert await fingerprint(server) == second
        # The key follows, and SIGHUP does not wait for anyone to look.
        replace(tmp_path, tmp_path / "third", only="key")
        assert server.reload(lambda: served).accepted
        assert await fingerprint(server) not in (first, second)
        (tmp_path / "development.key").write_text("nonsense")
        certificate.unlink()
        await asyncio.sleep(servers.FRESH + 0.5)
        assert "the certificate stays as it was" in caplog.text
        assert await fingerprint(server) not in (first, second)
        await call.send_bytes(rtc.SignalRequest(ping=1).SerializeToString())
        while (await receive(call)).WhichOneof("message") != "pong":
            pass
    await server.stop()


def test_lag_is_the_worst_since_it_was_asked_for() -> None:
    lag = Lag()
    for now in (0.0, 0.05, 0.30, 0.35):
        lag.seen(now, interval=0.05)
    assert lag.take() == pytest.approx(0.2)
    assert lag.take() == 0.0
