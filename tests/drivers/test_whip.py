"""WHIP and WHEP over real sockets, with doubles behind the core: what is answered, in which words, what is touched."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from livekit.protocol import models, rtc

from d4e_sfu._engine import Command, Event
from d4e_sfu.config import Config, RoomRule, Source
from d4e_sfu.core.participant import Participant
from d4e_sfu.core.publication import PublicationState
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.core.tokens import token_id
from d4e_sfu.core.turn import Turn
from d4e_sfu.drivers import body
from d4e_sfu.drivers.entrance import Entrance
from d4e_sfu.drivers.whip import FRAGMENT, MAX_FRAGMENT, MAX_OFFER, SDP, Whip
from tests.conftest import WALL, MintToken
from tests.core.house import join_request
from tests.doubles import (
    ClientDouble,
    Description,
    EngineDouble,
    camera,
    microphone,
    sfu_on,
)

TRICKLE = (
    "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n"
    "a=candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host\r\na=end-of-candidates\r\n"
)
RESTART = TRICKLE.format(ufrag="another1", pwd="another-is-not-a-letter+".replace("-", "x"))


@dataclass
class House:
    sfu: Sfu
    engine: EngineDouble
    whip: Whip
    http: TestClient[web.Request, web.Application]
    mint: MintToken

    def join(self, identity: str) -> tuple[Participant, ClientDouble]:
        """Somebody with a stock client, who publishes voice and picture."""
        request, client, description = join_request(), ClientDouble(), Description(identity)
        request.publisher_offer.CopyFrom(description.offer())
        grants = self.sfu.verify(self.mint(identity, "doctor"), wall=WALL)
        participant = self.sfu.join(client, self.sfu.admit(grants, request, wall=WALL), now=0.0)
        assert participant is not None
        for track in (microphone(), camera()):
            self.sfu.message(participant, rtc.SignalRequest(add_track=track), now=0.0)
        description.publish("audio", "microphone")
        description.publish("video", "camera", simulcast=True)
        self.sfu.message(participant, rtc.SignalRequest(offer=description.offer(2)), now=0.0)
        return participant, client

    async def ask(
        self,
        method: str,
        path: str,
        text: str | bytes | None = None,
        *,
        token: str | None = None,
        identity: str = "camera-1",
        **headers: str,
    ) -> ClientResponse:
        bearer = self.mint(identity, "doctor") if token is None else token
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer:
            given.setdefault("Authorization", f"Bearer {bearer}")
        answer = await self.http.request(method, path, data=text, headers=given, allow_redirects=False)
        await answer.read()
        return answer

    async def publish(self, path: str = "/whip/ward", **more: Any) -> ClientResponse:
        return await self.ask("POST", path, offer(), **{"Content_Type": SDP, **more})

    async def patch(self, path: str, text: str = RESTART, **headers: str) -> ClientResponse:
        return await self.ask("PATCH", path, text, **{"Content_Type": FRAGMENT, **headers})

    @property
    def people(self) -> Mapping[str, Participant]:
        room = self.sfu.rooms.get("ward")
        return {} if room is None else room.participants


def offer(*kinds: str, direction: str = "sendonly", simulcast: bool = False) -> str:
    description = Description("whip", audios=0, videos=0)
    description.sections.clear()
    for kind in kinds or ("audio", "video"):
        if direction == "recvonly":
            description.add_receiving(kind, 1)
        else:
            description.publish(kind, f"{kind}-track", simulcast=simulcast and kind == "video")
    return description.sdp()


@pytest.fixture
async def house(config: Config, mint: MintToken) -> AsyncIterator[House]:
    engine = EngineDouble()
    sfu = sfu_on(engine, config)
    entrance, app = Entrance(config), web.Application()
    whip = Whip(sfu, entrance, wall=lambda: WALL)
    whip.setup(app)
    entrance.setup(app)
    async with TestClient(TestServer(app)) as http:
        yield House(sfu, engine, whip, http, mint)


async def problem(answer: ClientResponse, status: int) -> str:
    """RFC 9457; returns its sentence."""
    assert answer.status == status, await answer.text()
    assert answer.content_type == "application/problem+json"
    said: dict[str, Any] = await answer.json()
    assert said.keys() == {"type", "title", "status", "detail"}
    assert (said["type"], said["status"]) == ("about:blank", status)
    return str(said["detail"])


# --- publishing ------------------------------------------------------------------------------------------------------


async def test_a_publisher_is_an_ordinary_participant(house: House) -> None:
    _, watcher = house.join("an")
    watcher.responses.clear()
    answer = await house.publish()
    assert answer.status == 201
    assert answer.content_type == SDP
    assert re.fullmatch(r"/whip/ward/[A-Za-z0-9]+", answer.headers["Location"])
    assert re.fullmatch(r'"[A-Za-z0-9]+"', answer.headers["ETag"])
    text = await answer.text()
    assert text.count("a=recvonly\r\n") == 2
    assert "a=candidate:" in text
    assert "a=setup:passive\r\n" in text
    participant = house.people["camera-1"]
    tracks = {each.source.value: each for each in participant.publications.values()}
    assert {name: each.state for name, each in tracks.items()} == {
        "microphone": PublicationState.BOUND,
        "camera": PublicationState.BOUND,
    }
    (told,) = [each for each in watcher.last("update").participants if each.identity == "camera-1"]
    assert {track.sid for track in told.tracks} == {each.sid for each in tracks.values()}
    assert len(house.engine.take(Command.AddPublication)) == 4


async def test_one_track_and_simulcast_and_any_order_of_the_media(house: House) -> None:
    for number, (kinds, simulcast) in enumerate([(["audio"], False), (["video"], True), (["video", "audio"], True)]):
        answer = await house.ask(
            "POST", "/whip/ward", offer(*kinds, simulcast=simulcast), identity=f"cam-{number}", Content_Type=SDP
        )
        assert answer.status == 201
        assert ("a=simulcast:recv" in await answer.text()) == simulcast
        publications = house.people[f"cam-{number}"].publications.values()
        assert len(publications) == len(kinds)
        assert [each.is_simulcast for each in publications if each.is_video] == [True] * kinds.count("video")


async def test_a_passive_client_finds_us_active(house: House) -> None:
    text = offer().replace("a=setup:actpass", "a=setup:passive")
    answer = await house.ask("POST", "/whip/ward", text, Content_Type=SDP)
    assert answer.status == 201
    assert "a=setup:active\r\n" in await answer.text()


async def test_a_relay_for_those_behind_a_firewall_is_named(house: House) -> None:
    assert "Link" not in (await house.publish()).headers
    house.sfu.turn = Turn(host="meet.example.vn", ports=(443,), secret=b"secret")
    answer = await house.publish()
    name, password = house.sfu.turn.credentials(
        house.people["camera-1"].sid, expires=house.people["camera-1"].grants.expires
    )
    assert answer.headers["Link"] == (
        f'<turns:meet.example.vn:443?transport=tcp>; rel="ice-server"; username="{name}"; '
        f'credential="{password}"; credential-type="password"'
    )


async def test_delete_ends_it_once(house: House) -> None:
    location = (await house.publish()).headers["Location"]
    assert (await house.ask("DELETE", location, If_Match='"whatever"')).status == 200
    assert house.people == {}
    assert house.whip.sessions == 0
    await problem(await house.ask("DELETE", location), 404)
    await problem(await house.patch(location, If_Match="*"), 404)


async def test_a_session_ends_with_its_transport_and_with_a_moderators_word(house: House) -> None:
    for how in ("consent", "kicked", "replaced"):
        location = (await house.publish()).headers["Location"]
        participant = house.people["camera-1"]
        assert participant.transport is not None
        match how:
            case "consent":
                house.sfu.engine_event(house.engine, Event.TransportGone(participant.transport), now=40.0)
            case "kicked":
                participant.room.leave(participant, models.DisconnectReason.PARTICIPANT_REMOVED, now=1.0)
            case _:
                assert (await house.publish()).status == 201
                assert house.whip.sessions == 1
        await problem(await house.patch(location, If_Match="*"), 404)


async def test_a_session_ends_with_a_token_that_is_taken_back(house: House) -> None:
    location = (await house.publish()).headers["Location"]
    config = house.sfu._config.model_copy()
    config._revoked = frozenset({token_id(house.mint("camera-1", "doctor"))})
    assert house.sfu.reconfigure(config, now=1.0) == 1
    assert (house.whip.sessions, list(house.people)) == (0, [])
    await problem(await house.patch(location, If_Match="*"), 401)


async def test_no_description_of_a_page_of_another_name(house: House) -> None:
    """A forged Host goes nowhere: what we name is relative."""
    answer = await house.publish(Host="evil.example", X_Forwarded_Host="evil.example")
    assert answer.status == 201
    assert "evil" not in str(answer.headers)
    assert answer.headers["Location"].startswith("/whip/ward/")


@pytest.mark.parametrize("path", ["//whip/ward", "///whip/ward"])
async def test_a_session_is_on_this_server_however_many_slashes_a_client_writes(house: House, path: str) -> None:
    """RFC 3986 §4.2: what begins with two of them names another host, and his token would go there."""
    url = house.http.make_url("/").with_path(path)
    headers = {"Authorization": f"Bearer {house.mint('camera-1', 'doctor')}", "Content-Type": SDP}
    async with house.http.session.post(url, data=offer(), headers=headers) as answer:
        assert answer.status == 201
        location = answer.headers["Location"]
    assert re.fullmatch(r"/whip/ward/[A-Za-z0-9]+", location)
    assert (await house.ask("DELETE", location)).status == 200


# --- playing ---------------------------------------------------------------------------------------------------------


async def test_a_player_gets_what_the_server_picks_and_only_that(house: House) -> None:
    an, _ = house.join("an")
    house.join("binh")
    answer = await house.ask("POST", "/whep/ward", offer(direction="recvonly"), Content_Type=SDP)
    assert answer.status == 201
    text = await answer.text()
    assert text.count("a=sendonly\r\n") == 2
    player = house.people["camera-1"]
    assert {each.publication.publisher.sid for each in player.subscriptions.values()} == {an.sid}
    assert sorted(re.findall(r"a=msid:\S+ (\S+)\r\n", text)) == sorted(an.publications)
    assert [each.mid for each in player.subscriptions.values()] == ["0", "1"]
    house.join("chi")
    assert len(player.subscriptions) == 2
    assert (await house.ask("DELETE", answer.headers["Location"])).status == 200


async def test_a_screen_comes_before_cameras_and_its_owners_voice_with_it(house: House) -> None:
    house.join("an")
    binh, _ = house.join("binh")
    for each in binh.publications.values():
        if each.is_video:
            each.source = Source.SCREEN_SHARE
    answer = await house.ask("POST", "/whep/ward", offer(direction="recvonly"), Content_Type=SDP)
    assert answer.status == 201
    assert {each.publication.publisher.identity for each in house.people["camera-1"].subscriptions.values()} == {"binh"}


async def test_a_player_that_offers_both_ways_only_receives(house: House) -> None:
    house.join("an")
    text = offer(direction="recvonly").replace("a=recvonly", "a=sendrecv")
    answer = await house.ask("POST", "/whep/ward", text, Content_Type=SDP)
    assert answer.status == 201
    assert house.people["camera-1"].publications == {}
    assert (await answer.text()).count("a=sendonly\r\n") == 2


async def test_while_nothing_is_on_a_player_is_told_when_to_ask_again(house: House) -> None:
    answer = await house.ask("POST", "/whep/ward", offer(direction="recvonly"), Content_Type=SDP)
    await problem(answer, 409)
    assert int(answer.headers["Retry-After"]) > 0
    assert house.people == {}


# --- PATCH -----------------------------------------------------------------------------------------------------------


def trickle(participant: Participant) -> str:
    assert participant.remote is not None
    return TRICKLE.format(ufrag=participant.remote.ufrag, pwd=participant.remote.pwd)


async def test_candidates_are_taken_and_change_nothing(house: House) -> None:
    made = await house.publish()
    location, etag = made.headers["Location"], made.headers["ETag"]
    house.engine.commands.clear()
    answer = await house.patch(location, trickle(house.people["camera-1"]), If_Match=etag)
    assert (answer.status, await answer.read(), "ETag" in answer.headers) == (204, b"", False)
    assert house.engine.commands == []


@pytest.mark.parametrize("by_star", [True, False])
async def test_an_ice_restart_gets_new_credentials_and_a_new_name(house: House, by_star: bool) -> None:
    made = await house.publish()
    location, etag = made.headers["Location"], made.headers["ETag"]
    house.engine.commands.clear()
    answer = await house.patch(location, If_Match="*" if by_star else etag)
    assert answer.status == 200
    assert answer.content_type == FRAGMENT
    (restart,) = house.engine.commands
    assert isinstance(restart, Command.RestartIce)
    assert restart.remote_ufrag == "another1"
    assert answer.headers["ETag"] == f'"{restart.local_ufrag}"' != etag
    text = await answer.text()
    for line in (f"a=ice-ufrag:{restart.local_ufrag}", f"a=ice-pwd:{restart.local_pwd}", "a=end-of-candidates"):
        assert f"\r\n{line}\r\n" in text
    assert text.startswith("a=ice-lite\r\na=group:BUNDLE 0 1\r\nm=audio ")
    assert "a=candidate:" in text
    assert "fingerprint" not in text
    await problem(await house.patch(location, If_Match=etag), 412)
    # The same again is no other restart.
    assert (await house.patch(location, If_Match=answer.headers["ETag"])).status == 204


@pytest.mark.parametrize(
    ("headers", "text", "status"),
    [
        ({}, RESTART, 428),
        ({"If_Match": '"stale"'}, RESTART, 412),
        ({"If_Match": 'W/"weak"'}, RESTART, 412),
        ({"If_Match": ""}, RESTART, 412),
        ({"If_Match": "*", "Content_Type": SDP}, RESTART, 415),
        ({"If_Match": "*", "Content_Type": "application/json"}, "{}", 415),
        ({"If_Match": "*"}, "a" * (MAX_FRAGMENT + 1), 413),
        ({"If_Match": "*"}, "nonsense", 400),
        ({"If_Match": "*"}, "a=ice-ufrag:only\r\n", 400),
        ({"If_Match": "*"}, RESTART + "a=ice-ufrag:third\r\n", 400),
        ({"If_Match": "*"}, RESTART.replace("another1", "no\u00e9l1"), 400),
        ({"If_Match": "*"}, RESTART.replace("another1", "x"), 400),
        ({"If_Match": "*"}, "a=x\r\n" * 1001, 400),
    ],
)
async def test_a_patch_that_is_wrong_is_refused_and_the_session_goes_on(
    house: House, headers: dict[str, str], text: str, status: int
) -> None:
    made = await house.publish()
    house.engine.commands.clear()
    await problem(await house.patch(made.headers["Location"], text, **headers), status)
    assert house.engine.commands == []
    again = await house.patch(
        made.headers["Location"], trickle(house.people["camera-1"]), If_Match=made.headers["ETag"]
    )
    assert again.status == 204


async def test_a_patch_counts_for_the_session_that_is_there_when_all_of_it_has_come(house: House) -> None:
    """Two restarts under one name: the slower one is late by then."""
    made = await house.publish()
    location, etag = made.headers["Location"], made.headers["ETag"]
    rest = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield RESTART[:9].encode()
        await rest.wait()
        yield RESTART[9:].replace("another1", "another2").encode()

    slow = asyncio.ensure_future(house.patch(location, slowly(), If_Match=etag))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    assert (await house.patch(location, If_Match=etag)).status == 200
    house.engine.commands.clear()
    rest.set()
    await problem(await slow, 412)
    assert house.engine.commands == []


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "headers", "status"),
    [
        ("v=0\r\n", {"Content_Type": "application/json"}, 415),
        ("v=0\r\n", {"Content_Type": "text/plain"}, 415),
        ("nonsense", {}, 400),
        (b"\xff\xfe", {}, 400),
        ("x" * (MAX_OFFER + 1), {}, 413),
        (offer("audio", "audio"), {}, 422),
        (offer("video", "video"), {}, 422),
        (offer(direction="recvonly"), {}, 422),
        (offer().replace("VP8", "H999"), {}, 422),
        (offer().replace("a=fingerprint:sha-256", "a=fingerprint:sha-1"), {}, 400),
    ],
)
async def test_an_offer_that_cannot_be_answered_whole_is_refused_and_leaves_nobody(
    house: House, text: str | bytes, headers: dict[str, str], status: int
) -> None:
    answer = await house.ask("POST", "/whip/ward", text, **{"Content_Type": SDP, **headers})
    await problem(answer, status)
    assert house.people == {}
    assert house.whip.sessions == 0


async def test_only_a_token_for_this_room_and_this_right_makes_a_session(house: House, mint: MintToken) -> None:
    async def publish(**how: Any) -> ClientResponse:
        return await house.publish(**how)

    refused = await publish(token="")
    assert "token" in await problem(refused, 401)
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    for token in ("not.a.token", mint("camera-1", "doctor", ttl=-3600.0)):
        refused = await publish(token=token)
        await problem(refused, 401)
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    await problem(await publish(Authorization="Basic dXNlcjpwYXNz"), 401)
    await problem(await publish(token=mint("camera-1", "doctor", room="other")), 403)
    await problem(await publish(path="/whip/other"), 403)
    await problem(await publish(token=mint("camera-1", "observer")), 403)
    await problem(await publish(token=mint("camera-1", "doctor", video={"canPublishSources": ["microphone"]})), 403)
    assert house.people == {}
    house.join("an")
    whep = mint("camera-1", "doctor", video={"canSubscribe": False})
    answer = await house.ask("POST", "/whep/ward", offer(direction="recvonly"), token=whep, Content_Type=SDP)
    await problem(answer, 403)


async def test_a_session_answers_to_nobody_else(house: House, mint: MintToken) -> None:
    made = await house.publish()
    location, etag = made.headers["Location"], made.headers["ETag"]
    room = house.sfu.rooms["ward"]
    house.engine.commands.clear()
    for method in ("DELETE", "PATCH"):
        headers = {"If_Match": etag, "Content_Type": FRAGMENT}
        await problem(await house.ask(method, location, RESTART, token="", **headers), 401)
        await problem(await house.ask(method, location, RESTART, identity="camera-2", **headers), 403)
        other = mint("camera-1", "doctor", room="other")
        await problem(await house.ask(method, location, RESTART, token=other, **headers), 403)
        await problem(await house.ask(method, location[:-1] + "_", RESTART, **headers), 404)
        await problem(await house.ask(method, location.replace("/whip/", "/whep/"), RESTART, **headers), 404)
        await problem(await house.ask(method, location.replace("/ward/", "/other/"), RESTART, **headers), 404)
    assert list(room.participants) == ["camera-1"]
    assert house.engine.commands == []
    assert (await house.ask("DELETE", location)).status == 200


async def test_a_full_room_says_when_to_come_again(config: Config, house: House) -> None:
    house.sfu.reconfigure(config.model_copy(update={"rooms": (RoomRule(name="*", capacity=1),)}), now=0.0)
    assert (await house.publish()).status == 201
    refused = await house.publish(identity="camera-2")
    await problem(refused, 503)
    assert int(refused.headers["Retry-After"]) > 0


async def test_a_body_that_does_not_come_is_not_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.05)

    async def silent() -> AsyncIterator[bytes]:
        yield b"v=0\r\n"
        await asyncio.sleep(3)

    answer = await house.ask("POST", "/whip/ward", silent(), Content_Type=SDP)  # type: ignore[arg-type]
    await problem(answer, 400)


# --- the rest of HTTP ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/whip/ward", "/whep/ward", "/whip/ward/session"])
async def test_a_page_may_ask_what_is_taken_here_and_a_get_has_no_content(house: House, path: str) -> None:
    answer = await house.ask("OPTIONS", path, token="")
    assert answer.status == 204
    assert answer.headers["Accept-Post"] == SDP
    for name, words in (
        ("Access-Control-Allow-Methods", ("POST", "PATCH", "DELETE")),
        ("Access-Control-Allow-Headers", ("*", "Authorization")),
        ("Access-Control-Expose-Headers", ("Location", "ETag", "Link")),
    ):
        assert {*words} <= {word.strip() for word in answer.headers[name].split(",")}
    for method in ("GET", "HEAD"):
        answer = await house.ask(method, path, token="")
        assert (answer.status, await answer.read()) == (204, b"")
    assert (await house.ask("PUT", path)).status == 405
