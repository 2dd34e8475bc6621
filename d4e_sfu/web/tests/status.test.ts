/** The status page: its words, and where its lines are drawn. */

import { expect, test } from "vitest";
import { ceiling, path } from "../src/status/plot";
import { concerns, fill, words } from "../src/status/words";

const marks = (sentence: string): string[] => [...sentence.matchAll(/\{\w+\}/g)].map(([mark]) => mark).sort();

test("both languages of the status page fill in the same values", () => {
  for (const [word, said] of Object.entries(words)) expect(marks(said.vi), word).toEqual(marks(said.en));
  expect(fill("{n} of {all}", { n: "3", all: "5" })).toBe("3 of 5");
});

test("every concern is a sentence in both languages, and has a chapter", () => {
  for (const [name, said] of Object.entries(concerns)) {
    for (const sentence of [said.vi, said.en]) expect(sentence, name).toMatch(/^[A-ZĐÁÂĂ].*\.$/u);
    expect(said.vi, name).not.toBe(said.en);
    expect(said.chapter, name).toMatch(/^D4eSfu\w+$/);
  }
});

test.each([
  [0, 1],
  [0.02, 0.02],
  [1, 1],
  [1.1, 2],
  [3, 5],
  [7, 10],
  [10, 10],
  [51, 100],
  [2e6, 2e6],
])("a plot of at most %d ends at %d", (value, most) => {
  expect(ceiling(value)).toBeCloseTo(most, 9);
});

test("a line ends at the right, an hour is the whole width, and nothing leaves the picture", () => {
  expect(path([5], 10, 10)).toBe("470.0,69.0");
  const hour = path(
    Array.from({ length: 361 }, () => 0),
    10,
    1,
  ).split(" ");
  expect(hour[0]).toBe("84.0,126.0");
  expect(hour.at(-1)).toBe("470.0,126.0");
  expect(path([99], 10, 10)).toBe("470.0,12.0");
});
