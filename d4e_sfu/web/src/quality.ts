/** Connection quality in words. Pure. */

import { ConnectionQuality } from "livekit-client";
import type { Word } from "./words";

/** Null while nothing is known: then nothing is said. */
export function qualityWord(quality: ConnectionQuality): Word | null {
  switch (quality) {
    case ConnectionQuality.Excellent:
      return "networkGood";
    case ConnectionQuality.Good:
      return "networkFair";
    case ConnectionQuality.Poor:
      return "networkWeak";
    case ConnectionQuality.Lost:
      return "networkLost";
    default:
      return null;
  }
}

export function weak(quality: ConnectionQuality): boolean {
  return quality === ConnectionQuality.Poor || quality === ConnectionQuality.Lost;
}
