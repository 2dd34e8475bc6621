/**
 * The join link: everything after `#`, which a browser never sends to a server, so that a token
 * stays out of access logs, proxies and Referer headers.
 *
 * After reading, the token leaves the address bar and the history entry: it must not be read over
 * a shoulder, copied on with the address, or found in the history of a shared computer. It is kept
 * in sessionStorage while it is of use, so that a reload, or a phone that discards and restores
 * the tab, comes back to the room. That storage belongs to this tab and origin, and no script but
 * ours runs here (CSP). Leaving the room, or a refusal by the server, erases it: on a shared computer
 * the next person must not be able to reload into the call.
 */

import { decodeTokenPayload } from "livekit-client";

const KEPT = "d4e-token";

/** Roles of the sample policy that only watch: a hint, so that nobody is asked for a camera in vain. */
const WATCHING: readonly string[] = ["observer"];

/** What the page may show before the server has answered. The server alone decides rights. */
export interface Invitation {
  token: string;
  room: string;
  identity: string;
  name: string;
  role: string;
  mayPublish: boolean;
  mayRename: boolean;
}

/** The token in a fragment such as `#room=…&token=…`; the room is in the token as well. */
export function tokenOf(fragment: string): string | null {
  return new URLSearchParams(fragment.replace(/^#/, "")).get("token") || null;
}

/** Reads a token without checking it; null if it is not one. */
export function read(token: string): Invitation | null {
  let claims: Record<string, unknown>;
  try {
    claims = decodeTokenPayload(token) as unknown as Record<string, unknown>;
  } catch {
    return null;
  }
  const grant = record(claims["video"]);
  const identity = text(claims["sub"]);
  const role = text(record(claims["d4e"])["role"]);
  return {
    token,
    room: text(grant["room"]),
    identity,
    name: text(claims["name"]) || identity,
    role,
    mayPublish: grant["canPublish"] !== false && !WATCHING.includes(role),
    mayRename: grant["canUpdateOwnMetadata"] === true,
  };
}

/** The token of this tab: from the address, which is then cleaned, else kept from before. */
export function takeToken(): string | null {
  const token = tokenOf(location.hash);
  if (location.hash !== "") history.replaceState(null, "", location.pathname + location.search);
  try {
    if (token !== null) sessionStorage.setItem(KEPT, token);
    return token ?? sessionStorage.getItem(KEPT);
  } catch {
    return token; // Storage may be forbidden: a reload then needs the link again.
  }
}

export function forgetToken(): void {
  try {
    sessionStorage.removeItem(KEPT);
  } catch {
    // Nothing was kept.
  }
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
