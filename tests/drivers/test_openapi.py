"""docs/openapi.yaml: it is one, it has every route that is served and no other, and answers are as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from d4e_sfu.config import Config
from d4e_sfu.core.turn import Turn
from d4e_sfu.server import Server
from tests.drivers.test_server import small
from tests.drivers.test_whip import House, house  # noqa: F401  house is the fixture

DESCRIPTION: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs/openapi.yaml").read_text())
# The protocol of the stock SDKs, which has a description of its own.
STOCK = ("/rtc", "/twirp/")


def test_it_is_a_description() -> None:
    validate(DESCRIPTION)
    broken = {**DESCRIPTION, "paths": {"/x": {"get": {"responses": {"200": {}}}}}}
    with pytest.raises(Exception, match="description"):
        validate(broken)


def described() -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, item in DESCRIPTION["paths"].items()
        for method in item
        if method not in ("parameters", "servers")
    }


def served(method: str, path: str) -> Iterator[tuple[str, str]]:
    """As the description writes them: a route for several kinds is several paths. What goes with every path is none."""
    if method in ("HEAD", "OPTIONS"):
        return
    path = path.replace("{slashes}", "")
    if "{kind}" not in path:
        yield method, path
        return
    for kind, place in (("whip", "{room}"), ("whep", "{room}"), ("check", "{way}")):
        yield method, path.replace("{kind}", kind).replace("{place}", place)


async def test_every_route_is_described_and_nothing_else(config: Config) -> None:
    server = await Server.start(small(config))
    try:
        routes = {
            each
            for runner in server.http.runners
            for route in runner.app.router.routes()
            if route.resource is not None
            for each in served(route.method, route.resource.canonical)
        }
    finally:
        await server.stop()
    control = {("POST", "/{command}")}  # a socket of the operator's own machine, for our command line
    assert {each for each in routes if not each[1].startswith(STOCK)} - control == described()


async def test_the_terms_of_a_check_and_a_refusal_have_the_form_that_is_said(house: House) -> None:  # noqa: F811
    schemas = DESCRIPTION["components"]["schemas"]

    def check(name: str, value: object) -> None:
        OAS31Validator({"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}).validate(value)

    house.sfu.turn = Turn(host="meet.example.vn", ports=(443,), secret=b"secret")
    terms = await (await house.ask("GET", "/check")).json()
    assert terms["iceServers"][0]["urls"] == ["turns:meet.example.vn:443?transport=tcp"]
    check("Terms", terms)
    check("Problem", await (await house.publish("/check/udp", token="")).json())
    with pytest.raises(Exception, match="additional"):
        check("Terms", {**terms, "more": 1})
