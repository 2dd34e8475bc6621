"""A system with a real systemd as its first process, made of this machine's own root (systemd-nspawn on an overlay).

It boots in a second or two and leaves nothing behind: what is written in it is memory. Only its own loopback is its
network. Needs root, systemd-container and a Debian python3 of this environment's version. Where one of them is not
there, or the first boot shows that it is not allowed, what asks for a guest is skipped, with that reason. The appliance
as it is installed, on a pristine system, is another test's (tests/appliance).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, NoReturn

import pytest

TOP = Path(__file__).parents[2]
BOOT_SECONDS = 60
TOOLS = ("systemd-nspawn", "nsenter", "systemctl", "curl", "ip", "ss", "ps")
CGROUPS = Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")  # of a machine with two kinds of them, and with one
PYTHON = Path("/usr/bin/python3.11")
# What of this tree a guest sees, and where: not by its own path, which a unit may not look into (/tmp, /root, /home).
SEEN = "/opt/tree"
TREE = {
    "d4e_sfu": TOP / "d4e_sfu",
    "site-packages": Path(next(each for each in sys.path if each.endswith("site-packages"))),
}
QUIET = ("postgresql.service", "avahi-daemon.service", "avahi-daemon.socket", "systemd-timesyncd.service")
TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer", "man-db.timer", "e2scrub_all.timer", "fstrim.timer")
USER = 990
SETTINGS = """\
http: {listeners: [{address: 0.0.0.0, port: 7880}]}
admin: {control: /run/d4e-sfu/control}
media: {addresses: [127.0.0.1], workers: 2, buffer: 16MiB}
audit: {folder: /var/lib/d4e-sfu/audit, secret_file: keys/audit.key}
keys: [{id: province, secret_file: keys/province.key, default_role: doctor}]
"""
COMMAND = f"""\
#!{PYTHON}
import sys
sys.path[:0] = ["{SEEN}", "{SEEN}/site-packages"]
from d4e_sfu.__main__ import main
sys.exit(main())
"""


def not_here(why: str) -> NoReturn:
    pytest.skip(f"no machine is booted: {why}")


def why_not() -> str:
    """What this machine lacks to boot another; empty where nothing is known to be missing."""
    if os.geteuid() != 0:
        return "it takes root to boot a machine"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} is missing (apt-get install systemd-container iproute2 procps curl)"
    if not PYTHON.exists():
        return f"{PYTHON} is missing, Debian 12's own"
    closed = [str(each) for each in TREE.values() if each.stat().st_mode & 0o005 != 0o005]
    return f"{', '.join(closed)}: the server's user may not read this" if closed else ""


class Guest:
    def __init__(self, root: Path, leader: int, began: float) -> None:
        self.root = root
        self.leader = leader
        self.began = began  # of its boot

    def kill(self) -> None:
        """Every process ends at once. Unlike a real power cut, it loses nothing that the kernel was given to write."""
        os.kill(self.leader, signal.SIGKILL)

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "-t", str(self.leader), "-a", *command]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0 or not check, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def journal(self, unit: str = "d4e-sfu.service") -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit).stdout

    def get(self, path: str, *, port: int = 7881) -> str:
        return self.run("curl", "-sS", "--max-time", "20", f"http://127.0.0.1:{port}{path}", check=False).stdout

    def until(self, what: str, holds: object, *, seconds: float = 20) -> float:
        """How long it took until this held."""
        assert callable(holds)
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}\n{self.journal()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def settings(self, text: str = SETTINGS) -> None:
        """The configuration, and the sockets that it wants."""
        file = self.root / "etc/d4e-sfu/d4e-sfu.yaml"
        file.write_text(text)
        os.chown(file, 0, USER)
        file.chmod(0o640)
        command = "/opt/d4e-sfu/current/bin/d4e-sfu", "systemd-sockets", "--config", "/etc/d4e-sfu/d4e-sfu.yaml"
        unit = self.run(*command).stdout
        (self.root / "etc/systemd/system/d4e-sfu.socket").write_text(unit)
        self.run("systemctl", "daemon-reload")

    def start(self) -> None:
        self.run("systemctl", "reset-failed")
        self.run("systemctl", "stop", "d4e-sfu.service", "d4e-sfu.socket")
        self.run("systemctl", "start", "d4e-sfu.socket", "d4e-sfu.service")


@contextlib.contextmanager
def guest() -> Iterator[Guest]:
    """Booted, with the units, keys and a configuration, not started."""
    with disk() as root, booted(root) as machine:
        machine.settings()
        yield machine


@contextlib.contextmanager
def disk(install: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """The root of a guest, which outlives its boots; with the units, keys and user that a play would have made."""
    if why := why_not() or _REFUSED.get("why"):
        not_here(why)
    with tempfile.TemporaryDirectory(prefix="d4e-boot-") as folder, contextlib.ExitStack() as stack:
        memory, root = Path(folder, "memory"), Path(folder, "root")
        for each in (memory, root):
            each.mkdir()
        _mount(stack, memory, "-t", "tmpfs", "-o", "size=1g", "none")
        for layer in ("up", "work"):
            (memory / layer).mkdir()
        layers = f"lowerdir=/,upperdir={memory}/up,workdir={memory}/work"
        _mount(stack, root, "-t", "overlay", "overlay", "-o", layers)
        _quieten(root)
        (install or _install)(root)
        yield root


@contextlib.contextmanager
def booted(root: Path, seen: Mapping[str, Path] = TREE) -> Iterator[Guest]:
    """Powered off at the end, if it is still there: `Guest.kill` is a power cut."""
    name = f"d4e-boot-{os.getpid()}"
    group = _group(name)
    words = [
        *("systemd-nspawn", "--quiet", f"--directory={root}", f"--machine={name}", "--register=no", "--keep-unit"),
        *("--private-network", "--capability=CAP_BPF,CAP_NET_ADMIN", "--system-call-filter=bpf", "--console=pipe"),
        *("--tmpfs=/tmp:mode=1777", *(f"--bind-ro={here}:{SEEN}/{there}" for there, here in seen.items()), "--boot"),
    ]
    with tempfile.TemporaryFile() as console:
        nspawn = subprocess.Popen(
            ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec setsid "$@"', "sh", *words],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
        leader = 0
        try:
            began = time.monotonic()
            while (leader := _leader(nspawn.pid)) == 0 or not _is_up(leader):
                if nspawn.poll() is not None or time.monotonic() - began > BOOT_SECONDS:
                    _not_up(console)
                time.sleep(0.1)
            guest = Guest(root, leader, began)
            _may_confine(guest)
            yield guest
        finally:
            _end(nspawn, leader)
            _remove(group)


def _end(nspawn: subprocess.Popen[bytes], leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if leader:
            os.kill(leader, signal.SIGRTMIN + 4)  # systemd(1): power off
    try:
        nspawn.wait(20 if leader else 0.1)
    except subprocess.TimeoutExpired:
        for each in _children(nspawn.pid):  # the first of a process namespace, so all of it ends
            os.kill(each, signal.SIGKILL)
        if not leader:
            nspawn.kill()
        nspawn.wait(20)


def _remove(group: Path) -> None:
    for _ in range(100):  # until the kernel has let go of its processes
        if "populated 0" in (group / "cgroup.events").read_text():
            break
        time.sleep(0.1)
    for each in sorted(group.glob("**/"), key=lambda path: len(path.parts), reverse=True):
        each.rmdir()


# What became of the first boot. A machine that has booted one can boot them all: what comes after is a failure.
_REFUSED: dict[str, str] = {}


def _may_confine(guest: Guest) -> None:
    """Whether the kernel gives a guest what every hardened unit asks for, whatever that unit is."""
    if "why" in _REFUSED:
        return
    walls = [f"--property={each}=yes" for each in ("PrivateNetwork", "PrivateUsers", "PrivateMounts", "PrivateIPC")]
    tried = guest.run("systemd-run", "--quiet", "--wait", *walls, "/bin/true", check=False)
    _REFUSED["why"] = "" if tried.returncode == 0 else "a booted machine may not confine its units here"
    if why := _REFUSED["why"]:
        not_here(why)


def _not_up(console: IO[bytes]) -> NoReturn:
    console.seek(0)
    said = b" / ".join(line.strip() for line in console.read().splitlines()[-3:]).decode(errors="replace")
    why = f"systemd-nspawn boots nothing here: {said or 'and says nothing'}"
    assert "why" not in _REFUSED, why
    _REFUSED["why"] = why
    not_here(why)


def _group(name: str) -> Path:
    """Processes of this guest alone, or two guests share a group."""
    for tree in CGROUPS:
        if (tree / "cgroup.procs").exists():
            with contextlib.suppress(OSError):
                (tree / name).mkdir()
                return tree / name
    not_here("no cgroup v2 can be made below /sys/fs/cgroup")


def _quieten(root: Path) -> None:
    """Nothing of this machine's own runs in its guest, or would be mounted there."""
    (root / "etc/fstab").write_text("")
    (root / "var/log/journal").mkdir(exist_ok=True)  # or what it says is gone with the boot
    units = root / "etc/systemd/system"
    for unit in (*QUIET, *TIMERS):
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")


def place(root: Path, bin: str) -> None:
    """The command of a release, which is this tree's."""
    (root / bin).mkdir(parents=True)
    command = root / bin / "d4e-sfu"
    command.write_text(COMMAND)
    command.chmod(0o755)


def _install(root: Path) -> None:
    for file, line in (
        ("passwd", f"d4e-sfu:x:{USER}:{USER}::/var/lib/d4e-sfu:/usr/sbin/nologin"),
        ("group", f"d4e-sfu:x:{USER}:"),
        ("shadow", "d4e-sfu:!:::::::"),
    ):
        with (root / "etc" / file).open("a") as text:
            text.write(line + "\n")
    for unit in ("d4e-sfu.service", "d4e-sfu-connector.service", "d4e-sfu-connector.socket"):
        shutil.copy(TOP / "systemd" / unit, root / "etc/systemd/system")
    place(root, "opt/d4e-sfu/current/bin")
    keys = root / "etc/d4e-sfu/keys"
    keys.mkdir(parents=True)
    keys.chmod(0o700)
    os.chown(keys.parent, 0, USER)
    keys.parent.chmod(0o750)
    for name in ("province.key", "audit.key"):
        (keys / name).write_text(f"a secret that belongs to root, of this guest alone: {name}\n")
        (keys / name).chmod(0o600)


def _mount(stack: contextlib.ExitStack, at: Path, *words: str) -> None:
    done = subprocess.run(["mount", *words, str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        not_here(f"nothing may be mounted ({done.stderr.partition(chr(10))[0].rpartition(': ')[2]})")
    stack.callback(subprocess.run, ["umount", str(at)], check=True)


def _leader(nspawn: int) -> int:
    """The first process of the guest, as this machine counts; 0 while it is what prepares systemd."""
    for child in _children(nspawn):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return child
    return 0


def _children(parent: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def _is_up(leader: int) -> bool:
    asked = ["nsenter", "-t", str(leader), "-a", "systemctl", "is-system-running"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() in ("running", "degraded")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
