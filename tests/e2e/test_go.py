"""The SDK for Go itself, with two peer connections on `/rtc`, and a native client: pion's WebRTC with libwebrtc's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.e2e.test_media import BLUE, PITCH_TOLERANCE, RED, like
from tests.lab.browser import until
from tests.lab.go_client import GoClient
from tests.lab.livekit_client import Decoded, LivekitClient
from tests.lab.server import Server

pytestmark = pytest.mark.long

ROOM = "ward"
PATIENCE = 40.0  # s; the machine may be busy


async def test_the_sdk_for_go_joins_publishes_subscribes_mutes_and_leaves(server: Server, tmp_path: Path) -> None:
    native, go = LivekitClient(), GoClient(tmp_path / "go")
    try:
        await native.join(server.ws, server.token(ROOM, "native", "doctor"))
        await native.publish(colour=BLUE, hertz=640, simulcast=False)
        await go.join(server, ROOM, "go")
        await go.publish(colour=RED, hertz=440)
        await until("it is published", partial(go.told, "published"), seconds=PATIENCE)

        def right(seen: Decoded, *, colour: tuple[int, int, int], hertz: float) -> bool:
            return seen.frames > 20 and like(seen.colour, colour) and abs(seen.hertz - hertz) < PITCH_TOLERANCE

        async def decoded() -> Decoded:
            return native.decoded.get("go", Decoded())

        blue, red = partial(right, colour=BLUE, hertz=640), partial(right, colour=RED, hertz=440)
        await until("it sees and hears the other", partial(go.decoded, "native"), seconds=PATIENCE, so=blue)
        await until("the other sees and hears it", decoded, seconds=PATIENCE, so=red)
        tracks = (await server.room(ROOM))["participants"][1]["publications"]
        assert sorted(each["encodings"] for each in tracks) == [1, 3]
        assert (await server.room(ROOM))["participants"][1]["uplink"] is not None

        await go.ask("say from Go")

        async def texts() -> list[tuple[str, str]]:
            return native.texts

        await until("the other reads it", texts, so=lambda got: got == [("go", "from Go")])

        async def events() -> list[tuple[str, str]]:
            return native.events

        for command, event in (("mute", "track_muted"), ("unmute", "track_unmuted")):
            await go.ask(command)
            await until(event, events, so=lambda told, event=event: told.count((event, "go")) == 2)  # type: ignore[misc]
        await go.leave()
        await until("it is gone", events, so=lambda told: ("participant_disconnected", "go") in told)
        assert not await go.told("reconnecting")
    finally:
        await go.leave()
        await native.leave()
