"""Chromium agrees to compression and makes its calls with it; the native client offers none and is in the same call."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest
from livekit.protocol import models, rtc
from playwright.async_api import Browser

from tests.lab.browser import Client, until
from tests.lab.livekit_client import LivekitClient
from tests.lab.server import Server

pytestmark = pytest.mark.browser

# What was agreed, and the kind of the first message: its first byte is a field of `SignalResponse`.
OPENED = """async (address) => {
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const first = await new Promise((resolve, reject) => {
    socket.onmessage = (event) => resolve(event.data);
    socket.onerror = socket.onclose = () => reject(new Error("refused"));
  });
  const seen = [socket.extensions, new Uint8Array(first)[0] >> 3, first.byteLength];
  socket.close();
  return seen;
}"""
JOIN = 1


def address(server: Server, identity: str) -> str:
    request = rtc.JoinRequest(client_info=models.ClientInfo(sdk=models.ClientInfo.SDK.JS, protocol=16))
    wrapped = rtc.WrappedJoinRequest(join_request=request.SerializeToString())
    join_request = base64.urlsafe_b64encode(wrapped.SerializeToString()).decode()
    token = server.token("ward", identity, "doctor")
    return f"{server.url.replace('http', 'ws')}/rtc/v1?" + urlencode(
        {"access_token": token, "join_request": join_request}
    )


async def test_a_browser_compresses_and_a_native_client_that_does_not_is_in_the_same_call(
    browser: Browser, server: Server
) -> None:
    native = LivekitClient()
    await native.join(server.ws, server.token("ward", "native", "doctor"))
    try:
        await in_the_same_call(native, browser, server)
    finally:
        await native.leave()


async def in_the_same_call(native: LivekitClient, browser: Browser, server: Server) -> None:
    await native.publish(colour=(30, 200, 30), hertz=440)
    client = await Client.join(browser, server, "ward", "browser")
    await client.publish(colour="rgb(200, 30, 30)", hertz=500)

    async def decoded() -> int:
        return native.decoded["browser"].frames if "browser" in native.decoded else 0

    await until("the native client decodes the browser", decoded, so=lambda frames: frames > 5)
    await until("the browser decodes the native client", lambda: client.seen("native"))
    extensions, kind, size = await client.page.evaluate(OPENED, address(server, "third"))
    assert "permessage-deflate" in extensions
    assert "server_no_context_takeover; client_no_context_takeover" in extensions
    assert "server_max_window_bits=13; client_max_window_bits=13" in extensions
    assert kind == JOIN
    assert size > 1024, "large enough to have come compressed"
    assert [name for name, _ in native.events if name in ("reconnecting", "disconnected")] == []
