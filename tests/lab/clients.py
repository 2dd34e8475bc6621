"""Which client does what, as the tests found it (tests/e2e/test_clients.py): `make clients` runs them, and writes the
table into the README between its two marks. Nobody types a cell."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.lab.server import TOP

BEGIN, END = "<!-- clients -->\n", "<!-- /clients -->"
STEPS: Final = (
    "join",
    "publish",
    "subscribe",
    "simulcast",
    "data",
    "mute",
    "resume",
    "ICE restart",
    "full reconnect",
)
CLIENTS: Final = (
    "JS single",
    "JS dual",
    "Firefox ESR",
    "Python single",
    "Python dual",
    "Go",
    "WHIP (`whip-whep`)",
    "WHIP (FFmpeg)",
    "WHEP (`whip-whep`)",
)
# What a client's protocol does not define, and why.
_HTTP: Final = {
    "data": "neither WHIP (RFC 9725) nor WHEP has a data channel",
    "mute": "WHIP has no message for it: who mutes sends silence",
    "resume": "there is no signalling connection that could be lost",
}
UNDEFINED: Final[Mapping[str, Mapping[str, str]]] = {
    "WHIP (`whip-whep`)": {**_HTTP, "subscribe": "WHIP only sends"},
    "WHIP (FFmpeg)": {
        **_HTTP,
        "subscribe": "WHIP only sends",
        "simulcast": "FFmpeg's muxer sends one encoding",
        "ICE restart": "FFmpeg's muxer has none",
    },
    "WHEP (`whip-whep`)": {**_HTTP, "publish": "WHEP only receives", "simulcast": "WHEP only receives"},
}
WHAT: Final = """`single` and `dual` are the SDKs' own modes, with one peer connection and with two. Each cell is a step
with livekit-client in Chromium on the other side: it sees the right colour and hears the right pitch, or is seen and
heard. A full reconnect is joining anew by itself after longer than anybody is kept; for WHIP and WHEP it is a new
session that takes the place of the old one."""


def table(outcomes: Mapping[str, str]) -> str:
    """`outcomes`: \"yes\" or \"no\" by \"client: step\"."""
    notes: list[str] = []
    lines = ["| | " + " | ".join(STEPS) + " |", "|---" * (len(STEPS) + 1) + "|"]
    for client in CLIENTS:
        cells = []
        for step in STEPS:
            reason = UNDEFINED.get(client, {}).get(step)
            if reason is None:
                cells.append(outcomes.get(f"{client}: {step}", "not run"))
                continue
            if reason not in notes:
                notes.append(reason)
            cells.append(f"– ({notes.index(reason) + 1})")
        lines.append(f"| {client} | " + " | ".join(cells) + " |")
    notes = [f"({number}) {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", WHAT, "", "; ".join(notes) + ". Written by `make clients`.", ""])


def outcomes(report: Path) -> dict[str, str]:
    """What the tests have recorded, in the report of a run of pytest."""
    every = ElementTree.parse(report).iter("property")
    return {each.attrib["name"]: each.attrib["value"] for each in every}


def main(report: str) -> None:
    readme = TOP / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(before + BEGIN + table(outcomes(Path(report))) + END + after)


if __name__ == "__main__":
    main(sys.argv[1])
