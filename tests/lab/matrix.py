"""Which client decodes which codec of which other, by their own decoders: `make codecs` asks them, and puts the answer
into the README between its two marks. Nobody types a cell."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from playwright.async_api import Browser

from tests.lab.browser import Client, chromium, until
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import TOP, Server, running

BEGIN, END = "<!-- codecs -->\n", "<!-- /codecs -->"
ROOM = "matrix"
RED, BLUE = (200, 30, 30), (30, 30, 200)
SIZES = {"LOW": 320, "MEDIUM": 640, "HIGH": 1280}
# What is published, and as what: by codec, and by the scalability mode that a browser is asked for.
ROWS: Mapping[str, tuple[str, str]] = {
    "VP8, simulcast": ("vp8", ""),
    "H.264, simulcast": ("h264", ""),
    "VP9, K-SVC (L3T3_KEY)": ("vp9", "L3T3_KEY"),
    "VP9, SVC (L3T3)": ("vp9", "L3T3"),
    "VP9, simulcast": ("vp9", "L1T3"),
    "AV1, K-SVC (L3T3_KEY)": ("av1", "L3T3_KEY"),
    "AV1, SVC (L3T3)": ("av1", "L3T3"),
    "AV1, simulcast": ("av1", "L1T3"),
}


async def widths(browser: Browser, server: Server, room: str, codec: str, mode: str) -> tuple[str, str]:
    """What a browser and the PyPI client decode of a browser."""
    native = LivekitClient()
    await native.join(server.ws, server.token(room, "native", "doctor"))
    sender = await Client.join(browser, server, room, "sender")
    viewer = await Client.join(browser, server, room, "viewer")
    reached = []
    try:
        await sender.publish(colour=f"rgb{RED}", codec=codec, scalabilityMode=mode)
        for quality, width in SIZES.items():
            await viewer.call("ask", "sender", quality)
            if await comes(viewer, partial(of_width, width)):
                reached.append(str(width))
        other = native.decoded.get("sender")
        return " ".join(reached) or "no", "yes" if other and other.frames > 10 and like(other.colour, RED) else "no"
    finally:
        await native.leave()
        for client in (sender, viewer):
            await client.close()


async def native_to_browser(browser: Browser, server: Server, room: str, codec: str) -> str:
    native = LivekitClient()
    await native.join(server.ws, server.token(room, "native", "doctor"))
    viewer = await Client.join(browser, server, room, "viewer")
    try:
        await native.publish(colour=BLUE, hertz=500, codec=codec)
        seen = await comes(viewer, lambda seen: like(seen["colour"], BLUE), of="native")
        return "yes" if seen else "no"
    finally:
        await native.leave()
        await viewer.close()


def of_width(width: int, seen: Any) -> bool:
    return bool(seen["width"] == width)


async def comes(viewer: Client, so: Callable[[Any], bool], *, of: str = "sender") -> bool:
    """Within what a client takes to trust its link with the largest size."""
    try:
        await until("a picture", lambda: viewer.seen(of), seconds=25, so=lambda seen: seen is not None and so(seen))
    except AssertionError:
        return False
    return True


def like(seen: Any, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= 45 for a, b in zip(seen, colour, strict=True))


async def table() -> str:
    lines = [
        "| published | Chromium by Chromium, widths asked for and decoded | Chromium by `livekit` (Python) "
        "| `livekit` by Chromium |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as server, chromium() as browser:
            version = browser.version
            by_native: dict[str, str] = {}
            for n, (name, (codec, mode)) in enumerate(ROWS.items()):
                web, native = await widths(browser, server, f"{ROOM}-{n}", codec, mode)
                if codec not in by_native:
                    by_native[codec] = await native_to_browser(browser, server, f"{ROOM}-{n}-native", codec)
                lines.append(f"| {name} | {web} | {native} | {by_native[codec]} |")
                print(lines[-1], flush=True)
    return "\n".join([*lines, "", f"Chromium {version}; written by `make codecs`.", ""])


def main() -> int:
    readme = TOP / "README.md"
    text = asyncio.run(table())
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(before + BEGIN + text + END + after)
    return int("| no |" in text)


if __name__ == "__main__":
    sys.exit(main())
