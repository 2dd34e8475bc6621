"""A house for the core's tests: an `Sfu` with one worker, and people who join it, in virtual time."""

from __future__ import annotations

import random
from typing import Any

from livekit.protocol import models, rtc

from d4e_sfu.config import Config
from d4e_sfu.core.participant import Participant
from d4e_sfu.core.sfu import Sfu
from tests.conftest import WALL, MintToken
from tests.doubles import AnnouncerDouble, AssociationsDouble, ClientDouble, Description, EngineDouble


class House:
    """An Sfu with one worker, and people who join it."""

    def __init__(self, config: Config, mint: MintToken) -> None:
        self.engine = EngineDouble()
        self.associations = AssociationsDouble()
        self.announcer = AnnouncerDouble()
        self.sfu = Sfu(config, chance=random.Random(1), announcer=self.announcer)
        self.sfu.add_worker(self.engine, self.associations)
        self.mint = mint

    def join(
        self,
        identity: str,
        role: str | None = None,
        *,
        room: str = "ward",
        protocol: int = 16,
        now: float = 0.0,
        description: Description | None = None,
        request: rtc.JoinRequest | None = None,
        **claims: Any,
    ) -> Person:
        request = request or join_request(protocol=protocol)
        description = description or Description(identity)
        if not request.HasField("publisher_offer"):
            request.publisher_offer.CopyFrom(description.offer())
        grants = self.sfu.verify(self.mint(identity, role, room=room, **claims), wall=WALL)
        admission = self.sfu.admit(grants, request, wall=WALL)
        client = ClientDouble()
        participant = self.sfu.join(client, admission, now=now)
        return Person(self, participant, client, description)

    def resume(
        self, person: Person, *, sid: str | None = None, identity: str | None = None, now: float = 0.0
    ) -> Person:
        """Another connection of somebody who is in the room, as himself or as another."""
        request = rtc.JoinRequest(reconnect=True, participant_sid=person.sid if sid is None else sid)
        grants = self.sfu.verify(self.mint(identity or person.participant.identity, room="ward"), wall=WALL)
        client = ClientDouble()
        participant = self.sfu.join(client, self.sfu.admit(grants, request, wall=WALL), now=now)
        return Person(self, participant, client, person.description)


class Person:
    def __init__(
        self, house: House, participant: Participant | None, client: ClientDouble, description: Description
    ) -> None:
        self.house = house
        self.participant_or_none = participant
        self.client = client
        self.description = description
        self._offers = 1

    @property
    def participant(self) -> Participant:
        assert self.participant_or_none is not None
        return self.participant_or_none

    @property
    def sid(self) -> str:
        return self.participant.sid

    def ask(self, *, now: float = 0.0, **member: Any) -> None:
        self.house.sfu.message(self.participant, rtc.SignalRequest(**member), now=now)

    def offer(self, *, now: float = 0.0) -> rtc.SessionDescription:
        """A new offer of his description; returns the answer."""
        self._offers += 1
        self.ask(offer=self.description.offer(self._offers), now=now)
        answer: rtc.SessionDescription = self.client.last("answer")
        assert answer.id == self._offers
        return answer

    def connect(self, *, now: float = 0.0) -> None:
        assert self.participant.transport is not None
        self.house.sfu.transport_connected(self.participant.transport, now=now)

    def publish(self, request: rtc.AddTrackRequest, *, now: float = 0.0) -> str:
        """`add_track`, and the offer that carries it. Returns the sid."""
        self.ask(add_track=request, now=now)
        info = self.client.last("track_published").track
        video = request.type == models.TrackType.VIDEO
        self.description.publish("video" if video else "audio", request.cid, simulcast=len(request.layers) > 1)
        self.offer(now=now)
        return str(info.sid)


def join_request(*, protocol: int = 16, auto_subscribe: bool = True, adaptive_stream: bool = False) -> rtc.JoinRequest:
    return rtc.JoinRequest(
        client_info=models.ClientInfo(sdk=models.ClientInfo.SDK.PYTHON, protocol=protocol, client_protocol=2),
        connection_settings=rtc.ConnectionSettings(auto_subscribe=auto_subscribe, adaptive_stream=adaptive_stream),
    )
