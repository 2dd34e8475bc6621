/** The line at the top of the quiet pages: the name of the place and the language switch. */

import { make } from "./element";
import { switchLanguage } from "./language";

export function masthead(): HTMLElement {
  return make("header", { class: "masthead" }, make("span", { class: "place", say: "title" }), languageSwitch());
}

export function languageSwitch(): HTMLButtonElement {
  const button = make("button", { class: "language", say: "otherLanguage", attributes: { type: "button", "data-button": "language" } });
  button.addEventListener("click", switchLanguage);
  return button;
}
