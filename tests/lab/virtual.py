"""The whole server in virtual time: the core, the engine's router and laboratory peers in one thread, between them the
seeded network. Time steps to the next event and chance comes from the seed: the same seed gives the same run.

Two things are doubles here. DTLS and SCTP have clocks of their own and are tested apart: after ICE both sides are given
keys, and data goes from one to the other as it is. And the signalling connection (signalling.py) is a delay instead of
a WebSocket, unless its weight matters.

    lab = Lab(seed)
    alice = lab.join("alice", publish=[Camera()])
    bob = lab.join("bob")
    lab.run(5)
    assert bob.received(alice).undecodable == 0
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from livekit.protocol import models, rtc

from d4e_sfu._engine import Command, Event, Profile, Router
from d4e_sfu.config import Config
from d4e_sfu.core import tokens
from d4e_sfu.core.boundary import DataKind, DtlsRole, TransportId
from d4e_sfu.core.sfu import Sfu
from tests.conftest import KEY, WALL
from tests.doubles import AnnouncerDouble
from tests.lab.client import Camera, Voice
from tests.lab.link import Link
from tests.lab.network import Address, Conditions, Datagram, Network
from tests.lab.person import Person
from tests.lab.signalling import Delay, Wire

__all__ = ["Camera", "Conditions", "Lab", "Person", "Voice"]

START: Final = 100.0  # s; some time after the machine has started
TICK: Final = 0.25  # s, as the server does
PORT: Final = 7882
HANDSHAKE: Final = 2  # round trips of DTLS 1.2 (RFC 6347 §4.2.4), cookies aside
CERTIFICATES: Final = 1300  # bytes each way: a certificate and what goes with it

# Bytes of master key and salt, and the name in a peer's specification.
PROFILES: Final = {
    Profile.AeadAes128Gcm: (28, "gcm"),
    Profile.AeadAes256Gcm: (44, "gcm_256"),
    Profile.Aes128CmHmacSha1_80: (30, "cm"),
}


class Lab:
    """A server with its people. `delay`: one way, of every link and of the signalling, in seconds."""

    def __init__(
        self,
        seed: int,
        *,
        config: Config | None = None,
        delay: float = 0.02,
        link: Conditions | None = None,
        addresses: int = 1,
    ) -> None:
        self.now = START
        self.seed = seed
        self.delay = delay
        self.chance = self.generator("lab")
        self.network = Network(self.generator("network"), default=link or Conditions(delay=delay))
        self.servers = [f"192.0.2.{n}:{PORT}" for n in range(1, addresses + 1)]
        self.router = Router()
        self.associations = KeyedAssociations(self)
        self.announcer = AnnouncerDouble()
        self.sfu = Sfu(config or Config(keys=(KEY,)), chance=self.generator("core"), announcer=self.announcer)
        self._engine = VirtualEngine(self)
        self.sfu.add_worker(self._engine, self.associations)
        self.people: list[Person] = []
        self.log_voices = False
        """Sections placed from now on keep when each frame of a voice came."""
        self.events: list[tuple[float, Event]] = []
        """What the engine has told the core, and when the core heard it."""
        self._numbers = itertools.count(1)
        self._by_address: dict[str, Person] = {}
        self._by_transport: dict[int, Person] = {}
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._inbox: deque[Callable[[], None]] = deque()
        self._router_due: float | None = None
        self._tick_due = START + TICK
        self._awake_at = START
        self._trace = hashlib.blake2b(digest_size=16)

    # --- the protocol of an experiment --------------------------------------------------------------------------------

    def join(
        self,
        identity: str,
        *,
        room: str = "ward",
        role: str | None = None,
        publish: Sequence[Camera | Voice] = (),
        auto_subscribe: bool = True,
        start: Mapping[str, int] | None = None,
        link: Conditions | None = None,
        wire: bool | None = None,
        browser: bool = False,
        peer: Mapping[str, Any] | None = None,
        transport_wide: bool = True,
        nack: bool = False,
    ) -> Person:
        """Someone begins to join; run on for it to happen. `start`: where the numbers of what he publishes begin.
        `link`: conditions of his link, both ways. `wire`: his signalling goes over it as well, compressed or not.
        `browser`: he offers what Chromium does and publishes when he is connected. `peer` goes into his `PeerSpec`.
        Without `transport_wide` his client knows REMB alone; with `nack` it asks for packets of voices again."""
        number = next(self._numbers)
        address = f"198.51.{100 + number // 250}.{number % 250 + 1}:{40_000 + number}"
        chance = self.generator(f"person {number}")
        person = Person(
            self,
            identity,
            room,
            address,
            chance=chance,
            browser=browser,
            peer=peer or {},
            transport_wide=transport_wide,
            nack=nack,
        )
        if link is not None:
            person.link = link
            self.link(person, up=link, down=link)
        person.signalling = Delay(self, self.delay) if wire is None else Wire(self, address, compress=wire)
        self.people.append(person)
        self._by_address[address] = person
        token = tokens.mint(KEY, identity=identity, room=room, role=role, now=WALL)
        request = person.join_request(publish, auto_subscribe=auto_subscribe, start=start)
        url = len(token) + len(base64.b64encode(gzip.compress(request.SerializeToString(), mtime=0)))
        person.signalling.join(url, lambda: self._to_core(lambda: self._joins(person, token, request)))
        return person

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self._next()) <= end:
            self.now = max(self.now, at)
            self._step()
        self.now = end

    def until(self, true: Callable[[], object], *, within: float, step: float = 0.005) -> float:
        """Runs until it is so, looking every `step`. Returns how long that took; fails after `within` seconds."""
        began = self.now
        while not true():
            assert self.now - began < within, f"not within {within} s; seed {self.seed}"
            self.run(step)
        return self.now - began

    def link(self, person: Person, *, up: Conditions | None = None, down: Conditions | None = None) -> None:
        """Conditions between one person's present address and the server from now on, whatever its addresses."""
        if up is not None:
            self.up(person).change(up, now=self.now)
        if down is not None:
            self.down(person).change(down, now=self.now)

    def up(self, person: Person) -> Link[Datagram]:
        """From his present address to the server; all of the server's addresses are behind the same link."""
        return self._shared([(person.address, server) for server in self.servers])

    def down(self, person: Person) -> Link[Datagram]:
        return self._shared([(server, person.address) for server in self.servers])

    def stall(self, seconds: float) -> None:
        """Python does nothing for so long: no signalling, no engine event, no tick. The router goes on."""
        self._awake_at = self.now + seconds
        self.later(lambda: None, after=seconds)

    @property
    def counters(self) -> Mapping[str, int]:
        counters: Mapping[str, int] = self.router.snapshot()["counters"]  # type: ignore[assignment]
        return counters

    @property
    def drops(self) -> Mapping[str, int]:
        """By reason, those above 0."""
        drops: Mapping[str, int] = self.router.snapshot()["drops"]  # type: ignore[assignment]
        return {reason: count for reason, count in drops.items() if count}

    @property
    def tables(self) -> tuple[int, int, int]:
        """Transports, publications and subscriptions that the engine holds."""
        snapshot: Mapping[str, Any] = self.router.snapshot()
        return snapshot["transports"], snapshot["publications"], snapshot["subscriptions"]

    @property
    def trace(self) -> str:
        """Of every datagram sent so far: when, from where, to where, which bytes."""
        return self._trace.hexdigest()

    def occurrences(self, kind: type[Event]) -> list[tuple[float, Any]]:
        return [(at, event) for at, event in self.events if isinstance(event, kind)]

    # --- for the people -----------------------------------------------------------------------------------------------

    def generator(self, purpose: str) -> random.Random:
        """Each has its own, so that one more draw of one does not change what happens to the others."""
        return random.Random(f"{self.seed} {purpose}")

    def later(self, action: Callable[[], None], *, after: float | None = None) -> None:
        """Once, after one way of the signalling, or after so many seconds. Equal times keep their order."""
        at = self.now + (self.delay if after is None else after)
        heapq.heappush(self._actions, (at, next(self._numbers), action))

    def ask(self, person: Person, request: rtc.SignalRequest) -> None:
        """A signalling message of his sets out."""

        def arrives() -> None:
            if person.participant is not None:
                self.sfu.message(person.participant, request, now=self.now)

        person.signalling.carry("up", request.SerializeToString(), lambda: self._to_core(arrives))

    def lose_signalling(self, person: Person) -> None:
        def lost() -> None:
            if person.participant is not None and person.participant.client is not None:
                self.sfu.client_lost(person.participant, person.participant.client, now=self.now)

        self.later(lambda: self._to_core(lost))

    def data(self, person: Person, kind: DataKind, payload: bytes) -> None:
        def arrives() -> None:
            assert person.participant is not None
            if person.participant.transport is not None:
                self.sfu.data_received(person.participant.transport, kind, payload, now=self.now)

        self.later(lambda: self._to_core(arrives))

    def moved(self, person: Person, address: str) -> None:
        self.silenced(person)
        person.address = address
        self._by_address[address] = person

    def silenced(self, person: Person) -> None:
        """Nothing reaches him any more at the address that he has now."""
        self._by_address.pop(person.address, None)

    def new_address(self) -> str:
        number = next(self._numbers)
        return f"203.0.113.{number % 250 + 1}:{20_000 + number}"

    def flush(self, person: Person) -> None:
        """What his peer has to send sets out."""
        for _, remote, datagram in person.peer.transmits():
            self._send(datagram, person.address, remote)
        person.settle()

    # --- for the doubles ----------------------------------------------------------------------------------------------

    def submit(self, commands: Sequence[Command]) -> None:
        self.router.submit(commands, now=self.now)
        self._flush_router()

    def connect(self, transport: TransportId, profile: Profile, keys: tuple[bytes, bytes], *, data: bool) -> None:
        """What a DTLS handshake leaves behind, on both sides."""
        up, down = keys
        self.submit([Command.SetKeys(transport, profile, up, down)])
        _, name = PROFILES[profile]
        person = self._by_transport[transport]
        if person.peer is not None:
            person.peer.set_keys({"profile": name, "receive": down.hex(), "send": up.hex()})
            person.connected_at = self.now
            person.connected()
            person.settle()
        self.sfu.transport_connected(transport, now=self.now)
        if data:
            for kind in DataKind:
                self.sfu.data_ready(transport, kind, now=self.now)

    def person_at(self, transport: TransportId) -> Person:
        return self._by_transport[transport]

    def to_core(self, action: Callable[[], None], *, after: float) -> None:
        self.later(lambda: self._to_core(action), after=after)

    def _shared(self, ways: list[tuple[Address, Address]]) -> Link[Datagram]:
        link = self.network.link(*ways[0], now=self.now)
        for source, target in ways[1:]:
            self.network.share(source, target, link)
        return link

    # --- time ---------------------------------------------------------------------------------------------------------

    def _next(self) -> float:
        times = [self._tick_due if self.now >= self._awake_at else max(self._tick_due, self._awake_at)]
        times += [person.due for person in self.people if person.due is not None]
        arrival = self.network.next_arrival()
        if arrival is not None:
            times.append(arrival)
        if self._router_due is not None:
            times.append(self._router_due)
        if self._actions:
            times.append(self._actions[0][0])
        return min(times)

    def _step(self) -> None:
        now = self.now
        for source, target, datagram in self.network.arrivals(now=now):
            if target in self.servers:
                self.router.receive(datagram, local=target, remote=source, now=now)
                self._flush_router()
            elif (person := self._by_address.get(target)) is not None and person.peer is not None:
                person.peer.receive(datagram, remote=source, now=now)
                self.flush(person)
        for person in self.people:
            if person.due is not None and person.due <= now:
                person.peer.advance(now=now)
                person.advanced_at = now
                self.flush(person)
        if self._router_due is not None and self._router_due <= now:
            self.router.advance(now=now)
            self._flush_router()
        while self._actions and self._actions[0][0] <= now:
            heapq.heappop(self._actions)[2]()
        self._think()

    def _think(self) -> None:
        """The core's turn, unless it is stalled."""
        if self.now < self._awake_at:
            return
        while self._inbox:
            self._inbox.popleft()()
        for event in self.router.events():
            self.events.append((self.now, event))
            if isinstance(event, Event.PathChanged):
                self.associations.path(TransportId(event.transport))
            self.sfu.engine_event(self._engine, event, now=self.now)
        if self.now >= self._tick_due:
            self.sfu.tick(now=self.now)
            self._tick_due = self.now + TICK

    def _to_core(self, action: Callable[[], None]) -> None:
        self._inbox.append(action)

    def _joins(self, person: Person, token: str, request: rtc.JoinRequest) -> None:
        admission = self.sfu.admit(self.sfu.verify(token, wall=WALL), request, wall=WALL)
        person.participant = self.sfu.join(person.client, admission, now=self.now)
        if person.participant is not None and person.participant.transport is not None:
            self._by_transport[person.participant.transport] = person

    def _flush_router(self) -> None:
        for local, remote, datagram in self.router.transmits():
            self._send(datagram, local, remote)
        self._router_due = self.router.next_timeout()

    def _send(self, datagram: bytes, source: str, target: str) -> None:
        self._trace.update(f"{self.now!r} {source} {target} ".encode())
        self._trace.update(datagram)
        self.network.send(datagram, source=source, target=target, now=self.now)


class VirtualEngine:
    """A `boundary.Engine` whose router is the lab's."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.candidates = tuple((server.rpartition(":")[0], PORT) for server in lab.servers)
        self.busy = 0.0

    def submit(self, commands: Sequence[Command]) -> None:
        self._lab.submit(commands)


class KeyedAssociations:
    """`boundary.Associations` without a handshake: two round trips after the first path both sides have keys."""

    fingerprint = ("sha-256", ":".join(["AB"] * 32))

    def __init__(self, lab: Lab) -> None:
        self.mute = False
        """No handshake comes to its end from now on."""
        self._lab = lab
        self._chance = lab.generator("keys")
        self._waiting: set[TransportId] = set()
        self._open: dict[TransportId, int | None] = {}

    def open(
        self,
        transport: TransportId,
        *,
        ours: tuple[str, str],
        fingerprints: Sequence[tuple[str, str]],
        role: DtlsRole,
        sctp_port: int | None,
        max_message_size: int,
        offers_channels: bool = False,
    ) -> None:
        assert role == "server"
        assert not offers_channels
        self._waiting.add(transport)
        self._open[transport] = sctp_port

    def open_data(self, transport: TransportId, *, sctp_port: int, max_message_size: int) -> None:
        self._open[transport] = sctp_port

    def close(self, transport: TransportId) -> None:
        self._waiting.discard(transport)
        self._open.pop(transport, None)

    def send(self, transport: TransportId, kind: DataKind, payload: bytes) -> bool:
        person = self._lab.person_at(transport)
        self._lab.later(lambda: person.data.append((kind, models.DataPacket.FromString(payload))))
        return True

    def path(self, transport: TransportId) -> None:
        """ICE has found a way: the handshake begins, once."""
        if transport not in self._waiting:
            return
        self._waiting.remove(transport)
        profile = self._chance.choice(list(PROFILES))
        length, _ = PROFILES[profile]
        keys = self._chance.randbytes(length), self._chance.randbytes(length)

        def done() -> None:
            if transport in self._open and not self.mute:
                self._lab.connect(transport, profile, keys, data=self._open[transport] is not None)

        self._lab.to_core(done, after=self._handshake(self._lab.person_at(transport)))

    def _handshake(self, person: Person) -> float:
        """Seconds, while nothing else is on his link."""
        link = person.link
        if link is None:
            return HANDSHAKE * 2 * self._lab.delay
        return 2 * (HANDSHAKE * link.delay + (CERTIFICATES * 8 / link.rate if link.rate else 0.0))
