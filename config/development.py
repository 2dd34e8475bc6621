"""`make run`: a server for this machine and its network, with nothing to set up. Writes a certificate, a random token
key and a configuration under `certs/` unless they are there, starts `d4e-sfu serve` on them and prints one join link
per role. It is no way to run a server for others: the certificate is one that no browser trusts."""

from __future__ import annotations

import argparse
import base64
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from d4e_sfu import config as configuration
from d4e_sfu.drivers import certificates

TOP = Path(__file__).parent.parent
READY_SECONDS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    network = next((a for a in certificates.local_addresses() if not ipaddress.ip_address(a).is_loopback), None)
    folder: Path = options.folder
    certificates.development(folder, [socket.gethostname()])
    secret(folder / "development.secret")
    config = folder / "development.yaml"
    if not config.exists():
        config.write_text(settings(options))

    admin = configuration.load(config).admin  # someone may have changed the file since it was written

    command = [sys.executable, "-m", "d4e_sfu"]
    server = subprocess.Popen([*command, "serve", "--config", str(config)], cwd=TOP)
    # Ctrl-C reaches the server as well, through the terminal; SIGTERM is handed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def hand_on(number: int, _frame: FrameType | None) -> None:
        server.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    if wait_until_ready(server, f"http://{admin.address}:{admin.port}/readyz"):
        show_links(command, config, options.room, network)
    elif server.poll() is None:
        print(f"The server is not ready after {READY_SECONDS} s; what it says is above.", flush=True)
    return server.wait()


def settings(options: argparse.Namespace) -> str:
    """Everything that differs from the defaults; `config/d4e-sfu.yaml` documents every key."""
    return f"""# Written by `make run`, once: change it as you like, or delete it to get a new one.
http:
  listeners:
    - {{address: 127.0.0.1, port: {options.port}}}
    - {{address: 0.0.0.0, port: {options.tls_port}, tls: true}}
  tls: {{certificate: development.crt, key: development.key}}
admin: {{address: 127.0.0.1, port: {options.admin_port}}}
media: {{port: {options.media_port}}}
keys:
  - {{id: development, secret_file: development.secret, default_role: patient}}
"""


def secret(path: Path) -> None:
    """48 random bytes in base64, readable by the owner alone; an old one stays, so that old links still join."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(48)) + b"\n")


def wait_until_ready(server: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own admin listener
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def show_links(command: Sequence[str], config: Path, room: str, network: str | None) -> None:
    """What `d4e-sfu links` says, role by role."""
    words = [*command, "links", "--config", str(config), "--room", room, *(["--host", network] if network else [])]
    made = subprocess.run(words, cwd=TOP, check=True, capture_output=True, text=True).stdout
    print(f"\nRoom {room!r}: open a link in a browser. Each is one person; the same link twice replaces him.")
    last = ""
    for line in made.splitlines():
        role, link = line.split("\t")
        if role != last:
            print(f"\n{role}")
            last = role
        print(f"  {'this machine' if link.startswith('http://localhost') else 'the network '}  {link}")
    if network:
        print("\nOn the network the browser warns of the development certificate: accept it once.")
    print("Ctrl-C stops the server.\n", flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=TOP / "certs", help="where certificate, key and configuration go"
    )
    parser.add_argument("--room", default="demo")
    parser.add_argument("--port", type=int, default=7880, help="http://localhost")
    parser.add_argument("--tls-port", type=int, default=7443, help="https:// for the network")
    parser.add_argument("--admin-port", type=int, default=7881)
    parser.add_argument("--media-port", type=int, default=7882)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
