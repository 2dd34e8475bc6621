"""What comes before every request: who is asking, how often, and what a refusal looks like."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from multidict import CIMultiDict

from d4e_sfu.config import Config, Http, Rate, Rates
from d4e_sfu.core.sfu import Sfu
from d4e_sfu.drivers.entrance import Entrance, client_address
from d4e_sfu.drivers.roomservice import ServerApi
from d4e_sfu.drivers.signal import Signalling
from d4e_sfu.errors import Unauthorized
from tests.conftest import WALL, MintToken
from tests.doubles import EngineDouble, sfu_on

FEW = Rate(per_second=0.5, burst=3)
MANY = Rate(per_second=1000, burst=1000)
CALL = "/twirp/livekit.RoomService/RemoveParticipant"
VALIDATE = "/rtc/v1/validate"


@dataclass
class House:
    http: TestClient[web.Request, web.Application]
    entrance: Entrance
    sfu: Sfu
    now: list[float] = field(default_factory=lambda: [0.0])

    async def validate(self, token: str, **headers: str) -> ClientResponse:
        return await self.http.get(VALIDATE, params={"access_token": token}, headers=headers)

    async def join(self, token: str, **headers: str) -> ClientResponse:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "aaaaaaaaaaaaaaaaaaaaaA=="}
        params = {"access_token": token, "join_request": "AA=="}
        return await self.http.get("/rtc/v1", params=params, headers={**upgrade, **key, **headers})

    async def call(self, token: str, **headers: str) -> ClientResponse:
        return await self.http.post(CALL, json={}, headers={"Authorization": f"Bearer {token}", **headers})


@asynccontextmanager
async def open_house(config: Config) -> AsyncIterator[House]:
    sfu = sfu_on(EngineDouble(), config)
    now = [0.0]
    entrance, app = Entrance(config, clock=lambda: now[0]), web.Application()
    entrance.setup(app)
    Signalling(sfu, entrance, wall=lambda: WALL).setup(app)
    ServerApi(sfu, entrance, wall=lambda: WALL).setup(app)
    server = TestServer(app)
    async with TestClient(server) as http:
        yield House(http, entrance, sfu, now)


def limited(config: Config, **rates: Rate) -> Config:
    return config.model_copy(update={"rates": Rates(**{"address": MANY, "key": MANY, "identity": MANY, **rates})})


@pytest.mark.parametrize("ask", [House.validate, House.join, House.call], ids=["validate", "join", "call"])
@pytest.mark.parametrize("of", ["address", "key", "identity"])
async def test_who_asks_too_often_is_told_when_to_come_again(
    config: Config, mint: MintToken, ask: Callable[..., Awaitable[ClientResponse]], of: str
) -> None:
    async with open_house(limited(config, **{of: FEW})) as house:
        for _ in range(3):
            assert (await ask(house, mint("an"))).status != 429
        for _ in range(2):
            refused = await ask(house, mint("an"))
            assert (refused.status, refused.headers["Retry-After"]) == (429, "2")
            assert refused.headers["Access-Control-Allow-Origin"] == "*"
            if refused.content_type == "application/json":
                assert (await refused.json())["code"] == "resource_exhausted"
        assert house.entrance.refusals[f"{of}_rate"] == 2
        house.now[0] += 2
        assert (await ask(house, mint("an"))).status != 429
        assert (await ask(house, mint("an"))).status == 429


async def test_the_loop_of_one_identity_leaves_room_for_others(config: Config, mint: MintToken) -> None:
    async with open_house(limited(config, identity=FEW)) as house:
        statuses = [(await house.validate(mint("an"))).status for _ in range(10)]
        assert statuses == [200] * 3 + [429] * 7
        assert (await house.validate(mint("binh"))).status == 200
        assert (await house.validate(mint("an", room="other"))).status == 200


async def test_forged_tokens_use_up_nothing_of_those_whom_they_name(config: Config, mint: MintToken) -> None:
    async with open_house(limited(config, key=FEW, identity=FEW)) as house:
        forged = mint("an")[:-4] + "AAAA"
        for _ in range(20):
            assert (await house.validate(forged)).status == 401
        assert (await house.validate(mint("an"))).status == 200


async def test_an_address_is_counted_before_its_token_is_looked_at(
    config: Config, mint: MintToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(limited(config, address=FEW)) as house:
        looked: list[str] = []

        def verify(token: str, **_: object) -> None:
            looked.append(token)
            raise Unauthorized("no", rule="signature")

        monkeypatch.setattr(house.sfu, "verify", verify)
        for _ in range(10):
            await house.validate("rubbish")
        assert len(looked) == 3


async def test_a_person_is_counted_before_his_join_request_is_inflated(
    config: Config, mint: MintToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflated: list[str] = []
    monkeypatch.setattr("d4e_sfu.drivers.signal._join_request", lambda text, limit: inflated.append(text))
    async with open_house(limited(config, identity=FEW)) as house:
        for _ in range(10):
            await house.join(mint("an"))
        assert len(inflated) == 3


async def test_a_reload_brings_other_rates(config: Config, mint: MintToken) -> None:
    async with open_house(limited(config, identity=FEW)) as house:
        for _ in range(5):
            last = await house.validate(mint("an"))
        assert last.status == 429
        house.entrance.reconfigure(limited(config))
        for _ in range(5):
            assert (await house.validate(mint("an"))).status == 200


async def test_behind_a_proxy_everyone_has_his_own_address_and_elsewhere_nobody_chooses_one(
    config: Config, mint: MintToken
) -> None:
    for proxies, statuses in (((), [200, 200, 200, 429, 429]), (("127.0.0.1",), [200] * 5)):
        behind = limited(config, address=FEW).model_copy(update={"http": Http(trusted_proxies=proxies)})
        async with open_house(behind) as house:
            answers = [await house.validate(mint("an"), **{"X-Forwarded-For": f"203.0.113.{n}"}) for n in range(5)]
            assert [answer.status for answer in answers] == statuses


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.5"], "192.0.2.1"),  # not a proxy of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["198.51.100.9, 203.0.113.5"], "203.0.113.5"),  # what the client made up is on the left
        ("10.0.0.1", ["198.51.100.9", "203.0.113.5"], "203.0.113.5"),  # RFC 9110 §5.3: as one list
        ("10.0.0.1", ["203.0.113.5, 10.0.0.2"], "203.0.113.5"),  # two proxies of ours
        ("10.0.0.1", ["203.0.113.5, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", ["10.0.0.9, 10.0.0.8"], "10.0.0.9"),  # all of ours: the farthest
        ("10.0.0.1", ["203.0.113.5, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["for=203.0.113.5"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5:4711"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [","], "10.0.0.1"),
        ("10.0.0.1", ["x" * 100_000], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.9," * 5000 + "203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", [], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("fd00::1", ["203.0.113.5"], "203.0.113.5"),
    ],
)
def test_who_is_asking(peer: str, said: list[str], address: str) -> None:
    proxies = [ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::1")]
    headers = CIMultiDict[str]()
    for each in said:
        headers.add("X-Forwarded-For", each)
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    assert client_address(request, proxies) == address
