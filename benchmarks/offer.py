"""What an offer of forty sections costs the control plane; a client in a call of twenty makes it again for each change.

Chromium's own sections, the core as it is, doubles for engine and sockets; rows in `results/bench.json`.

`python -m benchmarks.offer`.
"""

from __future__ import annotations

import re
import time
import zlib
from pathlib import Path

from livekit.protocol import rtc

from benchmarks.results import record
from d4e_sfu.config import Config
from d4e_sfu.core import tokens
from d4e_sfu.drivers.websocket import WINDOW_BITS
from tests.conftest import KEY, WALL
from tests.core.house import House, Person
from tests.doubles import camera, microphone

VECTOR = Path(__file__).parent.parent / "tests/vectors/sdp/chromium-more-sections.sdp"
SECTIONS = 40
PEOPLE = 25
RUNS = 30
APART = 1.0  # s of the core's clock between two offers


def main() -> None:
    person, now = full_room()
    cold, warm = [], []
    for run in range(RUNS):
        texts = sections(change=run)
        cold.append(took(person, texts, now=now))
        # One section is not as it was: a change is why there is an offer.
        texts[run % SECTIONS] += f"\r\na=x-changed:{run}"
        warm.append(took(person, texts, now=now + APART))
        now += 2 * APART
    assert sum(subscription.mid is not None for subscription in person.participant.subscriptions.values()) == SECTIONS
    record("bench.json", "offer_40_sections_cold", cold, "ms", "<= 50")
    record("bench.json", "offer_40_sections_warm", warm, "ms", "<= 5")
    record("bench.json", "offer_25_people_shrinks", [shrinks(PEOPLE)], "times", ">= 40")


def full_room() -> tuple[Person, float]:
    """Somebody who receives twenty voices and twenty pictures."""

    def mint(identity: str, role: str | None = None, *, room: str) -> str:
        return tokens.mint(KEY, identity=identity, room=room, role=role, now=WALL)

    house = House(Config(keys=(KEY,)), mint)
    for n in range(SECTIONS // 2):
        publisher = house.join(f"p{n}")
        publisher.publish(microphone())
        publisher.publish(camera())
    request = rtc.JoinRequest(connection_settings=rtc.ConnectionSettings(auto_subscribe=True))
    request.publisher_offer.CopyFrom(rtc.SessionDescription(type="offer", sdp=description(sections()), id=1))
    return house.join("viewer", request=request), APART


def took(person: Person, texts: list[str], *, now: float) -> float:
    """Milliseconds of CPU from the message to the answer."""
    message = rtc.SignalRequest(offer=rtc.SessionDescription(type="offer", sdp=description(texts), id=2))
    person.client.responses.clear()
    began = time.process_time()
    person.house.sfu.message(person.participant, message, now=now)
    elapsed = time.process_time() - began
    assert person.client.kinds() == ["answer"], person.client.kinds()
    return elapsed * 1000


def shrinks(people: int) -> float:
    """How many times smaller the offer of somebody who sees and hears so many is on the wire, with our window."""
    text = description(sections(of=2 * people)).encode()
    compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -WINDOW_BITS)
    return len(text) / len(compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))


def sections(*, of: int = SECTIONS, change: int = 0) -> list[str]:
    """Of a client that receives; with another `change` no section is what it was."""
    _, *texts = VECTOR.read_text().replace("\r\n", "\n").split("\nm=")
    receiving = [text for text in texts if "a=recvonly" in text]
    kinds = [next(text for text in receiving if text.startswith(kind)) for kind in ("audio", "video")]
    made = [re.sub(r"a=mid:.*", f"a=mid:{n}", kinds[n % 2]).strip("\n") for n in range(of)]
    return [f"{text}\na=x-cold:{change}".replace("\n", "\r\n") for text in made]


def description(texts: list[str]) -> str:
    head = VECTOR.read_text().replace("\r\n", "\n").split("\nm=")[0]
    head = re.sub(r"a=group:BUNDLE.*", "a=group:BUNDLE " + " ".join(map(str, range(len(texts)))), head)
    return "\r\nm=".join([head.replace("\n", "\r\n"), *texts]) + "\r\n"


if __name__ == "__main__":
    main()
