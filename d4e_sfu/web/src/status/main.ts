/**
 * The status page: what `/status` of the admin listener tells, as sentences, figures and plots. It asks again at each
 * sample of the server; the elements stay, only their text changes, so that nobody who reads or tabs is thrown out.
 */

import { keep, kept } from "../choice";
import { preferred } from "../language";
import type { Language } from "../words";
import { draw, empty, type Line } from "./plot";
import { concerns, fill, words, type Word } from "./words";

type Series = "people" | "load" | "received" | "sent" | "asked_again" | "lag" | "memory";

/** What the server tells; `d4e_sfu/drivers/status.py` says what each figure means. */
interface Told {
  version: string;
  seconds: number;
  concerns: readonly string[];
  people: number;
  capacity: number;
  rooms: number;
  workers: number;
  certificate_days: number | null;
  joins: { connected: number; failed: number; refused: number };
  interval: number;
  series: Readonly<Record<Series, readonly number[]>>;
}

const PATIENCE = 5_000;
const ROWS = 12; // of the table, five minutes each

let language: Language = preferred(kept("language"), navigator.languages);
let told: Told | null = null;
let silent = false;

// --- words and figures ---

function say(word: Word, values?: Readonly<Record<string, string>>): string {
  return fill(words[word][language], values);
}

function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

const percent = (value: number): string => `${number(100 * value, value < 0.1 ? 1 : 0)} %`;
const megabits = (value: number): string => `${number(value / 1e6, value < 1e7 ? 1 : 0)} Mbit/s`;
const megabytes = (value: number): string => `${number(value / 1e6)} MB`;
const milliseconds = (value: number): string => `${number(1000 * value)} ms`;

function long(seconds: number): string {
  if (seconds < 7200) return say("minutes", { n: number(Math.floor(seconds / 60)) });
  if (seconds < 172_800) return say("hours", { n: number(Math.floor(seconds / 3600)) });
  return say("days", { n: number(Math.floor(seconds / 86_400)) });
}

interface Shown {
  title: Word;
  lines: readonly { of: Series; kind: Line["kind"]; word?: Word }[];
  name: (value: number) => string;
  least: number;
}

const PLOTS: readonly Shown[] = [
  { title: "people", lines: [{ of: "people", kind: "first" }], name: (value) => number(value, 1), least: 10 },
  { title: "load", lines: [{ of: "load", kind: "first" }], name: percent, least: 1 },
  {
    title: "traffic",
    lines: [
      { of: "sent", kind: "first", word: "sent" },
      { of: "received", kind: "second", word: "received" },
    ],
    name: megabits,
    least: 1e6,
  },
  { title: "asked_again", lines: [{ of: "asked_again", kind: "first" }], name: percent, least: 0.02 },
  { title: "lag", lines: [{ of: "lag", kind: "first" }], name: milliseconds, least: 0.05 },
  { title: "memory", lines: [{ of: "memory", kind: "first" }], name: megabytes, least: 1e8 },
];

const FIGURES: readonly { title: Word; of: (told: Told) => string }[] = [
  { title: "people", of: (all) => say("of", { n: number(all.people), all: number(all.capacity) }) },
  { title: "rooms", of: (all) => number(all.rooms) },
  { title: "load", of: (all) => percent(all.series.load.at(-1) ?? 0) },
  { title: "joins", of: (all) => number(all.joins.connected) },
  { title: "failed", of: (all) => number(all.joins.failed) },
  { title: "refused", of: (all) => number(all.joins.refused) },
  { title: "workers", of: (all) => number(all.workers) },
  {
    title: "certificate",
    of: (all) =>
      all.certificate_days === null ? say("noCertificate") : say("days", { n: number(all.certificate_days) }),
  },
  { title: "running", of: (all) => long(all.seconds) },
];

// --- elements ---

/** What brings an element up to date; all run at each answer and at each switch of language. */
const fresh: (() => void)[] = [];

function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  name: string,
  ...children: readonly Node[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  if (name !== "") made.className = name;
  made.append(...children);
  return made;
}

function telling<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  name: string,
  text: () => string,
): HTMLElementTagNameMap[Tag] {
  const made = make(tag, name);
  fresh.push(() => {
    const now = text();
    if (made.textContent !== now) made.textContent = now; // what is said again is read out again
  });
  return made;
}

function masthead(): HTMLElement {
  const button = telling("button", "", () => say("otherLanguage"));
  button.type = "button";
  button.addEventListener("click", () => {
    language = language === "vi" ? "en" : "vi";
    keep("language", language);
    refresh();
  });
  fresh.push(() => button.setAttribute("lang", language === "vi" ? "en" : "vi"));
  const version = telling("p", "version", () => (told === null ? "d4e-sfu" : `d4e-sfu ${told.version}`));
  return make("header", "", make("div", "", telling("h1", "", () => say("title")), version), button);
}

/** The verdict first: in sentences, and told to who does not see it whenever it changes. */
function verdict(): HTMLElement {
  const made = make("div", "verdict");
  made.setAttribute("role", "status");
  let before = "";
  fresh.push(() => {
    if (told === null && !silent) return;
    const found = silent ? [] : (told?.concerns ?? []).filter((each) => each in concerns);
    const key = JSON.stringify([language, silent, found]);
    if (key === before) return;
    before = key;
    made.dataset["well"] = String(!silent && found.length === 0);
    const sentences = silent ? [say("silent")] : found.map(concern);
    made.replaceChildren(
      ...(sentences.length === 0 ? [say("well")] : sentences).map((text) => {
        const line = make("p", "");
        line.textContent = text;
        return line;
      }),
    );
  });
  return made;
}

function concern(name: string): string {
  const known = concerns[name];
  return known === undefined ? name : `${known[language]} ${say("book", { chapter: known.chapter })}`;
}

function figures(): HTMLElement {
  const list = make("dl", "figures");
  for (const each of FIGURES) {
    list.append(
      make(
        "div",
        "",
        telling("dt", "", () => say(each.title)),
        telling("dd", "", () => (told === null ? "–" : each.of(told))),
      ),
    );
  }
  return make("section", "", telling("h2", "", () => say("figures")), list);
}

function plots(): HTMLElement {
  const all = make("div", "plots");
  for (const each of PLOTS) {
    const svg = empty();
    const caption = make("figcaption", "", telling("span", "title", () => say(each.title)));
    for (const line of each.lines) {
      if (line.word === undefined) continue;
      const word = line.word;
      caption.append(telling("span", `key ${line.kind}`, () => say(word)));
    }
    fresh.push(() => {
      const lines = each.lines.map((line) => ({ kind: line.kind, points: told?.series[line.of] ?? [] }));
      draw(svg, {
        lines,
        interval: told?.interval ?? 10,
        name: each.name,
        ago: (minutes) => (minutes === 0 ? say("now") : `−${say("minutes", { n: number(minutes) })}`),
        least: each.least,
      });
      svg.setAttribute("aria-label", lines.map((line, at) => summary(each, at, line.points)).join("; "));
    });
    all.append(make("figure", "", caption, svg));
  }
  return make("section", "", telling("h2", "", () => say("plots")), all, table());
}

/** What a plot shows, for who does not see it. */
function summary(shown: Shown, at: number, points: readonly number[]): string {
  const word = shown.lines[at]?.word;
  const what = word === undefined ? say(shown.title) : `${say(shown.title)}, ${say(word)}`;
  if (points.length === 0) return `${what}: ${say("none")}`;
  return say("summary", {
    what,
    now: shown.name(points.at(-1) ?? 0),
    least: shown.name(Math.min(...points)),
    most: shown.name(Math.max(...points)),
  });
}

function table(): HTMLElement {
  const head = make("tr", "");
  const ago = telling("th", "", () => say("ago"));
  ago.scope = "col";
  head.append(ago);
  const columns = PLOTS.flatMap((plot) => plot.lines.map((line) => ({ plot, line })));
  for (const { plot, line } of columns) {
    const cell = telling("th", "", () => (line.word === undefined ? say(plot.title) : `${say(plot.title)}, ${say(line.word)}`));
    cell.scope = "col";
    head.append(cell);
  }
  const body = make("tbody", "");
  for (let row = 0; row < ROWS; row++) {
    const name = telling("th", "", () => say("minutes", { n: number(5 * row) }));
    name.scope = "row";
    const cells = columns.map(({ plot, line }) => telling("td", "", () => cell(plot, line.of, row)));
    body.append(make("tr", "", name, ...cells));
  }
  const scrolled = make(
    "div",
    "scrolled",
    make("table", "", telling("caption", "", () => say("tableCaption")), make("thead", "", head), body),
  );
  scrolled.tabIndex = 0;
  scrolled.setAttribute("role", "group");
  fresh.push(() => scrolled.setAttribute("aria-label", say("asTable")));
  return make("details", "", telling("summary", "", () => say("asTable")), scrolled);
}

/** The mean of five minutes. */
function cell(plot: Shown, of: Series, row: number): string {
  const points = told?.series[of] ?? [];
  const each = Math.round(300 / (told?.interval ?? 10));
  const end = points.length - row * each;
  const part = points.slice(Math.max(0, end - each), Math.max(0, end));
  return part.length === 0 ? "–" : plot.name(part.reduce((sum, value) => sum + value, 0) / part.length);
}

// --- asking ---

function refresh(): void {
  document.documentElement.lang = language;
  document.title = `${say("title")} – d4e-sfu`;
  for (const each of fresh) each();
  document.body.dataset["state"] = silent ? "silent" : told === null ? "starting" : "told";
}

async function ask(): Promise<void> {
  try {
    const answer = await fetch("./status", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(String(answer.status));
    told = (await answer.json()) as Told;
    silent = false;
  } catch {
    silent = true;
  }
  refresh();
  setTimeout(() => void ask(), 1000 * (told?.interval ?? 10));
}

document.body.append(
  make(
    "main",
    "",
    masthead(),
    verdict(),
    figures(),
    plots(),
    make("footer", "", telling("p", "", () => say("privacy"))),
  ),
);
refresh();
void ask();
