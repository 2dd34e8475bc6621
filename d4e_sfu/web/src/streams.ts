/**
 * Why something that was asked for is smaller or not sent, in words. The room protocol says that a
 * stream is paused and not why: the server tells that in a data packet of its own (docs/signalling.md).
 */

import type { Participant, Room } from "livekit-client";
import type { Word } from "./words";

export type Reason = "link_smaller" | "link_paused" | "link_voice_paused" | "not_recent" | "";

export const STREAMS_TOPIC = "d4e.streams";

const WORDS: Record<Reason, Word | null> = {
  link_smaller: null, // it is to be seen
  link_paused: "videoPaused",
  link_voice_paused: "voicePaused",
  not_recent: "pictureNotRecent",
  "": null,
};
const reasons = new WeakMap<Participant, Map<string, Reason>>();

/** Takes what the server tells; gives back whom it concerns. A packet from a participant is not the server's word. */
export function takeReasons(room: Room, payload: Uint8Array, sender: Participant | undefined, topic: string | undefined): Participant[] {
  if (topic !== STREAMS_TOPIC || sender !== undefined) return [];
  return readReasons(payload).flatMap(([sid, reason]) => {
    const participant = [...room.remoteParticipants.values()].find((each) => each.trackPublications.has(sid));
    if (participant === undefined) return [];
    const known = reasons.get(participant) ?? new Map<string, Reason>();
    reasons.set(participant, known.set(sid, reason));
    return [participant];
  });
}

export function readReasons(payload: Uint8Array): [sid: string, reason: Reason][] {
  try {
    const told = JSON.parse(new TextDecoder().decode(payload)) as { updates?: { track?: unknown; reason?: unknown }[] };
    return (told.updates ?? []).flatMap(({ track, reason }) => (typeof track === "string" && isReason(reason) ? [[track, reason]] : []));
  } catch {
    return [];
  }
}

/** What stands on a picture, or beside a voice, that is not sent; null: nothing is to be said. */
export function reasonWord(participant: Participant, sid: string): Word | null {
  return WORDS[reasons.get(participant)?.get(sid) ?? ""];
}

function isReason(text: unknown): text is Reason {
  return typeof text === "string" && Object.hasOwn(WORDS, text);
}
