"""A pristine Debian 12 with a real systemd as its first process, as a province's server would be before the first play:
debootstrap's minimum with systemd, sshd and python3, booted by systemd-nspawn in a network of its own.

    outside ── d4eN-net (a network namespace: the stations, and all there is of a world) ── 10.99.0.2 (the machine)

The namespace is also its default route: what the machine sends to anywhere else arrives there and is counted. Ansible
comes in by SSH over that link. Everything here is named by the process that made it and ends with it; nothing else is
touched. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.server import TOP

BUILD = TOP / "build/appliance"
PACKAGES = "systemd,systemd-sysv,dbus,python3,openssh-server"
ADDRESS, OUTSIDE = "10.99.0.2", "10.99.0.1"
BOOT_SECONDS = 30.0
CGROUPS = Path("/sys/fs/cgroup/unified")
RELAY = """\
import socket, sys, threading
s = socket.create_connection((sys.argv[1], 22), 10)
s.settimeout(None)
def up():
    while data := sys.stdin.buffer.raw.read(65536): s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := s.recv(65536):
    sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
"""


class NotHereError(Exception):
    """This machine cannot boot another: what is missing, for whoever wants to mend it."""


def run(*words: str | Path, check: bool = True, timeout: float = 120.0) -> str:
    made = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout, check=False)
    if check and made.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: {made.returncode}\n{made.stdout}{made.stderr}")
    return made.stdout


def base() -> Path:
    """The tree that every machine begins with; made once, kept under build/."""
    for tool in ("systemd-nspawn", "debootstrap", "ip", "nft", "ssh-keygen"):
        if shutil.which(tool) is None:
            raise NotHereError(
                f"{tool} is missing: apt-get install systemd-container debootstrap iproute2 nftables openssh-client"
            )
    if os.geteuid() != 0:
        raise NotHereError("only root may boot a machine")
    tree = BUILD / "base"
    stamp = BUILD / "base.packages"
    if not stamp.exists() or stamp.read_text() != PACKAGES:
        shutil.rmtree(tree, ignore_errors=True)
        tree.parent.mkdir(parents=True, exist_ok=True)
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", tree, timeout=600)
        stamp.write_text(PACKAGES)
    return tree


@dataclass(slots=True)
class Machine:
    """See `booted`."""

    name: str
    number: int
    leader: int
    namespace: str
    folder: Path

    def sh(self, command: str, *, check: bool = True, timeout: float = 120.0) -> str:
        """What a shell on the machine says."""
        return run("nsenter", "-t", str(self.leader), "-a", "sh", "-c", command, check=check, timeout=timeout)

    def outside(self, *words: str | Path, check: bool = True, timeout: float = 120.0) -> str:
        """A command on the network that the machine is in, and not on the machine."""
        return run("ip", "netns", "exec", self.namespace, *words, check=check, timeout=timeout)

    @property
    def key(self) -> Path:
        return self.folder / "id"

    @property
    def ssh_arguments(self) -> str:
        relay = self.folder / "relay.py"
        return (
            f"-o ProxyCommand='ip netns exec {self.namespace} python3 {relay} {ADDRESS}' -o IdentityFile={self.key} "
            f"-o UserKnownHostsFile={self.folder / 'known_hosts'} -o StrictHostKeyChecking=accept-new"
        )

    def strays(self) -> int:
        """Packets that the machine has sent to anywhere but its own network."""
        text = self.outside("nft", "list", "chain", "inet", "strays", "outside")
        return int(text.partition("counter packets ")[2].split()[0])


@contextmanager
def booted(number: int = 1) -> Iterator[Machine]:
    """A machine from its boot to its clean power-off, or, where the test failed, to its end all the same."""
    tree = base()
    name = f"d4e{os.getpid()}x{number}"
    namespace, folder, cgroup = f"{name}-net", BUILD / name, CGROUPS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    (folder / "relay.py").write_text(RELAY)
    cgroup.mkdir(exist_ok=True)  # one for each, or two containers share one
    run("ip", "netns", "add", namespace)
    console = (folder / "console").open("wb")
    supervisor = subprocess.Popen(
        ["sh", "-c", f"echo $$ > {cgroup}/cgroup.procs; exec systemd-nspawn --quiet --directory={tree} "
         f"--machine={name} "
         "--volatile=overlay --register=no --keep-unit --private-network --capability=CAP_BPF,CAP_NET_ADMIN "
         "--system-call-filter=bpf --console=pipe --boot"],
        stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
        # The guest sees one cgroup tree, whatever the host has. Nobody writes to the tree that all begin with: no lock.
        env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_LOCK": "0"},
    )  # fmt: skip
    try:
        machine = Machine(name, number, _leader(supervisor), namespace, folder)
        _wait_until_up(machine)
        _connect(machine)
        yield machine
    finally:
        _end(supervisor)
        console.close()
        run("ip", "netns", "delete", namespace, check=False)
        _remove(cgroup)


def _leader(supervisor: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
    for _ in range(600):
        # The first child only prepares the second, which becomes the guest's first process.
        for child in children.read_text().split() if children.exists() else ():
            try:
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
            except OSError:
                continue
        if supervisor.poll() is not None:
            raise NotHereError("systemd-nspawn ended at once; see the console in build/appliance")
        time.sleep(0.05)
    raise NotHereError("systemd-nspawn booted nothing within half a minute")


def _wait_until_up(machine: Machine) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < deadline:
        state = machine.sh("systemctl is-system-running", check=False).strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.2)
    raise AssertionError(f"the machine is {state!r} after {BOOT_SECONDS} s")


def _connect(machine: Machine) -> None:
    ends = f"v{os.getpid()}x{machine.number}a", f"v{os.getpid()}x{machine.number}b"
    run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
    run("ip", "link", "set", ends[0], "netns", machine.namespace)
    run("ip", "link", "set", ends[1], "netns", str(machine.leader))
    machine.outside("ip", "link", "set", ends[0], "name", "eth0")
    for words in (
        ("addr", "add", f"{OUTSIDE}/24", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("link", "set", "lo", "up"),
    ):
        machine.outside("ip", *words)
    inside = ("nsenter", "-t", str(machine.leader), "-n", "ip")
    run(*inside, "link", "set", ends[1], "name", "eth0")
    run(*inside, "addr", "add", f"{ADDRESS}/24", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "route", "add", "default", "via", OUTSIDE)
    machine.outside(
        "nft",
        "add table inet strays; add chain inet strays outside { type filter hook prerouting priority 0; }; "
        "add set inet strays seen { type ipv4_addr . inet_proto; flags dynamic; size 64; }; "
        # The kernel's IGMP stays on the link.
        "add rule inet strays outside iif eth0 ip daddr 224.0.0.0/4 drop; "
        "add rule inet strays outside iif eth0 ip daddr != 10.99.0.0/24 add @seen { ip daddr . ip protocol } "
        "counter drop",
    )
    public = (machine.folder / "id.pub").read_text()
    machine.sh(f"umask 077; mkdir -p /root/.ssh; echo '{public.strip()}' > /root/.ssh/authorized_keys")


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Power off, and wait; who does not answer is ended. Only this container, by its own process."""
    if supervisor.poll() is None:
        supervisor.send_signal(signal.SIGTERM)  # nspawn hands it on as a clean power-off
        try:
            supervisor.wait(20)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait(10)


def _remove(cgroup: Path) -> None:
    for folder in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    for _ in range(50):
        try:
            cgroup.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
