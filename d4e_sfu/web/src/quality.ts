/**
 * Connection quality in words, and which leg of the link is to blame. The room protocol has no
 * field for the leg: the server tells it in a data packet of its own (docs/signalling.md).
 */

import { ConnectionQuality, type Participant, type Room } from "livekit-client";
import type { Word } from "./words";

/** From the participant to the server, or back; "" where nothing is to blame, or nothing is known. */
export type Leg = "up" | "down" | "both" | "";

export const QUALITY_TOPIC = "d4e.quality";
const legs = new WeakMap<Participant, Leg>();

/** Takes what the server tells; gives back whom it concerns. A packet from a participant is not the server's word. */
export function takeLegs(room: Room, payload: Uint8Array, sender: Participant | undefined, topic: string | undefined): Participant[] {
  if (topic !== QUALITY_TOPIC || sender !== undefined) return [];
  const everyone = [room.localParticipant, ...room.remoteParticipants.values()];
  return readLegs(payload).flatMap(([sid, leg]) => {
    const participant = everyone.find((each) => each.sid === sid);
    if (participant === undefined) return [];
    legs.set(participant, leg);
    return [participant];
  });
}

export function readLegs(payload: Uint8Array): [sid: string, leg: Leg][] {
  try {
    const told = JSON.parse(new TextDecoder().decode(payload)) as { updates?: { participant?: unknown; leg?: unknown }[] };
    return (told.updates ?? []).flatMap(({ participant, leg }) =>
      typeof participant === "string" && (leg === "up" || leg === "down" || leg === "both" || leg === "") ? [[participant, leg]] : [],
    );
  } catch {
    return [];
  }
}

/** A participant's link in words; null while nothing is known: then nothing is said. */
export function linkWord(participant: Participant): Word | null {
  return qualityWord(participant.connectionQuality, legs.get(participant) ?? "");
}

/** One's own weak link, with what it means and what helps. */
export function ownLinkWord(participant: Participant): Word {
  const leg = legs.get(participant) ?? "";
  if (leg === "up") return "ownNetworkWeakUp";
  return leg === "down" ? "ownNetworkWeakDown" : "ownNetworkWeak";
}

export function qualityWord(quality: ConnectionQuality, leg: Leg): Word | null {
  switch (quality) {
    case ConnectionQuality.Excellent:
      return "networkGood";
    case ConnectionQuality.Good:
      return "networkFair";
    case ConnectionQuality.Poor:
      if (leg === "up") return "networkWeakUp";
      return leg === "down" ? "networkWeakDown" : "networkWeak";
    case ConnectionQuality.Lost:
      return "networkLost";
    default:
      return null;
  }
}

export function weak(quality: ConnectionQuality): boolean {
  return quality === ConnectionQuality.Poor || quality === ConnectionQuality.Lost;
}
