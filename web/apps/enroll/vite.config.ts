import { fileURLToPath } from "node:url";

import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

import { sealed } from "../../tools/sealed.ts";

export default defineConfig({
  base: "/enroll/",
  plugins: [react(), sealed()],
  build: {
    outDir: fileURLToPath(new URL("../../../src/intaglio/console/static/enroll", import.meta.url)),
    emptyOutDir: true,
    target: ["chrome111", "firefox115", "safari16.4"],
    modulePreload: { polyfill: false }, // it is an inline script, which the page's policy forbids
    assetsInlineLimit: 0, // the same for data: URLs
    reportCompressedSize: false,
  },
});
