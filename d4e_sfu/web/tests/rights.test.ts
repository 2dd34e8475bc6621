/** Rights as the room protocol writes them, and as a moderator changes them. */

import { describe, expect, test } from "vitest";
import { refusal } from "../src/moderation";
import { changed, difference, may, permissionOf, RIGHTS, type Permission } from "../src/rights";

const all: Permission = {
  canSubscribe: true,
  canPublish: true,
  canPublishData: true,
  canPublishSources: [],
  hidden: false,
  canUpdateMetadata: false,
};
const none: Permission = { ...all, canPublish: false, canPublishData: false };

describe("a permission", () => {
  test("without sources means every source, or none where publishing is forbidden", () => {
    for (const right of RIGHTS) {
      expect(may(all, right), right).toBe(true);
      expect(may(none, right), right).toBe(false);
      expect(may(undefined, right), right).toBe(true);
    }
  });

  test("changes in one right alone", () => {
    for (const right of RIGHTS) {
      const taken = changed(all, right, false);
      expect(RIGHTS.filter((each) => !may(taken, each)), right).toEqual([right]);
      expect(RIGHTS.filter((each) => may(changed(none, right, true), each)), right).toEqual([right]);
      expect({ ...taken, canPublish: true, canPublishData: true, canPublishSources: [] }).toEqual(all);
    }
  });

  test("whose last source is taken forbids publishing, because no source would mean every source", () => {
    const voice: Permission = { ...all, canPublishSources: [2] };
    expect(changed(voice, "microphone", false)).toMatchObject({ canPublish: false, canPublishSources: [] });
  });

  test("gives the sound of a screen with the screen", () => {
    expect(changed({ ...all, canPublishSources: [1, 2] }, "screen", true).canPublishSources).toEqual([1, 2, 3, 4]);
  });

  test("tells what was given and what was taken", () => {
    const quiet = changed(all, "microphone", false);
    expect(difference(all, quiet)).toEqual({ given: [], taken: ["microphone"] });
    expect(difference(quiet, all)).toEqual({ given: ["microphone"], taken: [] });
    expect(difference(undefined, none), "at first nothing is new").toEqual({ given: [], taken: [] });
  });
});

test("a permission is read from the server's answer", () => {
  const sources = ["MICROPHONE", "CAMERA", "SOMETHING_NEW"];
  const answer = { permission: { can_subscribe: true, can_publish: true, can_publish_data: false, can_publish_sources: sources } };
  const now = permissionOf(answer);
  expect(now).toEqual({ ...all, canPublishData: false, canPublishSources: [2, 1] });
  expect(RIGHTS.map((right) => may(now, right))).toEqual([true, true, false, false]);
  expect([permissionOf({}), permissionOf(null)]).toEqual([undefined, undefined]);
});

test("a refusal of the server API has a sentence", () => {
  expect([401, 403, 404, 429, 503, 500, 418].map(refusal)).toEqual([
    "notPermitted",
    "notPermitted",
    "goneAlready",
    "tooFast",
    "tooFast",
    "broken",
    "broken",
  ]);
});
