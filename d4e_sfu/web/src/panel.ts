/** A part of the page that opens beside the call, or over it on a phone: the chat, the list of people. */

import { drawing, make } from "./element";
import type { Word } from "./words";

export function panel(id: string, label: Word, heading: HTMLElement, closed: () => void, ...content: Node[]): HTMLElement {
  const close = make("button", { class: "round", label: "close", attributes: { type: "button" } }, drawing("close"));
  close.addEventListener("click", closed);
  const element = make("section", { class: `panel ${id}`, label, attributes: { id } }, make("header", {}, heading, close), ...content);
  element.hidden = true;
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closed();
  });
  return element;
}
