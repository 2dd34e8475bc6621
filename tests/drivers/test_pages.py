"""The page's files and headers over real sockets, from a folder made for the test."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from d4e_sfu.drivers import certificates
from d4e_sfu.drivers.pages import Pages

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    (tmp_path / "dist" / "index.html").write_text("<!doctype html>")
    script = tmp_path / "dist" / "assets" / "index-abc.js"
    script.write_text("let a = 1;" * 100)
    script.with_name(script.name + ".gz").write_bytes(gzip.compress(script.read_bytes()))
    (tmp_path / "dist" / "notes.unknown").write_text("not for the world")
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path / "dist"


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[Client]:
    app = web.Application()
    Pages(folder).setup(app)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


async def test_the_page_is_kept_to_itself(client: Client) -> None:
    answer = await client.get("/")
    assert answer.status == 200
    assert answer.content_type == "text/html"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert f"connect-src 'self' ws://{client.host}:{client.port} wss://{client.host}:{client.port}" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"


async def test_who_has_come_by_https_is_told_to_come_by_nothing_else(folder: Path, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificates.development(tmp_path / "certs"))
    app = web.Application()
    Pages(folder).setup(app)
    server = TestServer(app)
    await server.start_server(ssl=context)
    async with TestClient(server) as secure:
        answer = await secure.get("/", ssl=False)
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_nothing_is_said_of_https_over_plain_http(client: Client) -> None:
    """RFC 6797 §7.2; and `make run` is there for localhost, without TLS."""
    assert "Strict-Transport-Security" not in (await client.get("/")).headers


async def test_a_host_that_is_none_does_not_get_into_the_policy(client: Client) -> None:
    answer = await client.get("/", headers={"Host": "x; script-src *"})
    assert "script-src *" not in answer.headers["Content-Security-Policy"]


async def test_assets_may_be_kept_for_ever_and_come_as_they_were_compressed(client: Client, folder: Path) -> None:
    answer = await client.get("/assets/index-abc.js", headers={"Accept-Encoding": "br, gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert await answer.read() == (folder / "assets" / "index-abc.js.gz").read_bytes()
    assert "immutable" in answer.headers["Cache-Control"]
    plain = await client.get("/assets/index-abc.js", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert await plain.read() == gzip.decompress(await answer.read())


async def test_what_has_not_changed_is_not_sent_again(client: Client) -> None:
    first = await client.get("/")
    again = await client.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    for header in ("Content-Type", "Content-Security-Policy", "Cache-Control", "Vary"):
        assert again.headers.get(header) == first.headers.get(header), "a browser takes it over"


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/%2e%2e/secret.txt", "/assets/../../secret.txt", "/notes.unknown", "/assets", "/x.html"]
)
async def test_nothing_else_exists(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status == 404
    assert b"secret" not in await answer.read()


async def test_head_tells_that_the_server_is_there_even_without_a_page(tmp_path: Path) -> None:
    app = web.Application()
    Pages(tmp_path / "not built").setup(app)
    async with TestClient(TestServer(app)) as client:
        assert (await client.head("/")).status == 200
        assert (await client.get("/")).status == 200
