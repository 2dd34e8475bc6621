/** A strip at the top of the call that tells what is wrong or happening, and offers one way out. */

import { make } from "./element";
import { speak, tell, type Values } from "./language";
import type { Fault, Word } from "./words";

interface Shape {
  tone?: "busy" | "good" | "plain";
  seconds?: number;
  values?: Values;
  button?: { word: Word; press: () => void };
}

export class Banner {
  readonly element: HTMLElement;
  private timer: number | undefined;

  /** `alert` interrupts whoever listens to the page; `status` waits. */
  constructor(role: "alert" | "status") {
    this.element = make("div", { class: `banner ${role}`, attributes: { role } });
    this.element.hidden = true;
  }

  show(word: Word | (() => string), shape: Shape = {}): void {
    const sentence = make("p");
    speak(sentence, word, shape.values);
    this.place(sentence, shape.tone ?? "plain", shape.seconds);
    if (shape.button !== undefined) {
      const button = make("button", { class: "quiet", say: shape.button.word, attributes: { type: "button", "data-button": "banner" } });
      button.addEventListener("click", shape.button.press);
      this.element.append(button);
    }
    if (typeof word === "string") this.element.dataset["word"] = word;
  }

  fault(fault: Fault): void {
    const sentence = make("p");
    speak(sentence, () => `${tell(fault).what} ${tell(fault).todo}`);
    this.place(sentence, "plain", undefined);
    const close = make("button", { class: "quiet", say: "close", attributes: { type: "button" } });
    close.addEventListener("click", () => this.clear());
    this.element.append(close);
    this.element.dataset["fault"] = fault;
  }

  shows(word: Word): boolean {
    return this.element.dataset["word"] === word;
  }

  /** Takes the banner away; with a word, only if it still says that. */
  clear(word?: Word): void {
    if (word !== undefined && !this.shows(word)) return;
    window.clearTimeout(this.timer);
    this.element.hidden = true;
    this.element.replaceChildren();
    delete this.element.dataset["word"];
    delete this.element.dataset["fault"];
  }

  private place(sentence: HTMLElement, tone: string, seconds: number | undefined): void {
    this.clear();
    this.element.dataset["tone"] = tone;
    this.element.append(sentence);
    this.element.hidden = false;
    if (seconds !== undefined) this.timer = window.setTimeout(() => this.clear(), seconds * 1000);
  }
}
