/**
 * Whom the large picture follows: whoever holds the floor. It moves late and seldom, because a
 * picture that jumps at every cough tires the eye; when nobody speaks, the last speaker stays.
 * Pure: it is told who speaks and what time it is, in milliseconds.
 */

const TAKES = 1000; // this long somebody must speak before the picture turns to her
const STAYS = 3000; // and it does not turn again sooner
const TALKS_OVER = 4000; // to follow somebody while the one before still speaks: he may just have a noisy room

export class Follow {
  /** Identity of the one followed; null until somebody has spoken. */
  whom: string | null = null;
  private turnedAt = -Infinity;
  private readonly speaking = new Map<string, number>(); // identity → since when

  /** Who speaks now, all of them. */
  hear(speakers: readonly string[], now: number): void {
    for (const each of this.speaking.keys()) if (!speakers.includes(each)) this.speaking.delete(each);
    for (const each of speakers) if (!this.speaking.has(each)) this.speaking.set(each, now);
  }

  forget(identity: string): void {
    this.speaking.delete(identity);
    if (this.whom !== identity) return;
    this.whom = null;
    this.turnedAt = -Infinity;
  }

  /** Turns if it is time to; gives back how long until it may be time again, null if nothing is to be awaited. */
  look(now: number): number | null {
    let next: { identity: string; at: number } | null = null;
    for (const [identity, since] of this.speaking) {
      const at = this.turnsTo(identity, since);
      if (at !== null && (next === null || at < next.at)) next = { identity, at };
    }
    if (next === null) return null;
    if (next.at > now) return next.at - now;
    this.whom = next.identity;
    this.turnedAt = now;
    return this.look(now);
  }

  private turnsTo(identity: string, since: number): number | null {
    if (identity === this.whom) return null;
    const other = this.whom === null ? undefined : this.speaking.get(this.whom);
    if (other === undefined) return Math.max(since + TAKES, this.turnedAt + STAYS);
    // Both speak: only to the one who began later, else the picture would go to and fro between them.
    return since > other ? Math.max(since + TALKS_OVER, this.turnedAt + STAYS) : null;
  }
}
