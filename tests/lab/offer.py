"""The few lines of SDP that a `d4e-peer` participant needs: an offer written, an answer read. Text of its own, so that
a misreading in the server's SDP cannot agree with itself."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXTENSIONS = {
    "audio_level": 1,
    "abs_send_time": 2,
    "transport_cc": 3,
    "mid": 4,
    "rid": 10,
    "repaired_rid": 11,
    "dependency_descriptor": 12,
}
URIS = {
    "audio_level": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "abs_send_time": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "transport_cc": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "mid": "urn:ietf:params:rtp-hdrext:sdes:mid",
    "rid": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "repaired_rid": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    "dependency_descriptor": (
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
    ),
}
PAYLOAD_TYPES = {"opus": 111, "vp8": 96, "h264": 102, "vp9": 98, "av1": 45}
# Redundant audio, as browsers offer it. Peers take it where they receive; what they send is plain.
RED = 63
RTX = {"vp8": 97, "h264": 103, "vp9": 99, "av1": 46}
VECTORS = Path(__file__).parent.parent / "vectors/sdp"
STREAMS = ("a=msid:", "a=ssrc", "a=rid:", "a=simulcast:", "a=candidate:")
H264_PARAMETERS = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"


@dataclass(slots=True)
class Sending:
    """What one of our sections sends."""

    cid: str
    publication: int
    codec: str
    encodings: list[dict[str, Any]]
    more: dict[str, Any]

    def spec(self, mid: str) -> dict[str, Any]:
        """The peer's `PublishSpec`."""
        return {
            "publication": self.publication,
            "codec": self.codec,
            "mid": mid,
            "payload_type": PAYLOAD_TYPES[self.codec],
            "rtx_payload_type": RTX.get(self.codec),
            "encodings": self.encodings,
            # As the server negotiates it: not for VP8, whose own descriptor says as much.
            "dependency_descriptor": self.codec not in ("opus", "vp8"),
            **self.more,
        }


@dataclass(slots=True)
class Media:
    """One section of our offer; without `sending` it receives, of kind "application" it has data channels."""

    mid: str
    kind: str
    sending: Sending | None = None
    stopped: bool = False
    """What it sent has ended; the section stays."""
    nack: bool = False
    """Packets of a voice are asked for again; of pictures they always are."""


@dataclass(slots=True)
class AnsweredSection:
    """What the server says of one section."""

    direction: str = "inactive"
    payload_types: list[int] = field(default_factory=list)
    ssrc: int | None = None
    rtx_ssrc: int | None = None
    codecs: dict[int, str] = field(default_factory=dict)
    repairs: dict[int, int] = field(default_factory=dict)
    """Payload type of RTX → what it repairs."""
    nack: set[int] = field(default_factory=set)
    """Payload types of which packets may be asked for again."""

    def receive(self) -> dict[str, Any]:
        """The part of the peer's `ReceiveSpec` that the section decides."""
        payload_type = next(pt for pt in self.payload_types if self.codecs.get(pt) in PAYLOAD_TYPES)
        rtx = next((rtx for rtx, of in self.repairs.items() if of == payload_type), None)
        spec = {"codec": self.codecs[payload_type], "payload_type": payload_type}
        nack = payload_type in self.nack
        red = next((pt for pt in self.payload_types if self.codecs.get(pt) == "red"), None)
        return spec | {"rtx_payload_type": rtx, "rtx_ssrc": self.rtx_ssrc, "red_payload_type": red, "nack": nack}


@dataclass(slots=True)
class Answer:
    """The transport and the sections of an answer."""

    ufrag: str = ""
    pwd: str = ""
    fingerprint: str = ""
    setup: str = ""
    candidates: list[str] = field(default_factory=list)
    sections: dict[str, AnsweredSection] = field(default_factory=dict)


def offer(media: Sequence[Media], *, ufrag: str, pwd: str, fingerprint: str, version: int) -> str:
    """An offer as a browser would make it, as far as a server looks."""
    lines = ["v=0", f"o=- 4242 {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines += [
        f"a=group:BUNDLE {' '.join(section.mid for section in media)}",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS",
    ]
    for section in media:
        lines += _section(section)
        lines += [f"a=ice-ufrag:{ufrag}", f"a=ice-pwd:{pwd}", "a=ice-options:trickle"]
        lines += [f"a=fingerprint:sha-256 {fingerprint}", "a=setup:actpass", f"a=mid:{section.mid}"]
        lines += _streams(section)
    return "\r\n".join(lines) + "\r\n"


@functools.cache
def _browser_sections() -> dict[tuple[str, str], str]:
    """Chromium's own, by kind and direction; as it writes them once header extensions have been agreed on."""
    found: dict[tuple[str, str], str] = {}
    for name in ("chromium-more-sections", "chromium-publish"):
        _, *texts = (VECTORS / f"{name}.sdp").read_bytes().decode().split("\r\nm=")
        for text in reversed(texts):  # the later ones have no candidates, as with `max-bundle`
            kind = text.partition(" ")[0]
            direction = next((word for word in ("recvonly", "sendonly") if f"\r\na={word}" in text), "")
            found.setdefault((kind, direction), f"m={text}".rstrip("\r\n"))
    return found


def remb_alone(sdp: str) -> str:
    """The same offer of a client that knows no transport-wide feedback."""
    lines = sdp.split("\r\n")
    return "\r\n".join(
        line for line in lines if URIS["transport_cc"] not in line and not line.endswith(" transport-cc")
    )


def browser_offer(media: Sequence[Media], *, ufrag: str, pwd: str, fingerprint: str, version: int) -> str:
    """An offer with Chromium's sections, which are several times as large as ours."""
    lines = ["v=0", f"o=- 4377491854128961288 {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines += [f"a=group:BUNDLE {' '.join(section.mid for section in media)}"]
    lines += ["a=extmap-allow-mixed", "a=msid-semantic: WMS"]
    for section in media:
        direction = "" if section.kind == "application" else "sendonly" if section.sending else "recvonly"
        text = _browser_sections()[section.kind, direction]
        for attribute, value in (("ice-ufrag", ufrag), ("ice-pwd", pwd), ("mid", section.mid)):
            text = re.sub(rf"a={attribute}:\S+", f"a={attribute}:{value}", text)
        text = re.sub(r"a=fingerprint:sha-256 \S+", f"a=fingerprint:sha-256 {fingerprint}", text)
        kept = [line for line in text.split("\r\n") if not line.startswith(STREAMS)]
        if section.stopped:
            kept = ["a=inactive" if line == "a=sendonly" else line for line in kept]
        lines += kept + _streams(section)
    return "\r\n".join(lines) + "\r\n"


def _section(section: Media) -> list[str]:
    if section.kind == "application":
        lines = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0"]
        return [*lines, "a=sctp-port:5000", "a=max-message-size:262144"]
    codecs = ["opus"] if section.kind == "audio" else ["vp8", "h264", "vp9", "av1"]
    if section.sending is not None:
        codecs = sorted(codecs, key=lambda codec: codec != section.sending.codec if section.sending else False)
    payload_types = [pt for codec in codecs for pt in (PAYLOAD_TYPES[codec], RTX.get(codec)) if pt is not None]
    redundant = section.kind == "audio" and section.sending is None
    payload_types += [RED] if redundant else []
    lines = [f"m={section.kind} 9 UDP/TLS/RTP/SAVPF {' '.join(map(str, payload_types))}", "c=IN IP4 0.0.0.0"]
    names = ["mid", "transport_cc", "abs_send_time"]
    names += ["audio_level"] if section.kind == "audio" else ["rid", "repaired_rid", "dependency_descriptor"]
    lines += [f"a=extmap:{EXTENSIONS[name]} {URIS[name]}" for name in names]
    direction = "inactive" if section.stopped else "sendonly" if section.sending else "recvonly"
    lines += [f"a={direction}", "a=rtcp-mux", "a=rtcp-rsize"]
    for codec in codecs:
        pt, rtx = PAYLOAD_TYPES[codec], RTX.get(codec)
        if codec == "opus":
            lines += [
                f"a=rtpmap:{pt} opus/48000/2",
                f"a=rtcp-fb:{pt} transport-cc",
                *([f"a=rtcp-fb:{pt} nack"] if section.nack else []),
                f"a=fmtp:{pt} minptime=10;useinbandfec=1",
            ]
            lines += [f"a=rtpmap:{RED} red/48000/2", f"a=fmtp:{RED} {pt}/{pt}"] if redundant else []
            continue
        lines += [f"a=rtpmap:{pt} {codec.upper()}/90000"]
        lines += [f"a=rtcp-fb:{pt} {what}" for what in ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")]
        lines += [f"a=fmtp:{pt} {H264_PARAMETERS}"] if codec == "h264" else []
        lines += [f"a=rtpmap:{rtx} rtx/90000", f"a=fmtp:{rtx} apt={pt}"]
    return lines


def _streams(section: Media) -> list[str]:
    if section.sending is None:
        return []
    lines = [f"a=msid:- {section.sending.cid}"]
    encodings = section.sending.encodings
    if len(encodings) > 1:
        rids = [encoding["rid"] for encoding in encodings]
        return [*lines, *(f"a=rid:{rid} send" for rid in rids), f"a=simulcast:send {';'.join(rids)}"]
    for encoding in encodings:
        ssrcs = [encoding["ssrc"]] + ([encoding["rtx_ssrc"]] if "rtx_ssrc" in encoding else [])
        lines += [f"a=ssrc-group:FID {' '.join(map(str, ssrcs))}"] if len(ssrcs) > 1 else []
        lines += [f"a=ssrc:{ssrc} cname:{section.sending.more.get('cname', 'd4e-peer')}" for ssrc in ssrcs]
    return lines


def parse_answer(sdp: str) -> Answer:
    """Reads what the peer must be told; everything is bundled, so the first transport counts."""
    answer, section = Answer(), None
    for line in sdp.split("\r\n"):
        key, _, value = line.partition(":")
        if line.startswith("m="):
            section = AnsweredSection(payload_types=[int(pt) for pt in line.split()[3:] if pt.isdigit()])
            continue
        match key:
            case "a=ice-ufrag":
                answer.ufrag = answer.ufrag or value
            case "a=ice-pwd":
                answer.pwd = answer.pwd or value
            case "a=fingerprint":
                algorithm, _, digest = value.partition(" ")
                answer.fingerprint = digest if algorithm.lower() == "sha-256" else answer.fingerprint
            case "a=setup":
                answer.setup = answer.setup or value
            case "a=candidate":
                words = value.split()
                host = f"[{words[4]}]" if ":" in words[4] else words[4]
                address = f"{host}:{words[5]}"
                if words[2].lower() == "udp" and address not in answer.candidates:
                    answer.candidates.append(address)
        if section is None:
            continue
        match key:
            case "a=mid":
                answer.sections[value] = section
            case "a=sendonly" | "a=recvonly" | "a=inactive" | "a=sendrecv":
                section.direction = key[2:]
            case "a=rtpmap":
                pt, _, name = value.partition(" ")
                section.codecs[int(pt)] = name.partition("/")[0].lower()
            case "a=rtcp-fb":
                pt, _, feedback = value.partition(" ")
                section.nack |= {int(pt)} if feedback == "nack" else set()
            case "a=fmtp":
                pt, _, parameters = value.partition(" ")
                if parameters.startswith("apt="):
                    section.repairs[int(pt)] = int(parameters.removeprefix("apt="))
            case "a=ssrc-group":
                words = value.split()
                if words[0] == "FID":
                    section.ssrc, section.rtx_ssrc = int(words[1]), int(words[2])
            case "a=ssrc":
                section.ssrc = section.ssrc or int(value.split()[0])
    return answer
