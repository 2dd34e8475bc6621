/** The list of people beside the call. Raised hands stand first, in the order in which they went up. */

import type { Participant, Room } from "livekit-client";
import { announce } from "./announcement";
import { drawing, make } from "./element";
import { moderates, raised } from "./hand";
import { say, speak } from "./language";
import { panel } from "./panel";
import { PersonRow, type Acts } from "./person";

export class People {
  readonly element: HTMLElement;
  private readonly heading = make("h2", { attributes: { tabindex: "-1" } });
  private readonly list = make("ul", { class: "persons" });
  private readonly rows = new Map<string, PersonRow>(); // by identity
  private readonly hands = new Set<string>(); // identities, the first to raise first
  private moderator: boolean;

  constructor(
    private readonly room: Room,
    private readonly acts: Acts,
    private readonly counted: (people: number, hands: number) => void,
    closed: () => void,
  ) {
    this.moderator = moderates(room.localParticipant);
    this.element = panel("people", "people", this.heading, closed, this.list);
  }

  get open(): boolean {
    return !this.element.hidden;
  }

  show(open: boolean): void {
    this.element.hidden = !open;
    if (open) this.heading.focus();
  }

  refresh(participant: Participant): void {
    const moderator = moderates(this.room.localParticipant);
    if (moderator !== this.moderator) {
      this.moderator = moderator;
      for (const row of [...this.rows.values()]) this.row(row.participant, true);
    }
    this.row(participant, false);
    this.raise(participant);
    this.order();
  }

  remove(participant: Participant): void {
    const row = this.rows.get(participant.identity);
    if (row?.participant !== participant) return;
    row.element.remove();
    this.rows.delete(participant.identity);
    this.hands.delete(participant.identity);
    this.order();
  }

  private row(participant: Participant, anew: boolean): void {
    const row = this.rows.get(participant.identity);
    // A participant who rejoined is another object with the same identity.
    if (row !== undefined && row.participant === participant && !anew) return row.refresh();
    const made = new PersonRow(participant, this.acts, this.moderator);
    row?.element.remove();
    this.rows.set(participant.identity, made);
    this.list.append(made.element);
  }

  private raise(participant: Participant): void {
    const { identity } = participant;
    if (!raised(participant)) return void this.hands.delete(identity);
    if (this.hands.has(identity)) return;
    this.hands.add(identity);
    if (!participant.isLocal) announce(() => say("handRaised", { name: participant.name || identity }));
  }

  private order(): void {
    const focused = document.activeElement;
    const wanted = [...this.hands, ...[...this.rows.keys()].filter((each) => !this.hands.has(each))];
    wanted.forEach((identity, at) => {
      const element = this.rows.get(identity)?.element;
      const there = this.list.children[at] ?? null;
      if (element !== undefined && element !== there) this.list.insertBefore(element, there);
    });
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.list.contains(focused)) focused.focus();
    const count = this.rows.size;
    speak(this.heading, () => say("peopleCount", { count }));
    this.counted(count, this.hands.size);
  }
}

/** How many people are here, and how many hands are up: a button that opens the list. */
export class PeopleButton {
  readonly element: HTMLButtonElement;
  private readonly people = make("span");
  private readonly hands = make("span");
  private readonly up = make("span", { class: "hands" }, drawing("hand"), this.hands, make("span", { class: "unseen", say: "handsUp" }));

  constructor(press: () => void) {
    this.element = make(
      "button",
      { class: "crowd", attributes: { type: "button", "data-button": "people", "aria-controls": "people", "aria-expanded": "false" } },
      drawing("people"),
      this.people,
      make("span", { class: "unseen", say: "peopleHere" }),
      this.up,
    );
    this.element.addEventListener("click", press);
  }

  show(count: number, hands: number): void {
    this.people.textContent = `${count} `; // the space keeps what is read aloud apart
    this.hands.textContent = `${hands} `;
    this.up.hidden = hands === 0;
  }

  open(open: boolean): void {
    this.element.setAttribute("aria-expanded", String(open));
  }
}
