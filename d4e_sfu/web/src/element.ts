/**
 * Makes DOM elements with their words. No markup is ever parsed from a string, so what people
 * type (names, messages) cannot become markup.
 */

import { icons, type Icon } from "./icons";
import { speak, type Values } from "./language";
import type { Word } from "./words";

interface Shape {
  class?: string;
  say?: Word;
  values?: Values;
  label?: Word;
  text?: string;
  attributes?: Readonly<Record<string, string>>;
}

export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  shape: Shape = {},
  ...children: readonly (Node | null)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  if (shape.class !== undefined) element.className = shape.class;
  if (shape.text !== undefined) element.textContent = shape.text;
  for (const [name, value] of Object.entries(shape.attributes ?? {})) {
    element.setAttribute(name, value);
  }
  if (shape.say !== undefined) speak(element, shape.say, shape.values);
  if (shape.label !== undefined) speak(element, shape.label, shape.values, "aria-label");
  element.append(...children.filter((child) => child !== null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** A decorative drawing: the words beside it carry the meaning. */
export function drawing(icon: Icon): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", icons[icon]);
  svg.append(path);
  return svg;
}

/** A button of the call: a drawing above its word. Both change together. */
export class DrawnButton {
  readonly element: HTMLButtonElement;
  private readonly word = make("span", { class: "word" });
  private readonly picture = make("span", { class: "drawing" });

  constructor(name: string, press: () => void) {
    this.element = make(
      "button",
      { attributes: { type: "button", "data-button": name } },
      this.picture,
      this.word,
    );
    this.element.addEventListener("click", press);
  }

  show(icon: Icon, word: Word, on: boolean, values?: Values, label?: Word): void {
    this.picture.replaceChildren(drawing(icon));
    speak(this.word, word);
    this.element.dataset["on"] = String(on);
    if (label !== undefined) speak(this.element, label, values, "aria-label");
  }
}

/** Puts a view on the page and moves the reader to its heading. */
export function present(state: string, view: HTMLElement): void {
  document.body.dataset["state"] = state;
  document.getElementById("page")?.replaceChildren(view);
  view.querySelector<HTMLElement>("h1[tabindex]")?.focus();
}
