/** A stand-in for the enrolment service: answers the page's requests and remembers what was sent. */

import { vi } from "vitest";

import { Workshop } from "../../../packages/pki/test/openssl.ts";
import { pemEncode } from "../../../packages/pki/src/index.ts";

export interface Sent {
  readonly url: string;
  readonly body: string;
  readonly credentials: RequestCredentials | undefined;
}

export const policy = {
  domain: "corp",
  organization: "Example",
  title: "Example devices",
  ca: { subject: "CN=Test CA", sha256: "ab".repeat(32) },
  key_algorithm: "EC P-256",
  validity_days: 5,
  p12_variants: ["modern", "compatible"],
  test_url: "https://mtls.example:1443/whoami",
  renew_url: "https://mtls.example:1443/enrol/v1/renew",
};

export const session = {
  session: "s-1",
  identity: "u-4k7mp2",
  email: "mia@example.org",
  nonce: "n0nce",
  key_algorithm: "EC P-256",
  expires_at: "2030-01-01T00:10:00Z",
  domain: "corp",
};

/** Refusals to give before the first good answer, by path ending. */
export type Refusals = Record<string, { status: number; code: string; retryAfter?: string }[]>;

export class StandIn {
  readonly workshop = new Workshop();
  readonly sent: Sent[] = [];
  readonly #refusals: Refusals;
  readonly #wrongKey: boolean;

  constructor({ refusals = {}, wrongKey = false }: { refusals?: Refusals; wrongKey?: boolean } = {}) {
    this.#refusals = refusals;
    this.#wrongKey = wrongKey;
    vi.stubGlobal("fetch", this.answer.bind(this));
  }

  close(): void {
    vi.unstubAllGlobals();
    this.workshop.close();
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- it stands in for an asynchronous function
  async answer(url: string, { body, credentials }: RequestInit): Promise<Response> {
    const text = typeof body === "string" ? body : "";
    this.sent.push({ url, body: text, credentials });
    const refusal = Object.entries(this.#refusals).find(([ending]) => url.endsWith(ending))?.[1].shift();
    if (refusal !== undefined) {
      const { status, code, retryAfter } = refusal;
      const headers = retryAfter === undefined ? {} : { "Retry-After": retryAfter };
      return Response.json({ code, detail: "What happened.", remedy: "What to do." }, { status, headers });
    }
    if (url.endsWith("/downloaded")) return new Response(null, { status: 204 });
    if (url.includes("/policy")) return Response.json(policy);
    if (url.endsWith("/sessions")) return Response.json(session, { status: 201 });
    if (text === "") return Response.json(session); // what a renewal asks first
    return Response.json(this.#issue((JSON.parse(text) as { csr: string }).csr));
  }

  #issue(csr: string): object {
    if (this.#wrongKey) csr = this.#otherRequest();
    const { certificate, ca } = this.workshop.sign(csr);
    const now = Date.now();
    return {
      certificate: pemEncode("CERTIFICATE", certificate),
      chain: [pemEncode("CERTIFICATE", ca)],
      serial: "4F2A",
      identity: session.identity,
      not_before: new Date(now - 60_000).toISOString(),
      not_after: new Date(now + 432_000_000).toISOString(),
    };
  }

  #otherRequest(): string {
    this.workshop.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
      "/CN=other", "-keyout", "other.key", "-out", "other.pem"); // prettier-ignore
    return this.workshop.read("other.pem");
  }
}
