"""A hospital's firewall with its link, between two network namespaces: IP packets in user space (tun devices), so that
they can be delayed, lost and looked at, where a kernel need not have such a thing of its own. TCP is the kernel's on
both sides.

The process moves into a namespace of its own (`alone`), where server and tests are; a browser is started in the other,
by `wrapper`. It takes root. What passes is a `Rule`: ports of TCP, and whether what is said there must be TLS, as deep
inspection has it. The arithmetic of the link is link.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import struct
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.link import Agenda, Conditions, Link

CLONE_NEWNET: Final = 0x40000000
TUNSETIFF: Final = 0x400454CA
IFF_TUN_NO_PI: Final = 0x0001 | 0x1000
# For documentation (RFC 5737). Libwebrtc takes no candidate with port 443 whose address is private (RFC 1918).
SERVER, CLIENT = "203.0.113.1", "203.0.113.2"
TCP, UDP = 6, 17
MTU: Final = 1500
_libc = ctypes.CDLL(None, use_errno=True)


def _call(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def possible() -> bool:
    """Whether this process may make namespaces and devices."""
    return os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)


def alone() -> None:
    """From here on this process, all its threads that are to come and its children have a network of their own."""
    _call(_libc.unshare(CLONE_NEWNET))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@dataclass(frozen=True, slots=True)
class Rule:
    ports: tuple[int, ...] = (443,)
    """Of TCP at the server; everything else is dropped."""
    tls: bool = False
    """A connection on which the client says something else first is dropped from there on."""

    def lets_pass(self, packet: bytes, up: bool, flows: dict[int, bool]) -> bool:
        head = (packet[0] & 15) * 4
        if packet[0] >> 4 != 4 or packet[9] != TCP or len(packet) < head + 20:
            return False
        source, target = struct.unpack_from(">HH", packet, head)
        if (target if up else source) not in self.ports:
            return False
        if not (self.tls and up):
            return flows.get(target, True)
        said = packet[head + (packet[head + 12] >> 4) * 4 :]
        if packet[head + 13] & 2:  # SYN: the port may have been somebody else's
            flows.pop(source, None)
        if said and source not in flows:
            flows[source] = said[:2] == b"\x16\x03"
        return flows.get(source, True)


@dataclass(slots=True)
class Tunnel:
    rule: Rule
    namespace: str
    folder: Path
    dropped: int = 0
    passed: int = 0
    transits: list[list[float]] = field(default_factory=lambda: [[], []])
    """Seconds that packets took, up and down, what this process was late with included."""
    _flows: dict[int, bool] = field(default_factory=dict)
    _agenda: Agenda = field(default_factory=Agenda)
    _timer: asyncio.TimerHandle | None = None

    @property
    def wrapper(self) -> str:
        """An executable that starts Chromium, with the arguments that it is given, behind the firewall."""
        path = self.folder / "chromium-behind"
        path.write_text(
            f'#!/bin/sh\nexec ip netns exec {self.namespace} {os.environ.get("CHROMIUM", "chromium")} "$@"\n'
        )
        path.chmod(0o755)
        return str(path)

    def carry(self, near: int, far: int, conditions: Conditions, *, up: bool) -> None:
        """Packets that are read from `near` come out at `far`."""
        loop = asyncio.get_running_loop()

        def arrive(carried: tuple[float, bytes], _at: float) -> None:
            since, packet = carried
            self.transits[up].append(loop.time() - since)
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(far, packet)

        chance = random.Random(f"tunnel {up}")
        link: Link[tuple[float, bytes]] = Link(
            conditions, agenda=self._agenda, chance=chance, arrive=arrive, now=loop.time()
        )

        def read() -> None:
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    packet = os.read(near, 2 * MTU)
                    if not self.rule.lets_pass(packet, up, self._flows):
                        self.dropped += 1
                        continue
                    self.passed += 1
                    self._agenda.run(now=loop.time())
                    link.send((loop.time(), packet), len(packet), now=loop.time())
            self._pump()

        loop.add_reader(near, read)

    def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        self._agenda.run(now=loop.time())
        if self._timer is not None:
            self._timer.cancel()
        due = self._agenda.next()
        self._timer = None if due is None else loop.call_at(due, self._pump)


@asynccontextmanager
async def tunnel(folder: Path, rule: Rule, conditions: Conditions) -> AsyncIterator[Tunnel]:
    """`alone` comes first. Delay and loss of `conditions` hold in each direction."""
    name = f"d4e-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    made = Tunnel(rule, name, folder)
    near = far = -1
    try:
        subprocess.run(["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"], check=True)
        near, far = _device(SERVER, None), _device(CLIENT, name)
        made.carry(far, near, conditions, up=True)
        made.carry(near, far, conditions, up=False)
        yield made
    finally:
        loop = asyncio.get_running_loop()
        for one in (near, far):
            if one >= 0:
                loop.remove_reader(one)
                os.close(one)
        subprocess.run(["ip", "netns", "del", name], check=False)


def _device(address: str, namespace: str | None) -> int:
    """A tun device with this address, in this namespace or where we are. It stays there when we have gone."""
    made: list[int] = []

    def make() -> None:
        if namespace is not None:
            there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
            _call(_libc.setns(there, CLONE_NEWNET))  # of this thread alone
            os.close(there)
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"lab0", IFF_TUN_NO_PI))
        made.append(device)
        for command in (
            ["ip", "addr", "add", f"{address}/24", "dev", "lab0"],
            ["ip", "link", "set", "lab0", "up"],
            ["ip", "route", "add", "default", "dev", "lab0"],
        ):
            subprocess.run(command, check=True)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]
