/**
 * What a moderator does to others: requests to the server API, which checks his token again.
 * Whether the controls are shown is decided elsewhere; a refusal is thrown as a `Refused`.
 */

import type { Participant, Room } from "livekit-client";
import { HAND } from "./hand";
import { changed, may, permissionOf, type Permission, type Right } from "./rights";
import type { Fault } from "./words";

type Call = "MutePublishedTrack" | "UpdateParticipant" | "RemoveParticipant";

export class Refused extends Error {
  constructor(readonly fault: Fault) {
    super(fault);
  }
}

export class Moderation {
  private token: string;

  constructor(
    private readonly room: Room,
    token: string,
  ) {
    this.token = token;
    // The server sends a younger one now and then; the first may expire in a long call.
    room.engine.on("tokenRefreshed", (refreshed) => (this.token = refreshed));
  }

  async mute(participant: Participant, trackSid: string): Promise<void> {
    await this.ask("MutePublishedTrack", participant, { trackSid, muted: true });
  }

  /** Gives back what he may do now. What a role forbids, no moderator gives: it is then as it was. */
  async allow(participant: Participant, permission: Permission, right: Right, given: boolean): Promise<Permission> {
    const now = permissionOf(await this.ask("UpdateParticipant", participant, { permission: changed(permission, right, given) }));
    if (now === undefined || (given && !may(now, right))) throw new Refused("roleForbids");
    return now;
  }

  async lowerHand(participant: Participant): Promise<void> {
    await this.ask("UpdateParticipant", participant, { attributes: { [HAND]: "" } });
  }

  async remove(participant: Participant): Promise<void> {
    await this.ask("RemoveParticipant", participant, {});
  }

  private async ask(call: Call, participant: Participant, wanted: object): Promise<unknown> {
    const { name: room } = this.room;
    const answer = await fetch(new URL(`twirp/livekit.RoomService/${call}`, document.baseURI), {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.token}` },
      body: JSON.stringify({ room, identity: participant.identity, ...wanted }),
    }).catch(() => null);
    if (answer === null) throw new Refused("unreachable");
    if (!answer.ok) throw new Refused(refusal(answer.status));
    return answer.json();
  }
}

/** By the status alone: the sentences of the server are for developers. */
export function refusal(status: number): Fault {
  if (status === 401 || status === 403) return "notPermitted";
  if (status === 404) return "goneAlready";
  if (status === 429 || status === 503) return "tooFast";
  return "broken";
}
