"""What a handshake costs the event loop, and how long one stays open: rows in `results/dtls.json`.

Ours is the DTLS server. The clients are stock aiortc in another process, so that the CPU time measured here is the
server's alone; between them are UDP sockets on the loopback. `python -m benchmarks.dtls [HANDSHAKES]`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Sequence
from typing import cast

from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport

from benchmarks.results import record
from d4e_sfu._engine import Command
from d4e_sfu.core.boundary import TransportId
from d4e_sfu.drivers.associations import Associations
from tests.drivers.associations import Endpoint, Heard, until

RUNS = 5
CONCURRENT = 20


class Socket(asyncio.DatagramProtocol):
    """The server's end of one client's path."""

    def __init__(self, associations: Associations, transport: int) -> None:
        self.associations = associations
        self.number = TransportId(transport)
        self.peer: tuple[str, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peer = addr
        self.associations.receive(self.number, data)


async def serve(
    count: int, ports: multiprocessing.Queue[list[int]], fingerprint: tuple[str, str]
) -> tuple[float, float]:
    """CPU and elapsed seconds for each of `count` handshakes."""
    loop = asyncio.get_running_loop()
    sockets: dict[int, Socket] = {}
    keys = 0

    def submit(commands: Sequence[Command]) -> None:
        nonlocal keys
        for command in commands:
            match command:
                case Command.SendDtls(transport=transport, datagram=datagram):
                    endpoint = sockets[transport]
                    assert endpoint.peer is not None
                    endpoint.socket.sendto(bytes(datagram), endpoint.peer)
                case Command.SetKeys():
                    keys += 1

    heard = Heard()
    associations = Associations(submit, heard)
    for number in range(count):
        _, sockets[number] = await loop.create_datagram_endpoint(
            lambda number=number: Socket(associations, number),  # type: ignore[misc]
            local_addr=("127.0.0.1", 0),
        )
        associations.open(
            TransportId(number),
            ours=associations.fingerprint,
            fingerprints=[fingerprint],
            role="server",
            sctp_port=None,
            max_message_size=0,
        )
    ports.put([int(socket.socket.get_extra_info("sockname")[1]) for socket in sockets.values()])
    cpu, began = time.process_time(), time.monotonic()
    await until(lambda: len(heard.connected) == count, within=120)
    cpu, elapsed = time.process_time() - cpu, time.monotonic() - began
    assert keys == count
    associations.stop()
    for endpoint in sockets.values():
        endpoint.socket.close()
    return cpu / count, elapsed / count


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.endpoint = Endpoint(self._send)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast(asyncio.DatagramTransport, transport)

    def _send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.endpoint.inbox.put_nowait(data)


def clients(ports: multiprocessing.Queue[list[int]], fingerprint: multiprocessing.Queue[tuple[str, str]]) -> None:
    """The other process: all handshakes of one run, a few at a time."""

    async def connect_all() -> None:
        certificate = RTCCertificate.generateCertificate()
        own = certificate.getFingerprints()[0]
        fingerprint.put((own.algorithm, own.value))
        gate = asyncio.Semaphore(CONCURRENT)

        async def connect(port: int) -> None:
            async with gate:
                _, client = await asyncio.get_running_loop().create_datagram_endpoint(
                    Client, remote_addr=("127.0.0.1", port)
                )
                dtls = RTCDtlsTransport(client.endpoint, [certificate])  # type: ignore[arg-type]
                dtls._set_role("client")
                # Whose certificate it is does not change the cost; this one never matches, after the handshake.
                await dtls.start(RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint("sha-256", "00")]))
                client.socket.close()

        await asyncio.gather(*(connect(port) for port in ports.get()))

    asyncio.run(connect_all())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    spawn = multiprocessing.get_context("spawn")
    cpu, elapsed = [], []
    for _ in range(RUNS):
        ports: multiprocessing.Queue[list[int]] = spawn.Queue()
        fingerprint: multiprocessing.Queue[tuple[str, str]] = spawn.Queue()
        other = spawn.Process(target=clients, args=(ports, fingerprint))
        other.start()
        used, took = asyncio.run(serve(count, ports, fingerprint.get()))
        other.join()
        cpu.append(used * 1000)
        elapsed.append(took * 1000)
    record("dtls.json", f"DTLS handshake, server CPU, {CONCURRENT} at once", cpu, "ms", "<= 2")
    record("dtls.json", f"DTLS handshake, elapsed each, {CONCURRENT} at once", elapsed, "ms", "<= 10")


if __name__ == "__main__":
    main()
