/** How to cut an area into equal tiles so that the pictures are as large as they can be. Pure. */

export interface Layout {
  columns: number;
  width: number;
  height: number;
}

const WIDEST = 16 / 9;
// How narrow a tile may be: it crops the sides of a wide picture, which an upright phone must bear.
const NARROWEST = { upright: 3 / 4, wide: 4 / 3 };
const SMALLEST_WIDTH = 132; // px; below this a name is no longer readable, so the grid scrolls

export function layout(count: number, area: { width: number; height: number }, gap: number): Layout {
  const narrowest = area.width < area.height ? NARROWEST.upright : NARROWEST.wide;
  let best: Layout = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= Math.max(1, count); columns++) {
    const rows = Math.ceil(count / columns);
    let width = (area.width - gap * (columns - 1)) / columns;
    let height = (area.height - gap * (rows - 1)) / rows;
    if (columns > 1 && width < SMALLEST_WIDTH) break;
    if (width / height > WIDEST) width = height * WIDEST;
    if (width / height < narrowest) height = width / narrowest;
    if (width * height > best.width * best.height) best = { columns, width, height };
  }
  if (best.width < SMALLEST_WIDTH) {
    const columns = Math.max(1, Math.floor((area.width + gap) / (SMALLEST_WIDTH + gap)));
    const width = (area.width - gap * (columns - 1)) / columns;
    best = { columns, width, height: width / WIDEST };
  }
  return { columns: best.columns, width: Math.floor(best.width), height: Math.floor(best.height) };
}
