/**
 * The raised hand: an attribute of the participant, so that whoever joins later sees it as well.
 * The server lets everyone set his own, and a moderator lower it.
 */

import type { Participant, Room } from "livekit-client";

export const HAND = "d4e.hand";
const MODERATOR = "d4e.moderator"; // the server's word; a client cannot give it to himself

export function raised(participant: Participant): boolean {
  return (participant.attributes[HAND] ?? "") !== "";
}

export function moderates(participant: Participant): boolean {
  return participant.attributes[MODERATOR] === "true";
}

/** One's own hand: remembers what one wants, to tell one's own doing from a moderator's. */
export class Hand {
  private wanted = false;

  constructor(private readonly room: Room) {}

  async toggle(): Promise<void> {
    this.wanted = !raised(this.room.localParticipant);
    try {
      await this.set(this.wanted);
    } catch (error) {
      this.wanted = raised(this.room.localParticipant);
      throw error;
    }
  }

  /** After a full reconnect one is a new participant: the hand is still meant. */
  async again(): Promise<void> {
    if (this.wanted && !raised(this.room.localParticipant)) await this.set(true);
  }

  /** Whether somebody else has lowered it just now. */
  lowered(): boolean {
    if (!this.wanted || raised(this.room.localParticipant)) return false;
    this.wanted = false;
    return true;
  }

  private set(up: boolean): Promise<void> {
    return this.room.localParticipant.setAttributes({ [HAND]: up ? "true" : "" });
  }
}
