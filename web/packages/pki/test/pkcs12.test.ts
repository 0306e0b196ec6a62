import { afterAll, beforeAll, expect, test } from "vitest";

import { appleProfile, certificateRequest, type Contents, generateKey, newPassword, packPkcs12, PASSWORD_BITS, pemEncode } from "../src/index.ts"; // prettier-ignore
import { Workshop } from "./openssl.ts";

const workshop = new Workshop();
let contents: Contents;

beforeAll(async () => {
  const pair = await generateKey("EC P-256");
  const request = await certificateRequest(pair, { commonName: "u-1", email: "mia@example.org", challenge: "n" });
  const { certificate, ca } = workshop.sign(pemEncode("CERTIFICATE REQUEST", request));
  contents = { privateKey: await pair.exportPrivateKey(), certificate, chain: [ca], name: "mia@example.org" };
});

afterAll(() => {
  workshop.close();
});

test.each([
  ["modern", [], "PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256", "MAC: sha256, Iteration 10000"],
  ["compatible", ["-legacy"], "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048", "MAC: sha1, Iteration 2048"],
] as const)("OpenSSL opens the %s file", async (variant, options, encryption, mac) => {
  const password = newPassword();
  workshop.write("identity.p12", await packPkcs12(contents, password, variant));
  workshop.write("password", password);
  const opened = ["pkcs12", "-in", "identity.p12", "-passin", "file:password", ...options];
  workshop.openssl(...opened, "-nodes", "-nocerts", "-out", "key.pem");
  workshop.openssl(...opened, "-nokeys", "-clcerts", "-out", "certificate.pem");
  expect(workshop.openssl("pkey", "-in", "key.pem", "-pubout")).toBe(
    workshop.openssl("x509", "-in", "certificate.pem", "-pubkey", "-noout"),
  );
  const chain = workshop.openssl(...opened, "-nokeys");
  expect(chain.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  expect(chain).toContain("friendlyName: mia@example.org");
  const structure = workshop.structure("identity.p12", options);
  expect(structure).toContain(mac);
  expect(structure.split(encryption)).toHaveLength(3); // key and certificates
});

test("another password does not open it", async () => {
  workshop.write("identity.p12", await packPkcs12(contents, newPassword(), "modern"));
  workshop.write("password", newPassword());
  expect(() => workshop.openssl("pkcs12", "-in", "identity.p12", "-passin", "file:password", "-noout")).toThrow(
    "invalid password",
  );
});

test("passwords are long, unambiguous and never the same", () => {
  const passwords = new Set(Array.from({ length: 500 }, newPassword));
  expect(passwords.size).toBe(500);
  expect(PASSWORD_BITS).toBeGreaterThan(100);
  for (const password of passwords) expect(password).toMatch(/^([a-hjkmnp-z2-9]{4}-){5}[a-hjkmnp-z2-9]{4}$/);
});

test("every character of a password is about equally likely", () => {
  const counts = new Map<string, number>();
  for (let round = 0; round < 1000; round++)
    for (const character of newPassword().replaceAll("-", "")) counts.set(character, (counts.get(character) ?? 0) + 1);
  expect(counts.size).toBe(31);
  const expected = 24_000 / 31;
  for (const count of counts.values()) expect(Math.abs(count - expected)).toBeLessThan(6 * Math.sqrt(expected));
});

test("an Apple profile carries the file and no password", async () => {
  const password = newPassword();
  const pkcs12 = await packPkcs12(contents, password, "compatible");
  const xml = new TextDecoder().decode(
    appleProfile({ name: "Mia <mia> & co", organization: "Example", fileName: "mia.p12", pkcs12 }),
  );
  expect(xml).toContain("<string>com.apple.security.pkcs12</string>");
  expect(xml).toContain("Mia &lt;mia&gt; &amp; co");
  expect(xml).toContain(Buffer.from(pkcs12).toString("base64"));
  expect(xml).not.toContain(password);
});
