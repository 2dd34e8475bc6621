"""The settings: YAML → one frozen, validated `Config`, or every mistake in it at once with file, line and column.

The models are the one place where a setting is defined: its meaning, unit, default, bounds, and whether it can change
while the server runs (`live`) or needs a restart. With `values.py` (what one value may look like) it is the only door
to pydantic; YAML itself is `document.py`, and what only shows when settings are seen together is `consistency.py`.
Nothing here decides about people (`core/policy.py`) or applies a change (`server.py`). A config change: `load` →
`changes` → `sfu.reconfigure`.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from d4e_sfu.consistency import did_you_mean, findings, unsigned
from d4e_sfu.document import MAX_BYTES, Document, DocumentError, Location
from d4e_sfu.errors import ConfigError, Problem
from d4e_sfu.keyfiles import MIN_SECRET_BYTES as MIN_SECRET_BYTES
from d4e_sfu.keyfiles import PublicKey, contents, read_revoked, read_secrets, unreadable
from d4e_sfu.migration import renamed
from d4e_sfu.values import (
    Bitrate,
    FilePath,
    Host,
    IpAddress,
    IpNetwork,
    KeyId,
    Moment,
    Origin,
    Port,
    RoleName,
    Seconds,
    Size,
    Variable,
    WebhookUrl,
    shown,
)

Reload = Literal["live", "restart"]


def live(meaning: str, **bounds: Any) -> Any:
    """A setting that a reload applies: to whoever joins next, where its meaning does not say more."""
    return Field(description=meaning, json_schema_extra={"reload": "live"}, **bounds)


def restart(meaning: str, **bounds: Any) -> Any:
    """A setting that a reload names as changed, and keeps as it was."""
    return Field(description=meaning, json_schema_extra={"reload": "restart"}, **bounds)


class Source(StrEnum):
    """What a publication shows, as in `TrackSource` of the room protocol."""

    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN_SHARE = "screen_share"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


class CodecName(StrEnum):
    OPUS = "opus"
    VP8 = "vp8"
    H264 = "h264"
    VP9 = "vp9"
    AV1 = "av1"
    PCMU = "pcmu"
    PCMA = "pcma"


def _without_repetition(value: tuple[CodecName, ...]) -> tuple[CodecName, ...]:
    if len(set(value)) < len(value):
        raise ValueError("a codec is listed twice")
    return value


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# --- the settings ----------------------------------------------------------------------------------------------------


class Listener(_Settings):
    """One TCP socket for the page and for signalling."""

    address: Annotated[IpAddress, restart("Address to listen on; 0.0.0.0 or :: for all.")] = "127.0.0.1"
    port: Annotated[Port, restart("TCP port; 0 takes any free one.")]
    tls: Annotated[StrictBool, restart("Serve HTTPS with http.tls; browsers need it anywhere but on localhost.")] = (
        False
    )
    media: Annotated[
        StrictBool | None,
        restart("Take media there as well (ICE-TCP, TURN over TLS); null = on port 443 with tls."),
    ] = None

    @property
    def is_front(self) -> bool:
        """Whether it is the engine that serves it, and hands on what is HTTP."""
        return (self.tls and self.port == 443) if self.media is None else self.media


class Tls(_Settings):
    """A pair that is replaced under the same names is served within 5 s, without a reload."""

    certificate: Annotated[
        FilePath | None, live("PEM file: certificate, then its chain. Relative to the folder of this file.")
    ] = None
    key: Annotated[FilePath | None, live("PEM file: private key. Relative to the folder of this file.")] = None


class Http(_Settings):
    listeners: Annotated[
        tuple[Listener, ...], restart("Where the page and the signalling are served.", min_length=1, max_length=16)
    ] = (Listener(port=7880),)
    tls: Annotated[Tls, live("Certificate of the listeners with tls: true.")] = Tls()
    allowed_origins: Annotated[
        tuple[Origin, ...],
        live(
            "Other web sites whose pages may join, as https://host. Our own, and apps that send none, may.",
            max_length=64,
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[IpNetwork, ...],
        live(
            "Addresses or networks of reverse proxies, whose X-Forwarded-For says who is asking; nobody else's does.",
            max_length=64,
        ),
    ] = ()


class Front(_Settings):
    """Listeners that take media too, for who can reach nothing but TCP 443."""

    host: Annotated[
        Host | None,
        live("Name of this server in its certificate: where clients find TURN over TLS; null = they are offered none."),
    ] = None
    connections: Annotated[StrictInt, restart("Open connections, all together.", ge=16, le=60_000)] = 8192
    connections_per_address: Annotated[
        StrictInt, restart("Of them, from one address; a hospital may share it. Of IPv6, a /64.", ge=1, le=60_000)
    ] = 1024


class Admin(_Settings):
    """Health, metrics and room state. No passwords: keep it on loopback or behind something that has them."""

    address: Annotated[IpAddress, restart("Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, restart("TCP port; 0 takes any free one.")] = 7881
    control: Annotated[
        FilePath | None,
        restart("Unix socket for commands that change something: reload, drain. For root and the server's own user."),
    ] = None


class Audit(_Settings):
    """Who joined, left and was refused, what was done by whom: a log in which a change is seen."""

    folder: Annotated[FilePath | None, restart("Where it is kept; null = no such log.")] = None
    secret_file: Annotated[
        FilePath | None, restart("File that holds its secret, at least 32 bytes: for seals, pseudonyms, checkpoints.")
    ] = None
    keep: Annotated[Seconds, restart("How long a month is kept after its end.", ge=86_400, le=20 * 366 * 86_400)] = (
        365 * 86_400.0
    )

    _secret: bytes = PrivateAttr(b"")

    @property
    def secret(self) -> bytes:
        """At least 32 bytes where there is a folder. Never in `repr`, `model_dump` or an error."""
        return self._secret


class MediaAddress(_Settings):
    listen: Annotated[IpAddress, restart("Address of this machine to receive media on; not a wildcard.")]
    announce: Annotated[
        tuple[IpAddress, ...],
        restart("Addresses under which clients reach it, the best first: several for LAN and WAN.", max_length=8),
    ] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"listen": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _specific(self) -> Self:
        for address in (self.listen, *self.announce):
            # RFC 8445 §5.1.1.1: a candidate is one address; a socket bound to all would answer from the wrong one.
            if ipaddress.ip_address(address).is_unspecified:
                raise ValueError(f"{address} stands for all addresses: name each one")
            if ipaddress.ip_address(address).is_multicast:
                raise ValueError(f"{address} is a multicast address")
        return self

    @property
    def announced(self) -> tuple[str, ...]:
        """What goes into candidates."""
        return self.announce or (self.listen,)


def _addresses(value: object) -> object:
    if value == "auto":
        return ()
    if isinstance(value, str):
        raise ValueError(f"expected auto or a list of addresses, not {shown(value)}")
    if isinstance(value, list) and not value:
        raise ValueError("an empty list would receive no media; write auto for every address of this machine")
    return value


class Media(_Settings):
    workers: Annotated[StrictInt, restart("Threads that forward packets; a room lives on one.", ge=1, le=64)] = 1
    port: Annotated[Port, restart("UDP port of the first worker, the next uses the next; 0 takes any free ones.")] = (
        7882
    )
    addresses: Annotated[
        tuple[MediaAddress, ...],
        BeforeValidator(_addresses),
        PlainSerializer(lambda value: value or "auto"),
        restart('"auto" (every address of this machine), or a list of addresses.', max_length=16),
    ] = ()
    """Empty means auto."""
    buffer: Annotated[
        Size, restart("Bytes that the kernel holds of each UDP socket, each way.", ge=65_536, le=256 << 20)
    ] = 8 << 20


class Webhooks(_Settings):
    """Servers outside that are told what happens in rooms; `d4e-sfu connector` sends it."""

    urls: Annotated[
        tuple[WebhookUrl, ...], live("Addresses that are told, each everything; none = nobody.", max_length=8)
    ] = ()
    key: Annotated[KeyId | None, live("Id of the key that signs what is told; null = the first that can.")] = None
    socket: Annotated[FilePath, restart("Unix socket of the connector.")] = Path("/run/d4e-sfu-connector/socket")
    folder: Annotated[
        FilePath | None, restart("Where what is not told yet is kept while the server restarts; null = it is lost.")
    ] = None
    queue: Annotated[StrictInt, live("Events that may wait; what comes then is dropped.", ge=1, le=100_000)] = 10_000
    give_up: Annotated[
        Seconds, live("So old an event is not tried again; those of its room wait behind it.", ge=1, le=7 * 86_400)
    ] = 3600.0


class Drain(_Settings):
    """Before the server ends: no new rooms, and calls that run may end by themselves."""

    timeout: Annotated[Seconds, live("`d4e-sfu drain`: they have at most this long.", le=86_400)] = 1800.0
    on_stop: Annotated[
        Seconds, live("SIGTERM: they have at most this long; 0 = everyone is asked to join again at once.", le=86_400)
    ] = 0.0
    spread: Annotated[
        Seconds,
        live(
            "The end of that time, over which those who are still there are asked to join again, room by room.",
            le=3600,
        ),
    ] = 10.0


class Key(_Settings):
    """Whoever holds the secret, or the private half of one of the public keys, can sign tokens for any room."""

    id: Annotated[KeyId, live("Name of the key: the `iss` of its tokens.")]
    secret_file: Annotated[
        FilePath | None, live("File that holds the secret, at least 32 bytes. Relative to the folder of this file.")
    ] = None
    secret_env: Annotated[Variable | None, live("Environment variable that holds the secret, instead of a file.")] = (
        None
    )
    public_keys: Annotated[
        FilePath | None, live("JWK set (RFC 7517) of ES256 and EdDSA public keys, instead of a secret. Read at reload.")
    ] = None
    accept_until: Annotated[
        Moment | None, live("Its tokens are accepted until then, such as 2026-12-31T17:00:00+07:00; null = always.")
    ] = None
    default_role: Annotated[RoleName | None, live("Role of tokens that name none, where the room has none either.")] = (
        None
    )

    _secret: bytes = PrivateAttr(b"")
    _public: Mapping[str, PublicKey] = PrivateAttr(default_factory=dict)

    def holding(self, secret: bytes) -> Self:
        """The same key, with its secret."""
        key = self.model_copy()
        key._secret = secret
        return key

    @property
    def secret(self) -> bytes:
        """At least 32 bytes; empty where only others sign. Never in `repr`, `model_dump` or an error."""
        return self._secret

    @property
    def public(self) -> Mapping[str, PublicKey]:
        """By `kid`; empty for a key with a secret."""
        return self._public

    @property
    def can_sign(self) -> bool:
        return len(self._secret) >= MIN_SECRET_BYTES


class Role(_Settings):
    """What a participant may do at most; a right is the token's grant AND this."""

    publish: Annotated[frozenset[Source], live("Sources that may be sent.")] = frozenset()
    subscribe: Annotated[StrictBool, live("May receive what others publish.")] = True
    data: Annotated[StrictBool, live("May send chat and data.")] = False
    moderate: Annotated[StrictBool, live("May mute and remove others, and change their rights and names.")] = False
    hidden: Annotated[StrictBool, live("May be in the room without being shown.")] = False
    update_own_metadata: Annotated[StrictBool, live("May change the own name, metadata and attributes.")] = False
    priority: Annotated[
        StrictInt, live("Whose voice stays where a link cannot carry all: the higher.", ge=0, le=100)
    ] = 0


class MaxBitrate(_Settings):
    """Bits per second of RTP, all encodings of one publication together; above it packets are dropped."""

    microphone: Annotated[Bitrate, live("Voice.", ge=6_000, le=2_000_000)] = 192_000
    camera: Annotated[Bitrate, live("Camera.", ge=30_000, le=100_000_000)] = 3_000_000
    screen_share: Annotated[Bitrate, live("Shared screen.", ge=30_000, le=100_000_000)] = 4_000_000
    screen_share_audio: Annotated[Bitrate, live("Sound of a shared screen.", ge=6_000, le=2_000_000)] = 256_000

    def of(self, source: Source) -> int:
        return int(getattr(self, source.value))


# What every client decodes first: a publisher who asks for nothing gets VP8, one who asks gets what he asks for.
ALL_CODECS: Final = (
    CodecName.OPUS,
    CodecName.VP8,
    CodecName.H264,
    CodecName.VP9,
    CodecName.AV1,
    CodecName.PCMU,
    CodecName.PCMA,
)


class RoomRule(_Settings):
    """What holds in every room whose name it matches; the first rule that matches a name counts."""

    name: Annotated[
        StrictStr,
        live(
            "Name of a room, or a pattern: * any text, ? one character, [ab] one of these.",
            min_length=1,
            max_length=128,
        ),
    ]
    capacity: Annotated[StrictInt, live("Participants at the same time, in each such room.", ge=1, le=10_000)] = 50
    default_role: Annotated[RoleName | None, live("Role of tokens that name none.")] = None
    idle_timeout: Annotated[Seconds, live("An empty room is forgotten after this time.", ge=1, le=86_400)] = 300.0
    codecs: Annotated[
        tuple[CodecName, ...],
        AfterValidator(_without_repetition),
        live("Codecs that may be published, the preferred first.", min_length=1),
    ] = ALL_CODECS
    red: Annotated[
        StrictBool,
        live("Opus voices may bring in each packet the one before it again: twice the bits, no gap where one is lost."),
    ] = True
    voice_bitrate: Annotated[
        Bitrate, live("Bits per second that an Opus voice is asked to keep to on average.", ge=6_000, le=510_000)
    ] = 24_000
    voices: Annotated[
        StrictInt | None, live("So many who speak are heard at the same time; null = all.", ge=1, le=32)
    ] = None
    max_bitrate: Annotated[MaxBitrate, live("Caps for each publication, by its source.")] = MaxBitrate()
    pictures: Annotated[
        StrictInt,
        live("Cameras that one viewer is sent at the same time: of who is pinned, and who spoke last.", ge=1, le=1000),
    ] = 25
    remote_unmute: Annotated[StrictBool, live("A moderator may unmute others, not only mute them.")] = False

    def matches(self, room: str) -> bool:
        return fnmatch.fnmatchcase(room, self.name)


class Rate(_Settings):
    """A token bucket: `burst` at once, `per_second` after that."""

    per_second: Annotated[float, live("Of each, in the long run.", ge=0.01, le=100_000)]
    burst: Annotated[StrictInt, live("Of each, at once.", ge=1, le=1_000_000)]


class Rates(_Settings):
    """How often someone may ask to join, whether he may join, or for a call of the server API: all together."""

    address: Annotated[Rate, live("From one address; a station or a carrier may share it. Of IPv6, a /64.")] = Rate(
        per_second=50, burst=500
    )
    key: Annotated[Rate, live("With tokens that one key has signed.")] = Rate(per_second=200, burst=2000)
    identity: Annotated[Rate, live("By one person in one room.")] = Rate(per_second=2, burst=60)


class DataLimits(_Settings):
    """What one participant may send on his data channels. Whoever sends reliably is slowed down, else packets drop."""

    packet: Annotated[Size, live("Bytes of one packet; clients cut streams into 15 kB.", ge=1024, le=65_536)] = 65_536
    packets_per_second: Annotated[StrictInt, live("Packets, of both kinds.", ge=1, le=10_000)] = 200
    bytes_per_second: Annotated[Size, live("Bytes, of both kinds.", ge=1024, le=64 << 20)] = 1 << 20
    burst: Annotated[Seconds, live("So much of both may be saved up.", ge=1, le=60)] = 2.0


class Links(_Settings):
    """What the links to clients carry."""

    start_bitrate: Annotated[Bitrate, live("What one carries until it tells; 0 = no limit.", le=100_000_000)] = 600_000


class Limits(_Settings):
    """Bounds for what comes from outside."""

    message: Annotated[Size, live("Bytes of one signalling message, inflated.", ge=65_536, le=16 << 20)] = 1 << 20
    message_compressed: Annotated[
        Size, live("Bytes of one that is compressed, as it comes.", ge=65_536, le=16 << 20)
    ] = 256 << 10
    join_request: Annotated[Size, live("Bytes of an inflated join request.", ge=65_536, le=16 << 20)] = 1 << 20
    sections: Annotated[StrictInt, live("Media sections in one session description.", ge=8, le=4096)] = 512
    participants: Annotated[StrictInt, live("Participants on this server at the same time.", ge=1, le=100_000)] = 500
    rooms: Annotated[
        StrictInt, live("Rooms at the same time, the empty ones included: those go first.", ge=1, le=100_000)
    ] = 1000
    resume: Annotated[
        Seconds,
        live("Who has lost his signalling is kept so long, while his media goes on; 0 = he joins anew.", le=120),
    ] = 15.0
    data: Annotated[DataLimits, live("Data packets (chat, files) of one participant.")] = DataLimits()


_STAFF = frozenset(Source)
DEFAULT_ROLES: Final[Mapping[str, Role]] = MappingProxyType(
    {
        "doctor": Role(publish=_STAFF, data=True, update_own_metadata=True),
        "health-worker": Role(publish=_STAFF, data=True, update_own_metadata=True),
        "patient": Role(publish=frozenset({Source.CAMERA, Source.MICROPHONE}), data=True),
        "observer": Role(),
        "moderator": Role(publish=_STAFF, data=True, moderate=True, update_own_metadata=True),
    }
)


class Config(_Settings):
    """Everything an operator can set."""

    http: Annotated[Http, restart("The page and the signalling.")] = Http()
    front: Annotated[Front, restart("Media by TCP, where UDP does not get through.")] = Front()
    admin: Annotated[Admin, restart("Health, metrics and room state.")] = Admin()
    media: Annotated[Media, restart("Audio and video: UDP.")] = Media()
    audit: Annotated[Audit, restart("The tamper-evident audit log.")] = Audit()
    webhooks: Annotated[Webhooks, live("What happens in rooms, told to servers outside.")] = Webhooks()
    drain: Annotated[Drain, live("How a server ends that people talk on.")] = Drain()
    keys: Annotated[
        tuple[Key, ...], live("Keys that may sign tokens; without one nobody can join.", max_length=64)
    ] = ()
    revoked: Annotated[FilePath | None, live("Refused tokens, one a line: SHA-256, or jti. Read at reload.")] = None
    roles: Annotated[
        Mapping[RoleName, Role],
        AfterValidator(MappingProxyType),
        PlainSerializer(dict),
        live("Roles by name, replaced whole: a role that is not listed does not exist.", min_length=1, max_length=32),
    ] = Field(default_factory=lambda: DEFAULT_ROLES)
    rooms: Annotated[
        tuple[RoomRule, ...],
        live("Rules for rooms, the first match counts; a name without a match does not exist.", max_length=1000),
    ] = (RoomRule(name="*"),)
    rates: Annotated[Rates, live("How often someone may ask.")] = Rates()
    links: Annotated[Links, live("The links to clients.")] = Links()
    limits: Annotated[Limits, live("Bounds for what comes from outside.")] = Limits()

    _revoked: frozenset[str] = PrivateAttr(frozenset())

    @property
    def revoked_tokens(self) -> frozenset[str]:
        """SHA-256 in hexadecimal, and `jti`s."""
        return self._revoked

    @property
    def webhook_key(self) -> Key | None:
        """The key that signs webhooks."""
        named = self.webhooks.key
        return next((key for key in self.keys if key.can_sign and named in (None, key.id)), None)

    def key(self, key_id: str) -> Key | None:
        return next((key for key in self.keys if key.id == key_id), None)


# --- from a file to a Config -----------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in this file, with its secrets read. Raises `ConfigError` with everything that is wrong."""
    file = Path(path)
    try:
        data = contents(file, MAX_BYTES)
    except OSError as error:
        raise ConfigError([Problem(str(file), 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    return parse(
        data, file=str(file), folder=file.absolute().parent, environ=os.environ if environ is None else environ
    )


def control_path(path: str | os.PathLike[str]) -> Path | None:
    """Where a server with this file takes commands, whatever else is wrong in it. Raises ConfigError."""
    return (_lenient(Path(path)) or Config()).admin.control


def webhooks(path: str | os.PathLike[str]) -> Webhooks:
    """Whom the connector may ask. Neither secrets nor what else is wrong in the file are its business."""
    return (_lenient(Path(path)) or Config()).webhooks


def _lenient(file: Path) -> Config | None:
    """All that is right in it; raises ConfigError where it is no YAML."""
    try:
        text = contents(file, MAX_BYTES)
        document = Document(text)
    except OSError as error:
        raise ConfigError([Problem(str(file), 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    except DocumentError as error:
        raise ConfigError([Problem(str(file), *error.flaw[:2], "", error.flaw.message)]) from None
    return _validate(document, {"folder": file.absolute().parent}, lambda *_, **__: None)


def parse(
    text: bytes | str,
    *,
    file: str = "config.yaml",
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """As `load`, from a text; files that it names are looked for in `folder`."""
    try:
        document = Document(text.encode() if isinstance(text, str) else text)
    except DocumentError as error:
        raise ConfigError([Problem(file, error.flaw.line, error.flaw.column, "", error.flaw.message)]) from None
    problems = [Problem(file, flaw.line, flaw.column, "", flaw.message) for flaw in document.flaws]

    def report(location: Location, message: str, *, at_key: bool = False) -> None:
        line, column = document.position(_written(document, location), key=at_key) or (1, 1)
        problems.append(Problem(file, line, column, document.dotted(location), message))

    written_roles = document.keys(("roles",))
    config = _validate(document, {"folder": folder or Path()}, report)
    if config is not None:
        known = {*config.roles, *written_roles}
        for location, message in (
            *findings(config, known_roles=known),
            *unreadable(config),
            *read_secrets(config, environ or {}),
            *read_revoked(config),
            *unsigned(config),
        ):
            report(location, message)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _validate(document: Document, context: dict[str, Path], report: Callable[..., None]) -> Config | None:
    """A Config of all that is right, so that what is wrong elsewhere in the same file is found as well.

    The first look reports; then whatever was wrong is dropped and the rest looked at again, until it holds.
    """
    for attempt in range(32):
        try:
            return Config.model_validate(document.plain(), context=context)
        except ValidationError as error:
            # Backwards, so that dropping an item of a list does not move those still to be dropped.
            for details in reversed(error.errors(include_url=False)):
                location = _written(document, details["loc"])
                if attempt == 0:
                    at_key = details["type"] in ("extra_forbidden", "missing") or details["loc"][-1:] == ("[key]",)
                    missing = details["loc"][-1:] if details["type"] == "missing" else ()
                    report((*location, *missing), _explain(details), at_key=at_key)
                document.drop(location)
    return None


def _written(document: Document, location: Location) -> Location:
    """The longest part of a location that is in the text: pydantic adds names of its own below it."""
    location = tuple(location)
    while location and document.position(location) is None:
        location = location[:-1]
    return location


# --- what pydantic found, in our words -------------------------------------------------------------------------------


def _explain(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    # Never what stands among the keys: it may be a secret in the wrong place.
    given = "…" if error["loc"][:1] == ("keys",) else shown(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(error["loc"])
        case "missing":
            return "is required"
        case "enum":
            names = re.findall(r"'([^']*)'", str(context["expected"]))
            return f"{given} is not one of {', '.join(names)}{did_you_mean(str(error['input']), names)}"
        case "bool_type":
            return f"expected true or false, not {given}"
        case "int_type":
            return f"expected a whole number, not {given}"
        case "string_type":
            return f"expected text, not {given}; text that looks like a number needs quotes"
        case "path_type":
            return "expected the name of a file"
        case "tuple_type" | "frozen_set_type":
            return f"expected a list, not {given}"
        case "model_type" | "model_attributes_type" | "mapping_type":
            return f"expected settings (key: value), not {given}"
        case "greater_than_equal":
            return f"{given} is too small: at least {context['ge']}"
        case "less_than_equal":
            return f"{given} is too large: at most {context['le']}"
        case "too_short" | "string_too_short":
            return f"too short: at least {context['min_length']}"
        case "too_long" | "string_too_long":
            return f"too long: at most {context['max_length']}"
        case _:
            return error["msg"].removeprefix("Value error, ")


def _unknown_key(location: Location) -> str:
    name, known = str(location[-1]), list(_settings_at(location[:-1]).model_fields)
    if location[0] == "keys" and name in ("secret", "key", "value"):
        return "a secret does not belong in this file: name a secret_file or a secret_env"
    return renamed(location) or f"unknown key{did_you_mean(name, known) or '; known here: ' + ', '.join(known)}"


def _settings_at(location: Location) -> type[BaseModel]:
    """The model that holds at this location."""
    model: type[BaseModel] = Config
    parts = iter(location)
    for part in parts:
        annotation = model.model_fields[str(part)].annotation
        if get_origin(annotation) is not None:
            next(parts, None)  # an index, or the name of a role
        inner = (annotation, *get_args(annotation))
        model = next(each for each in inner if isinstance(each, type) and issubclass(each, BaseModel))
    return model


# --- reloading -------------------------------------------------------------------------------------------------------


class Change(NamedTuple):
    key: str
    reload: Reload


def changes(old: BaseModel, new: BaseModel, *, within: str = "") -> Iterator[Change]:
    """The settings that differ, dotted, and whether each can change while the server runs."""
    for name, field in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(after, BaseModel):
            yield from changes(before, after, within=f"{within}{name}.")
        elif before != after:
            assert isinstance(field.json_schema_extra, dict)
            yield Change(within + name, "live" if field.json_schema_extra["reload"] == "live" else "restart")


def outlook(started: Config, old: Config, new: Config) -> list[str]:
    """What a reload does, a line for each setting: whatever needs a restart is told until there was one."""
    live = [change.key for change in changes(old, new) if change.reload == "live"]
    waiting = [change.key for change in changes(started, new) if change.reload == "restart"]
    return [*(f"{key} changed" for key in live), *(f"{key} needs a restart" for key in waiting)]
