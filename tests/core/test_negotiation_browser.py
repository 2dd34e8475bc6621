"""Chromium judges our answers: one peer connection through joins, publications, removals and reuse, without media.

With `CAPTURE_SDP=1` every offer is written to tests/vectors/sdp, where the tests that need no browser read them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from d4e_sfu._engine import Codec
from d4e_sfu.core.boundary import SubscriptionId
from d4e_sfu.core.negotiation import Answer, LocalTransport, Negotiation, Outgoing, PendingTrack

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.async_api")

VECTORS = Path(__file__).parent.parent / "vectors" / "sdp"
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
PAGE = """
const pc = new RTCPeerConnection();
const heard = [];
pc.ontrack = event => heard.push([event.transceiver.mid, event.track.kind, event.streams[0].id]);
pc.createDataChannel('_reliable', {ordered: true});
function receive(audios, videos) {
  for (let i = 0; i < audios; i++) pc.addTransceiver('audio', {direction: 'recvonly'});
  for (let i = 0; i < videos; i++) pc.addTransceiver('video', {direction: 'recvonly'});
}
const media = async () => navigator.mediaDevices.getUserMedia({audio: true, video: {width: 1280, height: 720}});
async function microphone() {
  const track = (await media()).getAudioTracks()[0];
  return pc.addTransceiver(track, {direction: 'sendonly', streams: [new MediaStream([track])]});
}
async function camera(encodings) {
  const track = (await media()).getVideoTracks()[0];
  return pc.addTransceiver(track, {
    direction: 'sendonly', streams: [new MediaStream([track])], sendEncodings: encodings});
}
const layers = [
  {rid: 'q', scaleResolutionDownBy: 4}, {rid: 'h', scaleResolutionDownBy: 2}, {rid: 'f', scaleResolutionDownBy: 1}];
async function offer() { await pc.setLocalDescription(await pc.createOffer()); return pc.localDescription.sdp; }
async function accept(sdp) {
  heard.length = 0;
  await pc.setRemoteDescription({type: 'answer', sdp});
  return {
    heard: heard.slice(),
    directions: Object.fromEntries(pc.getTransceivers().map(t => [t.mid, t.currentDirection])),
    encodings: pc.getSenders().filter(s => s.track).map(s => s.getParameters().encodings.map(e => e.rid ?? null)),
    codecs: Object.fromEntries(pc.getSenders().filter(s => s.track).map(
      s => [s.track.kind, s.getParameters().codecs.map(c => c.mimeType + ' ' + (c.sdpFmtpLine ?? ''))])),
    state: pc.signalingState,
  };
}
"""
CODECS = (Codec.Opus, Codec.Vp8, Codec.H264)
LOCAL = LocalTransport(
    ufrag="server00",
    pwd="0123456789abcdefghijklmn",
    fingerprint=("sha-256", ":".join(["A5"] * 32)),
    # 192.0.2.0/24 is for documentation: nobody answers there.
    candidates=(("192.0.2.10", 7882), ("2001:db8::10", 7882)),
)


class Client:
    """A Chromium page with one peer connection, and our negotiation of it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.negotiation = Negotiation(LOCAL, codecs=CODECS, credentials=lambda: ("again", LOCAL.pwd))
        self.pending: list[PendingTrack] = []
        self.outgoing: list[Outgoing] = []

    async def run(self, script: str) -> Any:
        return await self.page.evaluate(f"async () => {{ {script} }}")

    async def negotiate(self, name: str | None = None) -> tuple[Answer, dict[str, Any]]:
        offer: str = await self.run("return await offer()")
        if name and os.environ.get("CAPTURE_SDP"):
            (VECTORS / f"chromium-{name}.sdp").write_bytes(offer.encode())
        answer = self.negotiation.answer(offer, pending=self.pending, outgoing=self.outgoing)
        bound = {published.track_sid for published in answer.published}
        self.pending = [track for track in self.pending if track.sid not in bound]
        accepted: dict[str, Any] = await self.page.evaluate("sdp => accept(sdp)", answer.sdp)
        assert accepted["state"] == "stable"
        return answer, accepted

    def subscribe(self, number: int, codec: Codec, *, fmtp: str = "") -> Outgoing:
        outgoing = Outgoing(
            subscription=SubscriptionId(number),
            track_sid=f"TR_{number}",
            participant_sid="PA_other",
            kind="audio" if codec == Codec.Opus else "video",
            codec=codec,
            ssrc=1000 + number,
            rtx_ssrc=2000 + number,
            cname="PA_other",
            spare=(3000 + number, 4000 + number),
            format=fmtp,
        )
        self.outgoing.append(outgoing)
        return outgoing


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path="/usr/bin/chromium", args=list(ARGUMENTS))
        page = await browser.new_page()
        # A page from localhost is a secure context, which getUserMedia wants; nothing is listening there.
        await page.route("http://localhost/**", lambda route: route.fulfill(body="", content_type="text/html"))
        await page.goto("http://localhost/")
        await page.add_script_tag(content=PAGE)
        yield Client(page)
        await browser.close()


async def test_chromium_accepts_every_answer_from_join_to_reuse(client: Client) -> None:
    # Joining: three sections of each kind and data; one voice and one picture are waiting.
    await client.run("receive(3, 3)")
    voice, picture = client.subscribe(1, Codec.Opus), client.subscribe(2, Codec.Vp8)
    answer, seen = await client.negotiate("join")
    assert answer.missing is None
    assert seen["heard"] == [
        ["0", "audio", "PA_other|TR_1"],
        ["3", "video", "PA_other|TR_2"],
    ]
    assert list(seen["directions"].values()) == ["recvonly", "inactive", "inactive"] * 2

    # The same offer again, as the JavaScript client sends it.
    again, seen = await client.negotiate("join-again")
    assert (again.placed, again.published, again.mid_to_track_id) == ([], [], answer.mid_to_track_id)
    assert again.sdp == answer.sdp

    # Microphone and a simulcast camera.
    client.pending += [
        PendingTrack("TR_mic", "?", "audio", "audio/opus", 64_000),
        PendingTrack("TR_cam", "?", "video", "video/vp8", 3_000_000),
    ]
    await client.run("window.mic = await microphone(); window.cam = await camera(layers)")
    answer, seen = await client.negotiate("publish")
    assert [published.track_sid for published in answer.published] == ["TR_mic", "TR_cam"]
    assert [encoding.rid for encoding in answer.published[1].spec.encodings] == ["q", "h", "f"]
    assert seen["encodings"] == [[None], ["q", "h", "f"]]
    assert seen["codecs"]["video"] == ["video/VP8 ", "video/rtx apt=96"]
    assert [codec.split()[0] for codec in seen["codecs"]["audio"]] == [
        "audio/red",
        "audio/opus",
        "audio/telephone-event",
    ]
    assert "usedtx=1" in seen["codecs"]["audio"][1]

    # Without simulcast, in H.264, signalled by SSRC.
    client.pending += [PendingTrack("TR_h264", "?", "video", "video/h264", 3_000_000)]
    await client.run("window.second = await camera()")
    answer, seen = await client.negotiate("publish-h264")
    (published,) = answer.published
    assert published.spec.codec == Codec.H264
    assert published.spec.encodings[0].ssrc is not None
    assert published.spec.encodings[0].rtx_ssrc is not None
    assert "packetization-mode=1" in published.format

    # Unpublish: the camera's section becomes inactive. Another person leaves at the same time.
    client.outgoing.remove(picture)
    await client.run("cam.direction = 'inactive'; await cam.sender.replaceTrack(null)")
    answer, seen = await client.negotiate("unpublish")
    assert answer.unpublished == ["TR_cam"]
    assert seen["directions"]["3"] == "inactive"
    assert answer.mid_to_track_id == {"0": "TR_1"}

    # The freed section carries an H.264 picture now, under a new stream id.
    client.subscribe(3, Codec.H264, fmtp=published.format)
    answer, seen = await client.negotiate()
    assert ["3", "video", "PA_other|TR_3"] in seen["heard"]

    # More people than sections: what is missing is asked for, and found in the next offer.
    for number in range(10, 14):
        client.subscribe(number, Codec.Vp8)
        client.subscribe(number + 10, Codec.Opus)
    answer, seen = await client.negotiate()
    assert answer.missing == (2, 2)
    await client.run("receive(2, 2)")
    answer, seen = await client.negotiate("more-sections")
    assert answer.missing is None
    assert len(seen["heard"]) == 4

    # Published again, on a section of its own; the stopped one is recycled by the browser.
    client.pending += [PendingTrack("TR_cam2", "?", "video", "video/vp8", 3_000_000)]
    await client.run("second.stop(); window.third = await camera(layers)")
    answer, seen = await client.negotiate("stop-and-publish")
    assert answer.unpublished == ["TR_h264"]
    assert [each.track_sid for each in answer.published] == ["TR_cam2"]
    client.subscribe(30, Codec.Opus)
    await client.run("receive(1, 0)")
    answer, seen = await client.negotiate("recycle")
    assert answer.missing is None
    assert [placed.subscription for placed in answer.placed] == [30]

    # Two who are heard leave; the section of one is stopped by the client while it still carries a track.
    client.outgoing.remove(voice)
    await client.run("pc.getTransceivers().find(t => t.mid === '3').stop()")
    answer, seen = await client.negotiate("stop-received")
    assert answer.displaced == [3]
    assert answer.missing == (0, 1)


async def test_chromium_accepts_fifty_people(client: Client) -> None:
    await client.run("receive(50, 50)")
    for number in range(50):
        client.subscribe(number, Codec.Opus)
        client.subscribe(100 + number, Codec.Vp8)
    answer, seen = await client.negotiate()
    assert answer.missing is None
    assert len(seen["heard"]) == 100
    client.outgoing = [dataclasses.replace(each) for each in client.outgoing if each.subscription % 2]
    answer, seen = await client.negotiate()
    assert len(answer.mid_to_track_id) == 50
    assert list(seen["directions"].values()).count("recvonly") == 50
