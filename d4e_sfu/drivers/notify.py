"""What the service manager is told (sd_notify(3)): ready, reloading, stopping, still alive.

Ten lines of datagram to a Unix socket that systemd names; without one (any other way to start) all of this is silence.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

# sd_watchdog_enabled(3) recommends half of the time; a third forgives one that came late.
FEEDINGS: Final = 3


class Notifier:
    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = environ.get("NOTIFY_SOCKET", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit = environ.get("WATCHDOG_USEC", "") if ours and self._address else ""
        self.interval: float | None = int(limit) / 1e6 / FEEDINGS if limit.isdecimal() and int(limit) else None
        """Seconds between two feedings of the watchdog; None where nobody watches."""

    def ready(self, status: str) -> None:
        self._tell("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._tell(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        self._tell("STOPPING=1", f"STATUS={status}")

    def extend(self, seconds: float) -> None:
        """The end takes this much longer, from now."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def feed(self) -> None:
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # "@": an abstract socket, whose name begins with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            one.sendto("\n".join(lines).encode(), address)


class Worker(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def alive(self) -> bool: ...
    def snapshot(self) -> Mapping[str, object]: ...


class Pulse:
    """Whether every worker has turned since it was last asked: a thread that hangs stays `alive` and says nothing new.

    A turning thread publishes its CPU time four times a second, and it never stands still.
    """

    def __init__(self) -> None:
        self._seen: dict[str, object] = {}

    def missing(self, workers: Iterable[Worker]) -> list[str]:
        """The names of those that have not. Asked less often than a snapshot is old at most (250 ms)."""
        still = []
        for each in workers:
            spent = each.snapshot().get("cpu_seconds")
            if not each.alive or spent == self._seen.get(each.name, -1.0):
                still.append(each.name)
            self._seen[each.name] = spent
        return still
