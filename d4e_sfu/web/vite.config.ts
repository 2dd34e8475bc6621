/** Builds the page into `dist/`, which the server serves and the wheel carries. */

import { defineConfig } from "vite";
import { compressed } from "./compressed.ts";
import { notices } from "./notices.ts";

export default defineConfig({
  base: "./", // the page may be served below a path
  plugins: [notices(), compressed()],
  build: {
    target: ["chrome109", "firefox115", "safari15.4"],
    // Inlined scripts, styles and data: addresses would need holes in the Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 800,
  },
});
