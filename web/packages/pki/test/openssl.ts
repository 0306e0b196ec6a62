/** OpenSSL's opinion on what this package makes, and a small CA of its own for the tests. */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { pemDecode } from "../src/index.ts";

export class Workshop {
  readonly folder = mkdtempSync(join(tmpdir(), "intaglio-web-"));

  openssl(...options: string[]): string {
    return execFileSync("openssl", options, { cwd: this.folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  }

  /** How a PKCS#12 file is protected; OpenSSL tells it on standard error. */
  structure(name: string, options: readonly string[]): string {
    const told = spawnSync("openssl", ["pkcs12", "-in", name, "-passin", "file:password", "-info", "-noout", ...options], {
      cwd: this.folder,
      encoding: "utf8",
    });
    return told.stderr;
  }

  write(name: string, content: string | Uint8Array): void {
    writeFileSync(join(this.folder, name), content);
  }

  read(name: string): string {
    return readFileSync(join(this.folder, name), "utf8");
  }

  /** Certificates of a CA and of the key in a request. */
  sign(request: string): { certificate: Uint8Array<ArrayBuffer>; ca: Uint8Array<ArrayBuffer> } {
    this.write("request.pem", request);
    this.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Test CA",
      "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"); // prettier-ignore
    this.openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "leaf.pem", "-days", "1");
    return {
      certificate: pemDecode("CERTIFICATE", this.read("leaf.pem")),
      ca: pemDecode("CERTIFICATE", this.read("ca.pem")),
    };
  }

  close(): void {
    rmSync(this.folder, { recursive: true });
  }
}
