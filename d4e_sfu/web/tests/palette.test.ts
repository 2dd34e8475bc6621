/** The colours of the style sheet, where axe cannot see: on gradients and on pictures (WCAG 2.2 §1.4.3, §1.4.11). */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const sheet = readFileSync(new URL("../src/style/base.css", import.meta.url), "utf8");
const named = Object.fromEntries([...sheet.matchAll(/^ {2}--([\w-]+): (#[0-9a-f]{6});/gm)].map(([, name, value]) => [name, value]));

function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

const colour = (name: string): string => {
  const found = name.startsWith("#") ? name : named[name];
  if (found === undefined) throw new Error(`no colour ${name} in the style sheet`);
  return found;
};

/** A caption's ground (82 % of #081212) over a white picture, the worst that can be behind it. */
const CAPTION_ON_WHITE = "#343d3d";

test.each([
  ["ink", "paper"],
  ["ink", "card"],
  ["soft-ink", "paper"],
  ["soft-ink", "card"],
  ["soft-ink", "tint"],
  ["accent", "card"],
  ["accent-strong", "tint"],
  ["#ffffff", "accent"],
  ["#ffffff", "danger"],
  ["warning-ink", "warning"],
  ["danger", "card"],
  ["night-ink", "night"],
  ["night-ink", "night-raised"],
  ["night-ink", CAPTION_ON_WHITE],
])("text in %s on %s is 4.5:1 or more", (text, ground) => {
  expect(contrast(colour(text), colour(ground))).toBeGreaterThanOrEqual(4.5);
});

test.each([
  ["line", "card"],
  ["line", "paper"],
  ["accent", "paper"],
  ["night-line", "night"],
  ["voice", "night"],
  ["voice", "night-raised"],
])("an edge in %s on %s is 3:1 or more", (edge, ground) => {
  expect(contrast(colour(edge), colour(ground))).toBeGreaterThanOrEqual(3);
});
