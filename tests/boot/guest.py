"""A system with a real systemd as its first process, made of this machine's own root (systemd-nspawn on an overlay).

It boots in a second or two and leaves nothing behind: what is written in it is memory. Only its own loopback is its
network. Needs root, systemd-container and a Debian python3 of this environment's version. The appliance as it is
installed, on a pristine system, is another test's; this one is about the units.
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
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[2]
BOOT_SECONDS = 60
CGROUP = Path("/sys/fs/cgroup/unified")
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
#!/usr/bin/python3.11
import sys
sys.path[:0] = [{str(TOP)!r}, {next(each for each in sys.path if each.endswith("site-packages"))!r}]
from d4e_sfu.__main__ import main
sys.exit(main())
"""


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
def disk() -> Iterator[Path]:
    """The root of a guest, which outlives its boots."""
    with tempfile.TemporaryDirectory(prefix="d4e-boot-") as folder, contextlib.ExitStack() as stack:
        memory, root = Path(folder, "memory"), Path(folder, "root")
        for each in (memory, root):
            each.mkdir()
        _run("mount", "-t", "tmpfs", "-o", "size=1g", "none", str(memory))
        stack.callback(_run, "umount", str(memory))
        for layer in ("up", "work"):
            (memory / layer).mkdir()
        layers = f"lowerdir=/,upperdir={memory}/up,workdir={memory}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
        stack.callback(_run, "umount", str(root))
        _install(root)
        yield root


@contextlib.contextmanager
def booted(root: Path) -> Iterator[Guest]:
    """Powered off at the end, if it is still there: `Guest.kill` is a power cut."""
    name = f"d4e-boot-{os.getpid()}"
    group = CGROUP / name
    group.mkdir()
    inside = f"echo $$ > {group}/cgroup.procs; exec setsid systemd-nspawn -q -D {root} -M {name} --register=no"
    options = "--keep-unit --private-network --capability=CAP_BPF,CAP_NET_ADMIN --system-call-filter=bpf"
    nspawn = subprocess.Popen(
        ["sh", "-c", f"{inside} {options} --console=pipe -b"],
        env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    leader = 0
    try:
        began = time.monotonic()
        while (leader := _child(nspawn.pid)) == 0 or not _is_up(leader):
            assert nspawn.poll() is None, "the guest ended"
            assert time.monotonic() - began < BOOT_SECONDS, "the guest does not come up"
            time.sleep(0.1)
        yield Guest(root, leader, began)
    finally:
        with contextlib.suppress(ProcessLookupError):
            if leader:
                os.kill(leader, signal.SIGRTMIN + 4)  # systemd(1): power off
        try:
            nspawn.wait(20)
        except subprocess.TimeoutExpired:
            os.kill(leader, signal.SIGKILL)  # of a process namespace, so all of it ends
            nspawn.wait()
        for _ in range(100):  # until the kernel has let go of its processes
            if "populated 0" in (group / "cgroup.events").read_text():
                break
            time.sleep(0.1)
        for each in sorted(group.glob("**/"), key=lambda path: len(path.parts), reverse=True):
            each.rmdir()


def _install(root: Path) -> None:
    for file, line in (
        ("passwd", f"d4e-sfu:x:{USER}:{USER}::/var/lib/d4e-sfu:/usr/sbin/nologin"),
        ("group", f"d4e-sfu:x:{USER}:"),
        ("shadow", "d4e-sfu:!:::::::"),
    ):
        with (root / "etc" / file).open("a") as text:
            text.write(line + "\n")
    (root / "etc/fstab").write_text("")
    (root / "var/log/journal").mkdir(exist_ok=True)  # or what it says is gone with the boot
    units = root / "etc/systemd/system"
    for unit in (*QUIET, *TIMERS):
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    for unit in ("d4e-sfu.service", "d4e-sfu-connector.service", "d4e-sfu-connector.socket"):
        shutil.copy(TOP / "systemd" / unit, units)
    (root / "opt/d4e-sfu/current/bin").mkdir(parents=True)
    command = root / "opt/d4e-sfu/current/bin/d4e-sfu"
    command.write_text(COMMAND)
    command.chmod(0o755)
    keys = root / "etc/d4e-sfu/keys"
    keys.mkdir(parents=True)
    keys.chmod(0o700)
    os.chown(keys.parent, 0, USER)
    keys.parent.chmod(0o750)
    for name in ("province.key", "audit.key"):
        (keys / name).write_text(f"a secret that belongs to root, of this guest alone: {name}\n")
        (keys / name).chmod(0o600)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _child(parent: int) -> int:
    """The first process of the guest, as this machine counts."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[0]) if children else 0


def _is_up(leader: int) -> bool:
    asked = ["nsenter", "-t", str(leader), "-a", "systemctl", "is-system-running"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() in ("running", "degraded")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
