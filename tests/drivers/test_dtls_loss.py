"""A handshake over a link that loses, repeats and reorders: only flights that are ours are repeated here; a lost one of
stock OpenSSL comes again after its own second."""

from __future__ import annotations

import random

import pytest

from d4e_sfu.core.boundary import DtlsRole
from d4e_sfu.drivers.dtls import Limits
from tests.drivers.associations import Client, Fate, Server, both_connected, lost

ROLES: list[DtlsRole] = ["client", "server"]


@pytest.mark.parametrize(
    ("role", "fate"),
    [
        ("client", lost(0)),  # ServerHello … ServerHelloDone
        ("client", lost(0, 1)),  # and its first replay
        ("client", lost(1)),  # ChangeCipherSpec, Finished
        ("client", lost(1, 2)),
        ("server", lost(0)),  # ClientHello
        ("server", lost(0, 1)),
    ],
)
async def test_a_lost_flight_is_replayed_long_before_openssl_would(role: DtlsRole, fate: Fate) -> None:
    server = Server()
    client = Client(server, 1, role=role, to_client=fate)
    assert await both_connected(server, client) < 0.7  # of a second; a busy machine takes some of it
    await client.close()


async def test_without_the_replay_the_same_loss_costs_a_second() -> None:
    """The guard of the tests above: they measure the replay and not the link."""
    server = Server(limits=Limits(first_replay=60))
    client = Client(server, 1, to_client=lost(0))
    assert await both_connected(server, client) > 0.9
    await client.close()


async def test_as_the_client_we_answer_the_servers_flight_once_unless_a_second_passes() -> None:
    """FFmpeg's WHIP muxer, a server that takes 50 ms for its part, is slow for good if a record comes after it."""
    answers = []

    def watched(number: int, datagram: bytes) -> list[float]:
        if datagram[13] != 1:  # RFC 5246 §7.4: no ClientHello
            answers.append(number)
        return [0.0]

    server = Server()
    client = Client(server, 1, role="server", to_server=lambda *_: [0.2], to_client=watched)
    await both_connected(server, client)
    assert len(answers) == 1
    await client.close()

    server = Server()
    client = Client(server, 1, role="server", to_client=lost(1))
    assert 0.9 < await both_connected(server, client) < 3
    await client.close()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("seed", range(6))
async def test_loss_repetition_and_reordering_end_in_a_connection(role: DtlsRole, seed: int) -> None:
    chance = random.Random(seed)

    def fate(number: int, datagram: bytes) -> list[float]:
        if chance.random() < 0.2:
            return []
        return [chance.uniform(0, 0.02) for _ in range(chance.choice([1, 1, 2]))]

    server = Server()
    client = Client(server, 1, role=role, to_server=fate, to_client=fate)
    assert await both_connected(server, client) < 5
    assert not server.heard.failed
    await client.close()
