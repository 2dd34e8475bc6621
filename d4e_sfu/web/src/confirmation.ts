/** A question before what cannot be taken back. The safe answer has the focus. */

import { make } from "./element";
import { speak } from "./language";
import type { Word } from "./words";

export class Confirmation {
  readonly element: HTMLDialogElement;
  private readonly question = make("h2", { attributes: { id: "question" } });
  private readonly explanation = make("p", { class: "hint" });
  private readonly yes = make("button", { class: "main danger", attributes: { type: "button", "data-button": "confirm" } });
  private readonly no = make("button", { class: "quiet", say: "cancel", attributes: { type: "submit", "data-button": "cancel" } });
  private act: () => void = () => undefined;

  constructor() {
    this.yes.addEventListener("click", () => {
      this.element.close();
      this.act();
    });
    const form = make("form", { attributes: { method: "dialog" } }, this.question, this.explanation, this.yes, this.no);
    this.element = make("dialog", { class: "card", attributes: { "aria-labelledby": "question" } }, form);
  }

  ask(question: () => string, explanation: Word, answer: Word, act: () => void): void {
    speak(this.question, question);
    speak(this.explanation, explanation);
    speak(this.yes, answer);
    this.act = act;
    this.element.showModal();
    this.no.focus();
  }
}
