"""Participants made of `d4e-peer` (engine/src/peer) behind sockets: their signalling, spoken here; their media, there.

A load generator, a latency probe and a hostile client that share no line with the server but the wire tier. One process
hosts many participants. It needs the binary: `make peer`, or `D4E_PEER` names another.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import itertools
import json
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from livekit.protocol import models, rtc

from tests.lab.offer import EXTENSIONS, Answer, Media, Sending, offer, parse_answer

TOP = Path(__file__).parent.parent.parent
BINARY = Path(os.environ.get("D4E_PEER") or TOP / "d4e_sfu/engine/target/release/d4e-peer")
PATIENCE = 30.0  # the machine may be busy
RECEIVE_SECTIONS = 3  # of each kind in the first offer, as the stock clients make them


@dataclass(frozen=True, slots=True)
class Voice:
    """Opus, 50 packets a second."""

    bitrate: int = 40_000
    dtx: bool = False
    turns: tuple[float, float, float] | None = None
    """With `dtx`: seconds of talk and of silence, and where in that round it begins."""

    @property
    def spec(self) -> dict[str, Any]:
        """Its part of the peer's `PublishSpec`."""
        return {"dtx": self.dtx} | ({} if self.turns is None else {"turns": self.turns})


@dataclass(frozen=True, slots=True)
class Camera:
    """Synthetic video. `encodings`: bits per second, lowest first; more than one is simulcast with rids q, h, f.

    `more` goes into the peer's `PublishSpec` as it is (fps, keyframe_interval, keyframe_factor, spread, max_payload …).
    """

    codec: str = "vp8"
    encodings: tuple[int, ...] = (150_000, 500_000, 1_700_000)
    more: Mapping[str, Any] = field(default_factory=dict)


class RefusedError(Exception):
    """The server did not let the participant in; the message is its answer."""


class Lab:
    """One `d4e-peer` process; see `lab`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.fingerprint = ""
        self.members: dict[str, Member] = {}
        self.errors: list[dict[str, Any]] = []
        self._told: dict[tuple[str, str], dict[str, Any]] = {}  # the first event of each name and peer that is here
        self._waiting: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}
        self._names = itertools.count(1)
        self._http: aiohttp.ClientSession | None = None

    async def join(
        self,
        url: str,
        token: str,
        *,
        publish: Sequence[Voice | Camera] = (),
        sink: bool = False,
        auto_subscribe: bool = True,
        adaptive_stream: bool = False,
        compress: bool = False,
        seed: int | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> Member:
        """A participant that is in the room and connected. `url` is the server's, http or ws.

        `sink`: its socket is never read once keys are there. `adaptive_stream`: as a client that will tell the size of
        its views; it does not tell here, and so gets the smallest. `compress`: it can inflate. `spec` goes into the
        peer's `PeerSpec`.
        """
        number = next(self._names)
        name = f"p{number}"
        # Of its own accord a session has a hundred connections at most, and whoever comes later waits.
        self._http = self._http or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=False))
        member = Member(self, name, sink=sink, seed=number if seed is None else seed, spec=spec or {})
        self.members[name] = member
        settings = rtc.ConnectionSettings(auto_subscribe=auto_subscribe, adaptive_stream=adaptive_stream)
        await member.enter(self._http, url, token, publish=publish, settings=settings, compress=compress)
        return member

    def tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def event(self, name: str, peer: str = "", *, patience: float = PATIENCE) -> dict[str, Any]:
        """The event of this name, past or to come."""
        if (name, peer) in self._told:
            return self._told[name, peer]
        future = self._waiting.setdefault((name, peer), asyncio.get_running_loop().create_future())
        return await asyncio.wait_for(asyncio.shield(future), patience)

    async def stats(self, *, reset: bool = False) -> dict[str, Any]:
        """Of all peers; `reset` begins the latency histograms anew. Microseconds, seconds of the machine's clock."""
        future = self._waiting.setdefault(("stats", ""), asyncio.get_running_loop().create_future())
        self.tell(cmd="stats", reset=reset)
        return await asyncio.wait_for(asyncio.shield(future), PATIENCE)

    async def read(self) -> None:
        """Takes what the process says until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "error":
                self.errors.append(event)
            elif event["event"] != "stats":
                self._told.setdefault((event["event"], event.get("peer", "")), event)
            if event["event"] == "failed" and (connecting := self._waiting.pop(("connected", event["peer"]), None)):
                connecting.set_exception(ConnectionError(event["reason"]))
            waiting = self._waiting.pop((event["event"], event.get("peer", "")), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(event)

    def forget(self, member: Member) -> None:
        """He has gone, and so has what was told of him; thousands may come and go."""
        self.members.pop(member.name, None)
        for key in [key for key in self._told if key[1] == member.name]:
            del self._told[key]

    async def close(self) -> None:
        for member in list(self.members.values()):
            await member.leave()
        if self._http is not None:
            await self._http.close()
        if self.process.returncode is None:
            self.tell(cmd="quit")
            try:
                await asyncio.wait_for(self.process.wait(), PATIENCE)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


@asynccontextmanager
async def lab(binary: Path = BINARY) -> AsyncIterator[Lab]:
    """A peer process until the end of the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(str(binary), stdin=pipe, stdout=pipe, limit=1 << 24)
    made = Lab(process)
    reading = asyncio.create_task(made.read())
    try:
        made.fingerprint = (await made.event("ready"))["fingerprint"]
        yield made
    finally:
        await made.close()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    assert not made.errors, made.errors


class Member:
    """One participant: its signalling connection here, its media in the lab's process under `name`."""

    def __init__(self, lab: Lab, name: str, *, sink: bool, seed: int, spec: Mapping[str, Any]) -> None:
        self.lab = lab
        self.name = name
        self.join_response = rtc.JoinResponse()
        self.answer: Answer | None = None
        self.tracks: dict[int, str] = {}
        """Receiver's number in the peer → sid of the track it carries."""
        self.published: dict[str, int] = {}
        """Our client ids → publication number in the peer; what its frames carry."""
        self.messages: list[rtc.SignalResponse] = []
        self.people: dict[str, models.ParticipantInfo] = {}
        """The others, by identity, as he was told; those who have left are not in it."""
        self.left: rtc.LeaveRequest | None = None
        self.began = self.answered = 0.0
        """Loop time of the first step of joining, and of the first answer, with which the peer is created."""
        self._sink = sink
        self._spec = dict(spec)
        self._chance = random.Random(seed)
        self._seed = seed
        self._ufrag = f"{self._chance.getrandbits(32):08x}"
        self._pwd = f"{self._chance.getrandbits(128):032x}"
        self._media: list[Media] = []
        self._sending: list[Sending] = []
        self._offers = 0
        self._numbers = itertools.count(1)
        self._carried: dict[str, tuple[int, int]] = {}  # mid → (receiver, ssrc)
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    async def enter(
        self,
        http: aiohttp.ClientSession,
        url: str,
        token: str,
        *,
        publish: Sequence[Voice | Camera],
        settings: rtc.ConnectionSettings,
        compress: bool,
    ) -> None:
        self.began = asyncio.get_running_loop().time()
        for kind in ["audio"] * RECEIVE_SECTIONS + ["video"] * RECEIVE_SECTIONS:
            self._media.append(Media(str(len(self._media)), kind))
        request = rtc.JoinRequest(
            client_info=models.ClientInfo(sdk=models.ClientInfo.SDK.PYTHON, protocol=16, client_protocol=2),
            connection_settings=settings,
            publisher_offer=self._offer(),
        )
        wrapped = rtc.WrappedJoinRequest(
            compression=rtc.WrappedJoinRequest.GZIP, join_request=gzip.compress(request.SerializeToString())
        )
        query = base64.urlsafe_b64encode(wrapped.SerializeToString()).decode().rstrip("=")
        headers = {"Authorization": f"Bearer {token}"}
        address = url.replace("ws", "http", 1) if url.startswith("ws") else url
        try:
            self._socket = await http.ws_connect(
                f"{address}/rtc/v1", params={"join_request": query}, headers=headers, compress=15 if compress else 0
            )
        except aiohttp.WSServerHandshakeError as error:
            raise RefusedError(f"{error.status} {error.message}") from error
        self._tasks.append(asyncio.create_task(self._read()))
        await self._until(lambda: self.left is not None or self.answer is not None)
        if self.left is not None:
            raise RefusedError(str(self.left))
        for source in publish:
            await self.publish(source)
        await self.lab.event("connected", self.name)

    async def publish(self, source: Voice | Camera) -> str:
        """Announces and sends it; returns the track's sid."""
        number = self._chance.getrandbits(31)
        cid = f"cid-{number:x}"
        request = rtc.AddTrackRequest(cid=cid, name=cid)
        if isinstance(source, Voice):
            request.type, request.source, request.disable_dtx = models.AUDIO, models.MICROPHONE, not source.dtx
        else:
            request.type, request.source, request.width, request.height = models.VIDEO, models.CAMERA, 1280, 720
            qualities = (models.LOW, models.MEDIUM, models.HIGH)[-len(source.encodings) :]
            for n, (quality, bitrate) in enumerate(zip(qualities, source.encodings, strict=True)):
                scale = 2 ** (len(source.encodings) - 1 - n)
                layer = models.VideoLayer(quality=quality, width=1280 // scale, height=720 // scale, bitrate=bitrate)
                request.layers.append(layer)
            request.simulcast_codecs.add(codec=source.codec, cid=cid)
        self.send(rtc.SignalRequest(add_track=request))
        await self._until(
            lambda: any(
                m.WhichOneof("message") == "track_published" and m.track_published.cid == cid for m in self.messages
            )
        )
        sid = next(
            m.track_published.track.sid
            for m in self.messages
            if m.WhichOneof("message") == "track_published" and m.track_published.cid == cid
        )
        self.published[cid] = number
        media = Media(
            str(len(self._media)),
            "audio" if isinstance(source, Voice) else "video",
            sending=self._sent(source, cid, number),
        )
        self._media.append(media)
        await self._renegotiate()
        assert media.sending is not None
        self.lab.tell(cmd="publish", peer=self.name, publish=[media.sending.spec(media.mid)])
        return str(sid)

    def _sent(self, source: Voice | Camera, cid: str, number: int) -> Sending:
        rates = (source.bitrate,) if isinstance(source, Voice) else source.encodings
        ssrcs = [self._chance.getrandbits(32) for _ in range(2 * len(rates))]
        rids = ("q", "h", "f")[-len(rates) :] if len(rates) > 1 else (None,)
        encodings = []
        for n, (rid, rate) in enumerate(zip(rids, rates, strict=True)):
            scale = 2 ** (len(rates) - 1 - n)
            encodings.append(
                {"rid": rid, "ssrc": ssrcs[2 * n], "bitrate": rate, "width": 1280 // scale, "height": 720 // scale}
                | ({} if isinstance(source, Voice) else {"rtx_ssrc": ssrcs[2 * n + 1]})
            )
        codec = "opus" if isinstance(source, Voice) else source.codec
        more = source.spec if isinstance(source, Voice) else dict(source.more)
        return Sending(cid, number, codec, encodings, {"cname": f"member-{self._ufrag}", **more})

    async def mute(self, cid: str, muted: bool = True) -> None:
        """Stops the packets, and says so."""
        sid = next(m.track_published.track.sid for m in self.messages if m.track_published.cid == cid)
        self.send(rtc.SignalRequest(mute=rtc.MuteTrackRequest(sid=sid, muted=muted)))
        self.lab.tell(cmd="active", peer=self.name, publication=self.published[cid], active=not muted)

    async def first_frame(self, *, patience: float = PATIENCE) -> float:
        """Seconds from the peer's creation (the first answer) to the first frame that it could decode."""
        return float((await self.lab.event("first_frame", self.name, patience=patience))["after"])

    @property
    def gone(self) -> bool:
        """Told to leave, or cut off."""
        return self.left is not None or self._socket is None or self._socket.closed

    async def told_to_leave(self) -> rtc.LeaveRequest:
        await self._until(lambda: self.left is not None)
        assert self.left is not None
        return self.left

    async def first_media(self, *, patience: float = PATIENCE) -> float:
        """Seconds from the first step of joining to the first frame that it could decode."""
        return self.answered - self.began + await self.first_frame(patience=patience)

    def signalling_bytes(self) -> int:
        """Both ways, on the wire: all that its TCP connection has carried so far, the opening included."""
        assert self._socket is not None
        info = self._socket.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        acked, received = struct.unpack_from("QQ", info, 120)  # linux/tcp.h: tcpi_bytes_acked, tcpi_bytes_received
        return int(acked + received)

    async def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = (await self.lab.stats())["peers"][self.name]
        return stats

    async def frames(self, count: int, *, tracks: int = 1, patience: float = PATIENCE) -> dict[str, Any]:
        """Waits until `tracks` receivers have decoded `count` frames each; returns the stats."""
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            stats = await self.stats()
            if sum(receiver["frames"] >= count for receiver in stats["receivers"]) >= tracks:
                return stats
            assert asyncio.get_running_loop().time() < deadline, stats
            await asyncio.sleep(0.1)

    def send(self, request: rtc.SignalRequest) -> None:
        assert self._socket is not None
        self._tasks.append(asyncio.create_task(self._socket.send_bytes(request.SerializeToString())))

    async def leave(self) -> None:
        """Says goodbye; the media ends with it."""
        if self.lab.members.pop(self.name, None) is None:
            return
        if self._socket is not None and not self._socket.closed:
            leave = rtc.LeaveRequest(reason=models.CLIENT_INITIATED, action=rtc.LeaveRequest.DISCONNECT)
            with contextlib.suppress(ConnectionError):
                await self._socket.send_bytes(rtc.SignalRequest(leave=leave).SerializeToString())
            await self._socket.close()
        await self.vanish()

    async def vanish(self) -> None:
        """Ends without a word: socket cut, media silent."""
        self.lab.forget(self)
        if self.answer is not None:
            self.answer = None
            self.lab.tell(cmd="remove", peer=self.name)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._socket is not None:
            await self._socket.close()

    # --- Signalling ---------------------------------------------------------------------------------------------------

    def _offer(self) -> rtc.SessionDescription:
        self._offers += 1
        sdp = offer(
            self._media, ufrag=self._ufrag, pwd=self._pwd, fingerprint=self.lab.fingerprint, version=self._offers
        )
        return rtc.SessionDescription(type="offer", sdp=sdp, id=self._offers)

    async def _renegotiate(self) -> None:
        self.send(rtc.SignalRequest(offer=self._offer()))
        number = self._offers
        await self._until(
            lambda: any(m.WhichOneof("message") == "answer" and m.answer.id >= number for m in self.messages)
        )

    async def _until(self, true: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def _read(self) -> None:
        assert self._socket is not None
        async for frame in self._socket:
            if frame.type is aiohttp.WSMsgType.BINARY:
                message = rtc.SignalResponse.FromString(frame.data)
                self.messages.append(message)
                self._take(message)
                self._changed.set()

    def _take(self, message: rtc.SignalResponse) -> None:
        match message.WhichOneof("message"):
            case "join":
                self.join_response = message.join
                self.people = {info.identity: info for info in message.join.other_participants}
                self._tasks.append(asyncio.create_task(self._ping(message.join.ping_interval or 5)))
            case "answer":
                self._answered(message.answer)
            case "media_sections_requirement":
                wanted = message.media_sections_requirement
                for kind in ["audio"] * wanted.num_audios + ["video"] * wanted.num_videos:
                    self._media.append(Media(str(len(self._media)), kind))
                self.send(rtc.SignalRequest(offer=self._offer()))
            case "update":
                for info in message.update.participants:
                    if info.state == models.ParticipantInfo.DISCONNECTED:
                        self.people.pop(info.identity, None)
                    elif info.sid != self.join_response.participant.sid:
                        self.people[info.identity] = info
            case "leave":
                self.left = message.leave

    async def _ping(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self.send(rtc.SignalRequest(ping_req=rtc.Ping(timestamp=0, rtt=0)))

    def _answered(self, description: rtc.SessionDescription) -> None:
        first = self.answer is None
        self.answer = answer = parse_answer(description.sdp)
        if first:
            self.answered = asyncio.get_running_loop().time()
            self.lab.tell(
                cmd="add",
                peer=self.name,
                spec={
                    "local_ufrag": self._ufrag,
                    "local_pwd": self._pwd,
                    "remote_ufrag": answer.ufrag,
                    "remote_pwd": answer.pwd,
                    "remotes": answer.candidates,
                    "local": "[::1]:0" if answer.candidates[0].startswith("[") else "127.0.0.1:0",
                    "extensions": EXTENSIONS,
                    "seed": self._seed,
                    **self._spec,
                },
                # We are what the other side is not (RFC 4145 §4.1).
                security={
                    "dtls": {
                        "fingerprint": answer.fingerprint,
                        "setup": "active" if answer.setup == "passive" else "passive",
                    }
                },
                sink=self._sink,
            )
        for mid, section in answer.sections.items():
            carried = self._carried.get(mid)
            ssrc = section.ssrc if section.direction == "sendonly" else None
            if carried is not None and carried[1] != ssrc:
                self.lab.tell(cmd="unreceive", peer=self.name, receiver=carried[0])
                del self._carried[mid], self.tracks[carried[0]]
            if ssrc is not None and mid not in self._carried:
                number = next(self._numbers)
                self._carried[mid] = (number, ssrc)
                self.tracks[number] = description.mid_to_track_id.get(mid, "")
                receive = {"receiver": number, "mid": mid, "ssrc": ssrc, **section.receive()}
                self.lab.tell(cmd="receive", peer=self.name, receive=[receive])
