/** What every page's build ends with: digests in its tags, and compressed copies beside its files. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

import type { Plugin } from "vite";

const COMPRESSIBLE = /\.(html|js|css|svg|json)$/;
const TAG = /<(script|link)\b[^>]*\b(?:src|href)="([^"]+)"[^>]*>/g;
const SMALLEST = 512; // octets: compressing less saves no packet

/** Adds sub-resource integrity to the scripts and style sheets of index.html, then writes `.br` and `.gz` copies. */
export function sealed(): Plugin {
  let folder = "";
  let base = "/";
  return {
    name: "intaglio-sealed",
    apply: "build",
    configResolved(config) {
      folder = config.build.outDir;
      base = config.base;
    },
    closeBundle() {
      const page = join(folder, "index.html");
      writeFileSync(page, withIntegrity(readFileSync(page, "utf8"), folder, base));
      compress(folder);
    },
  };
}

/** Throws when a script or style sheet of the page does not lie in the built folder. */
export function withIntegrity(html: string, folder: string, base: string): string {
  return html.replace(TAG, (tag, element: string, url: string) => {
    if (element === "link" && !/\brel="(stylesheet|modulepreload)"/.test(tag)) return tag;
    if (!url.startsWith(base)) throw new Error(`${url} is not of this build; pages load nothing from elsewhere`);
    const digest = createHash("sha384").update(readFileSync(join(folder, url.slice(base.length)))).digest("base64");
    return tag.replace(/^<(script|link)/, `<$1 integrity="sha384-${digest}"`);
  });
}

function compress(folder: string): void {
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!COMPRESSIBLE.test(name)) continue;
    const content = readFileSync(join(folder, name));
    if (content.length < SMALLEST) continue;
    const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
    writeFileSync(join(folder, `${name}.br`), brotliCompressSync(content, { params }));
    writeFileSync(join(folder, `${name}.gz`), gzipSync(content, { level: 9 }));
  }
}
