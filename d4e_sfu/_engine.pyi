"""The contract of the Rust module: commands down, events up, values in both. The other half is `engine/src/api.rs`.

What each command does is told once, in `api.rs`; here are the names, the types and the errors. Nothing in this module
reads a clock but `Worker`; a wrong argument raises `ValueError` or `TypeError` and changes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import disjoint_base

@final
class Profile:
    """SRTP protection profile (RFC 5764 §4.1.2, RFC 7714 §14.2)."""

    AeadAes128Gcm: ClassVar[Profile]
    AeadAes256Gcm: ClassVar[Profile]
    Aes128CmHmacSha1_80: ClassVar[Profile]
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __int__(self) -> int: ...

@final
class Codec:
    Opus: ClassVar[Codec]
    Vp8: ClassVar[Codec]
    H264: ClassVar[Codec]
    Vp9: ClassVar[Codec]
    Av1: ClassVar[Codec]
    Pcmu: ClassVar[Codec]
    Pcma: ClassVar[Codec]
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __int__(self) -> int: ...

@final
class Extension:
    """RTP header extensions that the engine reads or writes (RFC 8285)."""

    Mid: ClassVar[Extension]
    Rid: ClassVar[Extension]
    RepairedRid: ClassVar[Extension]
    AudioLevel: ClassVar[Extension]
    TransportWideCc: ClassVar[Extension]
    AbsSendTime: ClassVar[Extension]
    AbsCaptureTime: ClassVar[Extension]
    VideoOrientation: ClassVar[Extension]
    PlayoutDelay: ClassVar[Extension]
    DependencyDescriptor: ClassVar[Extension]
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __int__(self) -> int: ...

@final
class Encoding:
    """One encoding of a publication: bound by rid or by SSRC, else by the publication's MID or payload type."""

    def __new__(cls, *, rid: str | None = None, ssrc: int | None = None, rtx_ssrc: int | None = None) -> Encoding: ...
    @property
    def rid(self) -> str | None: ...
    @property
    def ssrc(self) -> int | None: ...
    @property
    def rtx_ssrc(self) -> int | None: ...
    def __eq__(self, value: object, /) -> bool: ...

@final
class PublicationSpec:
    """The facts of one published m-section. `encodings`: lowest first, 1 to 3. `max_bitrate`: bits per second."""

    def __new__(
        cls,
        *,
        codec: Codec,
        mid: str,
        payload_type: int,
        rtx_payload_type: int | None = None,
        red_payload_type: int | None = None,
        event_payload_type: int | None = None,
        encodings: Sequence[Encoding],
        max_bitrate: int,
        nack: bool,
    ) -> PublicationSpec: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def mid(self) -> str: ...
    @property
    def payload_type(self) -> int: ...
    @property
    def rtx_payload_type(self) -> int | None: ...
    @property
    def red_payload_type(self) -> int | None: ...
    @property
    def event_payload_type(self) -> int | None: ...
    @property
    def encodings(self) -> list[Encoding]: ...
    @property
    def max_bitrate(self) -> int: ...
    @property
    def nack(self) -> bool: ...
    def __eq__(self, value: object, /) -> bool: ...

@final
class SubscriptionSpec:
    """How one subscriber receives one publication. `spatial`: the highest encoding, or where there is only one the
    highest spatial layer inside it (SVC); None = paused. `temporal` 255 = all."""

    def __new__(
        cls,
        *,
        mid: str,
        payload_type: int,
        rtx_payload_type: int | None = None,
        red_payload_type: int | None = None,
        event_payload_type: int | None = None,
        ssrc: int,
        rtx_ssrc: int | None = None,
        cname: str,
        spatial: int | None,
        temporal: int = 255,
        transport_wide: bool = True,
    ) -> SubscriptionSpec: ...
    @property
    def mid(self) -> str: ...
    @property
    def payload_type(self) -> int: ...
    @property
    def rtx_payload_type(self) -> int | None: ...
    @property
    def red_payload_type(self) -> int | None: ...
    @property
    def event_payload_type(self) -> int | None: ...
    @property
    def ssrc(self) -> int: ...
    @property
    def rtx_ssrc(self) -> int | None: ...
    @property
    def cname(self) -> str: ...
    @property
    def spatial(self) -> int | None: ...
    @property
    def temporal(self) -> int: ...
    @property
    def transport_wide(self) -> bool: ...
    def __eq__(self, value: object, /) -> bool: ...

@final
class Voice:
    """Speech heard in one publication since the last `Event.Voices`. `level`: its mean, −dBov (RFC 6464)."""

    def __new__(cls, *, transport: int, publication: int, level: int, spoken_ms: int) -> Voice: ...
    @property
    def transport(self) -> int: ...
    @property
    def publication(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def spoken_ms(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...

@final
class Leg:
    """One direction of a client's link: counts since the transport began, jitter since the last `Event.Links`."""

    def __new__(cls, *, expected: int = 0, lost: int = 0, jitter_ms: int = 0, queue_ms: int = 0) -> Leg: ...
    @property
    def expected(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def jitter_ms(self) -> int: ...
    @property
    def queue_ms(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...

@final
class Link:
    """How one client's link does: `up` by what came here, `down` by his receiver reports."""

    def __new__(
        cls,
        *,
        transport: int,
        up: Leg,
        down: Leg,
        sent: int = 0,
        silent_ms: int = 0,
        round_trip_ms: int | None = None,
    ) -> Link: ...
    @property
    def transport(self) -> int: ...
    @property
    def up(self) -> Leg: ...
    @property
    def down(self) -> Leg: ...
    @property
    def sent(self) -> int: ...
    @property
    def silent_ms(self) -> int: ...
    @property
    def round_trip_ms(self) -> int | None: ...
    def __eq__(self, value: object, /) -> bool: ...

@final
class Estimate:
    """What the link to one client carries: the start bitrate, until he tells more.

    `bitrate`: bits per second, with everything down to the IP header; 2**32 - 1: he gives no feedback, and counts as
    one without an estimate. `loss`: of what was sent lately, per mille. `queue_ms`: what waits in the link, beyond its
    own delay. `limited`: pictures wait or are shed at the pacer; else it may be low because little is sent.
    `redundancy`: earlier packets that go with each of a voice's for what he loses of them, or would if `SetRedundancy`
    let them.
    """

    def __new__(
        cls,
        *,
        transport: int,
        bitrate: int,
        loss: int = 0,
        queue_ms: int = 0,
        limited: bool = False,
        redundancy: int = 0,
        copies: int = 0,
    ) -> Estimate: ...
    @property
    def transport(self) -> int: ...
    @property
    def bitrate(self) -> int: ...
    @property
    def loss(self) -> int: ...
    @property
    def queue_ms(self) -> int: ...
    @property
    def limited(self) -> bool: ...
    @property
    def redundancy(self) -> int: ...
    @property
    def copies(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...

@final
class Rate:
    """What one encoding of a publication has brought in the last second.

    `layers`: (spatial, temporal, bits per second with everything down to the IP header) of each layer that has brought
    anything, alone: who gets a layer gets those below it as well.
    """

    def __new__(cls, *, publication: int, encoding: int, layers: Sequence[tuple[int, int, int]]) -> Rate: ...
    @property
    def publication(self) -> int: ...
    @property
    def encoding(self) -> int: ...
    @property
    def layers(self) -> list[tuple[int, int, int]]: ...
    def __eq__(self, value: object, /) -> bool: ...

@disjoint_base
class Command:
    """Python → engine. Build one of the nested classes; each is a `Command`, immutable and comparable."""

    def __eq__(self, value: object, /) -> bool: ...

    @final
    class AddTransport(Command):
        """`remote_pwd`: signs our own checks of an address to which the client seems to have moved; empty = there are
        none. `start_bitrate`: what its link is taken to carry until feedback has told, bits per second; 0 = only REMB
        limits it."""

        __match_args__ = (
            "transport",
            "local_ufrag",
            "local_pwd",
            "remote_ufrag",
            "remote_pwd",
            "may_publish",
            "start_bitrate",
        )
        def __new__(
            cls,
            transport: int,
            local_ufrag: str,
            local_pwd: str,
            remote_ufrag: str,
            remote_pwd: str,
            may_publish: bool,
            start_bitrate: int,
        ) -> Command.AddTransport: ...
        @property
        def transport(self) -> int: ...
        @property
        def local_ufrag(self) -> str: ...
        @property
        def local_pwd(self) -> str: ...
        @property
        def remote_ufrag(self) -> str: ...
        @property
        def remote_pwd(self) -> str: ...
        @property
        def may_publish(self) -> bool: ...
        @property
        def start_bitrate(self) -> int: ...

    @final
    class RestartIce(Command):
        """RFC 8445 §9. The credentials before stay valid for 30 s, and the path stays until the client nominates a pair
        with the new ones; keys and streams go on."""

        __match_args__ = ("transport", "local_ufrag", "local_pwd", "remote_ufrag", "remote_pwd")
        def __new__(
            cls, transport: int, local_ufrag: str, local_pwd: str, remote_ufrag: str, remote_pwd: str
        ) -> Command.RestartIce: ...
        @property
        def transport(self) -> int: ...
        @property
        def local_ufrag(self) -> str: ...
        @property
        def local_pwd(self) -> str: ...
        @property
        def remote_ufrag(self) -> str: ...
        @property
        def remote_pwd(self) -> str: ...

    @final
    class SetExtensions(Command):
        __match_args__ = ("transport", "extensions", "allow_mixed")
        def __new__(
            cls, transport: int, extensions: Sequence[tuple[Extension, int]], allow_mixed: bool
        ) -> Command.SetExtensions: ...
        @property
        def transport(self) -> int: ...
        @property
        def extensions(self) -> list[tuple[Extension, int]]: ...
        @property
        def allow_mixed(self) -> bool: ...

    @final
    class SetMayPublish(Command):
        __match_args__ = ("transport", "may_publish")
        def __new__(cls, transport: int, may_publish: bool) -> Command.SetMayPublish: ...
        @property
        def transport(self) -> int: ...
        @property
        def may_publish(self) -> bool: ...

    @final
    class SetKeys(Command):
        """`receive` and `send`: master key then master salt, 28 bytes (GCM) or 30 bytes (CM)."""

        __match_args__ = ("transport", "profile", "receive", "send")
        def __new__(cls, transport: int, profile: Profile, receive: bytes, send: bytes) -> Command.SetKeys: ...
        @property
        def transport(self) -> int: ...
        @property
        def profile(self) -> Profile: ...
        @property
        def receive(self) -> bytes: ...
        @property
        def send(self) -> bytes: ...

    @final
    class SendDtls(Command):
        __match_args__ = ("transport", "datagram")
        def __new__(cls, transport: int, datagram: bytes) -> Command.SendDtls: ...
        @property
        def transport(self) -> int: ...
        @property
        def datagram(self) -> bytes: ...

    @final
    class SetSignalLost(Command):
        __match_args__ = ("transport", "lost")
        def __new__(cls, transport: int, lost: bool) -> Command.SetSignalLost: ...
        @property
        def transport(self) -> int: ...
        @property
        def lost(self) -> bool: ...

    @final
    class RemoveTransport(Command):
        __match_args__ = ("transport",)
        def __new__(cls, transport: int) -> Command.RemoveTransport: ...
        @property
        def transport(self) -> int: ...

    @final
    class AddPublication(Command):
        __match_args__ = ("publication", "transport", "spec")
        def __new__(cls, publication: int, transport: int, spec: PublicationSpec) -> Command.AddPublication: ...
        @property
        def publication(self) -> int: ...
        @property
        def transport(self) -> int: ...
        @property
        def spec(self) -> PublicationSpec: ...

    @final
    class SetMaxBitrate(Command):
        __match_args__ = ("publication", "max_bitrate")
        def __new__(cls, publication: int, max_bitrate: int) -> Command.SetMaxBitrate: ...
        @property
        def publication(self) -> int: ...
        @property
        def max_bitrate(self) -> int: ...

    @final
    class RemovePublication(Command):
        __match_args__ = ("publication",)
        def __new__(cls, publication: int) -> Command.RemovePublication: ...
        @property
        def publication(self) -> int: ...

    @final
    class AddSubscription(Command):
        __match_args__ = ("subscription", "publication", "transport", "spec")
        def __new__(
            cls, subscription: int, publication: int, transport: int, spec: SubscriptionSpec
        ) -> Command.AddSubscription: ...
        @property
        def subscription(self) -> int: ...
        @property
        def publication(self) -> int: ...
        @property
        def transport(self) -> int: ...
        @property
        def spec(self) -> SubscriptionSpec: ...

    @final
    class SetLayer(Command):
        __match_args__ = ("subscription", "spatial", "temporal")
        def __new__(cls, subscription: int, spatial: int | None, temporal: int) -> Command.SetLayer: ...
        @property
        def subscription(self) -> int: ...
        @property
        def spatial(self) -> int | None: ...
        @property
        def temporal(self) -> int: ...

    @final
    class RemoveSubscription(Command):
        __match_args__ = ("subscription",)
        def __new__(cls, subscription: int) -> Command.RemoveSubscription: ...
        @property
        def subscription(self) -> int: ...

    @final
    class SetDemand(Command):
        """What he would be sent if his link had no limit, bits per second: how far it is worth probing."""

        __match_args__ = ("transport", "bitrate")
        def __new__(cls, transport: int, bitrate: int) -> Command.SetDemand: ...
        @property
        def transport(self) -> int: ...
        @property
        def bitrate(self) -> int: ...

    @final
    class SetRedundancy(Command):
        """May his voices be sent with redundancy (RFC 2198) while he loses packets? From the start they may; whether it
        is of use the engine decides. For when what his link carries does not suffice."""

        __match_args__ = ("transport", "allowed")
        def __new__(cls, transport: int, allowed: bool) -> Command.SetRedundancy: ...
        @property
        def transport(self) -> int: ...
        @property
        def allowed(self) -> bool: ...

    @final
    class SetVoices(Command):
        """At most so many voices pass to him at a time (32 and more are 32), None: all. The engine picks them per
        packet, by level (RFC 6464) and rank: who has a place keeps it until a second after he was last loud."""

        __match_args__ = ("transport", "voices")
        def __new__(cls, transport: int, voices: int | None) -> Command.SetVoices: ...
        @property
        def transport(self) -> int: ...
        @property
        def voices(self) -> int | None: ...

    @final
    class SetRank(Command):
        """Of a voice, 0 at first: who ranks higher and speaks takes the place of who ranks lower and speaks."""

        __match_args__ = ("subscription", "rank")
        def __new__(cls, subscription: int, rank: int) -> Command.SetRank: ...
        @property
        def subscription(self) -> int: ...
        @property
        def rank(self) -> int: ...

    @final
    class Debug(Command):
        __match_args__ = ("token",)
        def __new__(cls, token: int) -> Command.Debug: ...
        @property
        def token(self) -> int: ...

@disjoint_base
class Event:
    """Engine → Python. `match event: case Event.Dtls(transport=t, datagram=d): …`"""

    def __eq__(self, value: object, /) -> bool: ...

    @final
    class Dtls(Event):
        __match_args__ = ("transport", "datagram")
        def __new__(cls, transport: int, datagram: bytes) -> Event.Dtls: ...
        @property
        def transport(self) -> int: ...
        @property
        def datagram(self) -> bytes: ...

    @final
    class PathChanged(Event):
        __match_args__ = ("transport", "local", "remote")
        def __new__(cls, transport: int, local: str, remote: str) -> Event.PathChanged: ...
        @property
        def transport(self) -> int: ...
        @property
        def local(self) -> str: ...
        @property
        def remote(self) -> str: ...

    @final
    class TransportGone(Event):
        __match_args__ = ("transport",)
        def __new__(cls, transport: int) -> Event.TransportGone: ...
        @property
        def transport(self) -> int: ...

    @final
    class EncodingActive(Event):
        __match_args__ = ("publication", "encoding", "active")
        def __new__(cls, publication: int, encoding: int, active: bool) -> Event.EncodingActive: ...
        @property
        def publication(self) -> int: ...
        @property
        def encoding(self) -> int: ...
        @property
        def active(self) -> bool: ...

    @final
    class LayerChanged(Event):
        __match_args__ = ("subscription", "spatial")
        def __new__(cls, subscription: int, spatial: int | None) -> Event.LayerChanged: ...
        @property
        def subscription(self) -> int: ...
        @property
        def spatial(self) -> int | None: ...

    @final
    class Voices(Event):
        __match_args__ = ("voices",)
        def __new__(cls, voices: Sequence[Voice]) -> Event.Voices: ...
        @property
        def voices(self) -> list[Voice]: ...

    @final
    class Links(Event):
        __match_args__ = ("links",)
        def __new__(cls, links: Sequence[Link]) -> Event.Links: ...
        @property
        def links(self) -> list[Link]: ...

    @final
    class Estimates(Event):
        """At most every 200 ms, when one changed by more than 3 %, and every second; the latest replaces what waits."""

        __match_args__ = ("estimates",)
        def __new__(cls, estimates: Sequence[Estimate]) -> Event.Estimates: ...
        @property
        def estimates(self) -> list[Estimate]: ...

    @final
    class Rates(Event):
        """Every second; encodings that have brought nothing since are left out. The latest replaces what waits."""

        __match_args__ = ("rates",)
        def __new__(cls, rates: Sequence[Rate]) -> Event.Rates: ...
        @property
        def rates(self) -> list[Rate]: ...

    @final
    class Debug(Event):
        __match_args__ = ("token", "state")
        def __new__(cls, token: int, state: str) -> Event.Debug: ...
        @property
        def token(self) -> int: ...
        @property
        def state(self) -> str: ...

    @final
    class WorkerDied(Event):
        __match_args__ = ("reason", "transport")
        def __new__(cls, reason: str, transport: int | None) -> Event.WorkerDied: ...
        @property
        def reason(self) -> str: ...
        @property
        def transport(self) -> int | None: ...

@final
class Worker:
    """One router on its own thread, on the bound UDP sockets given (one per listening address, the same port).

    The descriptors are duplicated: the caller closes its own. Commands are applied in order. Everything here is safe
    to call from any thread; nothing blocks but `stop`.
    """

    def __new__(cls, sockets: Sequence[int], *, name: str) -> Worker: ...
    def submit(self, commands: Sequence[Command]) -> None: ...
    def fileno(self) -> int:
        """An eventfd, readable while events wait. Belongs to the worker: never close it, never read it."""
    def events(self) -> list[Event]:
        """All waiting events, oldest first; clears `fileno`."""
    def snapshot(self) -> Mapping[str, object]:
        """Counters, at most 250 ms old. See `Router.snapshot`, and `busy_ratio` of the last interval (0–1)."""
    def alive(self) -> bool: ...
    def stop(self) -> None:
        """Ends the thread and waits for it. Again is harmless."""

@final
class Front:
    """TCP 443 on its own thread: ICE-TCP and TURN for the workers, HTTP behind TLS for Python.

    The listening sockets' descriptors are duplicated. `peers` are the addresses that TURN may relay to, (ip, port,
    number of the worker): ours. `secret` is that of `core.turn`. Everything here is safe to call from any thread;
    nothing blocks but `stop`.
    """

    def __new__(
        cls,
        listeners: Sequence[int],
        *,
        name: str,
        realm: str,
        secret: bytes,
        peers: Sequence[tuple[str, int, int]],
        workers: int,
        connections: int,
        per_address: int,
        rate: int,
        burst: int,
    ) -> Front: ...
    def attach(self, number: int, worker: Worker) -> None:
        """This worker has that number now, be it the first or one that takes another's place."""
    def set_certificate(self, chain: bytes, key: bytes) -> None:
        """PEM; for who connects from now on. Raises ValueError where the pair is not right: then nothing changes."""
    def fileno(self) -> int:
        """An eventfd, readable while connections wait to be taken. Belongs to the front."""
    def handed(self) -> list[tuple[int, str, int]]:
        """Connections of HTTP, each as a socket's descriptor, which is the caller's from here on, and the client's
        address; clears `fileno`."""
    def snapshot(self) -> Mapping[str, object]:
        """`accepted`, `received`, `sent`; by name `refused`, `dropped`, `open`. At most half a second old."""
    def alive(self) -> bool: ...
    def stop(self) -> None:
        """Ends the thread and all connections, and waits for it. Again is harmless."""

@final
class Router:
    """The same router in virtual time: no thread, no socket, no clock. `now` is in seconds and never goes back."""

    def __new__(cls) -> Router: ...
    def submit(self, commands: Sequence[Command], *, now: float) -> None: ...
    def receive(self, datagram: bytes, *, local: str, remote: str, now: float) -> None: ...
    def advance(self, *, now: float) -> None: ...
    def transmits(self) -> list[tuple[str, str, bytes]]:
        """(local, remote, datagram), in order of sending; each is returned once."""
    def events(self) -> list[Event]: ...
    def next_timeout(self) -> float | None: ...
    def snapshot(self) -> Mapping[str, object]:
        """Counters under `counters` (flat name → int), `drops` (reason → int), and gauges.

        Closed set of keys: never a room, a person or an address.
        """

def certificate_verify_callback() -> int:
    """Address of a C function `int (*)(int, X509_STORE_CTX *)` that returns 1, for `SSL_CTX_set_verify`.

    A WebRTC certificate is self-signed; what counts is its fingerprint, compared after the handshake (RFC 8827 §6.5).
    A C function, so that no executable memory must be made for a Python callback.
    """

class lab:
    """Only in builds for the laboratory, never in the wheel: a WebRTC endpoint in virtual time (`engine/src/peer`).

    Specs are dictionaries of the fields of the same name in `engine/src/peer/spec.rs`; a wrong one raises ValueError.
    """

    @final
    class Peer:
        """`receive`, `advance` and `transmits` as in `Router`; `now` is in seconds and never goes back."""

        def __new__(cls, spec: Mapping[str, object], *, now: float) -> lab.Peer:
            """`PeerSpec`: ICE credentials of both sides, `remotes`, `local`, `extensions`, `seed`, `consent` …"""
        def set_keys(self, keys: Mapping[str, object]) -> None:
            """`KeySpec`: `profile` ("gcm", "cm"), `receive` and `send`: master key and salt in hexadecimal."""
        def set_extensions(self, extensions: Mapping[str, int]) -> None: ...
        def add_publication(self, spec: Mapping[str, object], *, now: float) -> None: ...
        def remove_publication(self, publication: int) -> None: ...
        def set_publication(self, publication: int, active: bool) -> None:
            """Mute, and back."""
        def set_encoding(self, publication: int, encoding: int, active: bool, bitrate: int | None = None) -> None: ...
        def add_receiver(self, spec: Mapping[str, object], *, now: float) -> None: ...
        def remove_receiver(self, receiver: int) -> None: ...
        def request_keyframe(self, receiver: int) -> None: ...
        def set_storm(self, spec: Mapping[str, float], *, now: float) -> None:
            """Hostility by rate: `StormSpec`."""
        def set_local(self, local: str, *, now: float) -> None:
            """Everything leaves from this address from now on, and checks go out at once."""
        def send_raw(self, remote: str, datagram: bytes) -> None: ...
        def send_rtp(self, packet: bytes, header_len: int, roc: int = 0) -> bool:
            """Any RTP packet, sealed with our keys; False without keys or path."""
        def send_rtcp(self, compound: bytes) -> None: ...
        def replay(self, count: int) -> None: ...
        def send_dtls(self, datagram: bytes) -> bool: ...
        def take_dtls(self) -> list[bytes]: ...
        def receive(self, datagram: bytes, *, remote: str, now: float) -> None: ...
        def advance(self, *, now: float) -> None: ...
        def transmits(self) -> list[tuple[str, str, bytes]]: ...
        def next_timeout(self) -> float | None: ...
        def stats(self) -> dict[str, Any]:
            """`PeerStats`: counters, and under `publications` and `receivers` what the checker found."""
