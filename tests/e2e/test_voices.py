"""Voices in the forms that clients send them, heard by a real decoder: redundant audio, codecs of old devices."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.e2e.test_media import hears
from tests.lab.browser import Client, until
from tests.lab.server import Server

pytestmark = pytest.mark.browser
ROOM = "ward"


async def codec(client: Client, direction: str) -> str:
    """In which format the voice goes out, or comes in, now."""
    names = {stats["id"]: stats["mimeType"] for stats in await client.stats("codec")}
    streams = await client.stats(f"{direction}-rtp", kind="audio")
    return next((str(names.get(stream.get("codecId"))) for stream in streams), "")


async def uses(client: Client, direction: str, mime_type: str) -> None:
    await until(
        f"{client.identity} has {direction} {mime_type}",
        lambda: codec(client, direction),
        so=lambda found: found == mime_type,
    )


async def test_redundant_audio_is_taken_apart_and_heard_by_who_takes_it_and_by_who_does_not(
    browser: Browser, server: Server
) -> None:
    speaker = await Client.join(browser, server, ROOM, "speaker")
    await speaker.publish(hertz=440, red=True)
    modern = await Client.join(browser, server, ROOM, "modern")
    plain = await Client.join(browser, server, ROOM, "plain", sounds=["opus"])
    for listener in (modern, plain):
        await hears(listener, "speaker", 440)

    # Statistics name what is inside, Opus, for all. What each packet brings with it shows in its size.
    async def sizes() -> tuple[float, float, float]:
        sent = (await speaker.stats("outbound-rtp", kind="audio"))[0]
        streams = [(await listener.stats("inbound-rtp", kind="audio"))[0] for listener in (modern, plain)]
        assert all(stream["packetsLost"] == 0 for stream in streams)
        first, second = (stream["bytesReceived"] / stream["packetsReceived"] for stream in streams)
        return sent["bytesSent"] / sent["packetsSent"], first, second

    sent, *received = await until(
        "packets with redundancy are nearly twice as large", sizes, so=lambda found: found[0] > 1.6 * found[1]
    )
    assert max(received) < 1.1 * min(received) < sent  # nobody loses any: nobody gets any twice


@pytest.mark.parametrize("name", ["PCMU", "PCMA"])
async def test_the_voice_of_an_old_device_is_heard(browser: Browser, server: Server, name: str) -> None:
    device = await Client.join(browser, server, ROOM, "device", sounds=[name.lower(), "telephone-event"])
    await device.publish(hertz=640)
    nurse = await Client.join(browser, server, ROOM, "nurse")
    await hears(nurse, "device", 640)
    await uses(device, "outbound", f"audio/{name}")
    await uses(nurse, "inbound", f"audio/{name}")
