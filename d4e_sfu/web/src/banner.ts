/** The strip at the top of the call that tells what is wrong or happening, and offers one way out. */

import { make } from "./element";
import { speak, tell } from "./language";
import type { Fault, Word } from "./words";

export class Banner {
  readonly element = make("div", { class: "banner", attributes: { role: "alert" } });
  private timer: number | undefined;

  constructor() {
    this.element.hidden = true;
  }

  show(word: Word, shape: { tone?: "busy" | "good" | "plain"; seconds?: number; button?: { word: Word; press: () => void } } = {}): void {
    const sentence = make("p");
    speak(sentence, word);
    this.place(sentence, shape.tone ?? "plain", shape.seconds);
    if (shape.button !== undefined) {
      const button = make("button", { class: "quiet", say: shape.button.word, attributes: { type: "button", "data-button": "banner" } });
      button.addEventListener("click", shape.button.press);
      this.element.append(button);
    }
    this.element.dataset["word"] = word;
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

  /** Takes the banner away; with a word, only if it still says that. */
  clear(word?: Word): void {
    if (word !== undefined && this.element.dataset["word"] !== word) return;
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
