/**
 * The pictures of a call. A few people stand in an equal grid, where nothing ever moves. What needs
 * room is shown large: what somebody has pinned, else shared screens, else, among many people, who
 * speaks. The others keep their places beside it.
 */

import { Track, type Participant } from "livekit-client";
import { announce } from "./announcement";
import { make } from "./element";
import { Follow } from "./follow";
import { Grid } from "./grid";
import { say } from "./language";
import { Tile, type TileSource } from "./tile";

const TILES: readonly (readonly [TileSource, Track.Source])[] = [
  ["camera", Track.Source.Camera],
  ["screen", Track.Source.ScreenShare],
];
/** So many people fit in an equal grid that shows every face well, on a phone too. */
const EQUAL = 4;

export class Stage {
  readonly element: HTMLElement;
  private readonly people = new Grid("people", "people");
  private readonly large = new Grid("large", "shownLarge");
  private readonly tiles = new Set<Tile>();
  private readonly alone = make("p", { class: "alone", say: "alone" });
  private readonly follow = new Follow();
  private timer: number | undefined;
  private pin: string | null = null; // key of the pinned tile; kept while its participant is away
  private pictures = true;

  constructor(private readonly pinned: () => void) {
    this.element = make("div", { class: "stage" }, this.large.element, this.people.element, this.alone);
  }

  /** Makes the tiles of a participant agree with what he publishes. */
  refresh(participant: Participant): void {
    for (const [source, published] of TILES) {
      const wanted = source === "camera" || participant.getTrackPublication(published)?.track !== undefined;
      // A participant who rejoined is another object with the same identity.
      let tile = this.find(key(participant, source));
      if (tile !== undefined && (!wanted || tile.participant !== participant)) {
        this.drop(tile);
        tile = undefined;
      }
      if (!wanted) continue;
      if (tile === undefined) {
        tile = new Tile(participant, source, (pressed) => this.togglePin(pressed.participant, pressed.source));
        tile.pictures = this.pictures;
        this.tiles.add(tile);
        this.people.add(tile);
      }
      tile.refresh();
    }
    this.arrange();
  }

  remove(participant: Participant): void {
    for (const tile of this.tiles) if (tile.participant === participant) this.drop(tile);
    this.follow.forget(participant.identity);
    this.arrange();
  }

  /** Everyone who speaks now. */
  hear(speakers: readonly Participant[]): void {
    for (const tile of this.tiles) tile.speaking = tile.source === "camera" && speakers.some((each) => tile.owns(each));
    // Nobody wants to look at himself while he speaks.
    this.follow.hear(speakers.filter((each) => !each.isLocal).map((each) => each.identity), performance.now());
    this.look();
  }

  /** Whether others' pictures are received. */
  showPictures(shown: boolean): void {
    this.pictures = shown;
    for (const tile of this.tiles) tile.pictures = shown;
  }

  togglePin(participant: Participant, source: TileSource): void {
    const pressed = key(participant, source);
    this.pin = this.pin === pressed ? null : pressed;
    const name = participant.name || participant.identity;
    const word = this.pin === null ? "unpinned" : "pinned";
    announce(() => say(word, { name }));
    this.arrange();
    this.pinned();
  }

  isPinned(participant: Participant, source: TileSource): boolean {
    return this.pin === key(participant, source);
  }

  close(): void {
    window.clearTimeout(this.timer);
    for (const tile of this.tiles) tile.close();
    this.people.close();
    this.large.close();
  }

  private look(): void {
    window.clearTimeout(this.timer);
    const before = this.follow.whom;
    const again = this.follow.look(performance.now());
    if (again !== null) this.timer = window.setTimeout(() => this.look(), again);
    if (this.follow.whom !== before) this.arrange();
  }

  private find(wanted: string | null): Tile | undefined {
    return [...this.tiles].find((tile) => key(tile.participant, tile.source) === wanted);
  }

  private drop(tile: Tile): void {
    this.tiles.delete(tile);
    (this.large.tiles.includes(tile) ? this.large : this.people).remove(tile);
    tile.close();
  }

  /** What deserves the room, by rank. */
  private shownLarge(): Tile[] {
    const pinned = this.find(this.pin);
    if (pinned !== undefined) return [pinned];
    const tiles = [...this.tiles];
    const screens = tiles.filter((tile) => tile.source === "screen");
    if (screens.length > 0) return screens;
    if (tiles.length <= EQUAL) return [];
    const followed = tiles.find((tile) => tile.participant.identity === this.follow.whom);
    return followed === undefined ? [] : [followed];
  }

  private arrange(): void {
    const focused = document.activeElement;
    const wanted = this.shownLarge();
    const leaving = this.large.tiles.filter((tile) => !wanted.includes(tile));
    for (const tile of wanted.filter((each) => !this.large.tiles.includes(each))) {
      // Who comes and who goes change places; the others stay where they are.
      const back = leaving.shift();
      if (back === undefined) {
        this.people.remove(tile);
      } else {
        this.large.remove(back);
        this.people.replace(tile, back);
      }
      this.large.add(tile);
    }
    for (const tile of leaving) {
      this.large.remove(tile);
      this.people.add(tile);
    }
    for (const tile of this.tiles) tile.pinned = key(tile.participant, tile.source) === this.pin;
    this.element.dataset["large"] = String(this.large.tiles.length);
    this.alone.hidden = [...this.tiles].some((tile) => !tile.participant.isLocal);
    // A moved element loses the focus, and with it a keyboard its place.
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.element.contains(focused)) focused.focus();
  }
}

function key(participant: Participant, source: TileSource): string {
  return `${source} ${participant.identity}`;
}
