"""SDP text ↔ values (description.py): the subset of RFC 8866 that WebRTC endpoints write (RFC 8829 §5).

Parsing is one pass per section over lines grouped by attribute name, linear in the size of the text and capped in
every dimension, because an offer is hostile until proved otherwise; whatever is wrong with it is one `SdpError`.
Attributes that nothing here needs are dropped. No meaning is attached to values: what is acceptable, and what an
answer says, is in negotiation.py.

A client repeats its whole description for each change, so each keeps the sections of its last offer (`Sections`): what
is there again, to the letter, is not read again. That is nobody else's: a section holds credentials. What all clients
of one make say alike (payload types, header extensions) is read once for all of them.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, TypeVar

from d4e_sfu.core.description import (
    Candidate,
    Direction,
    HeaderExtension,
    Payload,
    Rid,
    RidChoice,
    SdpError,
    Section,
    Session,
    Setup,
    Simulcast,
    Source,
    SourceGroup,
)

__all__ = [
    "Candidate",
    "Direction",
    "HeaderExtension",
    "Payload",
    "Rid",
    "RidChoice",
    "SdpError",
    "Section",
    "Sections",
    "Session",
    "Setup",
    "Simulcast",
    "Source",
    "SourceGroup",
    "parse",
    "write",
]

T = TypeVar("T")

MAX_BYTES: Final = 1 << 20  # the cap of one signalling message
MAX_LINES: Final = 49_152  # Chromium writes 140 lines for a video section, of 25 bytes on average
MAX_LINE: Final = 8_192  # characters; a BUNDLE group of 512 sections takes about 2,000
MAX_SECTIONS: Final = 512
MAX_SECTION_LINES: Final = 1_024
MAX_OF: Final = {  # lines of one attribute in one section; browsers write a quarter of this at most
    "candidate": 256,
    "extmap": 64,
    "fingerprint": 16,
    "msid": 32,
    "rid": 32,
    "ssrc": 256,
    "ssrc-group": 64,
}
MAX_IN_ALL: Final = {  # lines of one attribute in all sections: what 512 sections of a browser hold, with room to spare
    "candidate": 8_192,
    "extmap": 12_288,
    "ssrc": 8_192,
    "ssrc-group": 4_096,
}
MAX_SIMULCAST: Final = 96  # characters; three rids of 16, and their alternatives
MAX_SIMULCAST_RIDS: Final = 12
CACHED_LINES: Final = 256  # of the payload types, or of the header extensions, of a section
CACHED_LENGTH: Final = 512  # characters of each
MAX_NUMBER_DIGITS: Final = 20  # of 2**64; keeps int() cheap

# RFC 4566 §9, "token"; 64 is our cap. RFC 8851 §10 for rid. RFC 8839 §5.4 for ice-char.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]{1,64}\Z")
_RID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}\Z")
_ICE: Final = re.compile(r"[0-9A-Za-z+/]{4,256}\Z")
_FINGERPRINT: Final = re.compile(r"([0-9A-Za-z-]{1,16}) ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){0,63})\Z")
_CANDIDATE: Final = re.compile(
    r"(\S{1,32}) (\d{1,3}) (\S{1,16}) (\d{1,10}) (\S{1,253}) (\d{1,5}) typ (\S{1,16})(?: (.*))?\Z"
)


_DIRECTIONS: Final = {direction.value: direction for direction in Direction}
_SETUPS: Final = {setup.value: setup for setup in Setup}


class Sections:
    """The sections of one client's last description, by a digest of their text: as many as that had, and no text."""

    __slots__ = ("_known", "read")

    def __init__(self) -> None:
        self._known: dict[bytes, Section] = {}
        self.read = 0
        """How many were not known."""

    def take(self, texts: Sequence[str]) -> tuple[Section, ...]:
        """The sections of a new description, of which those that are known are the same objects as before."""
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        found: dict[bytes, Section] = {}
        for digest, text in zip(digests, texts, strict=True):
            section = self._known.get(digest) or found.get(digest)
            if section is None:
                self.read += 1
                section = _section(_lines(text))
            found[digest] = section
        self._known = found
        return tuple(map(found.__getitem__, digests))


def parse(
    text: str, *, max_bytes: int = MAX_BYTES, max_sections: int = MAX_SECTIONS, sections: Sections | None = None
) -> Session:
    """Read an offer or answer. Lines end in CRLF or LF (RFC 8866 §9). Raises SdpError, and nothing else.

    `sections`: those of the same client's last offer; they become those of this one.
    """
    session, *texts = _split(text, max_bytes, max_sections)
    head = _lines(session)
    if head[0] != "v=0":
        raise SdpError("The SDP does not begin with v=0.")
    attributes = _attributes(head[1:], _SESSION_TYPES)
    session_id, version = _origin(head)
    return Session(
        id=session_id,
        version=version,
        bundles=tuple(_bundles(attributes["group"])),
        ice_lite="ice-lite" in attributes,
        ice_ufrag=_ice(attributes, "ice-ufrag", 4),
        ice_pwd=_ice(attributes, "ice-pwd", 22),
        ice_options=_ice_options(attributes),
        fingerprints=_fingerprints(attributes),
        setup=_setup(attributes),
        direction=_direction(attributes),
        extmap_allow_mixed="extmap-allow-mixed" in attributes,
        sections=(Sections() if sections is None else sections).take(texts),
    )


def write(session: Session) -> str:
    """The text of a description, CRLF after every line. Raises SdpError where a value would break out of its line."""
    return _text(_write_session(session)) + "".join(map(write_section, session.sections))


def write_section(section: Section) -> str:
    """The part of `write` that is this section's: for those who keep what has not changed."""
    return _text(_write_section(section))


def _text(lines: Iterable[str]) -> str:
    lines = tuple(lines)
    text = "\r\n".join(lines) + "\r\n"
    # Invariant: as many line ends as lines, whatever the values hold.
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        raise SdpError("A value holds a line end or a NUL.")
    return text


# --- reading -----------------------------------------------------------------------------------------------------


def _split(text: str, max_bytes: int, max_sections: int) -> list[str]:
    """The session part, then each section, with LF between lines; a section has lost its "m=".

    Every cap on the size of the whole is applied here, before any line is looked into.
    """
    try:
        size = len(text) if len(text) > max_bytes or text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise SdpError("The SDP is not valid Unicode.") from None
    if size > max_bytes:
        raise SdpError(f"The SDP is longer than {max_bytes} bytes.")
    lines = text.count("\n")
    if lines > MAX_LINES:
        raise SdpError(f"The SDP has more than {MAX_LINES} lines.")
    for name, most in MAX_IN_ALL.items():
        if lines > most and text.count(f"\na={name}:") > most:
            raise SdpError(f"The SDP has more than {most} lines of {name}.")
    text = text.replace("\r\n", "\n")
    if "\r" in text or "\0" in text:
        raise SdpError("The SDP holds a stray carriage return or a NUL.")
    parts = text.rstrip("\n").split("\nm=", max_sections + 1)
    if len(parts) > max_sections + 1:
        raise SdpError(f"The SDP has more than {max_sections} sections.")
    return parts


def _lines(part: str) -> list[str]:
    lines = part.split("\n")
    if max(map(len, lines)) > MAX_LINE:
        raise SdpError(f"The SDP has a line of more than {MAX_LINE} characters.")
    if len(lines) > MAX_SECTION_LINES:
        raise SdpError(f"The SDP has a section of more than {MAX_SECTION_LINES} lines.")
    return lines


# RFC 8866 §5: the types that may follow; of those only a few mean something here.
_SESSION_TYPES: Final = frozenset("osiuepcbtrzka")
_SECTION_TYPES: Final = frozenset("icbka")


def _attributes(lines: Iterable[str], types: frozenset[str]) -> defaultdict[str, list[str]]:
    """Values by attribute name, in order; flags have the value ""."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            found[name].append(value)
        elif line[1:2] != "=" or line[0] not in types:
            raise SdpError(f"This line is not SDP: {_quote(line)}.")
    for name, most in MAX_OF.items():
        if name in found and len(found[name]) > most:
            raise SdpError(f"A section has more than {most} lines of {name}.")
    return found


def _section(lines: Sequence[str]) -> Section:
    """One section from its lines, m-line first; nothing else decides the result."""
    words = lines[0].split(" ")
    if len(words) < 4 or "" in words:
        raise SdpError(f"This m-line is incomplete: {_quote(lines[0])}.")
    kind, port, protocol, *formats = words
    if not _TOKEN.match(kind) or not all(map(_TOKEN.match, protocol.split("/"))):
        raise SdpError(f"This m-line is malformed: {_quote(lines[0])}.")
    attributes = _attributes(lines[1:], _SECTION_TYPES)
    rtp = "RTP/" in protocol
    return Section(
        kind=kind,
        port=_number(port.partition("/")[0], "port", 0xFFFF),
        protocol=protocol,
        payloads=_payloads(formats, attributes) if rtp else (),
        formats=() if rtp else tuple(_token(word, "format") for word in formats),
        mid=_one(attributes, "mid", _token),
        direction=_direction(attributes),
        address=_address(lines),
        bitrate=_bitrate(lines),
        ice_ufrag=_ice(attributes, "ice-ufrag", 4),
        ice_pwd=_ice(attributes, "ice-pwd", 22),
        ice_options=_ice_options(attributes),
        fingerprints=_fingerprints(attributes),
        setup=_setup(attributes),
        rtcp_mux="rtcp-mux" in attributes,
        rtcp_rsize="rtcp-rsize" in attributes,
        bundle_only="bundle-only" in attributes,
        extensions=_extensions(attributes["extmap"]),
        extmap_allow_mixed="extmap-allow-mixed" in attributes,
        msids=tuple(map(_msid, attributes["msid"])),
        rids=tuple(map(_rid, attributes["rid"])),
        simulcast=_one({"simulcast": _joined(attributes["simulcast"])}, "simulcast", _simulcast),
        sources=_sources(attributes["ssrc"]),
        source_groups=tuple(map(_source_group, attributes["ssrc-group"])),
        sctp_port=_one(attributes, "sctp-port", lambda value, name: _number(value, name, 0xFFFF)),
        max_message_size=_one(attributes, "max-message-size", lambda value, name: _number(value, name, 2**63 - 1)),
        candidates=tuple(map(_candidate, attributes["candidate"])),
        end_of_candidates="end-of-candidates" in attributes,
    )


def _payloads(formats: Sequence[str], attributes: Mapping[str, list[str]]) -> tuple[Payload, ...]:
    """The payload types of a section. They are most of its lines, and the same in every section of every Chromium."""
    lines = [tuple(formats), *(tuple(attributes.get(name, ())) for name in ("rtpmap", "fmtp", "rtcp-fb"))]
    return (_cached_payloads if _may_be_kept(*lines) else _read_payloads)(*lines)


def _may_be_kept(*lines: Sequence[str]) -> bool:
    """What is kept for all is bounded by number and by size, or a client could fill the memory with it."""
    return sum(map(len, lines)) <= CACHED_LINES and max(map(len, chain(*lines)), default=0) <= CACHED_LENGTH


def _read_payloads(
    formats: tuple[str, ...], rtpmaps: tuple[str, ...], fmtps: tuple[str, ...], feedbacks: tuple[str, ...]
) -> tuple[Payload, ...]:
    maps: dict[str, str] = {}
    for value in rtpmaps:
        number, _, encoding = value.partition(" ")
        if number in maps:
            raise SdpError(f"Payload type {_quote(number)} has two rtpmaps in one section.")
        maps[number] = encoding
    parameters = {number: text for number, _, text in (value.partition(" ") for value in fmtps)}
    if len(parameters) != len(fmtps):
        raise SdpError("A payload type has two fmtps in one section.")  # RFC 8866 §6.15
    feedback: defaultdict[str, list[str]] = defaultdict(list)
    for value in feedbacks:
        number, _, text = value.partition(" ")
        feedback[number].append(text)
    everywhere = feedback.get("*", ())
    found = tuple(
        _payload(text, maps[text], parameters.get(text, ""), (*feedback.get(text, ()), *everywhere))
        if text in maps
        else _BARE[_number(text, "payload type", 127)]  # RFC 3551 §6: seven bits
        for text in formats
    )
    if len({payload.number for payload in found}) != len(found):
        raise SdpError("A payload type is twice in one m-line.")
    return found


_cached_payloads = lru_cache(maxsize=32)(_read_payloads)
_BARE: Final = tuple(map(Payload, range(128)))


def _payload(number: str, encoding: str, parameters: str, feedback: tuple[str, ...]) -> Payload:
    name, _, rest = encoding.partition("/")
    rate, _, channels = rest.partition("/")
    return Payload(
        _number(number, "payload type", 127),
        _token(name, "rtpmap"),
        _number(rate, "clock rate", 2**32 - 1),
        _number(channels, "channels", 255) if channels else 1,
        parameters,
        feedback,
    )


def _extensions(values: Iterable[str]) -> tuple[HeaderExtension, ...]:
    lines = tuple(values)
    return (_cached_extensions if _may_be_kept(lines) else _read_extensions)(lines)


def _read_extensions(values: tuple[str, ...]) -> tuple[HeaderExtension, ...]:
    return tuple(map(_extension, values))


_cached_extensions = lru_cache(maxsize=32)(_read_extensions)


def _extension(value: str) -> HeaderExtension:
    words = value.split(" ", 2)
    number, _, direction = words[0].partition("/")
    if len(words) < 2 or not words[1] or (direction and direction not in _DIRECTIONS):
        raise SdpError(f"This extmap is malformed: {_quote(value)}.")
    # RFC 8285 §8: 4096–4351 stand for ids still to be chosen.
    return HeaderExtension(_number(number, "extmap", 4351), words[1], _DIRECTIONS.get(direction))


def _msid(value: str) -> tuple[str, str]:
    stream, _, track = value.partition(" ")
    # RFC 8830 §2: one space between, token characters only; ids from the field also hold "|", a token character.
    if not stream or " " in track or len(value) > 512:
        raise SdpError(f"This msid is malformed: {_quote(value)}.")
    return stream, track


def _rid(value: str) -> Rid:
    identifier, _, rest = value.partition(" ")
    direction, _, restrictions = rest.partition(" ")
    _rid_name(identifier)
    if direction == "send":
        return Rid(identifier, "send", restrictions)
    if direction == "recv":
        return Rid(identifier, "recv", restrictions)
    raise SdpError(f"This rid is malformed: {_quote(value)}.")


def _joined(values: list[str]) -> list[str]:
    """RFC 8853 §5.1 has one line for both directions; pion, and with it the SDK for Go, one for each."""
    alone = len(values) == 2 and {value[:5] for value in values} == {"send ", "recv "}
    return [" ".join(values)] if alone else values


def _simulcast(value: str, _name: str) -> Simulcast:
    words = value.split(" ")
    if len(value) > MAX_SIMULCAST:
        raise SdpError(f"A simulcast line has more than {MAX_SIMULCAST} characters.")
    if value.count(";") + value.count(",") >= MAX_SIMULCAST_RIDS:
        raise SdpError(f"A simulcast line has more than {MAX_SIMULCAST_RIDS} rids.")
    lists: dict[str, tuple[tuple[RidChoice, ...], ...]] = {}
    if len(words) not in (2, 4):
        raise SdpError(f"This simulcast line is malformed: {_quote(value)}.")
    for direction, streams in zip(words[::2], words[1::2], strict=True):
        if direction not in ("send", "recv") or direction in lists:
            raise SdpError(f"This simulcast line is malformed: {_quote(value)}.")
        lists[direction] = tuple(
            tuple(RidChoice(_rid_name(rid.removeprefix("~")), rid.startswith("~")) for rid in stream.split(","))
            for stream in streams.split(";")
        )
    return Simulcast(lists.get("send", ()), lists.get("recv", ()))


def _sources(values: Iterable[str]) -> tuple[Source, ...]:
    cnames: dict[int, str] = {}
    for value in values:
        number, _, attribute = value.partition(" ")
        ssrc = _number(number, "ssrc", 2**32 - 1)
        name, _, text = attribute.partition(":")
        if name == "cname" or ssrc not in cnames:
            cnames[ssrc] = text if name == "cname" else ""
    return tuple(Source(ssrc, cname) for ssrc, cname in cnames.items())


def _source_group(value: str) -> SourceGroup:
    semantics, *ssrcs = value.split(" ")
    return SourceGroup(_token(semantics, "ssrc-group"), tuple(_number(ssrc, "ssrc", 2**32 - 1) for ssrc in ssrcs))


def _candidate(value: str) -> Candidate:
    found = _CANDIDATE.match(value)
    if not found or not value.isascii():
        raise SdpError(f"This candidate is malformed: {_quote(value)}.")
    foundation, component, transport, priority, address, port, kind, extensions = found.groups()
    return Candidate(
        foundation,
        _number(component, "component", 256),
        transport,
        _number(priority, "priority", 2**32 - 1),
        address,
        _number(port, "port", 0xFFFF),
        kind,
        extensions or "",
    )


def _origin(head: Sequence[str]) -> tuple[int, int]:
    for line in head:
        if line.startswith("o="):
            words = line[2:].split(" ")
            if len(words) != 6:
                raise SdpError("The o-line is malformed.")
            return _number(words[1], "session id", 2**64 - 1), _number(words[2], "session version", 2**64 - 1)
    raise SdpError("The SDP has no o-line.")


def _bundles(values: Iterable[str]) -> Iterator[tuple[str, ...]]:
    for value in values:
        semantics, *mids = value.split(" ")
        if semantics == "BUNDLE":
            yield tuple(_token(mid, "mid") for mid in mids)


def _ice(attributes: Mapping[str, list[str]], name: str, least: int) -> str | None:
    def check(value: str, name: str) -> str:
        if not _ICE.match(value) or len(value) < least:
            raise SdpError(f"The {name} is malformed.")
        return value

    return _one(attributes, name, check)


def _ice_options(attributes: Mapping[str, list[str]]) -> tuple[str, ...]:
    return tuple(word for value in attributes.get("ice-options", ()) for word in value.split(" ") if word)


def _fingerprints(attributes: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    found = []
    for value in attributes.get("fingerprint", ()):
        match = _FINGERPRINT.match(value)
        if not match:
            raise SdpError(f"This fingerprint is malformed: {_quote(value)}.")
        found.append((match[1].lower(), match[2].upper()))
    return tuple(found)


def _setup(attributes: Mapping[str, list[str]]) -> Setup | None:
    def check(value: str, _name: str) -> Setup:
        if value not in _SETUPS:
            raise SdpError(f"This setup is malformed: {_quote(value)}.")
        return _SETUPS[value]

    return _one(attributes, "setup", check)


def _direction(attributes: Mapping[str, list[str]]) -> Direction | None:
    found = [direction for direction in Direction if direction in attributes]
    if len(found) > 1:
        raise SdpError("A section has two directions.")
    return found[0] if found else None


def _address(lines: Iterable[str]) -> str:
    for line in lines:
        if line.startswith("c="):
            words = line[2:].split(" ")
            if len(words) != 3 or not words[2]:
                raise SdpError(f"This c-line is malformed: {_quote(line)}.")
            return words[2]
    return "0.0.0.0"


def _bitrate(lines: Iterable[str]) -> int | None:
    for line in lines:
        if line.startswith("b=TIAS:"):
            return _number(line[7:], "b=TIAS", 2**63 - 1)
    return None


def _one(attributes: Mapping[str, list[str]], name: str, read: Callable[[str, str], T]) -> T | None:
    """An attribute that may be there once. The same value again is tolerated, another one is not."""
    values = attributes.get(name)
    if not values:
        return None
    if len(values) > 1 and any(value != values[0] for value in values):
        raise SdpError(f"A section has two different values of {name}.")
    return read(values[0], name)


def _number(text: str, name: str, top: int) -> int:
    """Digits only: int() alone would take signs, spaces, underscores and the digits of any script."""
    if text.isdigit() and text.isascii() and len(text) <= MAX_NUMBER_DIGITS:
        number = int(text)
        if number <= top:
            return number
    raise SdpError(f"The {name} is not a number up to {top}: {_quote(text)}.")


def _token(text: str, name: str) -> str:
    if not _TOKEN.match(text):
        raise SdpError(f"The {name} is malformed: {_quote(text)}.")
    return text


def _rid_name(text: str) -> str:
    if not _RID.match(text):
        raise SdpError(f"This rid is malformed: {_quote(text)}.")
    return text


def _quote(text: str) -> str:
    """What the client wrote, short and harmless enough to send back and to log."""
    return ascii(text[:60])


# --- writing -----------------------------------------------------------------------------------------------------


def _write_session(session: Session) -> Iterator[str]:
    yield "v=0"
    yield f"o=- {session.id} {session.version} IN IP4 127.0.0.1"
    yield "s=-"
    yield "t=0 0"
    for mids in session.bundles:
        yield " ".join(("a=group:BUNDLE", *mids))
    if session.ice_lite:
        yield "a=ice-lite"
    if session.extmap_allow_mixed:
        yield "a=extmap-allow-mixed"
    yield from _write_transport(session)
    if session.direction is not None:
        yield f"a={session.direction.value}"


def _write_transport(part: Session | Section) -> Iterator[str]:
    if part.ice_ufrag is not None:
        yield f"a=ice-ufrag:{part.ice_ufrag}"
    if part.ice_pwd is not None:
        yield f"a=ice-pwd:{part.ice_pwd}"
    if part.ice_options:
        yield f"a=ice-options:{' '.join(part.ice_options)}"
    for name, digest in part.fingerprints:
        yield f"a=fingerprint:{name} {digest}"
    if part.setup is not None:
        yield f"a=setup:{part.setup.value}"


def _write_section(section: Section) -> Iterator[str]:
    formats = [str(payload.number) for payload in section.payloads] if section.payloads else section.formats
    yield f"m={section.kind} {section.port} {section.protocol} {' '.join(formats)}"
    yield f"c=IN {'IP6' if ':' in section.address else 'IP4'} {section.address}"
    if section.bitrate is not None:
        yield f"b=TIAS:{section.bitrate}"
    if section.mid is not None:
        yield f"a=mid:{section.mid}"
    yield from _write_transport(section)
    for extension in section.extensions:
        direction = f"/{extension.direction.value}" if extension.direction else ""
        yield f"a=extmap:{extension.id}{direction} {extension.uri}"
    if section.extmap_allow_mixed:
        yield "a=extmap-allow-mixed"
    if section.direction is not None:
        yield f"a={section.direction.value}"
    for stream, track in section.msids:
        yield f"a=msid:{stream} {track}" if track else f"a=msid:{stream}"
    for flag, name in ((section.rtcp_mux, "rtcp-mux"), (section.rtcp_rsize, "rtcp-rsize")):
        if flag:
            yield f"a={name}"
    if section.bundle_only:
        yield "a=bundle-only"
    for payload in section.payloads:
        yield from _write_payload(payload)
    yield from _write_streams(section)
    if section.sctp_port is not None:
        yield f"a=sctp-port:{section.sctp_port}"
    if section.max_message_size is not None:
        yield f"a=max-message-size:{section.max_message_size}"
    for c in section.candidates:
        tail = f" {c.extensions}" if c.extensions else ""
        yield (
            f"a=candidate:{c.foundation} {c.component} {c.transport} {c.priority} {c.address} {c.port}"
            f" typ {c.type}{tail}"
        )
    if section.end_of_candidates:
        yield "a=end-of-candidates"


def _write_payload(payload: Payload) -> Iterator[str]:
    if payload.name:
        channels = f"/{payload.channels}" if payload.channels != 1 else ""
        yield f"a=rtpmap:{payload.number} {payload.name}/{payload.clock_rate}{channels}"
    for feedback in payload.feedback:
        yield f"a=rtcp-fb:{payload.number} {feedback}"
    if payload.format:
        yield f"a=fmtp:{payload.number} {payload.format}"


def _write_streams(section: Section) -> Iterator[str]:
    for rid in section.rids:
        restrictions = f" {rid.restrictions}" if rid.restrictions else ""
        yield f"a=rid:{rid.id} {rid.direction}{restrictions}"
    if section.simulcast is not None:
        lists = (("send", section.simulcast.send), ("recv", section.simulcast.recv))
        yield "a=simulcast:" + " ".join(
            f"{direction} {';'.join(','.join(_write_choice(rid) for rid in stream) for stream in streams)}"
            for direction, streams in lists
            if streams
        )
    for group in section.source_groups:
        yield " ".join(("a=ssrc-group:" + group.semantics, *map(str, group.ssrcs)))
    for source in section.sources:
        yield f"a=ssrc:{source.ssrc} cname:{source.cname}"


def _write_choice(choice: RidChoice) -> str:
    return f"~{choice.rid}" if choice.paused else choice.rid
