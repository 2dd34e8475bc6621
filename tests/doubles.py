"""Doubles of what is outside the core (`core/boundary.py`), and a client that writes offers as browsers do.

Nothing here decides: they record what they are given, and a test looks at it.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from livekit.protocol import models, rtc, webhook

from d4e_sfu._engine import Command
from d4e_sfu.config import Config
from d4e_sfu.core.boundary import DataKind, DtlsRole, TransportId
from d4e_sfu.core.sfu import Sfu

T = TypeVar("T", bound=Command)


class EngineDouble:
    """A worker that remembers its commands."""

    candidates = (("192.0.2.1", 7882),)

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.busy: float | None = 0.0

    def submit(self, commands: Sequence[Command]) -> None:
        self.commands.extend(commands)

    def take(self, kind: type[T]) -> list[T]:
        """The commands of this kind since the last look at any, which are then forgotten."""
        found = [command for command in self.commands if isinstance(command, kind)]
        self.commands = [command for command in self.commands if not isinstance(command, kind)]
        return found


class AssociationsDouble:
    """Associations whose handshakes succeed when the test says so."""

    fingerprint = ("sha-256", ":".join(["AB"] * 32))

    def __init__(self) -> None:
        self.opened: dict[TransportId, dict[str, Any]] = {}
        self.closed: list[TransportId] = []
        self.sent: list[tuple[TransportId, DataKind, bytes]] = []

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
        assert transport not in self.opened
        self.opened[transport] = {
            "fingerprints": fingerprints,
            "role": role,
            "sctp_port": sctp_port,
            "offers_channels": offers_channels,
        }

    def open_data(self, transport: TransportId, *, sctp_port: int, max_message_size: int) -> None:
        assert self.opened[transport]["sctp_port"] is None
        self.opened[transport]["sctp_port"] = sctp_port

    def close(self, transport: TransportId) -> None:
        self.closed.append(transport)

    def send(self, transport: TransportId, kind: DataKind, payload: bytes) -> bool:
        self.sent.append((transport, kind, payload))
        return True


class ClientDouble:
    """A signalling connection that remembers what it was told."""

    def __init__(self) -> None:
        self.responses: list[rtc.SignalResponse] = []
        self.closed: tuple[int, str] | None = None

    def send(self, response: rtc.SignalResponse) -> None:
        assert self.closed is None, f"{response.WhichOneof('message')} after close"
        assert response.WhichOneof("message") is not None, "an empty response"
        copy = rtc.SignalResponse()
        copy.CopyFrom(response)  # what was sent stays as it was when it was sent
        self.responses.append(copy)

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    def kinds(self) -> list[str]:
        return [str(response.WhichOneof("message")) for response in self.responses]

    def take(self, kind: str) -> list[Any]:
        """The messages of one kind since the last look at it."""
        found = [getattr(each, kind) for each in self.responses if each.WhichOneof("message") == kind]
        self.responses = [each for each in self.responses if each.WhichOneof("message") != kind]
        return found

    def last(self, kind: str) -> Any:
        found = self.take(kind)
        assert found, f"no {kind} among {self.kinds()}"
        return found[-1]


class AnnouncerDouble:
    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str | int | float]]] = []
        self.reported: list[webhook.WebhookEvent] = []

    def announce(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        self.heard.append((event, dict(facts)))

    def report(self, make: Callable[[], webhook.WebhookEvent]) -> None:
        self.reported.append(make())


@dataclasses.dataclass(slots=True)
class Section:
    kind: str
    direction: str
    track: str = ""
    simulcast: bool = False
    codecs: tuple[str, ...] = ("VP8",)


# Payload type and parameters of each, as Chromium has them; that of its repair is the next.
_VIDEO: Final = {
    "VP8": (96, ""),
    "VP9": (98, "profile-id=0"),
    "H264": (102, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    "AV1": (45, "level-idx=5;profile=0;tier=0"),
}


class Description:
    """The peer connection of a client, as far as its offers show: sections are added and never removed."""

    def __init__(self, name: str, *, audios: int = 3, videos: int = 3, decodes: tuple[str, ...] = ("VP8",)) -> None:
        self.decodes = decodes
        self.name = "".join(letter for letter in name if letter.isalnum())  # RFC 8839 §5.4: ice-char
        self.sections = [Section("audio", "recvonly") for _ in range(audios)]
        self.sections += [Section("video", "recvonly", codecs=decodes) for _ in range(videos)]
        self.sections.append(Section("application", ""))

    def add_receiving(self, kind: str, count: int) -> None:
        self.sections.extend(Section(kind, "recvonly", codecs=self.decodes) for _ in range(count))

    def publish(self, kind: str, track: str, *, simulcast: bool = False, codecs: tuple[str, ...] = ("VP8",)) -> int:
        """Returns the index of the section, which is its mid."""
        self.sections.append(Section(kind, "sendonly", track, simulcast, codecs))
        return len(self.sections) - 1

    def unpublish(self, index: int) -> None:
        self.sections[index].direction = "inactive"

    def offer(self, id: int = 1) -> rtc.SessionDescription:
        return rtc.SessionDescription(type="offer", sdp=self.sdp(), id=id)

    def sdp(self) -> str:
        mids = " ".join(str(index) for index in range(len(self.sections)))
        lines = [
            "v=0",
            "o=- 4611731400430051336 2 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            f"a=group:BUNDLE {mids}",
            "a=extmap-allow-mixed",
            "a=msid-semantic: WMS",
        ]
        for index, section in enumerate(self.sections):
            lines += self._section(index, section)
        return "\r\n".join(lines) + "\r\n"

    def _section(self, index: int, section: Section) -> list[str]:
        transport = [
            "c=IN IP4 0.0.0.0",
            f"a=ice-ufrag:{self.name[:4]:x<4}",
            f"a=ice-pwd:{self.name:x<24}",
            "a=ice-options:trickle",
            "a=fingerprint:sha-256 " + ":".join(["CD"] * 32),
            "a=setup:actpass",
            f"a=mid:{index}",
        ]
        if section.kind == "application":
            return [
                "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
                *transport,
                "a=sctp-port:5000",
                "a=max-message-size:262144",
            ]
        common = [*transport, f"a={section.direction}", "a=rtcp-mux", "a=rtcp-rsize"]
        if section.track:
            common.append(f"a=msid:stream {section.track}")
        if section.kind == "audio":
            return [
                "m=audio 9 UDP/TLS/RTP/SAVPF 111",
                *common,
                "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
                "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
                "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
                "a=rtpmap:111 opus/48000/2",
                "a=rtcp-fb:111 transport-cc",
                "a=fmtp:111 minptime=10;useinbandfec=1",
                *([f"a=ssrc:{1000 + index} cname:{self.name}"] if section.track else []),
            ]
        numbers = " ".join(f"{_VIDEO[codec][0]} {_VIDEO[codec][0] + 1}" for codec in section.codecs)
        lines = [
            f"m=video 9 UDP/TLS/RTP/SAVPF {numbers}",
            *common,
            "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        ]
        for codec in section.codecs:
            number, parameters = _VIDEO[codec]
            feedback = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
            lines += [f"a=rtpmap:{number} {codec}/90000", *(f"a=rtcp-fb:{number} {each}" for each in feedback)]
            lines += [f"a=fmtp:{number} {parameters}"] if parameters else []
            lines += [f"a=rtpmap:{number + 1} rtx/90000", f"a=fmtp:{number + 1} apt={number}"]
        if section.simulcast:
            lines += [f"a=rid:{rid} send" for rid in "qhf"] + ["a=simulcast:send q;h;f"]
        elif section.track:
            lines += [
                f"a=ssrc-group:FID {2000 + index} {3000 + index}",
                f"a=ssrc:{2000 + index} cname:{self.name}",
                f"a=ssrc:{3000 + index} cname:{self.name}",
            ]
        return lines


def answer_to(offer: str, *, ufrag: str = "subs", refuse: str = "") -> str:
    """As a browser answers what we offer: it receives what is sent, and is active. `refuse`: a codec that it does not
    know."""
    lines = []
    for line in offer.splitlines():
        if line.startswith(("a=msid", "a=ssrc", "a=candidate", "a=end-of-", "a=ice-lite", "a=rid")):
            continue
        line = re.sub(r"^a=ice-ufrag:.*", f"a=ice-ufrag:{ufrag}", line)
        line = re.sub(r"^a=ice-pwd:.*", "a=ice-pwd:subscriberspasswordof24ch", line)
        line = re.sub(r"^a=fingerprint:.*", "a=fingerprint:sha-256 " + ":".join(["CE"] * 32), line)
        line = line.replace("a=setup:actpass", "a=setup:active").replace("a=sendonly", "a=recvonly")
        lines.append(line.replace(refuse, "NONE") if refuse else line)
    return "\r\n".join(lines) + "\r\n"


def camera(cid: str = "camera", *, width: int = 1280, height: int = 720, muted: bool = False) -> rtc.AddTrackRequest:
    """As a browser announces a camera with simulcast."""
    quality = models.VideoQuality
    layers = [
        models.VideoLayer(quality=quality.LOW, width=width // 4, height=height // 4),
        models.VideoLayer(quality=quality.MEDIUM, width=width // 2, height=height // 2),
        models.VideoLayer(quality=quality.HIGH, width=width, height=height),
    ]
    return rtc.AddTrackRequest(
        cid=cid,
        type=models.TrackType.VIDEO,
        source=models.TrackSource.CAMERA,
        width=width,
        height=height,
        muted=muted,
        layers=layers,
        simulcast_codecs=[rtc.SimulcastCodec(codec="vp8", cid=cid)],
    )


def microphone(cid: str = "microphone") -> rtc.AddTrackRequest:
    return rtc.AddTrackRequest(cid=cid, type=models.TrackType.AUDIO, source=models.TrackSource.MICROPHONE)


def sfu_on(engine: EngineDouble, config: Config) -> Sfu:
    """The core on one worker that is a double; its chance is the same each time."""
    sfu = Sfu(config, chance=random.Random(1), announcer=AnnouncerDouble())
    sfu.add_worker(engine, AssociationsDouble())
    return sfu
