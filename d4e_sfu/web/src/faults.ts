/**
 * Which sentence tells a person what went wrong: from what the client library and the browser
 * throw, to a Fault. Pure; nothing is shown or logged here.
 */

import { ConnectionError, ConnectionErrorReason, DisconnectReason, PublishTrackError } from "livekit-client";
import type { Fault } from "./words";

/** Why `room.connect()` failed. A 401 carries a sentence of the server: expired, not yet, or not accepted. */
export function joinFault(error: unknown): Fault {
  if (!(error instanceof ConnectionError)) return "broken";
  const said = error.message.toLowerCase();
  switch (error.reason) {
    case ConnectionErrorReason.NotAllowed:
      if (error.status === 404) return "noRoom";
      if (said.includes("expired")) return "expired";
      if (said.includes("not yet")) return "early";
      return "refused";
    case ConnectionErrorReason.LeaveRequest:
      return endFault(error.context as DisconnectReason | undefined);
    case ConnectionErrorReason.ServerUnreachable:
    case ConnectionErrorReason.Timeout:
    case ConnectionErrorReason.WebSocket:
      return "unreachable";
    case ConnectionErrorReason.InternalError:
      // The library's own words for a peer connection that did not come up in time.
      return /could not establish .*connection/.test(said) ? "noMedia" : "broken";
    default:
      return "broken";
  }
}

/** Why no socket was opened, from what the server says when it is asked by HTTP. */
export function answerFault(status: number, said: string): Fault {
  if (status === 429) return "hurried";
  if (status === 503 && /\bfull\b/.test(said)) return "busy";
  if (status === 503 && said.includes("restarting")) return "stopped";
  return status >= 500 ? "broken" : "unreachable";
}

/** Why an established call ended. */
export function endFault(reason: DisconnectReason | undefined): Fault {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
      return "left";
    case DisconnectReason.DUPLICATE_IDENTITY:
      return "replaced";
    case DisconnectReason.PARTICIPANT_REMOVED:
      return "removed";
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return "closed";
    case DisconnectReason.SERVER_SHUTDOWN:
      return "stopped";
    case DisconnectReason.MEDIA_FAILURE:
      return "noMedia";
    case DisconnectReason.USER_REJECTED:
      return "refused";
    default:
      return "lost";
  }
}

/** Why a camera or microphone did not open; `wanted` says what was asked for. */
export function deviceFault(error: unknown, wanted: { camera: boolean; microphone: boolean }): Fault {
  // W3C Media Capture and Streams §10.2 names the errors of getUserMedia.
  switch (error instanceof Error ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      if (wanted.camera && wanted.microphone) return "noDevices";
      return wanted.camera ? "noCamera" : "noMicrophone";
    case "NotReadableError":
    case "AbortError":
      return "inUse";
    default:
      return "deviceBroken";
  }
}

/** Why a camera, a microphone or a screen was not published, or a speaker not used; null if the person changed her mind. */
export function publishFault(error: unknown, source: "camera" | "microphone" | "screen" | "speaker"): Fault | null {
  if (error instanceof PublishTrackError && error.status === 403) return "notPermitted";
  if (error instanceof PublishTrackError || error instanceof ConnectionError) return "broken";
  if (source === "screen") {
    return error instanceof Error && error.name === "NotAllowedError" ? null : "shareFailed";
  }
  if (source === "speaker") return "speakerFailed";
  return deviceFault(error, { camera: source === "camera", microphone: source === "microphone" });
}
