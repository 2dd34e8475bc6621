/**
 * What somebody may do in the room, as the room protocol writes it and as a moderator changes it.
 * Pure; the server decides, this only reads and asks.
 */

import type { Word } from "./words";

export type Right = "microphone" | "camera" | "screen" | "data";

export const RIGHTS: readonly Right[] = ["microphone", "camera", "screen", "data"];

/** What a right lets one do, as a verb after "lets you". */
export const TO_DO: Record<Right, Word> = { microphone: "toSpeak", camera: "toShow", screen: "toShare", data: "toWrite" };

/** livekit.TrackSource by right; who may share a screen may share its sound. */
const SOURCES: Record<Exclude<Right, "data">, readonly number[]> = { microphone: [2], camera: [1], screen: [3, 4] };
const EVERY_SOURCE: readonly number[] = [1, 2, 3, 4];
const SOURCE_WORDS: readonly string[] = ["UNKNOWN", "CAMERA", "MICROPHONE", "SCREEN_SHARE", "SCREEN_SHARE_AUDIO"];

/** livekit.ParticipantPermission, the members that concern us. */
export interface Permission {
  canSubscribe: boolean;
  canPublish: boolean;
  canPublishData: boolean;
  canPublishSources: readonly number[];
  hidden: boolean;
  canUpdateMetadata: boolean;
}

export function may(permission: Permission | undefined, right: Right): boolean {
  if (permission === undefined) return true; // the server has not said otherwise
  if (right === "data") return permission.canPublishData;
  return SOURCES[right].some((each) => sources(permission).includes(each));
}

/** The same permission with one right given or taken: the server API replaces a permission whole. */
export function changed(permission: Permission, right: Right, given: boolean): Permission {
  const { canSubscribe, hidden, canUpdateMetadata } = permission;
  const same = { canSubscribe, hidden, canUpdateMetadata };
  if (right === "data") {
    return { ...same, canPublish: permission.canPublish, canPublishSources: sources(permission), canPublishData: given };
  }
  const others = sources(permission).filter((each) => !SOURCES[right].includes(each));
  const now = given ? [...others, ...SOURCES[right]].sort() : others;
  return { ...same, canPublish: now.length > 0, canPublishSources: now, canPublishData: permission.canPublishData };
}

/** What was given and what was taken between two permissions. */
export function difference(before: Permission | undefined, after: Permission): { given: Right[]; taken: Right[] } {
  const turned = (given: boolean): Right[] =>
    before === undefined ? [] : RIGHTS.filter((right) => may(before, right) !== given && may(after, right) === given);
  return { given: turned(true), taken: turned(false) };
}

/** The permission in the server's answer: a ParticipantInfo in JSON, where names have underscores and sources are words. */
export function permissionOf(info: unknown): Permission | undefined {
  const told = (info as { permission?: Record<string, unknown> } | null)?.permission;
  if (told === undefined) return undefined;
  const words = Array.isArray(told["can_publish_sources"]) ? (told["can_publish_sources"] as unknown[]) : [];
  return {
    canSubscribe: told["can_subscribe"] === true,
    canPublish: told["can_publish"] === true,
    canPublishData: told["can_publish_data"] === true,
    canPublishSources: words.map((word) => SOURCE_WORDS.indexOf(String(word))).filter((number) => number > 0),
    hidden: told["hidden"] === true,
    canUpdateMetadata: told["can_update_metadata"] === true,
  };
}

/** An empty list means every source, unless publishing is forbidden altogether. */
function sources(permission: Permission): readonly number[] {
  if (!permission.canPublish) return [];
  return permission.canPublishSources.length === 0 ? EVERY_SOURCE : permission.canPublishSources;
}
