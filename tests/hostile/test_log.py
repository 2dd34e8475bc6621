"""What clients write, and where it must not turn up: in the log of a real server, in its metrics, in its error bodies.
Every text that a client can choose carries a canary here, and things that would break a line or colour a terminal.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path

import aiohttp
import pytest
from livekit.protocol import models, rtc

from tests.doubles import Description, camera
from tests.lab.server import Server, running

CANARY = "Can4ry"
# Ends a line, ends a value, moves the cursor, turns the writing round, begins a line of our own, breaks JSON.
BREAKING = f'{CANARY}\r\nCRITICAL d4e_sfu {CANARY}\x1b[2J\u202e\u2028","level":"\0\x7f'
SOFT = f"{CANARY} \u202e\u2066 level=error INFO {CANARY}"  # what a name may hold
LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) d4e_sfu[\w.]* [\x20-\x7e]+")


def join_request(**changes: object) -> str:
    info = models.ClientInfo(sdk=models.ClientInfo.SDK.JS, protocol=16)
    for field in ("version", "os", "os_version", "device_model", "browser", "browser_version", "address", "network"):
        setattr(info, field, BREAKING)
    info.other_sdks = BREAKING
    sdp = Description("an").sdp().replace("s=-", f"s={CANARY}").replace("cname:an", f"cname:{CANARY}")
    request = rtc.JoinRequest(
        client_info=info,
        connection_settings=rtc.ConnectionSettings(auto_subscribe=True),
        metadata=BREAKING,
        participant_attributes={CANARY: BREAKING},
        publisher_offer=rtc.SessionDescription(type="offer", sdp=sdp, id=1),
        participant_sid=BREAKING,
        **changes,  # type: ignore[arg-type]
    )
    wrapped = rtc.WrappedJoinRequest(join_request=request.SerializeToString())
    return base64.urlsafe_b64encode(wrapped.SerializeToString()).decode()


def messages() -> list[rtc.SignalRequest]:
    track = camera(cid=BREAKING)
    track.name = BREAKING
    track.stream = BREAKING
    init = json.dumps({"candidate": f"candidate:1 1 udp 1 {CANARY}.local 9 typ host", "sdpMid": BREAKING})
    return [
        rtc.SignalRequest(add_track=track),
        rtc.SignalRequest(trickle=rtc.TrickleRequest(candidateInit=init)),
        rtc.SignalRequest(trickle=rtc.TrickleRequest(candidateInit=BREAKING)),
        rtc.SignalRequest(mute=rtc.MuteTrackRequest(sid=BREAKING)),
        rtc.SignalRequest(subscription=rtc.UpdateSubscription(track_sids=[BREAKING], subscribe=True)),
        rtc.SignalRequest(track_setting=rtc.UpdateTrackSettings(track_sids=[BREAKING])),
        rtc.SignalRequest(update_metadata=rtc.UpdateParticipantMetadata(metadata=BREAKING, name=BREAKING)),
        rtc.SignalRequest(
            update_metadata=rtc.UpdateParticipantMetadata(metadata=SOFT, name=SOFT, attributes={SOFT: SOFT})
        ),
        rtc.SignalRequest(
            subscription_permission=rtc.SubscriptionPermission(
                track_permissions=[rtc.TrackPermission(participant_identity=BREAKING, track_sids=[BREAKING])]
            )
        ),
    ]


ENDINGS = [
    rtc.SignalRequest(offer=rtc.SessionDescription(type="offer", sdp=f"v=0\r\n{BREAKING}", id=2)),
    rtc.SignalRequest(offer=rtc.SessionDescription(type=BREAKING, sdp=Description("an").sdp(), id=2)),
    rtc.SignalRequest(
        offer=rtc.SessionDescription(
            type="offer", sdp=Description("an").sdp().replace("mid:0", f"mid:{CANARY} x"), id=2
        )
    ),
    rtc.SignalRequest(leave=rtc.LeaveRequest(reason=models.CLIENT_INITIATED)),
]


async def attend(server: Server, identity: str, ending: rtc.SignalRequest) -> None:
    """All that someone in the room may say, and the way in which he goes."""
    token = server.token(f"{CANARY}-ward", identity, "doctor", name=SOFT, can_update_own_metadata=True)
    headers = {"User-Agent": CANARY, "X-Forwarded-For": f"{CANARY}, 203.0.113.9", "X-Request-Id": CANARY}
    params = {"access_token": token, "join_request": join_request()}
    async with (
        aiohttp.ClientSession(server.ws, headers=headers) as http,
        http.ws_connect("/rtc/v1", params=params, max_msg_size=0, protocols=[CANARY]) as socket,
    ):
        for request in [*messages(), ending]:
            await socket.send_bytes(request.SerializeToString())
        async with asyncio.timeout(20):
            while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass


async def refused(server: Server) -> None:
    """All ways not to get in."""
    join = join_request()
    async with aiohttp.ClientSession(server.url) as http:
        for name in (BREAKING, CANARY * 200):
            tokens = [server.token("ward", name), server.token(name, "an"), server.token("ward", "an", name)]
            for token in [*tokens, name, f"{name}.{name}.{name}"]:
                params = {"access_token": token, "join_request": join}
                async with http.get("/rtc/v1/validate", params=params) as answer:
                    assert answer.status in (400, 401, 404), (answer.status, name)
                    assert CANARY not in await answer.text()
        for path in (f"/{CANARY}", f"/rtc/{CANARY}", f"/twirp/livekit.RoomService/{CANARY}"):
            async with http.request("POST", path, data=BREAKING.encode(), headers={"Authorization": CANARY}) as answer:
                assert answer.status in (400, 401, 404, 405, 415)
                assert CANARY not in await answer.text()


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_nothing_that_a_client_writes_is_in_the_log_and_every_line_is_ours(tmp_path: Path, level: str) -> None:
    """Tokens are looked for by the server's double, in every test that has one."""
    audit = {"audit": {"folder": "audit", "secret_file": "test.secret"}}
    async with running(tmp_path, arguments=["--log-level", level], config=audit) as server:
        before = len(server.lines)
        for n, ending in enumerate(ENDINGS):
            await attend(server, f"dr.{CANARY}.{n}", ending)
        await refused(server)
        metrics = await server.get("/metrics")
        lines = server.lines[before:]
        assert any("participant_joined" in line for line in lines), "something was logged at all"
        assert any("join refused" in line for line in lines)
        assert CANARY.lower() not in metrics.lower()
        records = "".join(file.read_text() for file in (tmp_path / "audit").glob("*.jsonl"))
        assert records.count('"event":"join"') == len(ENDINGS)
        assert '"event":"refusal"' in records
        for secret in (CANARY.lower(), "203.0.113.9", "127.0.0.1"):
            assert secret not in records.lower()
        for line in lines:
            assert line.isprintable(), repr(line)
            assert LINE.fullmatch(line), repr(line)
        assert CANARY.lower() not in "\n".join(lines).lower()
        # Nor anyone's address: 127.0.0.1 is where all of them come from.
        assert not [line for line in lines if "127.0.0.1" in line or "203.0.113.9" in line]
