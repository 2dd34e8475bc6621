/** Whom the large picture follows, in virtual time. */

import { describe, expect, test } from "vitest";
import { Follow } from "../src/follow";

/** Plays who speaks from when (ms), and tells whom the picture shows at a later time. */
function play(script: readonly (readonly [at: number, ...speakers: string[]])[], until: number): { whom: string | null; turns: number } {
  const follow = new Follow();
  let turns = 0;
  const events = [...script];
  for (let now = 0; now <= until; now += 50) {
    const before = follow.whom;
    while (events[0] !== undefined && events[0][0] <= now) follow.hear(events.shift()!.slice(1) as string[], now);
    follow.look(now);
    if (follow.whom !== before) turns++;
  }
  return { whom: follow.whom, turns };
}

describe("the large picture", () => {
  test("shows nobody until somebody has spoken for a second", () => {
    expect(play([[0, "an"]], 950).whom).toBeNull();
    expect(play([[0, "an"]], 1000).whom).toBe("an");
  });

  test("stays with the last speaker when nobody speaks", () => {
    expect(play([[0, "an"], [2000]], 60_000)).toEqual({ whom: "an", turns: 1 });
  });

  test("does not turn to a cough", () => {
    expect(play([[0, "an"], [5000], [6000, "binh"], [6600]], 20_000)).toEqual({ whom: "an", turns: 1 });
  });

  test("turns to the next speaker once the one before has finished", () => {
    expect(play([[0, "an"], [5000], [6000, "binh"]], 7000)).toEqual({ whom: "binh", turns: 2 });
  });

  test("does not turn twice within three seconds", () => {
    const quick = [[0, "an"], [1100], [1150, "binh"], [2400], [2450, "chi"]] as const;
    expect(play(quick, 3950).whom).toBe("an");
    expect(play(quick, 60_000)).toEqual({ whom: "chi", turns: 2 });
  });

  test("leaves a speaker whose room is never quiet, and does not go to and fro", () => {
    const noisy = [[0, "noise"], [5000, "noise", "doctor"]] as const;
    expect(play(noisy, 8900).whom).toBe("noise");
    expect(play(noisy, 120_000)).toEqual({ whom: "doctor", turns: 2 });
  });

  test("says how long until it must look again", () => {
    const follow = new Follow();
    expect(follow.look(0)).toBeNull();
    follow.hear(["an"], 0);
    expect(follow.look(400)).toBe(600);
    expect(follow.look(1000)).toBeNull();
    follow.hear(["binh"], 1500);
    expect(follow.look(1500)).toBe(2500);
  });

  test("shows nobody after the one it showed has left, and then the next speaker", () => {
    const follow = new Follow();
    follow.hear(["an"], 0);
    follow.look(1000);
    follow.forget("an");
    expect(follow.whom).toBeNull();
    follow.hear(["binh"], 1100);
    expect(follow.look(2100)).toBeNull();
    expect(follow.whom).toBe("binh");
  });
});
