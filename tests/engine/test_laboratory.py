"""The laboratory's peer against the router, both in virtual time: what every scenario in `tests/sim/` stands on."""

from __future__ import annotations

import random
from typing import Any

import pytest

from d4e_sfu._engine import Codec, Command, Encoding, Extension, Profile, PublicationSpec, Router, SubscriptionSpec, lab
from tests.lab.network import Conditions, Network
from tests.lab.virtual import PROFILES

SERVER = "10.9.9.9:7882"
IDS = {"mid": 4, "rid": 10, "repaired_rid": 11, "audio_level": 1, "transport_cc": 3}
EXTENSIONS = [
    (Extension.Mid, 4),
    (Extension.Rid, 10),
    (Extension.RepairedRid, 11),
    (Extension.AudioLevel, 1),
    (Extension.TransportWideCc, 3),
]


class Table:
    """One router, some peers on transports 1, 2 …, and the network between them."""

    def __init__(self, seed: int, conditions: Conditions) -> None:
        self.now = 0.0
        self.router = Router()
        self.network = Network(random.Random(seed), default=conditions)
        self.peers: dict[str, Any] = {}

    def seat(self, transport: int, profile: Profile = Profile.AeadAes128Gcm) -> Any:
        length, name = PROFILES[profile]
        up, down = bytes(range(length)), bytes(range(100, 100 + length))
        address = f"10.0.0.{transport}:4000"
        spec: dict[str, Any] = {
            "local_ufrag": f"user{transport}",
            "local_pwd": f"the-password-of-client-{transport}",
            "remote_ufrag": f"sfu{transport}",
        }
        spec |= {"remote_pwd": "the-password-of-the-server", "remotes": [SERVER], "local": address, "extensions": IDS}
        peer = lab.Peer({**spec, "seed": transport}, now=self.now)
        peer.set_keys({"profile": name, "receive": down.hex(), "send": up.hex()})
        self.peers[address] = peer
        self.submit(
            Command.AddTransport(
                transport, f"sfu{transport}", "the-password-of-the-server", f"user{transport}", "", True, 600_000
            ),
            Command.SetExtensions(transport, EXTENSIONS, False),
            Command.SetKeys(transport, profile, up, down),
        )
        return peer

    def submit(self, *commands: Command) -> None:
        self.router.submit(list(commands), now=self.now)

    def run(self, until: float) -> None:
        while self.now < until:
            for address, peer in self.peers.items():
                for _, target, datagram in peer.transmits():
                    self.network.send(datagram, source=address, target=target, now=self.now)
            for local, remote, datagram in self.router.transmits():
                self.network.send(datagram, source=local, target=remote, now=self.now)
            due = [
                self.router.next_timeout(),
                self.network.next_arrival(),
                *(p.next_timeout() for p in self.peers.values()),
            ]
            self.now = min(until, max(self.now + 1e-6, min((at for at in due if at is not None), default=until)))
            for source, target, datagram in self.network.arrivals(now=self.now):
                if target == SERVER:
                    self.router.receive(datagram, local=SERVER, remote=source, now=self.now)
                elif target in self.peers:
                    self.peers[target].receive(datagram, remote=source, now=self.now)
            self.router.advance(now=self.now)
            for peer in self.peers.values():
                peer.advance(now=self.now)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("codec", ["vp8", "h264", "opus"])
def test_three_percent_loss_each_way_costs_no_frame(codec: str, profile: Profile) -> None:
    table = Table(seed=3, conditions=Conditions(delay=0.02))
    publisher, viewer = table.seat(1, profile), table.seat(2, profile)
    kind = {"vp8": Codec.Vp8, "h264": Codec.H264, "opus": Codec.Opus}[codec]
    encoding = {"ssrc": 100, "rtx_ssrc": 101, "bitrate": 40_000 if codec == "opus" else 600_000}
    publication = PublicationSpec(
        codec=kind,
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
    table.submit(Command.AddPublication(7, 1, publication), Command.AddSubscription(8, 7, 2, subscription))
    receive = {"receiver": 1, "codec": codec, "mid": "1", "payload_type": 98, "rtx_payload_type": 99}
    viewer.add_receiver({**receive, "ssrc": 200, "rtx_ssrc": 201, "max_wait": 1.0}, now=0.0)
    table.run(1.0)
    publish = {"publication": 7, "codec": codec, "mid": "0", "payload_type": 96, "rtx_payload_type": 97}
    publisher.add_publication({**publish, "encodings": [encoding]}, now=table.now)
    table.run(2.0)
    for address in list(table.peers):
        table.network.set(address, SERVER, Conditions(delay=0.02, loss=0.03), now=table.now)
        table.network.set(SERVER, address, Conditions(delay=0.02, loss=0.03), now=table.now)
    table.run(12.0)
    made = publisher.stats()["publications"]["7"][0]["frames"]
    (got,) = viewer.stats()["receivers"]
    assert table.network.counts.lost > 25
    assert made > 290
    assert got["frames"] >= made - 40, got
    assert got["recovered"] > 0, got
    assert (got["seam_total"], got["undecodable"], got["corrupt"], got["lost"], got["skipped"]) == (0, 0, 0, 0, 0), got
    assert viewer.stats()["replayed"] == 0, "the router sent a packet twice"


def test_the_same_seed_is_the_same_run() -> None:
    def run(seed: int) -> list[object]:
        table = Table(seed, Conditions(delay=0.01, jitter=0.01, loss=0.1))
        peer = table.seat(1)
        table.run(5.0)
        stats = peer.stats()
        return [stats["connected"], stats["checks"], table.network.counts.sent]

    assert run(1) == run(1)
    assert run(1) != run(2)
