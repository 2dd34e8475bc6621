"""Sockets that systemd has bound for us (socket activation, sd_listen_fds(3)), and the unit that asks it to.

A server that is handed its sockets needs no network of its own. What is passed and what the configuration wants are
matched by what they are (protocol, address, port), not by order or name; where the two differ the start ends with both
sides named. Binding our own sockets is engine.py's (media) and http.py's (HTTP).
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from d4e_sfu.config import Config, Media

FIRST: Final = 3  # SD_LISTEN_FDS_START
REMEDY: Final = "write the socket unit anew (d4e-sfu systemd-sockets), then restart d4e-sfu.socket and d4e-sfu.service"


class Endpoint(NamedTuple):
    """What a socket is. `port` is 0 for a Unix socket, whose `address` is its path."""

    protocol: str
    address: str
    port: int = 0

    def __str__(self) -> str:
        if self.protocol == "unix":
            return f"unix {self.address}"
        return f"{self.protocol} {_with_port(self.address, self.port)}"


class Mismatch(OSError):  # noqa: N818 - named by what happened
    """systemd passed other sockets than the configuration wants."""


class Inherited:
    """Each socket is taken once. `check` first: after it every one that is wanted is there."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets: dict[Endpoint, socket.socket] = {}
        self.strange = [each for each in sockets if not self._keep(each)]

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] | None = None) -> Inherited | None:
        """What was passed to this process, if anything was. Children inherit neither the sockets nor the words."""
        environ = os.environ if environ is None else environ
        meant = environ.pop("LISTEN_PID", "") == str(os.getpid())
        count = environ.pop("LISTEN_FDS", "0")
        environ.pop("LISTEN_FDNAMES", None)
        if not meant or not count.isascii() or not count.isdecimal() or int(count) == 0:
            return None
        sockets = []
        for descriptor in range(FIRST, FIRST + int(count)):
            os.set_inheritable(descriptor, False)
            sockets.append(socket.socket(fileno=descriptor))
        return cls(sockets)

    def only(self) -> socket.socket:
        """Of a process that wants one socket, whatever its name. Raises `Mismatch`."""
        if len(self._sockets) != 1 or self.strange:
            raise Mismatch(f"systemd passed {len(self._sockets) + len(self.strange)} sockets, and one is wanted")
        return self._sockets.popitem()[1]

    def check(self, config: Config) -> None:
        """Raises `Mismatch`, with what is there and what is wanted."""
        # `auto` cannot be looked up without a network: it is what systemd was told when the unit was written.
        free = {each for each in self._sockets if each.protocol == "udp"} if not config.media.addresses else set()
        required = list(wanted(config, media_addresses=sorted({each.address for each in free}) or None))
        missing = [each for each in required if each not in self._sockets]
        surplus = [each for each in self._sockets if each not in required]
        unlike = [f"a {each.family.name}/{each.type.name} socket" for each in self.strange]
        if missing or surplus or unlike:
            passed = ", ".join([*map(str, surplus), *unlike]) or "nothing else"
            lacking = ", ".join(map(str, missing)) or "nothing else"
            raise Mismatch(
                f"the sockets of systemd are not those of the configuration: systemd passed {passed}; "
                f"the configuration wants {lacking}. To mend it: {REMEDY}"
            )

    def stream(self, address: str, port: int) -> socket.socket:
        return self._sockets.pop(Endpoint("tcp", address, port))

    def unix(self, path: str) -> socket.socket:
        return self._sockets.pop(Endpoint("unix", path))

    def media(self, media: Media, worker: int) -> tuple[list[socket.socket], list[tuple[str, int]]]:
        """As `engine.bind`, of what was passed."""
        port = media.port + worker
        if media.addresses:
            addresses = [(each.listen, each.announced) for each in media.addresses]
        else:
            here = [each.address for each in self._sockets if each.protocol == "udp" and each.port == port]
            here.sort(key=_preference)
            addresses = [(address, (address,)) for address in here]
        sockets = [self._sockets.pop(Endpoint("udp", listen, port)) for listen, _ in addresses]
        return sockets, [(address, port) for _, announced in addresses for address in announced]

    def close(self) -> None:
        """Whatever was not taken."""
        for each in (*self._sockets.values(), *self.strange):
            each.close()
        self._sockets.clear()

    def _keep(self, one: socket.socket) -> bool:
        protocol = {socket.SOCK_STREAM: "tcp", socket.SOCK_DGRAM: "udp"}.get(one.type)
        if one.family == socket.AF_UNIX and one.type == socket.SOCK_STREAM:
            endpoint = Endpoint("unix", str(one.getsockname()))
        elif one.family in (socket.AF_INET, socket.AF_INET6) and protocol is not None:
            address, port = one.getsockname()[:2]
            endpoint = Endpoint(protocol, str(ipaddress.ip_address(address)), port)
        else:
            return False
        return self._sockets.setdefault(endpoint, one) is one


def wanted(config: Config, *, media_addresses: Sequence[str] | None = None) -> Iterator[Endpoint]:
    """Every socket of the configuration, in its order. `media_addresses` are those of `auto`."""
    for listener in config.http.listeners:
        yield Endpoint("tcp", listener.address, listener.port)
    yield Endpoint("tcp", config.admin.address, config.admin.port)
    if config.admin.control is not None:
        yield Endpoint("unix", str(config.admin.control))
    listening = [each.listen for each in config.media.addresses] or media_addresses or []
    for worker in range(config.media.workers):
        for address in listening or ["auto"]:
            yield Endpoint("udp", address, config.media.port + worker)


def unit(config: Config, *, media_addresses: Sequence[str]) -> str:
    """The text of `d4e-sfu.socket`. Raises ValueError where a port is left to chance: nobody could be told it."""
    endpoints = list(wanted(config, media_addresses=media_addresses))
    for each in endpoints:
        if each.protocol != "unix" and (each.port == 0 or (each.protocol == "udp" and config.media.port == 0)):
            raise ValueError(f"{each.protocol} on {each.address}: port 0 takes any free one; systemd needs a number")
    streams = [each.address if each.protocol == "unix" else each for each in endpoints if each.protocol != "udp"]
    listen = [f"ListenStream={each if isinstance(each, str) else _with_port(*each[1:])}" for each in streams]
    listen += [f"ListenDatagram={_with_port(*each[1:])}" for each in endpoints if each.protocol == "udp"]
    return _UNIT.format(listen="\n".join(listen), buffer=config.media.buffer)


# FreeBind: the unit starts before the network has its addresses. ReceiveBuffer: systemd may exceed net.core.rmem_max;
# a TCP listener takes less by itself. The control socket is for root and for the server (`systemctl reload`).
_UNIT: Final = """\
# Written from the configuration by `d4e-sfu systemd-sockets`: change it there, and write this anew.
[Unit]
Description=Sockets of the video-conferencing server d4e-sfu

[Socket]
Service=d4e-sfu.service
FileDescriptorName=d4e-sfu
{listen}
BindIPv6Only=ipv6-only
FreeBind=yes
ReceiveBuffer={buffer}
SendBuffer={buffer}
Backlog=512
SocketUser=d4e-sfu
SocketGroup=d4e-sfu
SocketMode=0600
DirectoryMode=0755
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""


def _with_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _preference(address: str) -> tuple[bool, int, int]:
    """Loopback last and IPv4 first, as `engine.interface_addresses`."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback, parsed.version, int(parsed)
