/** One row of the list of people: who it is, how it is with him, and what one may do about it. */

import { Track, type Participant } from "livekit-client";
import { drawing, make } from "./element";
import { moderates, raised } from "./hand";
import { say, speak } from "./language";
import { Options, sends, type ModeratorActs } from "./options";
import { linkWord } from "./quality";
import { badge, showRole } from "./role";
import type { Word } from "./words";

const LONGEST_NAME = 60; // characters; a name comes from outside

/** What the list can do about a person. */
export interface Acts extends ModeratorActs {
  pin(participant: Participant): void;
  isPinned(participant: Participant): boolean;
}

export class PersonRow {
  readonly element: HTMLLIElement;
  private readonly name = make("span", { class: "name" });
  private readonly badge = badge();
  private readonly state = make("p", { class: "hint" });
  private readonly pin: HTMLButtonElement | null = null;
  private readonly more: HTMLButtonElement | null = null;
  private readonly options: Options | null = null;

  /** With `moderator`, whoever looks at the list may moderate. */
  constructor(
    readonly participant: Participant,
    private readonly acts: Acts,
    moderator: boolean,
  ) {
    const icon = (name: "pin" | "more", press: () => void): HTMLButtonElement => {
      const button = make("button", { class: "round", attributes: { type: "button", "data-button": name } }, drawing(name));
      button.addEventListener("click", press);
      return button;
    };
    if (!participant.isLocal) this.pin = icon("pin", () => acts.pin(participant));
    if (!participant.isLocal && moderator) {
      this.options = new Options(participant, acts);
      this.more = icon("more", () => this.open(this.options?.element.hidden === true));
    }
    this.element = make(
      "li",
      { attributes: { "data-person": participant.identity } },
      make("div", { class: "who" }, make("p", { class: "named" }, this.name, this.badge), this.state),
      this.pin,
      this.more,
      this.options?.element ?? null,
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
    this.pin?.setAttribute("aria-pressed", String(this.acts.isPinned(participant)));
    if (this.pin !== null) speak(this.pin, () => say("pin", { name: name() }), undefined, "aria-label");
    if (this.more !== null) speak(this.more, () => say("optionsFor", { name: name() }), undefined, "aria-label");
    this.options?.refresh();
  }

  private states(): Word[] {
    const { participant } = this;
    const quality = linkWord(participant);
    return [
      ...(raised(participant) ? (["handIsUp"] as const) : []),
      ...(moderates(participant) ? (["moderatesHere"] as const) : []),
      sends(participant, Track.Source.Microphone) ? "micIsOn" : "micIsOff",
      ...(quality === null ? [] : [quality]),
    ];
  }

  private open(open: boolean): void {
    if (this.options === null) return;
    this.options.element.hidden = !open;
    this.more?.setAttribute("aria-expanded", String(open));
  }
}
