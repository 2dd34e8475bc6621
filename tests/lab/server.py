"""A real server for tests: `d4e-sfu serve` as a process of its own on free loopback ports, with a configuration and a
key made for the occasion, its log collected. It knows nothing of rooms; what needs no sockets is tested in the core.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt  # comes with the stock SDK
import yaml
from livekit import api  # the stock server SDK: tokens are made by someone else's code

from d4e_sfu.drivers import certificates

TOP = Path(__file__).parent.parent.parent
READY_SECONDS = 60.0  # the machine may be busy
STOP_SECONDS = 10.0
KEY_ID = "test"
# For `running(config=…)`: several workers, each on a port of its own.
TWO_WORKERS: dict[str, Any] = {"workers": 2, "port": 0, "addresses": ["127.0.0.1"]}


@dataclass(slots=True)
class Server:
    """A running server; see `running`."""

    process: asyncio.subprocess.Process
    folder: Path
    port: int
    admin_port: int
    media_port: int
    secret: str
    tls: bool = False
    lines: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """All that were made here."""
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://localhost:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws{'s' if self.tls else ''}://{self.host}:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def config(self) -> Path:
        return self.folder / "d4e-sfu.yaml"

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def token(self, room: str, identity: str, role: str | None = None, *, name: str = "", **grants: Any) -> str:
        """A token from the stock SDK; `role` goes in as our own claim, without it the configured default counts."""
        grant = api.VideoGrants(room_join=True, room=room, **grants)
        token = api.AccessToken(KEY_ID, self.secret).with_identity(identity).with_grants(grant)
        made = token.with_name(name or identity).to_jwt()
        if role is not None:
            made = _with_claims(made, self.secret, {"d4e": {"role": role}})
        self.tokens.append(made)
        return made

    async def worker_of(self, room: str) -> str:
        """The name of the worker on which a room lives."""
        return str((await self.room(room))["worker"])

    def link(self, room: str, identity: str, role: str | None = "doctor", *, name: str = "", **grants: Any) -> str:
        """What a person is sent: the page, and after `#` the room and the token."""
        return f"{self.url}/#room={room}&token={self.token(room, identity, role, name=name, **grants)}"

    async def get(self, path: str) -> str:
        """A document of the admin listener."""
        return await asyncio.to_thread(_fetch, self.admin + path)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series that have these labels."""
        total = 0.0
        for line in (await self.get("/metrics")).splitlines():
            match = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)", line)
            if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
                total += float(match[2])
        return total

    async def room(self, name: str) -> Any:
        """`debug_state()` of a room."""
        return json.loads(await self.get(f"/debug/rooms/{name}"))

    async def stop(self) -> int:
        """SIGTERM; returns the exit code. Kills, and raises, if the server does not end in time."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"the server did not end within {STOP_SECONDS} s:\n{self.log}") from None

    def assert_quiet(self) -> None:
        """No traceback, no panic: what clients do is never a fault of ours. No secret, no token's signature."""
        loud = [
            line for line in self.lines if "Traceback" in line or "panicked at" in line or line.startswith("ERROR ")
        ]
        assert not loud, self.log
        shown = [secret for secret in (self.secret, *(t.rpartition(".")[2] for t in self.tokens)) if secret in self.log]
        assert not shown


@asynccontextmanager
async def running(
    folder: Path,
    *,
    config: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
    quiet: bool = True,
    tls: bool = False,
    front: bool = False,
    address: str = "127.0.0.1",
    port: int | None = None,
    module: str = "d4e_sfu",
) -> AsyncIterator[Server]:
    """A server until the end of the block. `config` is merged over the test configuration, top-level keys whole.
    `tls`: HTTPS and wss, with a certificate that nobody knows; `front`: and media on the same port. `address` and
    `port`: of that listener, where it is not any port of loopback. `module` is another command line than the real one,
    for a server with a switch to break it.

    With `quiet`, a traceback in its log fails the test that caused it.
    """
    secret = secrets.token_urlsafe(48)
    free, admin_port = free_ports(socket.SOCK_STREAM, 2)
    port = free if port is None else port
    (media_port,) = free_ports(socket.SOCK_DGRAM, 1)
    tls |= front
    settings: dict[str, Any] = {
        "http": {"listeners": [{"address": address, "port": port, "tls": tls, "media": front}]},
        "front": {"host": ("localhost" if address == "127.0.0.1" else address) if front else None},
        "admin": {"address": "127.0.0.1", "port": admin_port},
        "media": {"port": media_port, "addresses": ["127.0.0.1"]},
        "keys": [{"id": KEY_ID, "secret_file": "test.secret", "default_role": "doctor"}],
        **(config or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if tls:
        certificate, private = certificates.development(folder, [address])
        settings["http"]["tls"] = {"certificate": str(certificate), "key": str(private)}
    key = folder / "test.secret"
    key.touch(mode=0o600)
    key.write_text(secret + "\n")
    path = folder / "d4e-sfu.yaml"
    path.write_text(yaml.safe_dump(settings))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "serve", "--config", str(path), *arguments),
        cwd=TOP,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )
    server = Server(process, folder, port, admin_port, media_port, secret, tls, host=address)
    reading = asyncio.create_task(_collect(process, server.lines))
    try:
        await _until_ready(server)
        yield server
        await server.stop()
        await reading
        if quiet:
            server.assert_quiet()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading
        (folder / "server.log").write_text(server.log)


def free_ports(kind: socket.SocketKind, count: int) -> list[int]:
    """Loopback ports that nobody had a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


async def _collect(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        lines.append(line.decode(errors="replace").rstrip("\n"))


async def _until_ready(server: Server) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.process.returncode is not None:
            break
        with contextlib.suppress(OSError):
            await server.get("/readyz")
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the server is not ready:\n{server.log}")


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def _with_claims(token: str, secret: str, claims: Mapping[str, Any]) -> str:
    """The same token with more claims, signed again."""
    payload = jwt.decode(token, secret, algorithms=["HS256"])
    return jwt.encode({**payload, **claims}, secret, algorithm="HS256")
