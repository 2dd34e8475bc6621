/** A list of tiles laid out in whatever area it is given; used for people and for shared screens. */

import { make } from "./element";
import { layout } from "./layout";
import type { Word } from "./words";

const GAP = 8; // px, the same in the style sheet

export class Grid {
  readonly element: HTMLUListElement;
  private readonly observer = new ResizeObserver(() => this.arrange());

  constructor(name: string, label: Word) {
    this.element = make("ul", { class: `grid ${name}`, label });
    this.observer.observe(this.element);
  }

  get count(): number {
    return this.element.childElementCount;
  }

  /** Adds a tile; one's own stands last, so that the others keep their places when it comes. */
  add(tile: HTMLElement): void {
    const own = [...this.element.children].find((each) => each instanceof HTMLElement && each.dataset["local"] === "true");
    this.element.insertBefore(tile, own ?? null);
    this.arrange();
  }

  remove(tile: HTMLElement): void {
    tile.remove();
    this.arrange();
  }

  close(): void {
    this.observer.disconnect();
  }

  private arrange(): void {
    const box = { width: this.element.clientWidth, height: this.element.clientHeight };
    if (box.width === 0 || box.height === 0) return;
    const { columns, width, height } = layout(this.count, box, GAP);
    // The object model of styles is allowed where style attributes in markup are not (CSP).
    this.element.style.setProperty("--columns", String(columns));
    this.element.style.setProperty("--tile-width", `${width}px`);
    this.element.style.setProperty("--tile-height", `${height}px`);
  }
}
