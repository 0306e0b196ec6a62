import { execFileSync } from "node:child_process";

import { expect, test } from "vitest";

import { bmpPassword, derive, Purpose } from "../src/pkcs12-kdf.ts";
import { encryptBlock, encryptTripleDesCbc, schedule } from "../src/triple-des.ts";

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Single DES is Triple DES under one key three times. */
const single = (key: string, block: string): string => {
  const rounds = schedule(hex(key));
  return toHex(encryptBlock([rounds, rounds, rounds], hex(block)));
};

test.each([
  // The worked example that came with the standard, and vectors of NIST SP 800-17 (appendix A and B: variable plaintext,
  // variable key, permutation and substitution tables).
  ["133457799bbcdff1", "0123456789abcdef", "85e813540f0ab405"],
  ["0101010101010101", "8000000000000000", "95f8a5e5dd31d900"],
  ["0101010101010101", "0000000000000001", "166b40b44aba4bd6"],
  ["8001010101010101", "0000000000000000", "95a8d72813daa94d"],
  ["1046913489980131", "0000000000000000", "88d55e54f54c97b4"],
  ["7ca110454a1a6e57", "01a1d6d039776742", "690f5b0d9a26939b"],
])("DES under %s takes %s to %s", (key, plain, encrypted) => {
  expect(single(key, plain)).toBe(encrypted);
});

test("three keys encrypt as NIST SP 800-67, appendix B.1 has it", () => {
  const rounds = ["0123456789abcdef", "23456789abcdef01", "456789abcdef0123"].map((key) => schedule(hex(key)));
  const encrypted = ["5468652071756663", "6b2062726f776e20", "666f78206a756d70"].map((block) =>
    toHex(encryptBlock(rounds, hex(block))),
  );
  expect(encrypted).toEqual(["a826fd8ce53b855f", "cce21c8112256fe6", "68d5c05dd9b6b900"]);
});

test.each([0, 1, 7, 8, 9, 1000])("OpenSSL decrypts %i octets in CBC mode", (length) => {
  const [key, iv] = [hex("0123456789abcdef23456789abcdef01456789abcdef0123"), hex("f69f2445df4f9b17")];
  const content = Uint8Array.from({ length }, (_, index) => (index * 7) % 256);
  const decrypted = execFileSync("openssl", ["enc", "-d", "-des-ede3-cbc", "-K", toHex(key), "-iv", toHex(iv)], {
    input: encryptTripleDesCbc(key, iv, content),
  });
  expect(toHex(decrypted)).toBe(toHex(content));
});

test("keys of the wrong size are refused", () => {
  expect(() => encryptTripleDesCbc(new Uint8Array(16), new Uint8Array(8), new Uint8Array(1))).toThrow("24 and 8");
});

test("a password becomes UTF-16 with a zero at its end", () => {
  expect(toHex(bmpPassword("Aé"))).toBe("004100e90000");
});

test.each([
  // The vectors that came with the publication of the derivation, passwords "smeg" and "queeg".
  ["smeg", "0a58cf64530d823f", 1, Purpose.key, 24, "8aaae6297b6cb04642ab5b077851284eb7128f1a2a7fbca3"],
  ["smeg", "0a58cf64530d823f", 1, Purpose.iv, 8, "79993dfe048d3b76"],
  ["smeg", "642b99ab44fb4b1f", 1, Purpose.key, 24, "f3a95fec48d7711e985cfe67908c5ab79fa3d7c5caa5d966"],
  ["smeg", "3d83c0e4546ac140", 1, Purpose.mac, 20, "8d967d88f6caa9d714800ab3d48051d63f73a312"],
  ["queeg", "1682c0fc5b3f7ec5", 1000, Purpose.key, 24, "483dd6e919d7de2e8e648ba8f862f3fbfbdc2bcb2c02957f"],
  ["queeg", "263216fcc2fab31c", 1000, Purpose.mac, 20, "5ec4c7a80df652294c3925b6489a7ab857c83476"],
])("octets are derived from %s and %s", (password, salt, iterations, purpose, size, derived) => {
  expect(toHex(derive("SHA-1", password, hex(salt), iterations, purpose, size))).toBe(derived);
});
