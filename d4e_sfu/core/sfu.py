"""The root of what decides: join | message | engine event | association event | tick -> the right room.

It owns the tables (rooms by name, participants by transport) and the source of chance; what happens between people is
in room.py. It is not a driver: every method is synchronous, takes `now` (monotonic seconds) and returns at once. The
date (`wall`, Unix seconds) is only asked for where the outside world's calendar counts: tokens, and times shown.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu._engine import Event, Link, Rate, Voice
from d4e_sfu.core import (
    bandwidth,
    datapacket,
    departure,
    exchange,
    netcheck,
    policy,
    refresh,
    reports,
    requests,
    resume,
    simulation,
    tokens,
)
from d4e_sfu.core.boundary import SubscriptionId, Taken, TransportId
from d4e_sfu.core.dual import Template, offer_to
from d4e_sfu.core.ids import Ids
from d4e_sfu.core.moderation import Moderation
from d4e_sfu.core.participant import PROTOCOL, Capabilities, Participant, State, clean_attributes, leave
from d4e_sfu.core.publication import CODECS, MIME_TYPES
from d4e_sfu.core.room import Room
from d4e_sfu.core.roomcalls import RoomCalls
from d4e_sfu.core.roominfo import RoomInfo
from d4e_sfu.core.turn import Turn
from d4e_sfu.core.workers import Load, Suspects, Worker, least_loaded
from d4e_sfu.errors import BadRequest, ClientError, Full, TooLarge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from d4e_sfu.config import Config, Limits
    from d4e_sfu.core.boundary import Announcer, Associations, Client, DataKind, Engine
    from d4e_sfu.core.moderation import Request, Response
    from d4e_sfu.core.policy import Rights, RoomPolicy
    from d4e_sfu.core.tokens import Grants

Reason = models.DisconnectReason
Ended = models.RoomEndReason
Action = rtc.LeaveRequest.Action

# Some clients switch features by this number: it says which generation of the protocol we are like.
SERVER_VERSION: Final = "1.9.12"
# The client pings each interval and gives up after the time-out; both must be above 0 or native clients fail.
PING_INTERVAL: Final = 5  # s
PING_TIMEOUT: Final = 15  # s

# A participant whose transport does not come up within this is removed; clients themselves give up after 15 s.
CONNECT_SECONDS: Final = 60.0
# From the end of a transport that the client has closed itself to the `leave` that says why.
CLOSED_SECONDS: Final = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Admission:
    """Proof that a token and a join request were checked; `Sfu.join` takes it after the upgrade."""

    grants: Grants
    rights: Rights
    policy: RoomPolicy
    request: rtc.JoinRequest
    wall: float


class Sfu:
    """All rooms of this process. Implements `boundary.AssociationEvents`."""

    def __init__(self, config: Config, *, chance: random.Random, announcer: Announcer) -> None:
        self.rooms: dict[str, Room] = {}
        self.draining = False
        """No new rooms."""
        self._closed = False
        self._running: frozenset[str] = frozenset()  # rooms that had people in them when draining began
        self._to_go: int | None = None  # how many were here when they began to be sent away
        self.turn: Turn | None = None
        """What clients are told of it; None: nobody is."""
        self._config = config
        self._ids = Ids(chance)
        self._announcer = announcer
        self._workers: list[Worker] = []
        self._suspects = Suspects()
        self._transports: dict[TransportId, Participant] = {}
        self._moderation = Moderation(self.rooms, announcer)
        self._calls = RoomCalls(self.rooms, self, self._moderation, announcer)

    @property
    def limits(self) -> Limits:
        return self._config.limits

    def add_worker(self, engine: Engine, associations: Associations) -> None:
        """A worker that rooms can be placed on. The first join needs at least one."""
        self._workers.append(Worker(engine, associations))

    # --- joining -----------------------------------------------------------------------------------------------------

    def verify(self, token: str, *, wall: float) -> Grants:
        """What a token grants; the first step of whatever is asked. Raises ClientError."""
        return tokens.verify(token, self._config, now=wall)

    def admit(
        self, grants: Grants, request: rtc.JoinRequest, *, way: netcheck.Way | None = None, wall: float
    ) -> Admission:
        """Everything that can be refused before the upgrade. Changes nothing. Raises ClientError.

        `way`: into the place where he checks his network, instead of the room.
        """
        self._check_open(grants.room if way is None else netcheck.place(grants, way).room)
        grants = self._moderation.decisions.applied(grants, wall=wall)
        if way is None:
            rights, room_policy = policy.rights(self._config, grants), policy.room_policy(self._config, grants.room)
        else:
            rights, room_policy = netcheck.rules(self._config, grants)
            grants = netcheck.place(grants, way)
        self._check_capacity(grants, room_policy)
        if rights.update_own_metadata:
            if len(request.participant_attributes) > tokens.MAX_ATTRIBUTES:
                raise TooLarge("The metadata is too large.", rule="metadata_size")
            attributes = clean_attributes({**grants.attributes, **request.participant_attributes})
            grants = dataclasses.replace(grants, metadata=request.metadata or grants.metadata, attributes=attributes)
        if not requests.fits(grants.name, grants.metadata, grants.attributes):
            raise TooLarge("The metadata is too large.", rule="metadata_size")
        return Admission(grants, rights, room_policy, request, wall)

    def check_terms(self, grants: Grants) -> dict[str, Any]:
        """Of a network check. Raises ClientError."""
        return netcheck.terms(self._config, grants, self.turn, self._ids.sid("PA_"))

    def _check_open(self, name: str) -> None:
        if self._closed:
            raise Full("The server is restarting. Please try again in a moment.", rule="restarting")
        if self._refuses(name):
            raise Full(
                "This server is restarting soon and takes no new calls. Please try again later.", rule="draining"
            )

    def join(
        self,
        client: Client,
        admission: Admission,
        *,
        subscribe: Sequence[str] = (),
        dual: bool = False,
        now: float,
    ) -> Participant | None:
        """After the upgrade: the join response, then the answer. None: refused with `leave`, and closed.

        `subscribe`: publications that he receives from the start, by sid, the most important first. `dual`: he has two
        peer connections, and on the one that receives it is we who offer.
        """
        grants, request = admission.grants, admission.request
        if tokens.is_revoked(grants, self._config):  # it may have been since `admit`
            client.send(leave(Reason.PARTICIPANT_REMOVED, Action.DISCONNECT))
            client.close(1008, tokens.NOT_ACCEPTED)
            return None
        if request.reconnect:
            return self._resume(client, admission, now=now)
        if self._refuses(grants.room):  # it may have begun since `admit`
            client.send(leave(Reason.SERVER_SHUTDOWN, Action.RECONNECT))
            client.close(1012, "the server is restarting")  # IANA WebSocket close codes: service restart
            return None
        try:
            self._check_capacity(grants, admission.policy)  # others may have joined since `admit`
        except Full as error:
            facts = {"rule": error.rule, "identity": grants.identity, "room_name": grants.room}
            self._announcer.announce("join_refused", facts)
            client.send(leave(Reason.JOIN_FAILURE, Action.DISCONNECT))
            client.close(error.close_code, str(error))
            return None
        room = self.rooms.get(grants.room)
        if room is None:
            about = RoomInfo(made_wall=admission.wall)
            room = self._open_room(grants.room, admission.policy, about, now=now)
        room.policy = admission.policy
        participant = Participant(
            self._ids.sid("PA_"),
            room,
            client,
            grants=grants,
            rights=admission.rights,
            client_can=Capabilities.from_join_request(request),
            data_limits=self._config.limits.data,
            wall=admission.wall,
            now=now,
        )
        limits = self._config.limits
        response = _join_response(admission.policy, resumes=limits.resume > 0, dual=dual)
        response.ice_servers.extend(self.ice_servers(participant))
        participant.template = Template() if dual else None
        room.enter(participant, response, max_sections=limits.sections, now=now)
        for sid in subscribe:
            room.subscribe(participant, sid, now=now)
        try:
            if dual:
                offer_to(participant, now=now)
            for add_track in request.add_track_requests[: requests.MAX_PENDING]:
                requests.add_track(participant, add_track, ids=self._ids, now=now)
            if request.HasField("publisher_offer"):
                requests.offer(participant, request.publisher_offer, ids=self._ids, now=now)
        except ClientError as error:
            self._expel(participant, error, Action.DISCONNECT, now=now)
            return None
        except Exception:
            self.client_failed(participant, now=now)  # or he would stay, half in the room, until a time-out
            raise
        refresh.send_if_due(participant, self._config, now=now)
        return participant

    def _resume(self, client: Client, admission: Admission, *, now: float) -> Participant | None:
        """Back under the same sid; or told to join anew, and nobody else is touched."""
        grants = admission.grants
        room = self.rooms.get(grants.room)
        participant = None if room is None else room.participants.get(grants.identity)
        known = participant is not None and participant.sid == admission.request.participant_sid
        if participant is None or not known or not resume.is_possible(participant, now=now):
            self._announcer.announce("resume_refused", {"room": "" if room is None else room.sid})
            client.send(leave(Reason.STATE_MISMATCH, Action.RECONNECT))
            client.close(1000, "nothing to resume")
            return None
        if simulation.takes(participant, client):
            return None
        seconds = 0.0 if participant.lost_at is None else now - participant.lost_at
        # By the token with which he has come back, which may last longer; and whoever is removed takes it with him.
        servers = self.ice_servers(participant, expires=grants.expires)
        own = participant.grants
        not_before, expires = max(own.not_before, grants.not_before), max(own.expires, grants.expires)
        participant.grants = dataclasses.replace(own, not_before=not_before, expires=expires)
        resume.resume(participant, client, _server_info(), ice_servers=servers, now=now)
        self._announcer.announce(
            "participant_resumed", {"room": participant.room.sid, "participant": participant.sid, "seconds": seconds}
        )
        refresh.send_if_due(participant, self._config, now=now)
        simulation.resumed(participant)
        return participant

    def ice_servers(self, participant: Participant, *, expires: float | None = None) -> list[rtc.ICEServer]:
        """With credentials of his own; none where we have no TURN server."""
        if self.turn is None:
            return []
        return [self.turn.server(participant.sid, expires=participant.grants.expires if expires is None else expires)]

    def _check_capacity(self, grants: Grants, room_policy: RoomPolicy) -> None:
        room = self.rooms.get(grants.room)
        if room is not None and grants.identity in room.participants:
            return  # he replaces himself
        self._check_place(grants.room)
        if room is not None and len(room.participants) >= room.about.capacity_of(room_policy):
            raise Full("The room is full.", rule="room_capacity")
        if self._in_rooms >= self._config.limits.participants:
            raise Full("The server is full.", rule="server_capacity")

    def _check_place(self, name: str) -> None:
        """A room of this name could live here now; raises Full."""
        if self._suspects.refuses(name):
            raise Full("This room has failed too often. Please try again in a minute.", rule="room_refused")
        if all(worker.engine.busy is None for worker in self._workers):
            raise Full("The server is restarting. Please try again in a moment.", rule="no_worker")
        if name not in self.rooms and len(self.rooms) >= self._config.limits.rooms and self._emptiest() is None:
            raise Full("The server is full.", rule="room_count")

    def _emptiest(self) -> Room | None:
        """The room that has been empty for the longest time."""
        empty = [room for room in self.rooms.values() if room.empty_since is not None]
        return min(empty, key=lambda room: room.empty_since or 0.0, default=None)

    def _open_room(self, name: str, room_policy: RoomPolicy, about: RoomInfo, *, now: float) -> Room:
        if len(self.rooms) >= self._config.limits.rooms and (forgotten := self._emptiest()) is not None:
            self._forget(forgotten, Ended.ROOM_END_SUPERSEDED)
        room = Room(
            name,
            self._ids.sid("RM_"),
            policy=room_policy,
            worker=self._worker_for(name),
            ids=self._ids,
            transports=self._transports,
            announcer=self._announcer if room_policy.stay is None else netcheck.Unheard(),
            about=about,
            now=now,
        )
        self.rooms[name] = room
        reports.room_started(room)
        return room

    def _forget(self, room: Room, reason: models.RoomEndReason) -> None:
        del self.rooms[room.name]
        reports.room_finished(room, reason)

    def _worker_for(self, name: str) -> Worker:
        """Where a new room of this name goes."""
        keeper = self._suspects.keeper(name)
        if keeper is not None and keeper.engine.busy is not None:
            return keeper
        return self._workers[least_loaded([self._load(worker) for worker in self._workers])]

    def _load(self, worker: Worker) -> Load | None:
        busy = worker.engine.busy
        if busy is None:
            return None
        rooms = [room for room in self.rooms.values() if room.worker is worker]
        return Load(busy, quiet=sum(room.is_quiet for room in rooms), rooms=len(rooms))

    # --- in the room -------------------------------------------------------------------------------------------------

    def message(self, participant: Participant, request: rtc.SignalRequest, *, now: float) -> None:
        """One signalling message. What no correct client sends ends in `leave` and a close, never in an exception."""
        if participant.state is State.DISCONNECTED:
            return
        try:
            if request.WhichOneof("message") == "simulate":
                allowed, announcer = self._config.testing.simulate, self._announcer
                simulation.answer(participant, request.simulate, allowed=allowed, announcer=announcer, now=now)
            else:
                requests.answer(participant, request, ids=self._ids, now=now)
        except ClientError as error:
            self.client_error(participant, error, now=now)

    def client_error(self, participant: Participant, error: ClientError, *, now: float) -> None:
        """He sent what no correct client sends."""
        # A new join heals what went wrong between two descriptions; nothing heals a flood.
        action = Action.RECONNECT if isinstance(error, BadRequest) else Action.DISCONNECT
        self._expel(participant, error, action, now=now)

    def client_lost(self, participant: Participant, client: Client, *, now: float) -> None:
        """A signalling connection of his has ended. Whoever has left before that, or has another, is not concerned."""
        if participant.state is State.DISCONNECTED or participant.client is not client:
            return
        participant.client = None
        if participant.state is not State.ACTIVE or participant.closed_at is not None:
            participant.room.leave(participant, Reason.SIGNAL_CLOSE, now=now)
            return
        participant.lost_at = now
        participant.room.signal_lost(participant)

    def client_failed(self, participant: Participant, *, now: float) -> None:
        """Our own fault while serving him: he is asked to join again."""
        participant.room.leave(
            participant, Reason.UNKNOWN_REASON, action=Action.RECONNECT, code=1011, sentence="internal error", now=now
        )

    def _expel(
        self, participant: Participant, error: ClientError, action: rtc.LeaveRequest.Action, *, now: float
    ) -> None:
        self._announcer.announce(
            "client_error", {"room": participant.room.sid, "participant": participant.sid, "rule": error.rule}
        )
        participant.room.leave(
            participant,
            Reason.STATE_MISMATCH if action == Action.RECONNECT else Reason.JOIN_FAILURE,
            action=action,
            code=error.close_code,
            sentence=str(error),
            now=now,
        )

    # --- the server API ----------------------------------------------------------------------------------------------

    def moderate(self, grants: Grants, request: Request, *, wall: float, now: float) -> Response:
        """What a moderator asks about somebody in a room. Raises ClientError."""
        return self._moderation.answer(grants, request, config=self._config, wall=wall, now=now)

    def call(self, method: str, grants: Grants, request: Message, *, wall: float, now: float) -> Message:
        """One call of `roomcalls.CALLS`. Raises ClientError."""
        return self._calls.answer(method, grants, request, config=self._config, wall=wall, now=now)

    def make_room(self, name: str, info: RoomInfo, *, now: float) -> Room:
        """Before anybody joins; `roomcalls.Rooms`."""
        self._check_open(name)
        self._check_place(name)
        return self._open_room(name, policy.room_policy(self._config, name), info, now=now)

    def end_room(self, place: Room, *, now: float) -> None:
        """Everyone has to go; who joins afterwards makes a new one."""
        self._empty_room(place, Reason.ROOM_DELETED, now=now, action=Action.DISCONNECT)
        self._forget(place, Ended.ROOM_END_API_DELETE)

    # --- what the worker reports -------------------------------------------------------------------------------------

    def engine_event(self, engine: Engine, event: Event, *, now: float) -> None:
        """Every event of a worker but Dtls and Debug, which its driver hands to others."""
        match event:
            case Event.TransportGone(transport=transport):
                self._media_lost(TransportId(transport), Reason.CONNECTION_TIMEOUT, now=now)
            case Event.Voices(voices=voices):
                self._heard(voices, now=now)
            case Event.Links(links=links):
                self._measured(links)
            case Event.Estimates(estimates=estimates):
                for estimate in estimates:
                    viewer = self._transports.get(TransportId(estimate.transport))
                    if viewer is not None:
                        viewer.quality.estimated(estimate)
                        bandwidth.measure(viewer, estimate, now=now)
            case Event.Rates(rates=rates):
                self._weigh(engine, rates, now=now)
            case Event.LayerChanged(subscription=subscription, spatial=spatial):
                self._layer_changed(engine, subscription, spatial)
            case Event.WorkerDied(transport=transport):
                self._worker_died(engine, transport, now=now)
            case _:
                pass  # EncodingActive, PathChanged: the engine acts on them by itself

    def _measured(self, links: Sequence[Link]) -> None:
        by_transport = {link.transport: link for link in links}
        for link in links:
            participant = self._transports.get(TransportId(link.transport))
            if participant is None or participant.transport != link.transport:
                continue
            sending = by_transport.get(participant.sending.transport or 0)
            if sending is not None and sending is not link:  # one direction of each
                silent = min(link.silent_ms, sending.silent_ms)
                link = Link(
                    transport=link.transport,
                    up=sending.up,
                    down=link.down,
                    sent=link.sent,
                    silent_ms=silent,
                    round_trip_ms=link.round_trip_ms,
                )
            participant.quality.measure(link)

    def _heard(self, voices: Sequence[Voice], *, now: float) -> None:
        rooms: dict[str, Room] = {}
        for voice in voices:
            participant = self._transports.get(TransportId(voice.transport))
            if participant is not None:
                participant.room.heard(participant, voice, now=now)
                rooms[participant.room.name] = participant.room
        for room in rooms.values():
            room.tell_speakers(now=now)

    def _weigh(self, engine: Engine, rates: Sequence[Rate], *, now: float) -> None:
        by_publication: dict[int, list[Rate]] = {}
        for rate in rates:
            by_publication.setdefault(rate.publication, []).append(rate)
        for room in self.rooms.values():
            if room.worker.engine is engine:
                for participant in room.participants.values():
                    for publication in participant.publications.values():
                        for codec in publication.codecs:
                            for rate in by_publication.get(codec.id, ()):
                                codec.weights.measure(rate, now=now)

    def _layer_changed(self, engine: Engine, subscription: int, spatial: int | None) -> None:
        for room in self.rooms.values():
            if room.worker.engine is engine and (found := room.forwarded.get(SubscriptionId(subscription))) is not None:
                found.current = spatial
                return

    def transport_connected(self, transport: TransportId, *, now: float) -> None:
        participant = self._transports.get(transport)
        if participant is not None and participant.transport == transport:  # he receives on it; his other may follow
            participant.room.connected(participant, now=now)

    def transport_failed(self, transport: TransportId, reason: str, *, now: float) -> None:
        self._announcer.announce("transport_failed", {"reason": reason})
        participant = self._transports.get(transport)
        if reason == "closed" and participant is not None and participant.client is not None:
            # Clients that leave close their transport first, and their `leave` is slower than that.
            participant.closed_at = now
        else:
            self._media_lost(transport, Reason.MEDIA_FAILURE, now=now)

    def data_ready(self, transport: TransportId, kind: DataKind, *, now: float) -> None:
        participant = self._transports.get(transport)
        if participant is not None and participant.transport == transport:
            datapacket.channel_open(participant, kind, now=now)

    def data_received(self, transport: TransportId, kind: DataKind, payload: bytes, *, now: float) -> Taken:
        participant = self._transports.get(transport)
        if participant is None:
            return Taken()
        participant.room.introduce(participant, now=now)
        outcome = datapacket.relay(participant, kind, payload, now=now)
        if isinstance(outcome, str):
            self._announcer.announce("data_refused", {"reason": outcome})
            return Taken()
        return outcome

    def data_ended(self, transport: TransportId, reason: str, *, now: float) -> None:
        self._announcer.announce("data_ended", {"reason": reason})

    def _media_lost(self, transport: TransportId, reason: models.DisconnectReason, *, now: float) -> None:
        """With the transport everything of his is gone, and his client joins anew."""
        participant = self._transports.get(transport)
        if participant is not None:
            participant.room.leave(participant, reason, action=Action.RECONNECT, now=now)

    def _worker_died(self, engine: Engine, transport: int | None, *, now: float) -> None:
        """Its rooms are gone, and only they: everyone in them joins anew.

        `transport`: with whose packets or commands it was busy when it died. A room that this happens to again and
        again is kept out for a while, for the sake of the others on its worker.
        """
        culprit = None if transport is None else self._transports.get(transport)  # type: ignore[call-overload]
        if culprit is not None and self._suspects.blame(culprit.room.name, culprit.room.worker, now=now):
            self._announcer.announce("room_refused", {"room": culprit.room.sid})
        for room in list(self.rooms.values()):
            if room.worker.engine is engine:
                self._empty_room(room, Reason.MEDIA_FAILURE, now=now)
                self._forget(room, Ended.ROOM_END_UNKNOWN)
        self._announcer.announce("worker_died", {})

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self, *, now: float) -> None:
        """Time-outs; called a few times a second."""
        self._suspects.forget(now=now)
        for room in list(self.rooms.values()):
            for participant in list(room.participants.values()):
                if participant.state is State.JOINED and now - participant.joined_at >= CONNECT_SECONDS:
                    room.leave(participant, Reason.CONNECTION_TIMEOUT, action=Action.RECONNECT, now=now)
                elif participant.template is not None and participant.template.is_overdue(now=now):
                    room.leave(participant, Reason.JOIN_FAILURE, action=Action.RECONNECT, now=now)
                elif participant.closed_at is not None and now - participant.closed_at >= CLOSED_SECONDS:
                    room.leave(participant, Reason.MEDIA_FAILURE, action=Action.RECONNECT, now=now)
                elif room.policy.stay is not None and now - participant.joined_at >= room.policy.stay:
                    room.leave(participant, Reason.ROOM_CLOSED, now=now)
                elif participant.lost_at is not None and now - participant.lost_at >= self._config.limits.resume:
                    room.leave(participant, Reason.SIGNAL_CLOSE, now=now)
                else:
                    exchange.require_sections(participant, now=now)
                    refresh.send_if_due(participant, self._config, now=now)
                    participant.mail.forget(now=now)
                    simulation.tick(participant, now=now)
            room.tick(now=now)
            if room.empty_since is not None and now - room.empty_since >= room.idle_timeout:
                self._forget(room, Ended.ROOM_END_IDLE_TIMEOUT)

    def reconfigure(self, config: Config, *, now: float) -> int:
        """Live settings from a newly loaded configuration: they hold for whoever joins next.

        Whoever has come with a token that is taken back by now has to go. Returns how many.
        """
        self._config = config
        people = (each for room in self.rooms.values() for each in room.participants.values())
        gone = [each for each in people if tokens.is_revoked(each.grants, config)]
        for participant in gone:
            participant.room.leave(
                participant,
                Reason.PARTICIPANT_REMOVED,
                code=1008,
                sentence="the token was taken back",
                cause="token_revoked",
                now=now,
            )
        return len(gone)

    @property
    def people(self) -> int:
        return len(self._transports)

    def drain(self) -> None:
        """No new rooms from now on. Calls that run go on, and who has lost his may come back into it."""
        if not self.draining:
            self._running = frozenset(name for name, room in self.rooms.items() if room.participants)
        self.draining = True

    def send_away(self, share: float, *, now: float) -> None:
        """At most this share (0 to 1) of those who were here at the first call is asked to join again by now: rooms
        whole, in the order of departure.py. A room that has gone is refused here, as every new one is."""
        if self._to_go is None:
            self._to_go = self._in_rooms
        while (room := departure.next_room(self.rooms.values())) is not None:
            left = self._in_rooms - len(room.participants)
            if self._to_go - left > share * self._to_go and share < 1:
                return
            self._running -= {room.name}
            self._empty_room(room, Reason.SERVER_SHUTDOWN, now=now)

    @property
    def _in_rooms(self) -> int:
        return sum(len(room.participants) for room in self.rooms.values())

    def _refuses(self, room: str) -> bool:
        return self._closed or (self.draining and room not in self._running)

    def close(self, *, now: float) -> None:
        """Everyone is asked to join again; joins are refused from now on."""
        self.draining = self._closed = True
        for room in list(self.rooms.values()):
            self._empty_room(room, Reason.SERVER_SHUTDOWN, now=now)
            self._forget(room, Ended.ROOM_END_SERVER_SHUTDOWN)

    def _empty_room(
        self,
        room: Room,
        reason: models.DisconnectReason,
        *,
        action: rtc.LeaveRequest.Action = Action.RECONNECT,
        now: float,
    ) -> None:
        # Those who go are not told of each other: all of them go.
        people = departure.in_order(room.participants.values())
        for participant in people:
            participant.hang_up(reason, action)
        for participant in people:
            room.leave(participant, reason, now=now)

    def debug_state(self) -> dict[str, Any]:
        return {
            "draining": self.draining,
            "rooms": len(self.rooms),
            "participants": self._in_rooms,
            "workers": len(self._workers),
        }

    def debug_rooms(self) -> dict[str, Any]:
        return {name: {"sid": room.sid, "participants": len(room.participants)} for name, room in self.rooms.items()}

    def debug_room(self, name: str) -> dict[str, Any] | None:
        room = self.rooms.get(name)
        return room.debug_state() if room is not None else None


def _server_info() -> models.ServerInfo:
    return models.ServerInfo(edition=models.ServerInfo.Edition.Standard, version=SERVER_VERSION, protocol=PROTOCOL)


def _join_response(room_policy: RoomPolicy, *, resumes: bool, dual: bool) -> rtc.JoinResponse:
    """What does not depend on the room's people; `Room.enter` adds them."""
    setting = models.ClientConfigSetting
    mime_types = [MIME_TYPES[CODECS[codec]] for codec in room_policy.codecs]
    video_first = sorted(mime_types, key=lambda mime_type: mime_type.startswith("audio/"))
    return rtc.JoinResponse(
        server_version=SERVER_VERSION,
        server_info=_server_info(),
        subscriber_primary=dual,  # else there is one peer connection, and the client makes all offers
        ping_interval=PING_INTERVAL,
        ping_timeout=PING_TIMEOUT,
        client_configuration=models.ClientConfiguration(
            resume_connection=setting.ENABLED if resumes else setting.DISABLED,
        ),
        enabled_publish_codecs=[models.Codec(mime=mime_type) for mime_type in video_first],
    )
