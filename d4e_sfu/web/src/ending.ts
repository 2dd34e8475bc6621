/** The page when there is no call: what happened, what to do, and the way back if there is one. */

import { make } from "./element";
import { masthead } from "./masthead";
import { speak, tell } from "./language";
import type { Fault } from "./words";

export function ending(fault: Fault, again: (() => void) | null): HTMLElement {
  const what = make("h1", { attributes: { tabindex: "-1" } });
  speak(what, () => tell(fault).what);
  const todo = make("p");
  speak(todo, () => tell(fault).todo);
  const card = make("main", { class: "card ending", attributes: { "data-fault": fault } }, what, todo);
  if (again !== null) {
    const button = make("button", { class: "main", say: "again", attributes: { type: "button", "data-button": "again" } });
    button.addEventListener("click", again);
    card.append(button);
  }
  return make("div", { class: "still" }, masthead(), card);
}
