"""What may a program inside the service's unit do? Tries each forbidden act and prints what became of it, as JSON.

Run by Debian's own python3, inside the unit and, to prove that the acts are possible at all, outside of it. Nothing
here is imported by the server. An act that the kernel refuses for want of a right is `denied`; anything else, an error
for nonsense arguments included, means that it got through.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import mmap
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

DENIALS = {
    errno.EPERM,
    errno.EACCES,
    errno.EROFS,
    errno.EAFNOSUPPORT,
    errno.ENOENT,  # it is not to be seen
    errno.ENOTDIR,  # an empty file stands in its place
}
LIBC = ctypes.CDLL(None, use_errno=True)

# Of x86_64 (arch/x86/entry/syscalls/syscall_64.tbl): those that have no wrapper, with arguments that harm nothing.
CALLS = {
    "io_uring_setup": (425, 1, 0),
    "userfaultfd": (323, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "io_setup": (206, 0, 0),
    "keyctl": (250, 6, 0, 0, 0, 0),  # KEYCTL_DESCRIBE
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "ptrace": (101, 16, 2**30, 0, 0),  # PTRACE_ATTACH, to nobody
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "chroot": (161, 0),
    "swapon": (167, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "settimeofday": (164, 0, 0),
    "sethostname": (170, 0, 0),
    "iopl": (172, 0),
    "setns": (308, -1, 0),
    "unshare a user namespace": (272, 0x10000000),
    "unshare a network namespace": (272, 0x40000000),
    "sched_setaffinity": (203, 0, 0, 0),
    "mlock": (149, 0, 0),
    "personality": (135, 0x0040000),  # ADDR_NO_RANDOMIZE
    "modify_ldt": (154, 1, 0, 0),
    "open_by_handle_at": (304, -1, 0, 0),
    "quotactl": (179, 0, 0, 0, 0),
}


def call(*arguments: int) -> None:
    ctypes.set_errno(0)
    if LIBC.syscall(*(ctypes.c_long(each) for each in arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def write(path: str) -> None:
    Path(path).write_text("x")


def run_from(folder: str) -> None:
    script = Path(folder) / "probe.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o700)
    subprocess.run([str(script)], check=True)


def make_setuid() -> None:
    path = Path("/var/lib/d4e-sfu/setuid")
    path.write_text("x")
    path.chmod(0o4755)
    if not path.stat().st_mode & stat.S_ISUID:
        raise PermissionError(errno.EPERM, "the bit was not set")


def write_and_execute() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def make_executable() -> None:
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ctypes.set_errno(0)
    if LIBC.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_EXEC) < 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def see_the_network() -> None:
    if {name for _, name in socket.if_nameindex()} == {"lo"}:
        raise PermissionError(errno.EPERM, "only its own loopback")


def see_others() -> None:
    Path("/proc/1/environ").read_bytes()


FORBIDDEN: dict[str, Callable[[], object]] = {
    **{name: functools.partial(call, *arguments) for name, arguments in CALLS.items()},
    "an IPv4 socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "an IPv6 socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "a vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "look for interfaces": see_the_network,
    "memory to write and execute": write_and_execute,
    "memory made executable": make_executable,
    "become root": lambda: os.setuid(0) if os.getuid() else os.setuid(1),
    "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "see other processes": see_others,
    "read the shadow file": lambda: Path("/etc/shadow").read_bytes(),
    "read a key as a file": lambda: Path("/etc/d4e-sfu/keys/province.key").read_bytes(),
    "look into /root": lambda: list(Path("/root").iterdir()),
    "write the configuration": lambda: write("/etc/d4e-sfu/probe"),
    "write below /etc": lambda: write("/etc/probe"),
    "write below /usr": lambda: write("/usr/probe"),
    "write below /opt": lambda: write("/opt/d4e-sfu/probe"),
    "write below /run": lambda: write("/run/probe"),
    "write a kernel setting": lambda: write("/proc/sys/kernel/domainname"),
    "run from /tmp": lambda: run_from("/tmp"),
    "run from /dev/shm": lambda: run_from("/dev/shm"),
    "run from its own folder": lambda: run_from("/var/lib/d4e-sfu"),
    "a program that changes its user": make_setuid,
    "a device": lambda: os.mknod("/var/lib/d4e-sfu/device", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "the kernel's log": lambda: os.open("/dev/kmsg", os.O_RDONLY),
    "the system bus": lambda: connect("/run/dbus/system_bus_socket"),
}


def write_state() -> None:
    write("/var/lib/d4e-sfu/probe")


def read_credential() -> None:
    Path(os.environ["CREDENTIALS_DIRECTORY"], "keys_province.key").read_bytes()


NEEDED: dict[str, Callable[[], object]] = {
    "a Unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "write its own folder": write_state,
    "write /tmp": lambda: write("/tmp/probe"),
    "read a credential": read_credential,
    "memory without a file": lambda: os.memfd_create("probe"),
    "a process": lambda: subprocess.run(["/bin/true"], check=True),
}


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        word = errno.errorcode.get(error.errno or 0, str(error))
        return f"denied {word}" if error.errno in DENIALS else f"reached {word}"
    except KeyError as error:
        return f"denied {error}"
    return "done"


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "forbidden": {name: outcome(act) for name, act in FORBIDDEN.items()},
                "needed": {name: outcome(act) for name, act in NEEDED.items()},
            }
        )
    )
