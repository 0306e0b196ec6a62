/** The enrolment service, as the page speaks to it. Nothing else in the page uses the network. */

/** A certificate authority as people compare it. */
export interface Authority {
  readonly subject: string;
  readonly sha256: string;
}

export interface Policy {
  readonly domain: string;
  readonly organization: string;
  readonly title: string;
  readonly ca: Authority;
  /** The authority of the server's own certificate, where it is a private one too. */
  readonly server_ca?: Authority | null;
  readonly key_algorithm: string;
  readonly validity_days: number;
  readonly p12_variants: readonly string[];
  readonly test_url: string;
  readonly renew_url: string;
}

export interface Session {
  readonly session: string;
  readonly identity: string;
  readonly email: string;
  readonly nonce: string;
  readonly key_algorithm: string;
  readonly expires_at: string;
  readonly domain: string;
}

export interface Issued {
  readonly certificate: string; // PEM
  readonly chain: readonly string[]; // PEM, issuer first
  readonly serial: string;
  readonly identity: string;
  readonly not_before: string;
  readonly not_after: string;
}

/** What the mTLS host asks a renewal to carry. */
export interface Renewal {
  readonly identity: string;
  readonly email: string;
  readonly nonce: string;
  readonly key_algorithm?: string;
}

/** How the mTLS host knows the holder of a certificate. */
export interface Recognised {
  readonly identity: string;
  readonly kind?: string;
  readonly email?: string | null;
  readonly serial?: string;
  readonly issuer?: string;
  readonly not_after?: string;
}

/** A refusal (RFC 9457), or `unreachable` when there was no answer. `retryAfter` is in seconds. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly code: string;
  readonly detail: string;
  readonly remedy: string;
  readonly retryAfter: number | undefined;

  constructor(code: string, detail = "", remedy = "", retryAfter?: number) {
    super(`${code}: ${detail}`);
    this.code = code;
    this.detail = detail;
    this.remedy = remedy;
    this.retryAfter = retryAfter;
  }
}

const PATIENCE = 30_000; // milliseconds until an answer counts as not coming

export class EnrolmentService {
  readonly #query: string;

  /** `domain` chooses a trust domain where the server has several. */
  constructor(domain: string | null) {
    this.#query = domain === null ? "" : `?domain=${encodeURIComponent(domain)}`;
  }

  policy(): Promise<Policy> {
    return ask(`/enrol/v1/policy${this.#query}`);
  }

  /** Address of the CA certificate in one of its forms. */
  caCertificate(form: "ca.pem" | "ca.cer" | "ca.mobileconfig"): string {
    return `/enrol/v1/${form}${this.#query}`;
  }

  open(code: string, email: string): Promise<Session> {
    return ask("/enrol/v1/sessions", { code, email });
  }

  sign(session: Session, csr: string): Promise<Issued> {
    return ask(`/enrol/v1/sessions/${encodeURIComponent(session.session)}/csr`, { csr });
  }

  downloaded(session: Session): Promise<void> {
    return ask(`/enrol/v1/sessions/${encodeURIComponent(session.session)}/downloaded`, {});
  }

  /** End every certificate of the person that a fresh code is for; says how many there were. */
  revoke(code: string, email: string): Promise<{ revoked: number }> {
    return ask("/enrol/v1/revoke", { code, email });
  }

  /** What the mTLS host asks for before it renews the certificate that this browser presents. */
  renewal(policy: Policy): Promise<Renewal> {
    return ask(policy.renew_url, undefined, "include");
  }

  renew(policy: Policy, csr: string): Promise<Issued> {
    return ask(policy.renew_url, { csr }, "include");
  }

  /** Who the mTLS host takes this browser for. */
  recognise(policy: Policy): Promise<Recognised> {
    return ask(policy.test_url, undefined, "include");
  }
}

/** GET, or POST with a body. `include` presents a client certificate to another origin. Throws Refusal. */
async function ask<T>(url: string, body?: object, credentials: RequestCredentials = "omit"): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(url, {
      credentials,
      cache: "no-store",
      referrerPolicy: "no-referrer",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE),
      headers: { Accept: "application/json, application/problem+json", ...(body && { "Content-Type": "application/json" }) },
      ...(body && { method: "POST", body: JSON.stringify(body) }),
    });
  } catch {
    throw new Refusal("unreachable"); // the browser does not tell pages more
  }
  if (!answer.ok) throw await refusal(answer);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

async function refusal(answer: Response): Promise<Refusal> {
  const problem = await answer.json().catch(() => ({})) as Record<string, unknown>; // prettier-ignore
  const text = (name: string): string => (typeof problem[name] === "string" ? problem[name] : "");
  const seconds = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  return new Refusal(
    text("code") || `http-${answer.status}`,
    text("detail"),
    text("remedy"),
    Number.isNaN(seconds) ? undefined : seconds,
  );
}
