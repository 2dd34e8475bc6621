/** One row of the list of people: who it is, how it is with him, and what one may do about it. */

import { Track, type Participant } from "livekit-client";
import { drawing, make } from "./element";
import { moderates, raised } from "./hand";
import { say, speak } from "./language";
import { qualityWord } from "./quality";
import { may, RIGHTS, TO_DO, type Permission, type Right } from "./rights";
import { badge, showRole } from "./role";
import type { Word } from "./words";

const LONGEST_NAME = 60; // characters; a name comes from outside

/** What the list can do about a person. */
export interface Acts {
  pin(participant: Participant): void;
  isPinned(participant: Participant): boolean;
  mute(participant: Participant, trackSid: string): void;
  lowerHand(participant: Participant): void;
  allow(participant: Participant, permission: Permission, right: Right, given: boolean): void;
  remove(participant: Participant): void;
}

/** Publications that a moderator can stop, with the words of the button. */
const STOPPABLE: readonly (readonly [Track.Source, Word])[] = [
  [Track.Source.Microphone, "muteTheirMic"],
  [Track.Source.Camera, "stopTheirCamera"],
  [Track.Source.ScreenShare, "stopTheirShare"],
];

export class PersonRow {
  readonly element: HTMLLIElement;
  private readonly name = make("span", { class: "name" });
  private readonly badge = badge();
  private readonly state = make("p", { class: "hint" });
  private readonly pin: HTMLButtonElement | null;
  private readonly more: HTMLButtonElement | null;
  private readonly options: HTMLElement;
  private readonly stops: (readonly [Track.Source, HTMLButtonElement])[];
  private readonly handDown: HTMLButtonElement;
  private readonly boxes = new Map<Right, HTMLInputElement>();

  constructor(
    readonly participant: Participant,
    private readonly acts: Acts,
    moderator: boolean,
  ) {
    const button = (name: string, word: Word, press: () => void): HTMLButtonElement => {
      const made = make("button", { class: "quiet", say: word, attributes: { type: "button", "data-button": name } });
      made.addEventListener("click", press);
      return made;
    };
    const icon = (name: string, shape: "pin" | "more", press: () => void): HTMLButtonElement => {
      const made = make("button", { class: "round", attributes: { type: "button", "data-button": name } }, drawing(shape));
      made.addEventListener("click", press);
      return made;
    };
    this.pin = participant.isLocal ? null : icon("pin", "pin", () => acts.pin(participant));
    this.more = participant.isLocal || !moderator ? null : icon("more", "more", () => this.open(this.options.hidden === true));
    this.stops = STOPPABLE.map(([source, word]) => [source, button(`stop-${source}`, word, () => this.stop(source))] as const);
    this.handDown = button("lower-hand", "lowerTheirHand", () => acts.lowerHand(participant));
    const remove = button("remove", "removeFromRoom", () => acts.remove(participant));
    remove.classList.add("danger");
    const rights = make("fieldset", {}, make("legend", { say: "rights" }), ...RIGHTS.map((right) => this.box(right)));
    this.options = make(
      "div",
      { class: "options" },
      make("div", { class: "acts" }, ...this.stops.map(([, each]) => each), this.handDown),
      rights,
      remove,
    );
    this.element = make(
      "li",
      { attributes: { "data-person": participant.identity } },
      make("div", { class: "who" }, make("p", { class: "named" }, this.name, this.badge), this.state),
      this.pin,
      this.more,
      this.options,
    );
    this.open(false);
    this.refresh();
  }

  refresh(): void {
    const { participant } = this;
    const name = (): string => (participant.name || participant.identity).slice(0, LONGEST_NAME);
    speak(this.name, () => (participant.isLocal ? say("you", { name: name() }) : name()));
    showRole(this.badge, participant.attributes["d4e.role"] ?? "");
    this.element.dataset["hand"] = raised(participant) ? "up" : "down";
    speak(this.state, () => this.states().map((word) => say(word)).join(" · "));
    if (this.pin !== null) {
      this.pin.setAttribute("aria-pressed", String(this.acts.isPinned(participant)));
      speak(this.pin, () => say("pin", { name: name() }), undefined, "aria-label");
    }
    if (this.more === null) return;
    speak(this.more, () => say("optionsFor", { name: name() }), undefined, "aria-label");
    for (const [source, button] of this.stops) button.hidden = !sends(participant, source);
    this.handDown.hidden = !raised(participant);
    for (const [right, box] of this.boxes) box.checked = may(participant.permissions, right);
  }

  private states(): Word[] {
    const { participant } = this;
    const quality = qualityWord(participant.connectionQuality);
    return [
      ...(raised(participant) ? (["handIsUp"] as const) : []),
      ...(moderates(participant) ? (["moderatesHere"] as const) : []),
      sends(participant, Track.Source.Microphone) ? "micIsOn" : "micIsOff",
      ...(quality === null ? [] : [quality]),
    ];
  }

  private box(right: Right): HTMLElement {
    const box = make("input", { attributes: { type: "checkbox", "data-right": right } });
    this.boxes.set(right, box);
    box.addEventListener("change", () => {
      const { permissions } = this.participant;
      if (permissions !== undefined) this.acts.allow(this.participant, permissions as unknown as Permission, right, box.checked);
    });
    return make("label", { class: "check" }, box, make("span", { say: TO_DO[right] }));
  }

  private stop(source: Track.Source): void {
    const sid = this.participant.getTrackPublication(source)?.trackSid;
    if (sid !== undefined) this.acts.mute(this.participant, sid);
  }

  private open(open: boolean): void {
    this.options.hidden = !open;
    this.more?.setAttribute("aria-expanded", String(open));
  }
}

function sends(participant: Participant, source: Track.Source): boolean {
  const publication = participant.getTrackPublication(source);
  return publication !== undefined && !publication.isMuted;
}
