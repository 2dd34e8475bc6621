/**
 * Connection quality in words, which leg of the link is to blame, and for what. The room protocol has no
 * field for these: the server tells them in a data packet of its own (docs/signalling.md).
 */

import { ConnectionQuality, type Participant, type Room } from "livekit-client";
import type { Word } from "./words";

/** From the participant to the server, or back; "" where nothing is to blame, or nothing is known. */
export type Leg = "up" | "down" | "both" | "";
/** Packets vanish, wait too long, are not sent at all, or meet a server that is too busy. */
export type Cause = "loss" | "queue" | "sender" | "server" | "";
export interface Blame {
  leg: Leg;
  cause: Cause;
}

const LEGS: readonly unknown[] = ["up", "down", "both", ""] satisfies Leg[];
const CAUSES: readonly unknown[] = ["loss", "queue", "sender", "server", ""] satisfies Cause[];
const NOBODY: Blame = { leg: "", cause: "" };

export const QUALITY_TOPIC = "d4e.quality";
const blames = new WeakMap<Participant, Blame>();

/** Takes what the server tells; gives back whom it concerns. A packet from a participant is not the server's word. */
export function takeBlame(room: Room, payload: Uint8Array, sender: Participant | undefined, topic: string | undefined): Participant[] {
  if (topic !== QUALITY_TOPIC || sender !== undefined) return [];
  const everyone = [room.localParticipant, ...room.remoteParticipants.values()];
  return readBlame(payload).flatMap(([sid, blame]) => {
    const participant = everyone.find((each) => each.sid === sid);
    if (participant === undefined) return [];
    blames.set(participant, blame);
    return [participant];
  });
}

export function readBlame(payload: Uint8Array): [sid: string, blame: Blame][] {
  try {
    const told = JSON.parse(new TextDecoder().decode(payload)) as {
      updates?: { participant?: unknown; leg?: unknown; cause?: unknown }[];
    };
    return (told.updates ?? []).flatMap(({ participant, leg, cause = "" }) =>
      typeof participant === "string" && LEGS.includes(leg) && CAUSES.includes(cause)
        ? [[participant, { leg, cause } as Blame]]
        : [],
    );
  } catch {
    return [];
  }
}

/** A participant's link in words; null while nothing is known: then nothing is said. */
export function linkWord(participant: Participant): Word | null {
  return qualityWord(participant.connectionQuality, blames.get(participant) ?? NOBODY);
}

/** One's own weak link, with what it means and what helps. */
export function ownLinkWord(participant: Participant): Word {
  const { leg, cause } = blames.get(participant) ?? NOBODY;
  if (cause === "sender") return "ownDeviceSilent";
  if (cause === "server") return "serverBusy";
  if (leg === "up") return "ownNetworkWeakUp";
  return leg === "down" ? "ownNetworkWeakDown" : "ownNetworkWeak";
}

export function qualityWord(quality: ConnectionQuality, { leg, cause }: Blame): Word | null {
  switch (quality) {
    case ConnectionQuality.Excellent:
      return "networkGood";
    case ConnectionQuality.Good:
      return "networkFair";
    case ConnectionQuality.Poor:
      if (cause === "sender") return "deviceSilent";
      if (cause === "server") return "serverBusy";
      if (cause === "queue" && leg === "up") return "networkFullUp";
      if (cause === "queue" && leg === "down") return "networkFullDown";
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
