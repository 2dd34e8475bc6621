"""Sockets that systemd passes: matched by what they are, and every difference told; the unit that asks for them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from d4e_sfu.config import Admin, Config, Http, Listener, Media, MediaAddress
from d4e_sfu.drivers.front import candidates
from d4e_sfu.drivers.sockets import Endpoint, Inherited, Mismatch, unit, wanted


def bound(kind: socket.SocketKind, address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, kind)
    one.bind((address, port))
    return one


def port(one: socket.socket) -> int:
    return int(one.getsockname()[1])


class Passed:
    """What systemd would bind, on free ports, and the configuration that wants it."""

    def __init__(self, tmp_path: Path) -> None:
        self.page, self.admin = bound(socket.SOCK_STREAM), bound(socket.SOCK_STREAM)
        self.media = bound(socket.SOCK_DGRAM)
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path = tmp_path / "control"
        self.control.bind(str(self.path))
        self.config = Config(
            http=Http(listeners=(Listener(port=port(self.page)),)),
            admin=Admin(port=port(self.admin), control=self.path),
            media=Media(port=port(self.media), addresses=(MediaAddress(listen="127.0.0.1", announce=("192.0.2.7",)),)),
        )

    @property
    def all(self) -> list[socket.socket]:
        return [self.media, self.control, self.admin, self.page]  # not the order of the configuration


@pytest.fixture
def passed(tmp_path: Path) -> Iterator[Passed]:
    passed = Passed(tmp_path)
    yield passed
    for one in passed.all:
        one.close()


def test_each_is_found_by_what_it_is_whatever_the_order(passed: Passed) -> None:
    inherited = Inherited(passed.all)
    inherited.check(passed.config)
    assert inherited.stream("127.0.0.1", port(passed.admin)) is passed.admin
    assert inherited.stream("127.0.0.1", port(passed.page)) is passed.page
    assert inherited.unix(str(passed.path)) is passed.control
    sockets, candidates = inherited.media(passed.config.media, 0)
    assert sockets == [passed.media]
    assert candidates == [("192.0.2.7", port(passed.media))]


def test_a_socket_that_is_missing_and_one_that_is_too_many_are_both_named(passed: Passed) -> None:
    other = bound(socket.SOCK_DGRAM)
    inherited = Inherited([passed.page, passed.admin, passed.control, other])
    with pytest.raises(Mismatch) as raised:
        inherited.check(passed.config)
    said = str(raised.value)
    assert f"systemd passed udp 127.0.0.1:{port(other)};" in said
    assert f"the configuration wants udp 127.0.0.1:{port(passed.media)}." in said
    assert "systemd-sockets" in said
    other.close()


def test_one_that_is_only_missing_or_only_too_many_is_named(passed: Passed) -> None:
    with pytest.raises(Mismatch, match=rf"passed nothing else; .* wants unix {passed.path}\."):
        Inherited([passed.page, passed.admin, passed.media]).check(passed.config)
    extra = bound(socket.SOCK_STREAM)
    with pytest.raises(Mismatch, match=rf"passed tcp 127.0.0.1:{port(extra)}; .* wants nothing else\."):
        Inherited([*passed.all, extra]).check(passed.config)
    extra.close()


def test_tcp_is_not_taken_for_udp_on_the_same_port(passed: Passed) -> None:
    like = bound(socket.SOCK_STREAM, port=port(passed.media))
    with pytest.raises(Mismatch, match=f"passed tcp .*:{port(like)}; .* wants udp .*:{port(like)}"):
        Inherited([passed.page, passed.admin, passed.control, like]).check(passed.config)
    like.close()


def test_what_is_no_such_socket_at_all_is_told(passed: Passed) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with pytest.raises(Mismatch, match="passed a AF_UNIX/SOCK_DGRAM socket"):
        Inherited([*passed.all, one]).check(passed.config)
    one.close()
    other.close()


def test_auto_is_whatever_media_was_bound_to_and_the_same_for_each_worker(passed: Passed) -> None:
    first, second = bound(socket.SOCK_DGRAM, "127.0.0.2"), bound(socket.SOCK_DGRAM, "127.0.0.1")
    second.close()
    second = bound(socket.SOCK_DGRAM, "127.0.0.1", port(first))
    media = Media(port=port(first))
    config = passed.config.model_copy(update={"media": media})
    inherited = Inherited([passed.page, passed.admin, passed.control, first, second])
    inherited.check(config)
    assert inherited.media(media, 0)[1] == [("127.0.0.1", port(first)), ("127.0.0.2", port(first))]
    two = config.model_copy(update={"media": media.model_copy(update={"workers": 2})})
    with pytest.raises(Mismatch, match=f"wants udp 127.0.0.1:{port(first) + 1}, udp 127.0.0.2:{port(first) + 1}"):
        Inherited([passed.page, passed.admin, passed.control, first, second]).check(two)
    with pytest.raises(Mismatch, match="wants udp auto:"):
        Inherited([passed.page, passed.admin, passed.control]).check(config)
    first.close()
    second.close()


def test_only_what_is_meant_for_this_process_is_taken_and_nobody_inherits_it() -> None:
    for pid in ("1", "", "x"):
        assert Inherited.from_environment({"LISTEN_PID": pid, "LISTEN_FDS": "1"}) is None
    assert Inherited.from_environment({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) is None
    assert Inherited.from_environment({}) is None
    program = (
        "import os; from d4e_sfu.drivers.sockets import Inherited\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "taken = Inherited.from_environment()\n"
        "print([str(each) for each in taken._sockets], os.get_inheritable(3), 'LISTEN_FDS' in os.environ)"
    )
    with bound(socket.SOCK_DGRAM) as one:
        done = subprocess.run(
            ["bash", "-c", f'exec "$@" 3<&{one.fileno()}', "sh", sys.executable, "-c", program],
            pass_fds=[one.fileno()],
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "d4e-sfu"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"['udp 127.0.0.1:{port(one)}'] False False\n", done.stderr


def test_the_unit_names_every_socket_of_the_configuration_once() -> None:
    config = Config(
        http=Http(listeners=(Listener(address="0.0.0.0", port=443), Listener(address="::", port=443))),
        admin=Admin(control=Path("/run/d4e-sfu/control")),
        media=Media(
            workers=2,
            buffer=16 << 20,
            addresses=(MediaAddress(listen="10.0.0.5", announce=("203.0.113.7",)), MediaAddress(listen="fd00::5")),
        ),
    )
    lines = unit(config, media_addresses=["192.0.2.1"]).splitlines()
    assert [line for line in lines if line.startswith("Listen")] == [
        "ListenStream=0.0.0.0:443",
        "ListenStream=[::]:443",
        "ListenStream=127.0.0.1:7881",
        "ListenStream=/run/d4e-sfu/control",
        "ListenDatagram=10.0.0.5:7882",
        "ListenDatagram=[fd00::5]:7882",
        "ListenDatagram=10.0.0.5:7883",
        "ListenDatagram=[fd00::5]:7883",
    ]
    assert "ReceiveBuffer=16777216" in lines
    assert len(list(wanted(config))) == 8


def test_udp_443_may_be_the_media_port_beside_https_on_tcp_443() -> None:
    config = Config(
        http=Http(listeners=(Listener(address="192.0.2.1", port=443, tls=True),)),
        media=Media(port=443, addresses=(MediaAddress(listen="192.0.2.1"),)),
    )
    listening = [line for line in unit(config, media_addresses=[]).splitlines() if line.endswith("192.0.2.1:443")]
    assert listening == ["ListenStream=192.0.2.1:443", "ListenDatagram=192.0.2.1:443"]
    assert len(set(wanted(config))) == len(list(wanted(config))), "two sockets, not one twice"
    assert candidates(config.http.listeners, config, [("192.0.2.1", 443)]) == [("192.0.2.1", 443, "tcp")]


def test_auto_in_the_unit_is_every_address_of_the_machine_that_writes_it() -> None:
    lines = unit(Config(), media_addresses=["192.0.2.1", "2001:db8::1"]).splitlines()
    datagrams = [line for line in lines if line.startswith("ListenDatagram")]
    assert datagrams == ["ListenDatagram=192.0.2.1:7882", "ListenDatagram=[2001:db8::1]:7882"]


@pytest.mark.parametrize(
    "config",
    [Config(admin=Admin(port=0)), Config(media=Media(port=0)), Config(media=Media(port=0, workers=3))],
)
def test_a_port_that_is_left_to_chance_has_no_unit(config: Config) -> None:
    with pytest.raises(ValueError, match="port 0"):
        unit(config, media_addresses=["192.0.2.1"])


def test_an_endpoint_is_shown_as_an_operator_writes_it() -> None:
    assert str(Endpoint("udp", "fd00::5", 7882)) == "udp [fd00::5]:7882"
    assert str(Endpoint("unix", "/run/x")) == "unix /run/x"
