/** A list of tiles laid out in whatever area it is given; used for people and for what is shown large. */

import { make } from "./element";
import { layout } from "./layout";
import type { Tile } from "./tile";
import type { Word } from "./words";

const GAP = 8; // px, the same in the style sheet

export class Grid {
  readonly element: HTMLUListElement;
  readonly tiles: Tile[] = [];
  private readonly observer = new ResizeObserver(() => this.arrange());

  constructor(name: string, label: Word) {
    this.element = make("ul", { class: `grid ${name}`, label });
    this.observer.observe(this.element);
  }

  /** Adds a tile in the order of arrival; one's own stands last, so that the others keep their places. */
  add(tile: Tile): void {
    const at = this.tiles.findIndex((each) => each.order > tile.order);
    this.insert(tile, at < 0 ? this.tiles.length : at);
  }

  /** Puts a tile where another one is, which goes: nobody else moves. */
  replace(old: Tile, tile: Tile): void {
    const at = this.tiles.indexOf(old);
    this.tiles.splice(at, 1);
    this.insert(tile, at);
  }

  remove(tile: Tile): void {
    this.tiles.splice(this.tiles.indexOf(tile), 1);
    if (tile.element.parentElement === this.element) tile.element.remove();
    this.arrange();
  }

  close(): void {
    this.observer.disconnect();
  }

  private insert(tile: Tile, at: number): void {
    this.element.insertBefore(tile.element, this.tiles[at]?.element ?? null);
    this.tiles.splice(at, 0, tile);
    this.arrange();
  }

  private arrange(): void {
    const box = { width: this.element.clientWidth, height: this.element.clientHeight };
    if (box.width === 0 || box.height === 0) return;
    const { width, height } = layout(this.tiles.length, box, GAP);
    // The object model of styles is allowed where style attributes in markup are not (CSP).
    this.element.style.setProperty("--tile-width", `${width}px`);
    this.element.style.setProperty("--tile-height", `${height}px`);
  }
}
