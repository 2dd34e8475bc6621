"""Signalling: join requests in all their wrappings, and programs of what up to three clients of a room do, in an order
that no client would choose: messages as raw protobuf or made for what is really there, lost transports, data, time.

Only a ClientError may come of joining, and nothing of anything else. Every command that results goes to a real router,
which must find it right and have a use for it; and when all have gone, nothing is left.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError
from livekit.protocol import models, rtc

from d4e_sfu._engine import Command, Event, Router
from d4e_sfu.config import Config, Key
from d4e_sfu.core import tokens
from d4e_sfu.core.boundary import DataKind
from d4e_sfu.core.participant import Participant, State
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.drivers import signal
from d4e_sfu.errors import ClientError
from tests.doubles import (
    AnnouncerDouble,
    AssociationsDouble,
    ClientDouble,
    Description,
    EngineDouble,
    answer_to,
    camera,
)

KEY: Final = Key(id="test", default_role="doctor").holding(b"a secret of thirty-two bytes, or more")
WALL: Final = 1_700_000_000.0
LIMIT: Final = 64 * 1024
STEPS: Final = 60
PEOPLE: Final = 3
TOKENS: Final = [
    tokens.mint(KEY, identity=f"p{n}", room="ward", role=role, now=WALL)
    for n, role in enumerate(("doctor", "patient", "moderator"))
]
CIDS: Final = ("camera", "microphone", "screen", "")
KINDS: Final = (DataKind.RELIABLE, DataKind.LOSSY)
# In one step, to one client: what the room says about each of its publications, and then some.
RESPONSES: Final = 400


def once(data: bytes) -> None:
    if data[:1] == b"\0":
        _wrapped(data[1:].decode("latin-1"))
        return
    program = Program(data[1:])
    for _ in range(STEPS):
        if not program.rest:
            break
        program.step()
    program.end()


def _number(value: int) -> Any:
    """An enum's value as it may come off the wire: perhaps none of its names."""
    return value


def _wrapped(text: str) -> None:
    try:
        signal._join_request(text, LIMIT)
    except ClientError as error:
        rule = error.rule
    else:
        return
    assert rule.startswith("join_request_")


class Engine(EngineDouble):
    """A router that is asked at once whether it has a use for each command."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router()

    def submit(self, commands: Sequence[Command]) -> None:
        # Its clock stands still: nobody checks here, and by its own clock it would forget everyone.
        self.router.submit(list(commands), now=1.0)
        counters: Any = self.router.snapshot()["counters"]
        assert counters["commands_ignored"] == 0, commands


class Program:
    def __init__(self, data: bytes) -> None:
        self.rest = data
        self.now = 0.0
        self.engine = Engine()
        self.associations = AssociationsDouble()
        self.sfu = Sfu(Config(keys=(KEY,)), chance=random.Random(1), announcer=AnnouncerDouble())
        self.sfu.add_worker(self.engine, self.associations)
        self.clients = [ClientDouble() for _ in range(PEOPLE)]
        self.participants: list[Participant | None] = [None] * PEOPLE
        self.offers = [rtc.SessionDescription() for _ in range(PEOPLE)]
        self.descriptions = [Description(f"person{n}", audios=1, videos=1) for n in range(PEOPLE)]

    # --- reading -----------------------------------------------------------------------------------------------------

    def byte(self) -> int:
        value = self.rest[0] if self.rest else 0
        self.rest = self.rest[1:]
        return value

    def piece(self) -> bytes:
        size = self.byte() << 8 | self.byte()
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece

    def sid(self) -> str:
        """Of a publication that is there, mostly."""
        sids = [sid for each in self.participants if each for sid in each.publications]
        which = self.byte()
        return sids[which % len(sids)] if sids and which < 240 else f"TR_{which}"

    # --- one step ----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        which, who = self.byte() % len(_STEPS), self.byte() % PEOPLE
        for client in self.clients:
            client.responses.clear()
        if self.participants[who] is None and _STEPS[which] is not Program.join_raw:
            self.join(who, rtc.JoinRequest())
        else:
            _STEPS[which](self, who)
        assert all(len(client.responses) < RESPONSES for client in self.clients)
        for n, client in enumerate(self.clients):
            for each in client.responses:
                if each.HasField("offer"):
                    self.offers[n] = each.offer
        for n, participant in enumerate(self.participants):
            if participant is not None and participant.state is State.DISCONNECTED:
                self.participants[n] = None

    def ask(self, who: int, **member: Any) -> None:
        participant = self.participants[who]
        assert participant is not None
        if participant.client is not None:
            self.sfu.message(participant, rtc.SignalRequest(**member), now=self.now)

    def join(self, who: int, request: rtc.JoinRequest) -> None:
        old = self.participants[who]
        how = self.byte()
        request.client_info.protocol = 9 + how % 8
        request.connection_settings.auto_subscribe = how & 16 == 0
        if how & 32 == 0 and not request.HasField("publisher_offer"):
            request.publisher_offer.CopyFrom(self.descriptions[who].offer())
        client = ClientDouble()
        try:
            admission = self.sfu.admit(self.sfu.verify(TOKENS[who], wall=WALL), request, wall=WALL)
        except ClientError:
            return
        joined = self.sfu.join(client, admission, dual=how & 64 != 0 and not request.reconnect, now=self.now)
        if request.reconnect and joined is None:
            assert client.kinds() == ["leave"]
            assert client.closed is not None
            return  # whoever is there stays
        self.clients[who] = client
        self.participants[who] = joined
        assert client.closed is not None or joined is not None
        assert old is None or joined is old or old.state is State.DISCONNECTED or client.closed is not None

    def join_raw(self, who: int) -> None:
        try:
            request = rtc.JoinRequest.FromString(self.piece())
        except DecodeError:
            return
        self.join(who, request)

    def raw(self, who: int) -> None:
        try:
            request = rtc.SignalRequest.FromString(self.piece())
        except DecodeError:
            return
        participant = self.participants[who]
        assert participant is not None
        if participant.client is not None:
            self.sfu.message(participant, request, now=self.now)

    def add_track(self, who: int) -> None:
        how = self.byte()
        request = camera(CIDS[how % 4], width=how * 17, height=how * 9, muted=how & 4 != 0)
        request.type = _number(how >> 3 & 3)
        request.source = _number(how >> 5)
        self.ask(who, add_track=request)

    def describe(self, who: int) -> None:
        description, how = self.descriptions[who], self.byte()
        if len(description.sections) > 24:
            return
        kind = "video" if how & 1 else "audio"
        if how & 6 == 0:
            description.add_receiving(kind, how >> 5)
        elif how & 6 == 2:
            description.unpublish((how >> 3) % len(description.sections))
        else:
            description.publish(kind, CIDS[how >> 3 & 3], simulcast=how & 64 != 0)

    def offer(self, who: int) -> None:
        self.ask(who, offer=self.descriptions[who].offer(self.byte()))

    def offer_raw(self, who: int) -> None:
        text = self.piece().decode("utf-8", "ignore").replace("\0", "")
        self.ask(who, offer=rtc.SessionDescription(type="offer", sdp=text, id=2))

    def subscribe(self, who: int) -> None:
        request = rtc.UpdateSubscription(track_sids=[self.sid() for _ in range(self.byte() % 4)])
        request.subscribe = self.byte() & 1 == 1
        self.ask(who, subscription=request)

    def view(self, who: int) -> None:
        request = rtc.UpdateTrackSettings(track_sids=[self.sid()], disabled=self.byte() & 1 == 1)
        request.quality, request.width, request.height = _number(self.byte() % 4), self.byte() * 8, self.byte() * 8
        self.ask(who, track_setting=request)

    def permit(self, who: int) -> None:
        how = self.byte()
        request = rtc.SubscriptionPermission(all_participants=how & 1 == 1)
        if how & 2:
            each = request.track_permissions.add()
            each.participant_identity = f"p{how >> 3 & 3}"
            each.all_tracks = how & 4 == 4
            each.track_sids.append(self.sid())
        self.ask(who, subscription_permission=request)

    def mute(self, who: int) -> None:
        self.ask(who, mute=rtc.MuteTrackRequest(sid=self.sid(), muted=self.byte() & 1 == 1))

    def metadata(self, who: int) -> None:
        text = self.piece().decode("utf-8", "ignore")
        request = rtc.UpdateParticipantMetadata(metadata=text, name=text[:300], request_id=7)
        request.attributes[text[:40]] = text[40:80]
        self.ask(who, update_metadata=request)

    def data(self, who: int) -> None:
        participant, how = self.participants[who], self.byte()
        assert participant is not None
        assert participant.transport is not None
        if participant.remote is None:
            return
        if how & 2:
            self.sfu.data_ready(participant.transport, KINDS[how & 1], now=self.now)
        self.sfu.data_received(participant.transport, KINDS[how & 1], self.piece(), now=self.now)

    def transport(self, who: int) -> None:
        participant, how = self.participants[who], self.byte() % 6
        assert participant is not None
        transport = participant.transport
        assert transport is not None
        if participant.remote is None:
            return  # Without an offer there is no transport yet that anything could be told of.
        if how < 3:
            self.sfu.transport_connected(transport, now=self.now)
        elif how == 3:
            self.sfu.transport_failed(transport, "closed", now=self.now)
        elif how == 4:
            self.sfu.transport_failed(transport, "handshake", now=self.now)
        else:
            self.sfu.engine_event(self.engine, Event.TransportGone(transport), now=self.now)

    def hang_up(self, who: int) -> None:
        participant = self.participants[who]
        assert participant is not None
        if participant.client is not None:
            self.sfu.client_lost(participant, participant.client, now=self.now)

    def answer(self, who: int) -> None:
        """To our last offer, if there was one: as a browser would, or without a part of it."""
        how = self.byte()
        text = answer_to(self.offers[who].sdp, ufrag=f"subs{how & 3}")
        if how & 192 == 192:
            cut = how % 64 * len(text) // 64
            text = text[:cut]
        self.ask(who, answer=rtc.SessionDescription(type="answer", sdp=text, id=self.offers[who].id))

    def resume(self, who: int) -> None:
        """Himself mostly, now and then under another's sid; then what he says that he knows."""
        old, how = self.participants[who], self.byte()
        assert old is not None
        sids = [each.sid for each in self.participants if each]
        sid = old.sid if how & 7 else sids[(how >> 3 & 3) % len(sids)]
        self.join(who, rtc.JoinRequest(reconnect=True, participant_sid=sid))
        if how & 64 and self.participants[who] is old:
            state = rtc.SyncState(track_sids_disabled=[self.sid()])
            state.subscription.track_sids.append(self.sid())
            state.subscription.subscribe = how & 128 != 0
            state.datachannel_receive_states.add(publisher_sid=sid, last_seq=self.byte())
            if how & 32:
                state.publish_tracks.add().track.sid = self.sid()
            self.ask(who, sync_state=state)

    def leave(self, who: int) -> None:
        self.ask(who, leave=rtc.LeaveRequest(reason=models.DisconnectReason.CLIENT_INITIATED))

    def time(self, who: int) -> None:
        self.now += self.byte() / 8
        self.sfu.tick(now=self.now)

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        self.sfu.close(now=self.now)
        self.sfu.tick(now=self.now + 1_000_000)
        assert not self.sfu.rooms
        assert self.sfu.debug_state()["participants"] == 0
        left = self.engine.router.snapshot()
        assert [left[name] for name in ("transports", "publications", "subscriptions")] == [0, 0, 0]
        assert len(self.associations.opened) == len(self.associations.closed)


_STEPS: Final[Sequence[Callable[[Program, int], None]]] = (
    Program.raw,
    Program.add_track,
    Program.describe,
    Program.offer,
    Program.offer_raw,
    Program.subscribe,
    Program.view,
    Program.permit,
    Program.mute,
    Program.metadata,
    Program.data,
    Program.transport,
    Program.hang_up,
    Program.leave,
    Program.time,
    Program.join_raw,
    # Most of a life is publishing and receiving.
    Program.add_track,
    Program.offer,
    Program.resume,
    Program.answer,
)
