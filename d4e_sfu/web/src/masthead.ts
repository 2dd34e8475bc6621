/** The line at the top of the quiet pages: the name of the place and the language switch. */

import { make } from "./element";
import { language, speak, switchLanguage } from "./language";

export function masthead(): HTMLElement {
  return make("header", { class: "masthead" }, make("span", { class: "place", say: "title" }), languageSwitch());
}

export function languageSwitch(): HTMLButtonElement {
  const button = make("button", { class: "language", say: "otherLanguage", attributes: { type: "button", "data-button": "language" } });
  // The word is in the language that it offers; a screen reader must pronounce it so.
  speak(button, () => (language() === "vi" ? "en" : "vi"), undefined, "lang");
  button.addEventListener("click", switchLanguage);
  return button;
}
