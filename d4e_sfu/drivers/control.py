"""The control socket: commands that change something, each with a verdict that is waited for.

A Unix socket that only root and the server's own user may open; the kernel says who asks. `Control` serves it, `ask` is
the other end, for `d4e-sfu reload` and `d4e-sfu drain`. What a command does is the server's.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

# A drain may take hours, and its command waits for it; anything else is done in seconds.
PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a command, in lines for whoever typed it."""

    accepted: bool
    lines: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


Command = Callable[[str], Awaitable[Verdict]]
"""Takes who asks, such as `uid:0`."""


class Control:
    """`POST /NAME` runs a command: 200 or, refused, 409, with its lines."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = commands

    def setup(self, app: web.Application) -> None:
        app.router.add_post("/{command}", self._run)

    async def _run(self, request: web.Request) -> web.Response:
        command = self._commands.get(request.match_info["command"])
        if command is None:
            return web.Response(status=404, text=f"no such command; known: {', '.join(self._commands)}\n")
        verdict = await command(_peer(request))
        return web.Response(status=200 if verdict.accepted else 409, text=verdict.text)


def _peer(request: web.Request) -> str:
    """SO_PEERCRED, unix(7). In a user namespace of our own whoever is neither root nor us is `nobody`."""
    transport = request.transport
    descriptor = None if transport is None else transport.get_extra_info("socket")
    if descriptor is None:
        return "uid:unknown"
    with socket.socket(fileno=os.dup(descriptor.fileno())) as one:
        _, user, _ = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return f"uid:{user}"


def listener(path: Path) -> socket.socket:
    """The socket, where systemd has not made it. What is left of a server that was killed is removed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except FileNotFoundError:
            pass
        else:
            raise OSError(f"control socket {path}: another server answers there")
    path.parent.mkdir(parents=True, exist_ok=True)
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect before the mode is what it should be.
    mask = os.umask(0o177)
    try:
        one.bind(str(path))
    except OSError:
        one.close()
        raise
    finally:
        os.umask(mask)
    one.listen(16)
    return one


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: Path, command: str, *, timeout: float | None = PATIENCE) -> Verdict:
    """Runs a command in the server that listens there, and waits. Raises OSError where none answers."""
    connection = _Connection(str(path), timeout)
    try:
        connection.request("POST", f"/{command}")
        response = connection.getresponse()
        return Verdict(response.status == 200, tuple(response.read().decode().splitlines()))
    except http.client.HTTPException as error:
        raise OSError(f"it ended without a verdict ({error!r})") from None
    finally:
        connection.close()
