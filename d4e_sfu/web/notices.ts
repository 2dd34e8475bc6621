/**
 * Writes `licenses.txt` beside the built page: the licence of every npm package whose code may be
 * in it. The client library ships with its dependencies already bundled, so the list is the whole
 * non-development tree of the lock file rather than what the bundler saw.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const ROOT = import.meta.dirname;
const LICENCE = /^(licen[cs]e|copying|notice|copyrightnotice)/i;

interface Locked {
  version?: string;
  license?: string;
  dev?: boolean;
  optional?: boolean;
}

export function notices(): Plugin {
  return {
    name: "notices",
    apply: "build",
    generateBundle() {
      this.emitFile({ type: "asset", fileName: "licenses.txt", source: text() });
    },
  };
}

function text(): string {
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as { packages: Record<string, Locked> };
  const parts = Object.entries(lock.packages)
    .filter(([path, each]) => path !== "" && each.dev !== true)
    .map(([path, each]) => {
      const name = path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
      return `${name} ${each.version}\nLicence: ${each.license}\n\n${licence(path, name)}`;
    });
  const rule = `\n${"-".repeat(80)}\n`;
  return `The room page of d4e-sfu contains the following packages.\n${rule}${parts.join(`\n${rule}`)}\n`;
}

/** The package's own files; where it ships none, ours in `notices/`. A package without either fails the build. */
function licence(path: string, name: string): string {
  const folder = join(ROOT, path);
  const files = readdirSync(folder).filter((file) => LICENCE.test(file));
  const found = files.map((file) => join(folder, file));
  if (found.length === 0) found.push(join(ROOT, "notices", `${name.replace("/", "-")}.txt`));
  return found.map((file) => readFileSync(file, "utf8").trim()).join("\n\n");
}
