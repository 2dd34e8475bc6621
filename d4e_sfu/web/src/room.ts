/** The room as the client library sees it: how this page publishes, receives and reconnects. */

import { AudioPresets, DefaultReconnectPolicy, Room, ScreenSharePresets, VideoPresets } from "livekit-client";
import { chosen, chosenFor } from "./devices";
import { answerFault } from "./faults";
import type { Fault } from "./words";

// The library's own first delays (ms), then every three seconds for a quarter of an hour: a mobile
// network in the hills is often away for minutes. The policy spreads each delay by half, so that a
// restarted server does not meet everybody at once.
const RETRY_DELAYS = [0, 300, 1200, 2700, ...Array<number>(300).fill(3000)];

/** Bytes of a text that somebody sends us; without it a sender could fill our memory. */
const LARGEST_TEXT = 64 * 1024;

/** Milliseconds in which a server that is there says why it opened no socket. */
const ANSWER_TIMEOUT = 5000;

export function newRoom(): Room {
  const speaker = chosen("audiooutput");
  return new Room({
    // Ask for the size at which a picture is shown, and for nothing while it is not. Beyond two
    // pixels per CSS pixel the eye gains nothing, but the link pays.
    adaptiveStream: { pixelDensity: Math.min(window.devicePixelRatio, 2) },
    // Stop encoding what nobody watches, once the server says so.
    dynacast: true,
    reconnectPolicy: new DefaultReconnectPolicy(RETRY_DELAYS),
    dataStream: { maxPayloadByteLength: LARGEST_TEXT },
    videoCaptureDefaults: { resolution: VideoPresets.h720.resolution, ...chosenFor("videoinput") },
    audioCaptureDefaults: { autoGainControl: true, echoCancellation: true, noiseSuppression: true, ...chosenFor("audioinput") },
    ...(speaker === null ? {} : { audioOutput: { deviceId: speaker } }),
    publishDefaults: {
      videoCodec: "vp8",
      backupCodec: false,
      simulcast: true,
      videoEncoding: VideoPresets.h720.encoding,
      videoSimulcastLayers: [VideoPresets.h180, VideoPresets.h360],
      screenShareEncoding: ScreenSharePresets.h1080fps15.encoding,
      audioPreset: AudioPresets.speech,
      dtx: true,
      // The server repairs lost voice by NACK; redundant copies would double its bitrate.
      red: false,
    },
  });
}

/**
 * Why no socket was opened. A browser does not tell the status of a refused upgrade; the library asks by HTTP, as here,
 * but passes on refused tokens alone, and a full room would look like a server that is not there.
 */
export async function noSocketFault(token: string): Promise<Fault> {
  const url = new URL(`rtc/v1/validate?${new URLSearchParams({ access_token: token })}`, location.href);
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_TIMEOUT) });
    return answerFault(answer.status, await answer.text());
  } catch {
    return "unreachable";
  }
}

/** The server is where the page came from. */
export function serverUrl(page: Location = location): string {
  const url = new URL(".", page.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href.replace(/\/$/, "");
}
