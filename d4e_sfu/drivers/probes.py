"""What the doctor looks at on a machine, as facts for `core/diagnosis.py`: files, sockets, the kernel's tables, the
server's own counters. It judges nothing, changes nothing, and asks nobody outside but the name server and whoever
answers at the public name, and those only when it is given a name. What cannot be found out is None.
"""

from __future__ import annotations

import ctypes
import errno
import http.client
import ipaddress
import os
import pwd
import re
import secrets
import shutil
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import ifaddr
from cryptography import x509

from d4e_sfu.config import Config
from d4e_sfu.core.diagnosis import Facts, Loop, Port, Trouble
from d4e_sfu.drivers import examination

PATIENCE: Final = 3.0
DATAGRAMS: Final = 20
UNIT: Final = "d4e-sfu.service"
SOCKET_UNIT: Final = Path("/etc/systemd/system/d4e-sfu.socket")
STATE: Final = Path("/var/lib/d4e-sfu")
USER: Final = "d4e-sfu"

_CHAIN: Final = {"chain_broken", "chain_missing", "chain_order", "chain_untrusted"}
_EXPIRY: Final = {"expired", "expires_soon", "not_yet_valid"}
_STA_UNSYNC: Final = 0x0040  # sys/timex.h


def look(config: Config, *, host: str | None) -> Facts:
    """Everything, within seconds. `host`: the name by which browsers come."""
    adapters = list(ifaddr.get_adapters())
    local = sorted({_plain(ip.ip) for adapter in adapters for ip in adapter.ips})
    local = [address for address in local if not ipaddress.ip_address(address).is_loopback]
    listening = [each.listen for each in config.media.addresses]
    counters = metrics(config)
    certificate = _certificate(config, host)
    synchronised, offset = _clock()
    resolved = None if host is None else _resolved(host)
    return Facts(
        running=counters is not None,
        ports=list(_ports(config)),
        local=local,
        listening=listening,
        announced=[each for address in config.media.addresses for each in address.announced],
        host=host,
        resolved=resolved,
        loops=None if counters is None else list(_loops(config, listening or local)),
        clock_synchronised=synchronised,
        clock_offset=offset,
        certificate=None if certificate is None else _told(certificate, lambda rule: rule not in _CHAIN | _EXPIRY),
        chain=[] if certificate is None else _told(certificate, _CHAIN.__contains__),
        expiry=[] if certificate is None else _told(certificate, _EXPIRY.__contains__),
        mtu=dict(_mtu(adapters, listening or local)),
        buffer=_buffer(),
        cpu_flags=_cpu_flags(),
        cores=len(os.sched_getaffinity(0)),
        workers=config.media.workers,
        free={str(path): shutil.disk_usage(path).free for path in (Path("/"), STATE) if path.exists()},
        files=list(_files(config)),
        front=_front(config, host) if resolved else None,
        trusted_proxies=len(config.http.trusted_proxies),
        exposure=_exposure(),
    )


def _plain(address: str | tuple[str, int, int]) -> str:
    return address if isinstance(address, str) else address[0]


# --- ports -----------------------------------------------------------------------------------------------------------


def _ports(config: Config) -> Iterator[Port]:
    holders = _holders()
    listeners = [(each.address, each.port) for each in config.http.listeners]
    for address, port in (*listeners, (config.admin.address, config.admin.port)):
        yield Port("tcp", address, port, _holder(holders, "tcp", address, port))
    addresses = [each.listen for each in config.media.addresses] or ["0.0.0.0"]
    for worker in range(config.media.workers):
        for address in addresses:
            port = config.media.port + worker
            yield Port("udp", address, port, _holder(holders, "udp", address, port))


def _holder(holders: dict[tuple[str, int], str] | None, protocol: str, address: str, port: int) -> str | None:
    """Who holds it; where the kernel does not say who, whether it is free."""
    if holders and (protocol, port) in holders:
        return holders[protocol, port]
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if protocol == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            # An address that is not ours is another check's to name.
            return "" if error.errno == errno.EADDRNOTAVAIL else None
    return ""


def _holders() -> dict[tuple[str, int], str] | None:
    """(protocol, port) → program, for every listening socket; only root sees those of others."""
    inodes: dict[str, tuple[str, int]] = {}
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        try:
            lines = Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]
        except OSError:
            return None
        for line in lines:
            words = line.split()
            if protocol.startswith("tcp") and words[3] != "0A":  # TCP_LISTEN
                continue
            inodes[words[9]] = (protocol[:3], int(words[1].rpartition(":")[2], 16))
    found: dict[tuple[str, int], str] = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if (match := re.fullmatch(r"socket:\[(\d+)\]", target)) and (key := inodes.get(match[1])):
            name = _program(link.parents[1])
            # Systemd keeps the sockets that it has bound for the server.
            if found.get(key) in (None, "systemd"):
                found[key] = name
    return found


def _program(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    if any(word.endswith(b"/d4e-sfu") or word == b"d4e_sfu" for word in words[:4]):
        return "d4e-sfu"
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "?"


# --- the way in ------------------------------------------------------------------------------------------------------


def metrics(config: Config) -> dict[str, float] | None:
    """Counters of the running server; None when it does not answer."""
    address = config.admin.address
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    connection = http.client.HTTPConnection(address, config.admin.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read(1 << 20).decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def _loops(config: Config, addresses: Iterable[str]) -> Iterator[Loop]:
    """STUN requests for nobody: the engine drops each, and counts it by its reason. So what was counted has arrived."""
    for address in addresses:
        if ipaddress.ip_address(address).is_link_local:
            continue
        for worker in range(config.media.workers):
            port = config.media.port + worker
            before = _strangers(config)
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as out:
                for _ in range(DATAGRAMS):
                    try:
                        out.sendto(_stun(), (address, port))
                    except OSError:
                        break
            arrived = 0
            deadline = time.monotonic() + PATIENCE
            while arrived < DATAGRAMS and time.monotonic() < deadline:
                time.sleep(0.1)  # the engine's snapshot
                arrived = min(DATAGRAMS, int(_strangers(config) - before))
            yield Loop(address, port, DATAGRAMS, arrived)


def _strangers(config: Config) -> float:
    counters = metrics(config) or {}
    return sum(
        counters.get(f'd4e_sfu_drops_total{{reason="{reason}"}}', 0.0) for reason in ("bad_stun", "unknown_ufrag")
    )


def _stun() -> bytes:
    """RFC 8489 §5: a binding request with a username that nobody has (§14.3), and nothing that vouches for it."""
    name = b"doctor:nobody"
    padded = name + bytes(-len(name) % 4)
    attribute = b"\x00\x06" + len(name).to_bytes(2) + padded
    return b"\x00\x01" + len(attribute).to_bytes(2) + b"\x21\x12\xa4\x42" + secrets.token_bytes(12) + attribute


def _resolved(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(each[4][0]) for each in found})


def _front(config: Config, host: str | None) -> str:
    """Whose certificate browsers are shown at the public name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # whoever it is: that is the question
    port = next((each.port for each in config.http.listeners if each.tls), 443)
    try:
        with (
            socket.create_connection((host or "", port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            shown = wrapped.getpeercert(binary_form=True) or b""
    except OSError:
        return ""
    tls = config.http.tls
    try:
        ours = x509.load_pem_x509_certificate(tls.certificate.read_bytes()) if tls.certificate else None
        theirs = x509.load_der_x509_certificate(shown)
    except (OSError, ValueError):
        return "?"
    return "ours" if ours == theirs else theirs.subject.rfc4514_string()[:80] or "?"


def _mtu(adapters: Iterable[ifaddr.Adapter], addresses: Iterable[str]) -> Iterator[tuple[str, int]]:
    wanted = set(addresses)
    for adapter in adapters:
        if wanted & {_plain(ip.ip) for ip in adapter.ips}:
            try:
                yield str(adapter.name), int(Path(f"/sys/class/net/{adapter.name}/mtu").read_text())
            except (OSError, ValueError):
                continue


def _buffer() -> int | None:
    """Bytes of a media socket. Where systemd binds it, its unit says, and no limit of the kernel counts."""
    try:
        if match := re.search(r"^ReceiveBuffer=(\d+)([KMG]?)$", SOCKET_UNIT.read_text(), re.MULTILINE):
            return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
    except OSError:
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        return probe.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # socket(7): the kernel doubles it


# --- the machine -----------------------------------------------------------------------------------------------------


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _clock() -> tuple[bool | None, float | None]:
    """Whether the kernel's clock is disciplined (adjtimex(2)), and by how much it is off where chrony says so."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):
        state = -1
    synchronised = None if state < 0 else not timex.status & _STA_UNSYNC
    tracking = _said("chronyc", "-c", "tracking")
    try:
        offset = float(tracking.split(",")[4]) if tracking else None
    except (IndexError, ValueError):
        offset = None
    return synchronised, offset


def _cpu_flags() -> frozenset[str] | None:
    try:
        match = re.search(r"^flags\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return frozenset(match[1].split()) if match else None


def _exposure() -> float | None:
    if not Path("/etc/systemd/system", UNIT).exists():
        return None
    said = _said("systemd-analyze", "security", "--no-pager", UNIT)
    match = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    return float(match[1]) if match else None


def _said(*words: str) -> str:
    if shutil.which(words[0]) is None:
        return ""
    made = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - our own words
    return made.stdout if made.returncode == 0 or words[0] == "systemd-analyze" else ""


# --- files -----------------------------------------------------------------------------------------------------------


def _certificate(config: Config, host: str | None) -> list[examination.Finding] | None:
    tls = config.http.tls
    if tls.certificate is None or tls.key is None:
        return None
    try:
        certificate, key = tls.certificate.read_bytes(), tls.key.read_bytes()
    except OSError as error:
        return [examination.unreadable(str(error.filename), error.strerror or "?")]
    return examination.examine(certificate, key, hosts=[host] if host else [], now=datetime.now(UTC))


def _told(findings: Iterable[examination.Finding], wanted: Callable[[str], bool]) -> list[Trouble]:
    return [Trouble(each.en, each.vi) for each in findings if wanted(each.rule)]


def _files(config: Config) -> Iterator[Trouble]:
    """Secrets that everyone could read, or that the server cannot."""
    # Token keys are root's alone: systemd hands them over.
    paths = [(key.secret_file, False) for key in config.keys if key.secret_file is not None]
    if config.http.tls.key is not None:
        paths.append((config.http.tls.key, True))
    try:
        user: pwd.struct_passwd | None = pwd.getpwnam(USER)
    except KeyError:
        user = None
    for path, by_server in paths:
        try:
            facts = path.stat()
        except OSError as error:
            reason = error.strerror or "?"
            yield Trouble(
                f"{path}: {reason}. Fix: put the file there, or correct the configuration.",
                f"{path}: {reason}. Cách sửa: đặt tệp vào đó, hoặc sửa cấu hình.",
            )
            continue
        if facts.st_mode & stat.S_IRWXO:
            yield Trouble(
                f"{path} is open to everyone on this machine. Fix: chmod o= {path}, and make a new secret.",
                f"{path} ai trên máy cũng đọc được. Cách sửa: chmod o= {path}, và tạo khóa mới.",
            )
        elif by_server and user is not None and not _readable(facts, user):
            yield Trouble(
                f"{path} cannot be read by {USER}. Fix: chgrp {USER} {path} && chmod 0640 {path}.",
                f"{USER} không đọc được {path}. Cách sửa: chgrp {USER} {path} && chmod 0640 {path}.",
            )


def _readable(facts: os.stat_result, user: pwd.struct_passwd) -> bool:
    if facts.st_uid == user.pw_uid:
        return bool(facts.st_mode & stat.S_IRUSR)
    return facts.st_gid == user.pw_gid and bool(facts.st_mode & stat.S_IRGRP)
