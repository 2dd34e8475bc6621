"""The network check over HTTP: a place of one's own, made of WHIP and WHEP, that ends by itself and tells nobody."""

from __future__ import annotations

import pytest

from d4e_sfu.config import Config
from d4e_sfu.core import netcheck
from d4e_sfu.core.netcheck import Way
from d4e_sfu.drivers.whip import SDP
from tests.conftest import MintToken
from tests.drivers.test_whip import House, house, offer, problem  # noqa: F401  house is the fixture


async def test_what_is_sent_comes_back_to_him_alone(house: House) -> None:  # noqa: F811
    _, watcher = house.join("an")
    watcher.responses.clear()
    assert (await house.publish("/check/send")).status == 201
    answer = await house.ask("POST", "/check/receive", offer(direction="recvonly"), Content_Type=SDP)
    assert answer.status == 201
    (room,) = [room for room in house.sfu.rooms.values() if room.name != "ward"]
    sender, receiver = room.participants.values()
    assert {each.publication.publisher.sid for each in receiver.subscriptions.values()} == {sender.sid}
    assert len(receiver.subscriptions) == 2
    assert watcher.responses == []
    assert list(house.people) == ["an"]
    assert (await house.ask("DELETE", answer.headers["Location"])).status == 200
    assert list(room.participants) == ["send"]


async def test_each_way_is_one_connection_and_nobody_else_gets_at_it(house: House, mint: MintToken) -> None:  # noqa: F811
    for way in (Way.UDP, Way.TCP, Way.TLS):
        answer = await house.ask("POST", f"/check/{way}", offer("audio"), Content_Type=SDP)
        assert answer.status == 201
    (room,) = house.sfu.rooms.values()
    assert list(room.participants) == ["udp", "tcp", "tls"]
    location = answer.headers["Location"]
    await problem(await house.ask("DELETE", location, identity="another"), 404)
    await problem(await house.ask("DELETE", location.replace("/tls/", "/udp/")), 403)
    await problem(await house.ask("DELETE", location.replace("/check/tls/", "/whip/ward/")), 404)
    await problem(await house.publish("/check/pigeon"), 404)
    await problem(await house.publish("/check/udp", token=""), 401)
    # Nor is there a token that names the place.
    await problem(await house.publish("/whip/x", token=mint("camera-1", "doctor", room=room.name)), 401)
    assert list(room.participants) == ["udp", "tcp", "tls"]


async def test_who_may_only_watch_can_check_both_directions(house: House, mint: MintToken) -> None:  # noqa: F811
    observer = mint("camera-1", "observer")
    await problem(await house.publish(token=observer), 403)
    assert (await house.publish("/check/send", token=observer)).status == 201


async def test_it_ends_by_itself_and_leaves_nothing(house: House) -> None:  # noqa: F811
    told: list[str] = []
    house.sfu._announcer.announce = lambda event, facts: told.append(event)  # type: ignore[method-assign]
    assert (await house.publish("/check/send")).status == 201
    (participant,) = next(iter(house.sfu.rooms.values())).participants.values()
    participant.joined_at = 0.0
    house.sfu.tick(now=netcheck.STAY - 0.1)
    assert house.whip.sessions == 1
    house.sfu.tick(now=netcheck.STAY)
    house.sfu.tick(now=netcheck.STAY)
    assert house.sfu.rooms == {}
    assert house.whip.sessions == 0
    assert told == []


async def test_its_terms_are_for_whoever_may_join(house: House, config: Config, mint: MintToken) -> None:  # noqa: F811
    await problem(await house.ask("GET", "/check", token=""), 401)
    await problem(await house.ask("GET", "/check", token=mint("camera-1", "no-such-role")), 401)
    answer = await house.ask("GET", "/check")
    assert answer.status == 200
    terms = await answer.json()
    assert terms["seconds"] == netcheck.SECONDS < netcheck.STAY
    assert terms["needs"].keys() == {"voice", "picture"}


@pytest.mark.parametrize("draining", [False, True])
async def test_a_server_that_is_full_or_goes_away_says_so(house: House, config: Config, draining: bool) -> None:  # noqa: F811
    if draining:
        house.sfu.drain()
    else:
        house.sfu.reconfigure(
            config.model_copy(update={"limits": config.limits.model_copy(update={"participants": 0})}), now=0.0
        )
    await problem(await house.publish("/check/send"), 503)


async def test_a_running_room_is_no_reason_to_begin_a_check_while_the_server_drains(house: House) -> None:  # noqa: F811
    house.join("an")
    assert (await house.publish("/check/send")).status == 201
    house.sfu.drain()
    sentence = await problem(await house.publish("/check/send", token=house.mint("binh", "doctor")), 503)
    assert "takes no new calls" in sentence
    receive = await house.ask("POST", "/check/receive", offer(direction="recvonly"), Content_Type=SDP)
    assert receive.status == 201, "one that has begun goes on"
