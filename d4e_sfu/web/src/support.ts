/** Whether this browser can hold a call at all; if not, which sentence says why. */

import type { Fault } from "./words";

/** The parts of a browser that are asked about, so that the answer can be tested without one. */
export interface Browser {
  isSecureContext: boolean;
  RTCPeerConnection?: unknown;
  mediaDevices?: { getUserMedia?: unknown } | undefined;
}

export function missing(browser: Browser): Fault | null {
  // An insecure page has no mediaDevices either, so this answer must come first.
  if (!browser.isSecureContext) return "insecure";
  if (typeof browser.RTCPeerConnection !== "function") return "unsupported";
  if (typeof browser.mediaDevices?.getUserMedia !== "function") return "unsupported";
  return null;
}

/** Phones have no screen to share with this API. */
export function canShareScreen(): boolean {
  return typeof navigator.mediaDevices?.getDisplayMedia === "function";
}

export function canChooseSpeaker(): boolean {
  return "setSinkId" in HTMLMediaElement.prototype;
}
