/** What a moderator may do about one person: stop what he sends, lower his hand, change his rights, remove him. */

import { Track, type Participant } from "livekit-client";
import { make } from "./element";
import { raised } from "./hand";
import { may, RIGHTS, TO_DO, type Permission, type Right } from "./rights";
import type { Word } from "./words";

export interface ModeratorActs {
  mute(participant: Participant, trackSid: string): void;
  lowerHand(participant: Participant): void;
  /** Gives back what he may do then; undefined where that was refused. */
  allow(participant: Participant, permission: Permission, right: Right, given: boolean): Promise<Permission | undefined>;
  remove(participant: Participant): void;
}

const STOPPABLE: readonly (readonly [Track.Source, Word])[] = [
  [Track.Source.Microphone, "muteTheirMic"],
  [Track.Source.Camera, "stopTheirCamera"],
  [Track.Source.ScreenShare, "stopTheirShare"],
];

export class Options {
  readonly element: HTMLElement;
  private readonly stops: (readonly [Track.Source, HTMLButtonElement])[];
  private readonly handDown: HTMLButtonElement;
  private readonly boxes = new Map<Right, HTMLInputElement>();
  private readonly wanted = new Map<Right, boolean>(); // asked for and not answered yet
  private asking: Promise<void> = Promise.resolve(); // one at a time: a permission is replaced whole
  private answer: { permission: Permission; instead: unknown } | undefined;

  constructor(
    private readonly participant: Participant,
    private readonly acts: ModeratorActs,
  ) {
    this.stops = STOPPABLE.map(([source, word]) => [source, button(`stop-${source}`, word, () => this.stop(source))] as const);
    this.handDown = button("lower-hand", "lowerTheirHand", () => acts.lowerHand(participant));
    const remove = button("remove", "removeFromRoom", () => acts.remove(participant));
    remove.classList.add("danger");
    this.element = make(
      "div",
      { class: "options" },
      make("div", { class: "acts" }, ...this.stops.map(([, each]) => each), this.handDown),
      make("fieldset", {}, make("legend", { say: "rights" }), ...RIGHTS.map((right) => this.box(right))),
      remove,
    );
  }

  refresh(): void {
    const { participant } = this;
    for (const [source, each] of this.stops) each.hidden = !sends(participant, source);
    this.handDown.hidden = !raised(participant);
    for (const [right, box] of this.boxes) box.checked = this.wanted.get(right) ?? may(this.permission(), right);
  }

  private box(right: Right): HTMLElement {
    const box = make("input", { attributes: { type: "checkbox", "data-right": right } });
    this.boxes.set(right, box);
    box.addEventListener("change", () => {
      this.wanted.set(right, box.checked);
      this.asking = this.asking.then(() => this.change(right));
    });
    return make("label", { class: "check" }, box, make("span", { say: TO_DO[right] }));
  }

  private async change(right: Right): Promise<void> {
    const permission = this.permission();
    const given = this.wanted.get(right);
    if (permission === undefined || given === undefined) return;
    const now = await this.acts.allow(this.participant, permission, right, given);
    this.wanted.delete(right);
    if (now !== undefined) this.answer = { permission: now, instead: this.participant.permissions };
    this.refresh();
  }

  /** As the server told it last: to everyone, or in an answer that is younger. */
  private permission(): Permission | undefined {
    const { permissions } = this.participant;
    if (this.answer !== undefined && this.answer.instead === permissions) return this.answer.permission;
    // The library's type of the message, of which we name what concerns us.
    return permissions as unknown as Permission | undefined;
  }

  private stop(source: Track.Source): void {
    const sid = this.participant.getTrackPublication(source)?.trackSid;
    if (sid !== undefined) this.acts.mute(this.participant, sid);
  }
}

export function sends(participant: Participant, source: Track.Source): boolean {
  const publication = participant.getTrackPublication(source);
  return publication !== undefined && !publication.isMuted;
}

function button(name: string, word: Word, press: () => void): HTMLButtonElement {
  const made = make("button", { class: "quiet", say: word, attributes: { type: "button", "data-button": name } });
  made.addEventListener("click", press);
  return made;
}
