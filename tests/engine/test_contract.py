"""The Rust module is what `_engine.pyi` says; a wrong argument raises, never panics, and changes nothing."""

import math
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from d4e_sfu._engine import (
    Codec,
    Command,
    Encoding,
    Event,
    Extension,
    Profile,
    PublicationSpec,
    Router,
    SubscriptionSpec,
    Worker,
    certificate_verify_callback,
)

ALLOWED = """
d4e_sfu._engine.__all__  # differs with the laboratory's part
d4e_sfu._engine.lab.*  # the laboratory's part: a submodule at run time
d4e_sfu._engine.lab
d4e_sfu._engine.Front.panic_for_test  # only in builds for the laboratory
d4e_sfu._engine.Worker.panic_for_test  # only in builds for the laboratory
"""


def test_the_stub_says_what_the_module_has(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    command = [sys.executable, "-m", "mypy.stubtest", "d4e_sfu._engine", "--concise", "--ignore-unused-allowlist"]
    done = subprocess.run([*command, "--allowlist", str(allowed)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def transport(**changes: object) -> Command:
    fields: dict[str, object] = {
        "transport": 1,
        "local_ufrag": "ours",
        "local_pwd": "p" * 22,
        "remote_ufrag": "theirs",
        "remote_pwd": "",
        "may_publish": True,
        "start_bitrate": 600_000,
    }
    return Command.AddTransport(**{**fields, **changes})  # type: ignore[arg-type]


def publication(**changes: object) -> Command:
    fields: dict[str, object] = {
        "codec": Codec.Vp8,
        "mid": "0",
        "payload_type": 96,
        "encodings": [Encoding()],
        "max_bitrate": 1,
        "nack": True,
    }
    return Command.AddPublication(1, 1, PublicationSpec(**{**fields, **changes}))  # type: ignore[arg-type]


def subscription(**changes: object) -> Command:
    fields: dict[str, object] = {"mid": "0", "payload_type": 96, "ssrc": 1, "cname": "c", "spatial": 0}
    return Command.AddSubscription(1, 1, 1, SubscriptionSpec(**{**fields, **changes}))  # type: ignore[arg-type]


WRONG: list[Callable[[], Command]] = [
    lambda: transport(local_pwd="short"),
    lambda: transport(local_ufrag=""),
    lambda: transport(remote_ufrag="x" * 257),
    lambda: transport(remote_pwd="x" * 257),
    lambda: transport(transport=-1),
    lambda: transport(transport=2**32),
    lambda: transport(local_ufrag=b"bytes"),
    lambda: Command.SetKeys(1, Profile.AeadAes128Gcm, b"k" * 30, b"k" * 30),
    lambda: Command.SetKeys(1, Profile.AeadAes256Gcm, b"k" * 28, b"k" * 28),
    lambda: Command.SetKeys(1, Profile.Aes128CmHmacSha1_80, b"k" * 28, b"k" * 30),
    lambda: Command.SetExtensions(1, [(Extension.Mid, 0)], False),
    lambda: Command.SetExtensions(1, [(Extension.Mid, 256)], False),
    lambda: Command.SendDtls(1, b""),
    lambda: Command.SendDtls(1, b"x" * 2049),
    lambda: publication(encodings=[]),
    lambda: publication(encodings=[Encoding()] * 4),
    lambda: publication(mid="m" * 17),
    lambda: publication(payload_type=128),
    lambda: publication(max_bitrate=-1),
    lambda: subscription(mid=""),
    lambda: subscription(cname="c" * 256),
    lambda: subscription(rtx_payload_type=200),
    lambda: Command.SetLayer(1, 256, 0),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_command_raises_and_changes_nothing(wrong: Callable[[], Command]) -> None:
    router = Router()
    with pytest.raises((ValueError, TypeError, OverflowError)):
        router.submit([transport(), wrong()], now=1.0)
    assert router.snapshot()["transports"] == 0, "not even the command before it"


@pytest.mark.parametrize("now", [-1.0, math.nan, math.inf, 1e10])
def test_a_time_that_cannot_be_raises(now: float) -> None:
    router = Router()
    with pytest.raises(ValueError):
        router.advance(now=now)
    with pytest.raises(ValueError):
        router.submit([], now=now)
    with pytest.raises(ValueError):
        router.receive(b"x", local="10.0.0.1:1", remote="10.0.0.2:2", now=now)


@pytest.mark.parametrize("address", ["", "10.0.0.1", "host:1", "10.0.0.1:65536", "[::1:1", "10.0.0.1:-1"])
def test_an_address_that_is_none_raises(address: str) -> None:
    with pytest.raises(ValueError):
        Router().receive(b"x", local="10.0.0.1:1", remote=address, now=1.0)


def test_a_datagram_of_any_size_is_counted_and_no_more() -> None:
    router = Router()
    for size in (0, 1, 2048, 2049, 65_507):
        router.receive(bytes(size), local="10.0.0.1:1", remote="[2001:db8::1]:2", now=1.0)
    drops = router.snapshot()["drops"]
    assert isinstance(drops, dict)
    assert sum(drops.values()) == 5
    assert drops["oversized"] == 2
    assert router.transmits() == []
    assert router.events() == []


def test_time_and_events_of_a_transport_that_nobody_checks() -> None:
    router = Router()
    assert router.next_timeout() is None
    router.submit([transport()], now=1.0)
    now = 1.0
    while (at := router.next_timeout()) is not None:
        assert at > now
        now = at
        router.advance(now=now)
    assert now == pytest.approx(31.0, abs=0.2)
    assert router.events() == [Event.TransportGone(transport=1)]


def test_values_compare_and_match() -> None:
    assert transport() == transport() != transport(transport=2)
    match Event.Dtls(transport=3, datagram=b"abc"):
        case Event.Dtls(transport=number, datagram=datagram):
            assert (number, datagram) == (3, b"abc")
        case _:
            pytest.fail("an Event.Dtls is an Event.Dtls")
    assert Encoding(rid="q") == Encoding(rid="q") != Encoding(rid="h")
    assert {Codec.Vp8: 1}[Codec.Vp8] == 1


@pytest.mark.parametrize("kind", ["none", "closed", "tcp"])
def test_a_worker_needs_bound_udp_sockets(kind: str) -> None:
    with socket.socket() as tcp:
        sockets = {"none": [], "closed": [2**20], "tcp": [tcp.fileno()]}[kind]
        with pytest.raises((ValueError, OSError)):
            Worker(sockets, name="w")


def test_a_worker_answers_through_its_descriptor_and_stops_twice() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        worker = Worker([bound.fileno()], name="w")
    worker.submit([Command.Debug(token=7)])
    assert select.select([worker.fileno()], [], [], 5)[0]
    (event,) = worker.events()
    assert isinstance(event, Event.Debug)
    assert event.token == 7
    assert not select.select([worker.fileno()], [], [], 0)[0]
    with pytest.raises(ValueError):
        worker.submit([Command.SendDtls(1, b"")])
    assert worker.alive()
    worker.stop()
    worker.stop()
    assert not worker.alive()


def test_the_certificate_callback_has_an_address() -> None:
    assert certificate_verify_callback() > 0
