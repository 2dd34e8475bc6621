"""WHIP and WHEP with two stacks that know nothing of us: Chromium with plain `RTCPeerConnection` and `fetch`, and
aiortc. Publisher and player meet each other, and the stock client library, in one room.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from playwright.async_api import Browser, Route

from tests.lab.browser import Client, Tab, until
from tests.lab.server import Server

pytestmark = pytest.mark.browser

ROOM = "clinic"
SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"

PAGE = """
window.whip = {
  async ask(method, path, token, type, body, more = {}) {
    const headers = { Authorization: `Bearer ${token}`, ...(type && { "Content-Type": type }), ...more };
    const answer = await fetch(path, { method, headers, body });
    const text = await answer.text();
    return { status: answer.status, text, location: answer.headers.get("Location"), etag: answer.headers.get("ETag") };
  },
  async begin(kind, room, token) {
    const pc = new RTCPeerConnection();
    this.pc = pc;
    this.token = token;
    this.trickled = [];
    pc.onicecandidate = ({ candidate }) => candidate && this.trickled.push(candidate.candidate);
    if (kind === "whip") {
      const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 480 } });
      for (const track of media.getTracks()) {
        const sendEncodings = track.kind === "video"
          ? [{ rid: "l", scaleResolutionDownBy: 2 }, { rid: "h" }] : [{}];
        pc.addTransceiver(track, { direction: "sendonly", sendEncodings, streams: [media] });
      }
    } else {
      this.video = Object.assign(document.createElement("video"), { autoplay: true, muted: true });
      document.body.append(this.video);
      const stream = new MediaStream();
      this.video.srcObject = stream;
      pc.ontrack = ({ track }) => stream.addTrack(track);
      pc.addTransceiver("audio", { direction: "recvonly" });
      pc.addTransceiver("video", { direction: "recvonly" });
    }
    await pc.setLocalDescription();
    const made = await this.ask("POST", `/${kind}/${room}`, token, "application/sdp", pc.localDescription.sdp);
    if (made.status !== 201) return made;
    await pc.setRemoteDescription({ type: "answer", sdp: made.text });
    this.session = made.location;
    this.etag = made.etag;
    return made;
  },
  fragment() {
    const lines = this.pc.localDescription.sdp.split("\\r\\n");
    const first = (name) => lines.find((line) => line.startsWith(name));
    return [first("a=group:BUNDLE"), first("m="), first("a=mid:"), first("a=ice-ufrag:"), first("a=ice-pwd:"),
            ...this.trickled.map((each) => `a=${each}`), "a=end-of-candidates", ""].join("\\r\\n");
  },
  trickle() {
    const type = "application/trickle-ice-sdpfrag";
    return this.ask("PATCH", this.session, this.token, type, this.fragment(), { "If-Match": this.etag });
  },
  async restart() {
    const before = this.pc.remoteDescription.sdp;
    this.trickled = [];
    await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart: true }));
    const answer = await this.ask("PATCH", this.session, this.token, "application/trickle-ice-sdpfrag", this.fragment(),
                                  { "If-Match": "*" });
    if (answer.status !== 200) return answer;
    const said = (name) => answer.text.split("\\r\\n").find((line) => line.startsWith(name));
    const sdp = before.replace(/a=ice-ufrag:.*/g, said("a=ice-ufrag:")).replace(/a=ice-pwd:.*/g, said("a=ice-pwd:"));
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    this.etag = answer.etag;
    return answer;
  },
  end() {
    return this.ask("DELETE", this.session, this.token);
  },
};
"""


async def tab(browser: Browser, server: Server, identity: str) -> Tab:
    made = await Tab.open(browser, server, identity, script=PAGE, permissions=["camera", "microphone"])
    await made.page.route(f"{server.url}/lab/empty", _empty)
    await made.page.goto(f"{server.url}/lab/empty")
    return made


async def _empty(route: Route) -> None:
    await route.fulfill(body="<!doctype html><title>empty</title>", content_type="text/html")


async def begin(made: Tab, kind: str, **grants: Any) -> dict[str, Any]:
    token = made.server.token(ROOM, made.identity, "doctor", **grants)
    answer: dict[str, Any] = await made.page.evaluate(
        f"async (token) => await whip.begin('{kind}', '{ROOM}', token)", token
    )
    return answer


async def call(made: Tab, verb: str) -> dict[str, Any]:
    answer: dict[str, Any] = await made.page.evaluate(f"async () => await whip.{verb}()")
    return answer


async def frames(made: Tab) -> int:
    return sum(stream.get("framesDecoded", 0) for stream in await made.stats("inbound-rtp", kind="video"))


async def people(server: Server) -> list[str]:
    state = json.loads(await server.get("/debug/rooms"))
    if ROOM not in state:
        return []
    return [person["identity"] for person in (await server.room(ROOM))["participants"]]


async def test_a_publisher_is_seen_by_the_stock_client_and_by_a_player_and_both_restart_ice(
    browser: Browser, server: Server
) -> None:
    doctor = await Client.join(browser, server, ROOM, "doctor")
    camera, screen = await tab(browser, server, "camera"), await tab(browser, server, "screen")
    assert (await begin(screen, "whep"))["status"] == 409, "nothing is on yet"
    made = await begin(camera, "whip")
    assert made["status"] == 201, made
    assert "a=simulcast:recv l;h" in made["text"]
    assert (await call(camera, "trickle"))["status"] == 204
    await until("the doctor sees the camera", lambda: doctor.seen("camera"), seconds=25)
    made = await begin(screen, "whep")
    assert made["status"] == 201, made
    await until("the player shows it", lambda: frames(screen), seconds=25, so=lambda count: count > 20)
    voices = await screen.stats("inbound-rtp", kind="audio")
    assert [voice["packetsReceived"] > 0 for voice in voices] == [True]

    for each in (camera, screen):
        before = await frames(screen)
        answer = await call(each, "restart")
        assert answer["status"] == 200, answer
        await until("the picture goes on", partial(frames, screen), so=(before + 60).__lt__)
        pairs = await each.stats("candidate-pair", nominated=True, state="succeeded")
        assert pairs, "a pair was nominated"
    path = (await server.room(ROOM))["engine"]["transports"]
    assert all(transport["path"] for transport in path)

    assert (await call(screen, "end"))["status"] == 200
    assert (await call(camera, "end"))["status"] == 200
    await until("both are gone", lambda: people(server), so=lambda here: here == ["doctor"])
    assert (await call(camera, "end"))["status"] == 404


async def exchange(http: aiohttp.ClientSession, server: Server, kind: str, pc: RTCPeerConnection, token: str) -> str:
    """Offer, answer; returns the session's URL."""
    await pc.setLocalDescription(await pc.createOffer())
    headers = {"Authorization": f"Bearer {token}", "Content-Type": SDP}
    async with http.post(f"{server.url}/{kind}/{ROOM}", data=pc.localDescription.sdp, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        await pc.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
        return server.url + answer.headers["Location"]


async def test_aiortc_publishes_to_aiortc(server: Server) -> None:
    """An independent stack in Python on both sides: it offers `actpass`, and decodes what comes."""
    sender, receiver = RTCPeerConnection(), RTCPeerConnection()
    decoded: dict[str, int] = {}
    tasks = []

    def on_track(track: Any) -> None:
        async def count() -> None:
            while True:
                await track.recv()
                decoded[track.kind] = decoded.get(track.kind, 0) + 1

        tasks.append(asyncio.create_task(count()))

    receiver.on("track", on_track)
    tokens = {name: server.token(ROOM, name, "doctor") for name in ("sender", "receiver")}
    async with aiohttp.ClientSession() as http:
        try:
            sender.addTransceiver(AudioStreamTrack(), direction="sendonly")
            sender.addTransceiver(VideoStreamTrack(), direction="sendonly")
            published = await exchange(http, server, "whip", sender, tokens["sender"])
            receiver.addTransceiver("audio", direction="recvonly")
            receiver.addTransceiver("video", direction="recvonly")
            played = await exchange(http, server, "whep", receiver, tokens["receiver"])

            async def counts() -> dict[str, int]:
                return dict(decoded)

            def enough(seen: dict[str, int]) -> bool:
                return seen.get("audio", 0) > 50 and seen.get("video", 0) > 20

            await until("voice and picture are decoded", counts, seconds=25, so=enough)
            for url, name in ((played, "receiver"), (published, "sender")):
                async with http.delete(url, headers={"Authorization": f"Bearer {tokens[name]}"}) as answer:
                    assert answer.status == 200
            assert await people(server) == []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(sender.close(), receiver.close(), *tasks, return_exceptions=True)
