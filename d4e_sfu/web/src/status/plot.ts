/** A line plot as SVG: an hour from left to right, one or two lines, three marks of height. */

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const HEIGHT = 150;
const LEFT = 84;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 24;
const HOUR = 3600;

export interface Line {
  points: readonly number[];
  kind: "first" | "second";
}

/** The least of 1, 2, 5, 10, 20, 50, … that is not below the value: a height that can be read at half as well. */
export function ceiling(value: number): number {
  if (!(value > 0)) return 1;
  const ten = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * ten).find((step) => step >= value * (1 - 1e-9)) ?? 10 * ten;
}

/** Where the points of a line are: the newest at the right, one interval apart. */
export function path(points: readonly number[], interval: number, most: number): string {
  const across = WIDTH - LEFT - RIGHT;
  const down = HEIGHT - TOP - BOTTOM;
  return points
    .map((value, at) => {
      const age = (points.length - 1 - at) * interval;
      const x = WIDTH - RIGHT - (age / HOUR) * across;
      const y = HEIGHT - BOTTOM - (Math.min(value, most) / most) * down;
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(" ");
}

export interface Plot {
  lines: readonly Line[];
  interval: number;
  /** What a height is called. */
  name: (value: number) => string;
  /** What the marks along the bottom are called, by minutes ago. */
  ago: (minutes: number) => string;
  /** Heights end here at least, so that small noise does not fill the picture. */
  least: number;
}

export function draw(svg: SVGSVGElement, plot: Plot): void {
  const most = ceiling(Math.max(plot.least, ...plot.lines.flatMap((line) => line.points)));
  const parts: SVGElement[] = [];
  for (const share of [0, 0.5, 1]) {
    const y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    parts.push(part("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y, class: "grid" }));
    parts.push(label(LEFT - 8, y + 4, "end", plot.name(share * most)));
  }
  for (const minutes of [60, 30, 0]) {
    const x = WIDTH - RIGHT - (minutes / 60) * (WIDTH - LEFT - RIGHT);
    const anchor = minutes === 60 ? "start" : minutes === 0 ? "end" : "middle";
    parts.push(label(x, HEIGHT - 6, anchor, plot.ago(minutes)));
  }
  for (const line of plot.lines) {
    if (line.points.length === 0) continue;
    const points = path(line.points, plot.interval, most);
    // One point is no line yet.
    const shown = line.points.length === 1 ? `${points} ${points}` : points;
    parts.push(part("polyline", { points: shown, class: `line ${line.kind}` }));
  }
  svg.replaceChildren(...parts);
}

export function empty(): SVGSVGElement {
  return part("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }) as SVGSVGElement;
}

function label(x: number, y: number, anchor: string, text: string): SVGElement {
  const made = part("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}

function part(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
