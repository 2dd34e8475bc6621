"""Records what real clients send: `python -m tests.lab.record [NAME …]`, as root, because it reads the loopback itself.

The server has no door to its keys. So this is another command line in front of it, like `tests/hostile/fragile.py`,
which writes the keys, and what signalling brings, into a file of its own. Decryption is libsrtp's, no code of ours.
The result is what `captures.py` reads.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from livekit.protocol import rtc
from pylibsrtp import Error, Policy, Session

from d4e_sfu._engine import Command, Profile
from tests.lab.captures import Capture, is_rtcp
from tests.lab.server import Server, running

SECONDS = 2.5
SETTLE = 1.5  # s until the estimate lets all encodings through
DOOR = "D4E_RECORD"
ROOM = "ward"
COLOUR, HERTZ = (30, 160, 30), 440.0
CODECS = ("vp8", "h264")
MOST = 80_000  # bytes of one file


# --- in front of the server -----------------------------------------------------------------------------------------


def serve() -> int:
    from d4e_sfu.__main__ import main
    from d4e_sfu.core.sfu import Sfu
    from d4e_sfu.drivers.engine import EngineDriver

    door = Path(os.environ[DOOR]).open("a", buffering=1)  # noqa: SIM115  # as long as the process
    submit, join, message = EngineDriver.submit, Sfu.join, Sfu.message

    def write(**facts: str | int) -> None:
        door.write(json.dumps(facts) + "\n")

    def submitted(self: EngineDriver, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Command.SetKeys):
                gcm = command.profile == Profile.AeadAes128Gcm
                write(kind="keys", gcm=gcm, receive=bytes(command.receive).hex())
        submit(self, commands)

    def joined(self: Sfu, client: Any, admission: Any, **more: Any) -> Any:
        write(kind="join", frame=_text(admission.request))
        return join(self, client, admission, **more)

    def told(self: Sfu, participant: Any, request: rtc.SignalRequest, **time: float) -> None:
        write(kind="message", frame=_text(request))
        message(self, participant, request, **time)

    EngineDriver.submit = submitted  # type: ignore[method-assign]
    Sfu.join = joined  # type: ignore[method-assign]
    Sfu.message = told  # type: ignore[method-assign]
    return main()


def _text(frame: rtc.JoinRequest | rtc.SignalRequest) -> str:
    return base64.b64encode(frame.SerializeToString()).decode()


# --- the recorder ---------------------------------------------------------------------------------------------------


class Tap:
    """UDP payloads on the loopback to one port, with the kernel's order and this process's time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind(("lo", 0))
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)
        self.taken: list[tuple[float, bytes]] = []

    def _read(self) -> None:
        while True:
            try:
                packet, address = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            if address[2] == socket.PACKET_OUTGOING or packet[9] != socket.IPPROTO_UDP:
                continue  # on the loopback each is there twice
            at = 4 * (packet[0] & 15)
            (port,) = struct.unpack_from("!H", packet, at + 2)
            if port == self._port and 128 <= packet[at + 8] < 192:
                self.taken.append((self._loop.time(), packet[at + 8 :]))

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()


async def record(name: str, act: Callable[[Server], Awaitable[Callable[[], Awaitable[None]]]]) -> None:
    """`act` brings the client into the room and returns how it leaves."""
    with tempfile.TemporaryDirectory() as scratch:
        door = Path(scratch) / "door"
        door.touch()
        os.environ[DOOR] = str(door)
        async with running(Path(scratch), module="tests.lab.record") as server:
            tap = Tap(server.media_port)
            leave = await act(server)
            await asyncio.sleep(SETTLE + SECONDS)
            facts = [json.loads(line) for line in door.read_text().splitlines()]
            await leave()
            tap.close()
    keys = [fact for fact in facts if fact["kind"] == "keys"]
    assert len(keys) == 1, "one client, one association"
    (join,) = (rtc.JoinRequest.FromString(_frame(fact)) for fact in facts if fact["kind"] == "join")
    requests = [rtc.SignalRequest.FromString(_frame(fact)) for fact in facts if fact["kind"] == "message"]
    media = decrypted(tap.taken, bytes.fromhex(keys[0]["receive"]), gcm=keys[0]["gcm"])
    end, size, kept = media[0][0] + SETTLE + SECONDS, 0, []
    for at, packet in media:
        size += len(packet)
        if at > end or size > MOST:
            break
        kept.append((at - media[0][0], packet))
    Capture(name, join, tuple(requests), tuple(kept)).save()
    print(f"{name}: {len(requests)} messages, {len(kept)} packets, {size} bytes", flush=True)


def _frame(fact: dict[str, str]) -> bytes:
    return base64.b64decode(fact["frame"])


def decrypted(taken: Sequence[tuple[float, bytes]], key: bytes, *, gcm: bool) -> list[tuple[float, bytes]]:
    profile = Policy.SRTP_PROFILE_AEAD_AES_128_GCM if gcm else Policy.SRTP_PROFILE_AES128_CM_SHA1_80
    session = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
    media = []
    for at, packet in taken:
        try:
            plain = session.unprotect_rtcp(packet) if is_rtcp(packet) else session.unprotect(packet)
        except Error as error:
            print(f"not decrypted: {error}", file=sys.stderr)
            continue
        media.append((at, plain))
    return media


async def native(codec: str) -> None:
    from tests.lab.livekit_client import LivekitClient

    async def act(server: Server) -> Callable[[], Awaitable[None]]:
        client = LivekitClient()
        await client.join(server.ws, server.token(ROOM, "recorded"))
        await client.publish(colour=COLOUR, hertz=HERTZ, codec=codec)
        return client.leave

    await record(f"livekit-python-{codec}", act)


async def chromium(codec: str) -> None:
    from tests.lab import browser

    async with browser.chromium() as started:

        async def act(server: Server) -> Callable[[], Awaitable[None]]:
            client = await browser.Client.join(started, server, ROOM, "recorded")
            await client.publish(colour=f"rgb{COLOUR}", hertz=HERTZ, codec=codec)
            return client.close

        await record(f"chromium-{codec}", act)


RECORDINGS = {f"{client.__name__}-{codec}": (client, codec) for client in (native, chromium) for codec in CODECS}


async def main() -> None:
    for name in sys.argv[1:] or RECORDINGS:
        client, codec = RECORDINGS[name]
        await client(codec)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        sys.exit(serve())
    asyncio.run(main())
