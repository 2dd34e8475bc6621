/**
 * The language that the page speaks now. An element is given a word (not a string), so that a
 * switch of language speaks every element again; text that people wrote is never placed here.
 */

import { keep, kept } from "./choice";
import { faults, words, type Fault, type Language, type Word } from "./words";

export type Values = Readonly<Record<string, string | number>>;

const KEPT = "language";

/** A word for an attribute or the text of an element, with the values that fill its `{marks}`. */
interface Spoken {
  place: "text" | "aria-label" | "placeholder" | "lang";
  sentence: () => string;
}

const spoken = new WeakMap<Element, Spoken[]>();

let current: Language = "vi";

export function language(): Language {
  return current;
}

/** The kept choice, else the first of the browser's languages that we speak, else Vietnamese. */
export function preferred(chosen: string | null, browser: readonly string[]): Language {
  for (const wish of [chosen ?? "", ...browser]) {
    const short = wish.slice(0, 2).toLowerCase();
    if (short === "vi" || short === "en") return short;
  }
  return "vi";
}

export function startLanguage(): void {
  use(preferred(kept(KEPT), navigator.languages));
}

export function switchLanguage(): void {
  use(current === "vi" ? "en" : "vi");
  keep(KEPT, current);
}

/** The sentence of a word in the current language. */
export function say(word: Word, values?: Values): string {
  return fill(words[word][current], values);
}

export function tell(fault: Fault): { what: string; todo: string } {
  return faults[fault][current];
}

export function fill(sentence: string, values: Values = {}): string {
  return sentence.replace(/\{(\w+)\}/g, (mark, name: string) => String(values[name] ?? mark));
}

/** Writes a word into an element, now and at every later switch of language. */
export function speak(
  element: Element,
  sentence: Word | (() => string),
  values?: Values,
  place: Spoken["place"] = "text",
): void {
  const one: Spoken = {
    place,
    sentence: typeof sentence === "function" ? sentence : () => say(sentence, values),
  };
  const others = (spoken.get(element) ?? []).filter((each) => each.place !== place);
  spoken.set(element, [...others, one]);
  element.setAttribute("data-spoken", "");
  write(element, one);
}

function use(chosen: Language): void {
  current = chosen;
  document.documentElement.lang = chosen;
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-spoken]")) {
    for (const one of spoken.get(element) ?? []) write(element, one);
  }
}

function write(element: Element, one: Spoken): void {
  if (one.place === "text") element.textContent = one.sentence();
  else element.setAttribute(one.place, one.sentence());
}
