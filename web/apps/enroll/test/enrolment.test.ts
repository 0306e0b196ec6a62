import { afterEach, expect, test } from "vitest";

import { EnrolmentService, Refusal } from "../src/api.ts";
import { clockSkew, enrol, renew, Resumable, type Stage } from "../src/enrolment.ts";
import { policy, type Refusals, StandIn } from "./service.ts";

let standIn: StandIn;

afterEach(() => {
  standIn.close();
});

function service(options: { refusals?: Refusals; wrongKey?: boolean } = {}): EnrolmentService {
  standIn = new StandIn(options);
  return new EnrolmentService(null);
}

const ignore = (): void => undefined;

test("an enrolment sends code, address and request, and nothing that is secret", async () => {
  const stages: Stage[] = [];
  const packed = await enrol(service(), "SOME-CODE", "mia@example.org", (stage) => stages.push(stage));
  expect(stages).toEqual(["keygen", "sign"]);
  const [opened, signed] = standIn.sent;
  expect(JSON.parse(opened!.body)).toEqual({ code: "SOME-CODE", email: "mia@example.org" });
  expect(Object.keys(JSON.parse(signed!.body) as object)).toEqual(["csr"]);
  const everything = JSON.stringify(standIn.sent);
  expect(everything).not.toContain(packed.password);
  expect(everything).not.toContain("PRIVATE KEY");
  for (const file of Object.values(packed.files)) expect(everything).not.toContain(Buffer.from(file).toString("base64"));
  for (const { credentials } of standIn.sent) expect(credentials).toBe("omit");
});

test("both forms of the file hold the same key and certificate under the same password", async () => {
  const packed = await enrol(service(), "SOME-CODE", "mia@example.org", ignore);
  const opened = (["modern", "compatible"] as const).map((variant) => {
    standIn.workshop.write("identity.p12", packed.files[variant]);
    standIn.workshop.write("password", packed.password);
    const legacy = variant === "compatible" ? ["-legacy"] : [];
    return standIn.workshop.openssl("pkcs12", "-in", "identity.p12", "-passin", "file:password", "-nodes", ...legacy);
  });
  const material = (text: string): string[] | null => text.match(/-----BEGIN [^]+?-----END [A-Z ]+-----/g);
  expect(material(opened[0]!)).toHaveLength(3); // key, certificate, its CA
  expect(material(opened[0]!)?.toSorted()).toEqual(material(opened[1]!)?.toSorted());
});

test("while the CA is away the same request is sent again, in the same session", async () => {
  const away = { status: 503, code: "ca_unavailable", retryAfter: "5" };
  const attempt = enrol(service({ refusals: { "/csr": [away, away] } }), "SOME-CODE", "mia@example.org", ignore);
  const stopped = await attempt.catch((error: unknown) => error as Resumable);
  if (!(stopped instanceof Resumable)) throw new Error("it should have stopped");
  expect(stopped.refusal.retryAfter).toBe(5);
  await expect(stopped.resume(ignore)).rejects.toBeInstanceOf(Resumable);
  const packed = await stopped.resume(ignore);
  expect(packed.issued.serial).toBe("4F2A");
  const requests = standIn.sent.filter(({ url }) => url.endsWith("/csr"));
  expect(new Set(requests.map(({ body }) => body)).size).toBe(1);
  expect(standIn.sent.filter(({ url }) => url.endsWith("/sessions"))).toHaveLength(1);
});

test.each(["code_invalid", "code_used", "email_not_allowed"])("a code that is refused with %s ends there", async (code) => {
  const attempt = enrol(service({ refusals: { "/sessions": [{ status: 403, code }] } }), "X", "mia@example.org", ignore);
  await expect(attempt).rejects.toMatchObject({ code, detail: "What happened.", remedy: "What to do." });
  expect(standIn.sent).toHaveLength(1);
});

test("a certificate for another key is not packed", async () => {
  const attempt = enrol(service({ wrongKey: true }), "SOME-CODE", "mia@example.org", ignore);
  await expect(attempt).rejects.toThrow("another key");
});

test("a renewal presents the current certificate to the mTLS host and makes a new key", async () => {
  const enrolment = service();
  const packed = await renew(enrolment, policy, ignore);
  expect(packed.session).toBeUndefined();
  expect(standIn.sent.map(({ url, credentials }) => [url, credentials])).toEqual([
    [policy.renew_url, "include"],
    [policy.renew_url, "include"],
  ]);
});

test("no answer is told apart from a refusal", async () => {
  const enrolment = service();
  standIn.answer = () => Promise.reject(new TypeError("Failed to fetch"));
  globalThis.fetch = () => Promise.reject(new TypeError("Failed to fetch"));
  await expect(enrolment.policy()).rejects.toEqual(new Refusal("unreachable"));
});

test("a wrong clock is noticed by the dates of a certificate that has just been issued", () => {
  standIn = new StandIn();
  const dates = { not_before: "2030-01-01T12:00:00Z", not_after: "2030-01-06T12:00:00Z" };
  expect(clockSkew(dates, Date.parse("2030-01-01T12:00:00Z"))).toBeUndefined();
  expect(clockSkew(dates, Date.parse("2030-01-01T11:20:30Z"))).toEqual({ direction: "behind", minutes: 40 });
  expect(clockSkew(dates, Date.parse("2030-01-06T13:00:00Z"))).toEqual({ direction: "ahead", minutes: 60 });
});
