"""A call over IPv6: a worker with its socket on [::1], and two laboratory peers behind sockets of their own."""

from __future__ import annotations

import select
import socket
import time
from typing import Any

import pytest

from d4e_sfu._engine import Codec, Command, Encoding, Event, Profile, PublicationSpec, SubscriptionSpec, Worker, lab
from tests.engine.test_laboratory import EXTENSIONS, IDS

PATIENCE = 30.0  # s; the machine may be busy


def udp() -> socket.socket:
    made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    made.bind(("::1", 0))
    made.setblocking(False)
    return made


def name(address: Any) -> str:
    return f"[{address[0]}]:{address[1]}"


class Caller:
    """A peer, its socket, and its transport in the worker."""

    def __init__(self, worker: Worker, transport: int, server: str) -> None:
        self.socket = udp()
        up, down = bytes(range(28)), bytes(range(100, 128))
        spec = {
            "local_ufrag": f"user{transport}",
            "local_pwd": f"the-password-of-client-{transport}",
            "remote_ufrag": f"sfu{transport}",
            "remote_pwd": "the-password-of-the-server",
            "remotes": [server],
            "local": name(self.socket.getsockname()),
            "extensions": IDS,
            "seed": transport,
        }
        self.peer = lab.Peer(spec, now=0.0)
        self.peer.set_keys({"profile": "gcm", "receive": down.hex(), "send": up.hex()})
        worker.submit(
            [
                Command.AddTransport(
                    transport, f"sfu{transport}", "the-password-of-the-server", f"user{transport}", "", True, 600_000
                ),
                Command.SetExtensions(transport, EXTENSIONS, False),
                Command.SetKeys(transport, Profile.AeadAes128Gcm, up, down),
            ]
        )

    def run(self, now: float) -> None:
        while select.select([self.socket], [], [], 0)[0]:
            datagram, remote = self.socket.recvfrom(2048)
            self.peer.receive(datagram, remote=name(remote), now=now)
        self.peer.advance(now=now)
        for _, target, datagram in self.peer.transmits():
            host, _, port = target.rpartition(":")
            self.socket.sendto(datagram, (host.strip("[]"), int(port)))


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_pictures_cross_a_worker_that_listens_on_ipv6() -> None:
    server = udp()
    worker = Worker([server.fileno()], name="six")
    try:
        address = name(server.getsockname())
        publisher, viewer = Caller(worker, 1, address), Caller(worker, 2, address)
        publication = PublicationSpec(
            codec=Codec.Vp8,
            mid="0",
            payload_type=96,
            rtx_payload_type=97,
            encodings=[Encoding(ssrc=100, rtx_ssrc=101)],
            max_bitrate=5_000_000,
            nack=True,
        )
        subscription = SubscriptionSpec(
            mid="1", payload_type=98, rtx_payload_type=99, ssrc=200, rtx_ssrc=201, cname="c", spatial=0
        )
        worker.submit([Command.AddPublication(7, 1, publication), Command.AddSubscription(8, 7, 2, subscription)])
        ids = {"codec": "vp8", "rtx_payload_type": 99}
        viewer.peer.add_receiver({"receiver": 1, "mid": "1", "payload_type": 98, "ssrc": 200, **ids}, now=0.0)
        encoding = {"ssrc": 100, "rtx_ssrc": 101, "bitrate": 600_000}
        publish = {"publication": 7, "codec": "vp8", "mid": "0", "payload_type": 96, "rtx_payload_type": 97}
        publisher.peer.add_publication({**publish, "encodings": [encoding]}, now=0.0)
        began = time.monotonic()
        while (now := time.monotonic() - began) < PATIENCE:
            publisher.run(now)
            viewer.run(now)
            (got,) = viewer.peer.stats()["receivers"]
            if got["frames"] >= 15:
                break
            time.sleep(0.002)
        assert got["frames"] >= 15, got
        assert got["corrupt"] == 0, got
        paths = [event for event in worker.events() if isinstance(event, Event.PathChanged)]
        assert {path.local for path in paths} == {address}
        assert {path.remote for path in paths} == {name(c.socket.getsockname()) for c in (publisher, viewer)}
    finally:
        worker.stop()
        server.close()
