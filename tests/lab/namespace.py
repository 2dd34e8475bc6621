"""A network of its own for a test: Firefox takes no path over the loopback, and nothing of a test may leave the host.
The test runs once more, in a process in a network namespace, with an interface behind which there is nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.lab.server import TOP

INSIDE = "D4E_SFU_OWN_NETWORK"
HERE, NOBODY = "10.123.0.1", "10.123.0.2"  # addresses: one that is there, and one of which nobody answers
_SET_UP = (
    "ip link set lo up && ip link add lab0 type veth peer name lab1 && ip link set lab0 up && ip link set lab1 up"
    f' && ip addr add {HERE}/24 dev lab0 && ip route add default via {NOBODY} && export {INSIDE}=1 && exec "$@"'
)


async def delegated(test: str, *, report: Path | None = None) -> bool:
    """False inside of the namespace. Outside: the test has passed inside. `report`: where its JUnit report goes."""
    if INSIDE in os.environ:
        return False
    # Whoever is not root becomes it, in a user namespace of his own.
    command = ["unshare", "--net", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", _SET_UP, "sh"]
    command += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    process = await asyncio.create_subprocess_exec(
        *command,
        *([] if report is None else [f"--junitxml={report}"]),
        cwd=TOP,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")
    return True
