"""One person of the virtual laboratory: a client's signalling, written here, and a peer (engine/src/peer) for media.

It does what a client library does and no more: offers, answers, receivers for what is placed. Made by `Lab.join`; the
time and the network are the lab's.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu import _engine
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.participant import Participant
from tests.lab.client import Camera, Voice
from tests.lab.offer import EXTENSIONS, Answer, Media, Sending, browser_offer, offer, parse_answer, remb_alone

if TYPE_CHECKING:
    from tests.lab.network import Conditions
    from tests.lab.signalling import Signalling
    from tests.lab.virtual import Lab

Peer: Any = _engine.lab.Peer  # in builds with the crate's feature `peer`

RECEIVE_SECTIONS: Final = 3  # of each kind in the first offer, as the stock clients make them
PING: Final = 5.0  # s
CANDIDATES: Final = 4  # that a browser finds
VIEW: Final = (320, 180)  # pixels that a browser shows somebody in
DEBOUNCE: Final = 0.02  # s that the library for browsers waits for more to offer
FINGERPRINT: Final = ":".join(["CD"] * 32)
HEIGHT: Final = 720


@dataclass(frozen=True, slots=True)
class Received:
    """How one publication arrived at one person, from the moment its section was placed. Judged by engine/src/peer."""

    frames: int = 0
    """Decodable ones."""
    keyframes: int = 0
    undecodable: int = 0
    """Whole, but without what they refer to."""
    corrupt: int = 0
    """Not as they were made."""
    broken: int = 0
    """Given up because a packet never came."""
    skipped: int = 0
    dtx: int = 0
    switches: int = 0
    encoding: int | None = None
    spatial: int | None = None
    """Spatial layer of the last picture, inside its encoding."""
    temporal: Sequence[int] = ()
    """How many pictures there were of each temporal layer."""
    freezes: int = 0
    freeze_seconds: float = 0.0
    first_frame: float | None = None
    last_frame: float | None = None
    sources: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """Frames by the publication that was stamped into them."""
    seams: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seam_total: int = 0
    max_timestamp_error: float = 0.0
    """Seconds between two frames' timestamps, less those between their capture."""
    packets: int = 0
    late: int = 0
    rtx: int = 0
    rtx_duplicates: int = 0
    recovered: int = 0
    nacked: int = 0
    lost: int = 0
    plis: int = 0
    byes: int = 0
    sender_reports: int = 0
    latency: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Microseconds from the publisher's clock: p50, p90, p99, max."""

    @classmethod
    def of(cls, stats: Mapping[str, Any]) -> Received:
        known = {field.name: stats[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**known, "sources": {int(number): count for number, count in stats["sources"].items()}})

    @property
    def flawless(self) -> bool:
        """Nothing that a viewer or his decoder would notice."""
        return self.frames > 0 and not (
            self.undecodable or self.corrupt or self.broken or self.skipped or self.freezes or self.seam_total
        )


class Person:
    def __init__(
        self,
        lab: Lab,
        identity: str,
        room: str,
        address: str,
        *,
        chance: random.Random,
        browser: bool,
        peer: Mapping[str, Any],
        transport_wide: bool = True,
        nack: bool = False,
    ) -> None:
        self.lab = lab
        self.identity = identity
        self.room = room
        self.address = address
        self.client = Client(self)
        self.participant: Participant | None = None  # the core's, which the lab needs to speak for him
        self.peer: Any = None
        self.gone = False
        self.due: float | None = None
        self.advanced_at = lab.now
        self.connected_at: float | None = None
        self.left: rtc.LeaveRequest | None = None
        self.closed: tuple[int, str] | None = None
        self.told: list[tuple[float, rtc.SignalResponse]] = []
        self.people: dict[str, models.ParticipantInfo] = {}
        """By identity, as he was told; those who have left are not in it."""
        self.sids: dict[str, str] = {}
        """Of what he publishes: "camera", "microphone" or as named → sid."""
        self.numbers: dict[str, int] = {}
        """The same → what its frames carry."""
        self.data: list[tuple[DataKind, models.DataPacket]] = []
        self.signalling: Signalling
        self.link: Conditions | None = None
        """With which he came, where it was said."""
        self._chance = chance
        self._spec = peer
        self._browser = browser
        self._to_publish: list[Camera | Voice] = []  # once he is connected, as the library for browsers does it
        self._transport_wide = transport_wide
        self._nack = nack
        self._ufrag = f"{chance.getrandbits(32):08x}"
        self._pwd = f"{chance.getrandbits(128):032x}"
        kinds = ["audio"] * RECEIVE_SECTIONS + ["video"] * RECEIVE_SECTIONS
        kinds = kinds if browser else ["audio", "video"] * RECEIVE_SECTIONS
        self._media = [Media(str(n), kind, nack=nack) for n, kind in enumerate(kinds)]
        self._media.append(Media(str(len(self._media)), "application"))
        self._sending: set[int] = set()
        self._carried: dict[str, tuple[int, str]] = {}  # mid → (SSRC, sid of the track)
        self._ended: dict[str, Received] = {}
        self._offers = 0
        self._answered = 0
        self._offer_again = False
        self._offering = False  # will offer in a moment

    # --- what he does -------------------------------------------------------------------------------------------------

    def publish(self, source: Camera | Voice, *, name: str = "", start: Mapping[str, int] | None = None) -> None:
        request = self._promise(source, name, start)
        self.ask(add_track=request)
        self._offer()

    def unpublish(self, name: str = "camera") -> None:
        number = self.numbers[name]
        for media in self._media:
            if media.sending is not None and media.sending.publication == number:
                media.stopped = True
        self.peer.remove_publication(number)
        self.lab.flush(self)
        self._offer()

    def mute(self, name: str = "camera", muted: bool = True) -> None:
        """Says so, and stops (or starts) the packets."""
        self.ask(mute=rtc.MuteTrackRequest(sid=self.sids[name], muted=muted))
        self.peer.set_publication(self.numbers[name], not muted)
        self.settle()

    def set_encoding(self, encoding: int, active: bool, *, bitrate: int | None = None, name: str = "camera") -> None:
        self.peer.set_encoding(self.numbers[name], encoding, active, bitrate)
        self.settle()

    def watch(self, other: Person, *, quality: int = models.HIGH, off: bool = False, name: str = "camera") -> None:
        """His view of something has changed."""
        sid = other.sids[name]
        self.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[sid], disabled=off, quality=quality))  # type: ignore[arg-type]

    def subscribe(self, other: Person, want: bool = True, *, name: str = "camera") -> None:
        self.ask(subscription=rtc.UpdateSubscription(track_sids=[other.sids[name]], subscribe=want))

    def say(self, text: str) -> None:
        """Chat, on the reliable channel."""
        packet = models.DataPacket(user=models.UserPacket(payload=text.encode()))
        self.lab.data(self, DataKind.RELIABLE, packet.SerializeToString())

    def leave(self) -> None:
        self.ask(leave=rtc.LeaveRequest(reason=models.CLIENT_INITIATED))
        self.vanish()

    def lose_signalling(self) -> None:
        self.lab.lose_signalling(self)

    def vanish(self) -> None:
        """His machine is off: nothing is sent, nothing is taken. His signalling socket is another matter."""
        self.lab.silenced(self)
        self.gone, self.due = True, None

    def move(self) -> None:
        """His address changes, as behind a NAT that forgot; he checks his path at once."""
        self.lab.moved(self, self.lab.new_address())
        self.peer.set_local(self.address, now=self.lab.now)
        self.settle()

    def rebind(self) -> None:
        """His NAT forgets him, and he does not know: his address is another as the server sees it."""
        self.lab.moved(self, self.lab.new_address())

    def ask(self, **member: Any) -> None:
        self.lab.ask(self, rtc.SignalRequest(**member))

    def send_unasked(self, source: Camera | Voice) -> int:
        """Media in a section of which nobody was told. Returns the number in its frames."""
        kind = "audio" if isinstance(source, Voice) else "video"
        mid = next(media.mid for media in self._media if media.kind == kind)
        sending = self._source(source, "unasked", None)
        self.peer.add_publication(sending.spec(mid), now=self.lab.now)
        self.settle()
        return sending.publication

    # --- what he sees -------------------------------------------------------------------------------------------------

    def received(self, other: Person, name: str = "camera") -> Received:
        """Nothing yet: all zeros. Of a publication placed anew: since then."""
        sid = other.sids.get(name, "")
        for ssrc, carried in self._carried.values():
            if carried == sid:
                return Received.of(next(each for each in self.peer.stats()["receivers"] if each["receiver"] == ssrc))
        return self._ended.get(sid, Received())

    def arrivals(self, other: Person, name: str = "microphone") -> list[tuple[int, float, float, bool]]:
        """Frames of a voice since the last call: number, when it was made, when it came, whether by repair."""
        sid = other.sids.get(name, "")
        ssrc = next((ssrc for ssrc, carried in self._carried.values() if carried == sid), None)
        return [] if ssrc is None else list(self.peer.take_arrivals(ssrc))

    def section_of(self, other: Person, name: str = "camera") -> str | None:
        return next((mid for mid, (_, sid) in self._carried.items() if sid == other.sids[name]), None)

    def ssrc_of(self, other: Person, name: str = "camera") -> int:
        return next(ssrc for ssrc, sid in self._carried.values() if sid == other.sids[name])

    def sent(self, name: str = "camera") -> list[dict[str, Any]]:
        """By encoding, lowest first: frames, keyframes, packets, rtx, nacked, plis …"""
        encodings: list[dict[str, Any]] = self.stats["publications"][self.numbers[name]]
        return encodings

    @property
    def stats(self) -> dict[str, Any]:
        """Of his peer, as a whole."""
        stats: dict[str, Any] = self.peer.stats()
        stats["publications"] = {int(number): sent for number, sent in stats["publications"].items()}
        return stats

    @property
    def sections(self) -> int:
        return len(self._media)

    def tracks_of(self, other: Person) -> dict[str, models.TrackInfo]:
        """What he was told of another's publications, by sid."""
        info = self.people.get(other.identity)
        return {} if info is None else {track.sid: track for track in info.tracks}

    # --- his client ---------------------------------------------------------------------------------------------------

    def join_request(
        self, publish: Sequence[Camera | Voice], *, auto_subscribe: bool, start: Mapping[str, int] | None
    ) -> rtc.JoinRequest:
        request = rtc.JoinRequest(
            client_info=models.ClientInfo(sdk=models.ClientInfo.SDK.PYTHON, protocol=16, client_protocol=2),
            connection_settings=rtc.ConnectionSettings(auto_subscribe=auto_subscribe, adaptive_stream=self._browser),
        )
        if self._browser:
            self._to_publish, publish = list(publish), ()
        request.add_track_requests.extend(self._promise(source, "", start) for source in publish)
        request.publisher_offer.CopyFrom(self._description())
        return request

    def _promise(self, source: Camera | Voice, name: str, start: Mapping[str, int] | None) -> rtc.AddTrackRequest:
        voice = isinstance(source, Voice)
        name = name or ("microphone" if voice else "camera")
        sending = self._source(source, name, start)
        self.numbers[name] = sending.publication
        self._media.append(Media(str(len(self._media)), "audio" if voice else "video", sending=sending))
        request = rtc.AddTrackRequest(cid=name, name=name)
        if isinstance(source, Voice):
            request.type, request.source, request.disable_dtx = models.AUDIO, models.MICROPHONE, not source.dtx
            return request
        request.type, request.source = models.VIDEO, models.CAMERA
        request.width, request.height = HEIGHT * 16 // 9, HEIGHT
        qualities = (models.LOW, models.MEDIUM, models.HIGH)[: len(source.encodings)]
        for quality, encoding in zip(qualities, sending.encodings, strict=True):
            request.layers.add(quality=quality, width=encoding["width"], height=encoding["height"])
        request.simulcast_codecs.add(codec=source.codec, cid=name)
        return request

    def _source(self, source: Camera | Voice, name: str, start: Mapping[str, int] | None) -> Sending:
        rates = (source.bitrate,) if isinstance(source, Voice) else source.encodings
        encodings = []
        for n, (rid, rate) in enumerate(zip("qhf", rates, strict=False)):
            height = HEIGHT >> (len(rates) - 1 - n)
            encoding: dict[str, Any] = {"ssrc": self._chance.getrandbits(32), "bitrate": rate}
            encoding |= {"width": height * 16 // 9, "height": height, "start": dict(start or {})}
            if len(rates) > 1:
                encoding["rid"] = rid
            if not isinstance(source, Voice):
                encoding["rtx_ssrc"] = self._chance.getrandbits(32)
            encodings.append(encoding)
        codec, more = ("opus", source.spec) if isinstance(source, Voice) else (source.codec, source.more)
        return Sending(name, self._chance.getrandbits(31), codec, encodings, {"cname": self.identity, **more})

    def _description(self) -> rtc.SessionDescription:
        self._offers += 1
        write = browser_offer if self._browser else offer
        sdp = write(self._media, ufrag=self._ufrag, pwd=self._pwd, fingerprint=FINGERPRINT, version=self._offers)
        sdp = sdp if self._transport_wide else remb_alone(sdp)
        return rtc.SessionDescription(type="offer", sdp=sdp, id=self._offers)

    def _offer(self) -> None:
        """One at a time, as a peer connection's state demands."""
        if not self._browser:
            self._offer_now()
        elif not self._offering:
            self._offering = True
            self.lab.later(self._offer_now, after=DEBOUNCE)

    def _offer_now(self) -> None:
        self._offering = False
        if self._offers > self._answered:
            self._offer_again = True
        else:
            self.ask(offer=self._description())

    def take(self, response: rtc.SignalResponse) -> None:
        """A signalling message has arrived."""
        self.told.append((self.lab.now, response))
        match response.WhichOneof("message"):
            case "join":
                if self._browser:
                    self._ping()
                for info in response.join.other_participants:
                    self.people[info.identity] = info
            case "update":
                for info in response.update.participants:
                    known = self.people.get(info.identity)
                    if info.state != models.ParticipantInfo.DISCONNECTED:
                        self.people[info.identity] = info
                    elif known is not None and known.sid == info.sid:
                        del self.people[info.identity]
            case "track_published":
                self.sids[response.track_published.cid] = response.track_published.track.sid
            case "media_sections_requirement":
                wanted = response.media_sections_requirement
                for kind in ["audio"] * wanted.num_audios + ["video"] * wanted.num_videos:
                    self._media.append(Media(str(len(self._media)), kind, nack=self._nack))
                self._offer()
            case "answer":
                self._answer(response.answer)
            case "leave":
                self.left = response.leave

    def _ping(self) -> None:
        """As a browser does, every few seconds; the signalling driver answers."""
        moment = int(self.lab.now * 1000)
        ping = rtc.SignalRequest(ping_req=rtc.Ping(timestamp=moment, rtt=100)).SerializeToString()
        pong = rtc.SignalResponse(pong_resp=rtc.Pong(last_ping_timestamp=moment, timestamp=moment)).SerializeToString()
        old = rtc.SignalRequest(ping=moment).SerializeToString(), rtc.SignalResponse(pong=moment).SerializeToString()
        for question, answer in ((ping, pong), old):

            def answers(answer: bytes = answer) -> None:
                self.signalling.carry("down", answer, lambda: None)

            self.signalling.carry("up", question, answers)
        self.lab.later(self._ping, after=PING)

    def connected(self) -> None:
        """His transport is up."""
        to_publish, self._to_publish = self._to_publish, []
        for source in to_publish:
            self.publish(source)

    def _answer(self, description: rtc.SessionDescription) -> None:
        again, self._answered = self._browser and not self._answered, description.id
        answer = parse_answer(description.sdp)
        if self.gone:
            return
        if self.peer is None:
            self.peer = self._make_peer(answer)
            for n in range(CANDIDATES if self._browser else 0):
                candidate = f'{{"candidate":"candidate:{self._chance.getrandbits(32)} 1 udp 2122194687 192.0.2.{n + 2}'
                candidate += f' {40_000 + n} typ host generation 0 ufrag {self._ufrag} network-id {n + 1}",'
                candidate += f'"sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"{self._ufrag}"}}'
                self.ask(trickle=rtc.TrickleRequest(candidateInit=candidate))
        now = self.lab.now
        for media in self._media:
            section = answer.sections.get(media.mid)
            sending = media.sending
            if section is None or media.kind == "application":
                continue
            if sending is None:
                self._place(media.mid, section.direction, description.mid_to_track_id.get(media.mid, ""), section)
            elif section.direction == "recvonly" and sending.publication not in self._sending:
                self._sending.add(sending.publication)
                self.peer.add_publication(sending.spec(media.mid), now=now)
        self.settle()
        if self._offer_again or again:  # the library for browsers makes the first offer twice
            self._offer_again = False
            self._offer()

    def _place(self, mid: str, direction: str, sid: str, section: Any) -> None:
        ssrc = section.ssrc if direction == "sendonly" else None
        carried = self._carried.get(mid)
        if carried is not None and carried[0] != ssrc:
            stats = next(each for each in self.peer.stats()["receivers"] if each["receiver"] == carried[0])
            self._ended[carried[1]] = Received.of(stats)
            self.peer.remove_receiver(carried[0])
            del self._carried[mid]
        if ssrc is not None and mid not in self._carried:
            self._carried[mid] = (ssrc, sid)
            spec = {"receiver": ssrc, "mid": mid, "ssrc": ssrc, **section.receive(), "log": self.lab.log_voices}
            self.peer.add_receiver(spec, now=self.lab.now)
            if self._browser and section.ssrc is not None and section.rtx_ssrc is not None:  # a small view of it
                self.ask(track_setting=rtc.UpdateTrackSettings(track_sids=[sid], width=VIEW[0], height=VIEW[1]))

    def _make_peer(self, answer: Answer) -> Any:
        spec = {
            "local_ufrag": self._ufrag,
            "local_pwd": self._pwd,
            "remote_ufrag": answer.ufrag,
            "remote_pwd": answer.pwd,
            "remotes": answer.candidates,
            "local": self.address,
            "extensions": EXTENSIONS,
            "seed": self._chance.getrandbits(63),
            **self._spec,
        }
        return Peer(spec, now=self.lab.now)

    def settle(self) -> None:
        """When his peer next has something to do; a peer needs no more than a thousand looks a second."""
        if self.peer is not None and not self.gone:
            at = self.peer.next_timeout()
            self.due = None if at is None else max(at, self.advanced_at + 0.001)


class Client:
    """A `boundary.Client`: what the server sends arrives later, in order."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._closed = False

    def send(self, response: rtc.SignalResponse) -> None:
        assert not self._closed, f"{response.WhichOneof('message')} after close"
        copy = rtc.SignalResponse()
        copy.CopyFrom(response)
        self._person.signalling.carry("down", copy.SerializeToString(), lambda: self._person.take(copy))

    def close(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._person.lab.later(lambda: setattr(self._person, "closed", (code, reason)))
