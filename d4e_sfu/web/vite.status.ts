/** Builds the status page into `dist/status/`, apart from the room's, so that neither loads a piece of the other. */

import { defineConfig } from "vite";
import { compressed } from "./compressed.ts";

export default defineConfig({
  root: "src/status",
  base: "./",
  publicDir: false,
  plugins: [compressed()],
  build: {
    outDir: "../../dist/status",
    emptyOutDir: true,
    target: ["chrome109", "firefox115", "safari15.4"],
    assetsInlineLimit: 0, // as for the room page
    modulePreload: { polyfill: false },
  },
});
