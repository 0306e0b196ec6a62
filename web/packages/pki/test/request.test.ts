import { afterAll, expect, test } from "vitest";

import { carriesKey, certificateRequest, generateKey, pemDecode, pemEncode, PkiError } from "../src/index.ts";
import { Workshop } from "./openssl.ts";

const workshop = new Workshop();
const identity = { commonName: "u-4k7mp2", email: "mia@example.org", challenge: "n0nce_-x" };

afterAll(() => {
  workshop.close();
});

test.each([
  ["EC P-256", "prime256v1"],
  ["EC P-384", "secp384r1"],
  ["EC P-521", "secp521r1"],
  ["RSA 2048", "2048 bit"],
])("OpenSSL verifies a request under %s", async (algorithm, named) => {
  const pair = await generateKey(algorithm);
  workshop.write("request.pem", pemEncode("CERTIFICATE REQUEST", await certificateRequest(pair, identity)));
  const text = workshop.openssl("req", "-in", "request.pem", "-verify", "-noout", "-text", "-nameopt", "RFC2253");
  expect(text).toContain(named);
  expect(text).toContain("Subject: CN=u-4k7mp2");
  expect(text).toContain("email:mia@example.org");
  expect(text).toMatch(/challengePassword\s*:n0nce_-x/);
});

test("many signatures verify, whatever their leading octets are", async () => {
  const pair = await generateKey("EC P-256");
  for (let round = 0; round < 40; round++) {
    const request = await certificateRequest(pair, { ...identity, challenge: `round-${round}` });
    workshop.write("request.der", request);
    workshop.openssl("req", "-inform", "DER", "-in", "request.der", "-verify", "-noout");
  }
});

test("keys of an unknown kind are refused by name", async () => {
  await expect(generateKey("EC K-163")).rejects.toThrow('"EC K-163"');
});

test("an address that is not ASCII is refused", async () => {
  const pair = await generateKey("EC P-256");
  await expect(certificateRequest(pair, { ...identity, email: "mïa@example.org" })).rejects.toThrow(PkiError);
});

test("a certificate is matched with the key that was asked for", async () => {
  const [mine, other] = [await generateKey("EC P-256"), await generateKey("EC P-256")];
  const { certificate } = workshop.sign(pemEncode("CERTIFICATE REQUEST", await certificateRequest(mine, identity)));
  expect(carriesKey(certificate, mine.subjectPublicKeyInfo)).toBe(true);
  expect(carriesKey(certificate, other.subjectPublicKeyInfo)).toBe(false);
});

test("what is no certificate is refused, whatever it is", () => {
  let state = 1;
  const next = (): number => (state = (state * 48271) % 2147483647); // seeded, so that a failure repeats
  for (let round = 0; round < 500; round++) {
    const bytes = Uint8Array.from({ length: next() % 40 }, () => next() % 256);
    expect(() => {
      if (carriesKey(bytes, new Uint8Array([1]))) throw new Error("accepted");
    }).toThrow(PkiError);
  }
});

test.each([
  ["nothing", ""],
  ["another kind", pemEncode("PRIVATE KEY", new Uint8Array(40))],
  ["two blocks", pemEncode("CERTIFICATE", new Uint8Array(9)).repeat(2)],
  ["damaged base64", "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----"],
  ["too much", pemEncode("CERTIFICATE", new Uint8Array(90_000))],
])("PEM with %s is refused", (_, text) => {
  expect(() => pemDecode("CERTIFICATE", text)).toThrow(PkiError);
});
