import { expect, test } from "vitest";

import { check, explain, fingerprint, guides, retryIn, trust } from "../src/messages.ts";

test.each([
  ["macos", 3],
  ["windows", 5],
  ["ios", 6],
  ["android", 7],
] as const)("installing on %s takes the steps that its system has", (system, count) => {
  const { steps } = guides[system]("mia.p12");
  expect(steps).toHaveLength(count);
  expect(steps.join()).toContain("mia.p12");
});

test("every system is told how to trust the CA", () => {
  expect(trust.guides.map(({ id }) => id).toSorted()).toEqual(["android", "ios", "linux", "macos", "windows"]);
});

test.each([
  "code_invalid", "code_expired", "code_used", "code_revoked", "code_locked", "email_not_allowed", "csr_malformed",
  "csr_signature", "csr_key_type", "csr_mismatch", "key_reused", "rate_limited", "ca_unavailable", "unreachable",
  "ip_denied", "no_certificate", "self_signed", "unknown_ca", "wrong_environment", "expired", "not_yet_valid", "revoked",
  "status_unavailable", "bad_purpose", "policy_denied", "weak_key", "bad_signature",
])("%s is explained, with what to do", (code) => { // prettier-ignore
  const { title, text, remedy } = explain(code, "the server's detail", "the server's remedy");
  expect(title).not.toBe("");
  expect(text).not.toBe("the server's detail");
  expect(remedy).not.toBe("the server's remedy");
});

test("a refusal that the page does not know is told in the server's words", () => {
  expect(explain("new-rule", "The server says so.", "Do that.")).toMatchObject({ text: "The server says so.", remedy: "Do that." });
});

test("fingerprints are printed as other programs do", () => {
  expect(fingerprint("ab12cd")).toBe("AB:12:CD");
  expect(fingerprint("AB:12:CD")).toBe("AB:12:CD");
});

test("what the server does not tell about a certificate is left out", () => {
  expect(check.rows({ identity: "u-1", email: null })).toEqual([["Identity", "u-1"]]);
});

test("waiting times are said in units that one can wait in", () => {
  expect(retryIn(5)).toContain("5 seconds");
  expect(retryIn(600)).toContain("10 minutes");
});
