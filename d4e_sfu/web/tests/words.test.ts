/** The table of words: nothing missing, nothing left in the other language. */

import { expect, test } from "vitest";
import { faults, words } from "../src/words";

const marks = (sentence: string): string[] => [...sentence.matchAll(/\{\w+\}/g)].map(([mark]) => mark).sort();

test("both languages fill in the same values", () => {
  for (const [word, said] of Object.entries(words)) expect(marks(said.vi), word).toEqual(marks(said.en));
});

test("every fault says what happened and what to do, as sentences, in both languages", () => {
  for (const [fault, told] of Object.entries(faults)) {
    for (const sentence of [told.vi.what, told.vi.todo, told.en.what, told.en.todo]) {
      expect(sentence, fault).toMatch(/^[A-ZĐÁÂĂ].*\.$/u);
    }
    expect(told.vi.what, fault).not.toBe(told.en.what);
  }
});
