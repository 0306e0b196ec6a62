import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { withIntegrity } from "../sealed.ts";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "intaglio-sealed-"));
  writeFileSync(join(folder, "index.js"), "console.log(1)");
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

test("scripts and style sheets get the digest of their content", () => {
  const digest = createHash("sha384").update("console.log(1)").digest("base64");
  const html = '<script type="module" src="/enroll/index.js"></script><link rel="icon" href="/enroll/seal.svg">';
  expect(withIntegrity(html, folder, "/enroll/")).toBe(
    `<script integrity="sha384-${digest}" type="module" src="/enroll/index.js"></script>` +
      '<link rel="icon" href="/enroll/seal.svg">',
  );
});

test("a page that loads something from elsewhere is not built", () => {
  const html = '<script src="https://cdn.example/x.js"></script>';
  expect(() => withIntegrity(html, folder, "/enroll/")).toThrow("not of this build");
});
