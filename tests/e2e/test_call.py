"""Three people at the room page: what each of them sees, from the join link to leaving."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from playwright.async_api import Browser

from tests.lab.browser import Person, until
from tests.lab.server import Server

pytestmark = pytest.mark.browser
ROOM = "clinic"


async def three(browser: Browser, server: Server) -> tuple[Person, Person, Person]:
    doctor = await Person.arrive(browser, server, ROOM, "doctor", role="doctor")
    nurse = await Person.arrive(browser, server, ROOM, "nurse", role="health-worker")
    patient = await Person.arrive(browser, server, ROOM, "patient", role="patient")
    for person in (doctor, nurse, patient):
        await person.join()
    return doctor, nurse, patient


async def decodes(person: Person, other: str, source: str = "camera", *, more: int = 10) -> None:
    """Waits until `person` has shown `more` further frames of the other's picture."""
    before = await person.frames(other, source)
    await until(
        f"{person.identity} decodes {other}'s {source}",
        lambda: person.frames(other, source),
        seconds=25,
        so=lambda frames: frames >= before + more,
    )


async def test_three_people_see_and_hear_each_other(browser: Browser, server: Server) -> None:
    people = await three(browser, server)
    for person in people:
        for other in people:
            if other is not person:
                await decodes(person, other.identity)

    for person in people:
        voices = await until(
            f"{person.identity} receives two voices",
            partial(person.stats, "inbound-rtp", kind="audio"),
            so=lambda streams: sum(stream.get("packetsReceived", 0) > 50 for stream in streams) >= 2,
        )
        assert all(stream.get("packetsLost", 0) == 0 for stream in voices), voices

    await people[0].screenshot("call.png")
    for person in people:
        assert not [line for line in person.console if line.startswith(("error", "pageerror"))], person.console
        await person.close()


async def test_chat_reaches_everybody_else(browser: Browser, server: Server) -> None:
    doctor, nurse, patient = await three(browser, server)
    for person in (doctor, nurse, patient):
        await person.press("chat")
    await doctor.say("Xin chào! 👋")
    await patient.say("I hear you")
    for person in (doctor, nurse, patient):
        await until(
            f"{person.identity} reads both messages",
            person.messages,
            so=lambda texts: sorted(texts) == ["I hear you", "Xin chào! 👋"],
        )


async def test_mute_is_seen_and_stops_the_voice(browser: Browser, server: Server) -> None:
    doctor, nurse, _ = await three(browser, server)

    async def tile() -> dict[str, str]:
        return await nurse.tile("doctor") or {}

    await until("the doctor's voice is on", tile, so=lambda tile: tile.get("microphone") == "on")
    await doctor.press("microphone")
    await until("the nurse sees the doctor muted", tile, so=lambda tile: tile.get("microphone") == "off")
    await doctor.press("camera")
    await until("the nurse sees the doctor's camera off", tile, so=lambda tile: tile.get("camera") == "off")
    await doctor.press("microphone")
    await doctor.press("camera")
    await until("both are on again", tile, so=lambda tile: tile.get("microphone") == tile.get("camera") == "on")
    await decodes(nurse, "doctor")


async def test_a_shared_screen_is_decoded_by_the_others(browser: Browser, server: Server) -> None:
    doctor, nurse, patient = await three(browser, server)
    await doctor.press("screen")
    for person in (nurse, patient):
        await decodes(person, "doctor", "screen", more=2)
    await doctor.press("screen")
    for person in (nurse, patient):
        await until(
            f"{person.identity} sees the share end",
            partial(person.tile, "doctor", "screen"),
            so=lambda tile: tile is None,
        )


async def test_who_leaves_disappears_for_the_others_and_may_come_back(browser: Browser, server: Server) -> None:
    doctor, nurse, patient = await three(browser, server)
    await decodes(doctor, "nurse")
    await nurse.press("leave")
    await nurse.page.wait_for_selector("body[data-state=ended]")
    for person in (doctor, patient):
        await until(
            f"{person.identity} sees the nurse gone",
            partial(person.tile, "nurse"),
            so=lambda tile: tile is None,
            seconds=5,
        )
    await decodes(doctor, "patient")
    again = await Person.arrive(browser, server, ROOM, "nurse", role="health-worker")
    await again.join()
    await asyncio.gather(decodes(doctor, "nurse"), decodes(again, "doctor"))
