"""An authority that speaks ACME, on the network of a machine: Let's Encrypt's own test server (pebble), which really
asks the machine for its proof. `make pebble` builds it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.appliance.machine import ADDRESS, OUTSIDE, Machine, run
from tests.lab.server import TOP

TOOLS = TOP / "build/tools"
DAYS = 20  # certbot renews what has fewer than thirty left, so each time that it is asked


@dataclass(frozen=True, slots=True)
class Authority:
    directory: str
    ca: Path
    """By which it is known itself."""


@contextmanager
def authority(machine: Machine) -> Iterator[Authority]:
    """Every name leads to the machine."""
    folder = machine.folder / "authority"
    for words in (("init", folder), ("issue", folder, OUTSIDE)):
        run(sys.executable, TOP / "certs/authority.py", *words)
    settings = {
        "listenAddress": f"{OUTSIDE}:14000",
        "managementListenAddress": f"{OUTSIDE}:15000",
        "certificate": str(folder / f"{OUTSIDE}.crt"),
        "privateKey": str(folder / f"{OUTSIDE}.key"),
        "httpPort": 80,
        "tlsPort": 443,
        "profiles": {"default": {"description": "short", "validityPeriod": DAYS * 86_400}},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    unused = [word for each in ("defaultIPv6", "http01", "https01", "tlsalpn01", "doh") for word in (f"-{each}", "")]
    names = (TOOLS / "pebble-challtestsrv", "-dnsserver", f"{OUTSIDE}:8053", "-management", f"{OUTSIDE}:8055",
             "-defaultIPv4", ADDRESS, *unused)  # fmt: skip
    pebble = (TOOLS / "pebble", "-config", folder / "pebble.json", "-dnsserver", f"{OUTSIDE}:8053")
    log = (folder / "log").open("wb")
    running = [
        subprocess.Popen(
            ["ip", "netns", "exec", machine.namespace, "env", "PEBBLE_VA_NOSLEEP=1", *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        for words in (names, pebble)
    ]  # fmt: skip
    directory = f"https://{OUTSIDE}:14000/dir"
    try:
        for _ in range(100):
            answer = machine.outside("curl", "-sS", "--cacert", folder / "ca.crt", directory, check=False)
            if "newOrder" in answer:
                break
            assert all(each.poll() is None for each in running), (folder / "log").read_text()
            time.sleep(0.1)
        yield Authority(directory, folder / "ca.crt")
    finally:
        for each in running:
            each.terminate()
            each.wait(10)
        log.close()
