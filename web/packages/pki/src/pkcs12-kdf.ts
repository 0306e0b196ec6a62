/** Key derivation of PKCS#12 (RFC 7292, appendix B): for the MAC of every file, and for keys of the old encryption. */

import { sha1 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";

import { concat } from "./bytes.ts";

export type Digest = "SHA-1" | "SHA-256";

/** What the derived octets are for (appendix B.3). */
export const Purpose = { key: 1, iv: 2, mac: 3 } as const;

const DIGESTS = { "SHA-1": sha1, "SHA-256": sha256 };
const BLOCK = 64; // octets: v of both digests

/** Derive `size` octets from a password. Source: RFC 7292, appendix B.2, its numbers of the steps. */
export function derive(
  digest: Digest,
  password: string,
  salt: Uint8Array,
  iterations: number,
  purpose: (typeof Purpose)[keyof typeof Purpose],
  size: number,
): Uint8Array {
  const hash = DIGESTS[digest];
  const diversifier = new Uint8Array(BLOCK).fill(purpose); // step 1
  let input = concat(stretched(salt), stretched(bmpPassword(password))); // steps 2 to 4
  let derived = new Uint8Array();
  while (derived.length < size) {
    let block = hash(concat(diversifier, input)); // step 6 a
    for (let round = 1; round < iterations; round++) block = hash(block);
    input = advanced(input, stretched(block)); // steps 6 b and c
    derived = concat(derived, block);
  }
  return derived.slice(0, size);
}

/** Big-endian UTF-16 with a terminating zero character (appendix B.1). */
export function bmpPassword(password: string): Uint8Array {
  const encoded = new Uint8Array(2 * (password.length + 1));
  for (let index = 0; index < password.length; index++) {
    encoded[2 * index] = password.charCodeAt(index) >> 8;
    encoded[2 * index + 1] = password.charCodeAt(index) & 0xff;
  }
  return encoded;
}

/** Repeat octets to the next multiple of the block; nothing stays nothing. */
function stretched(bytes: Uint8Array): Uint8Array {
  const length = BLOCK * Math.ceil(bytes.length / BLOCK);
  return Uint8Array.from({ length }, (_, index) => bytes[index % bytes.length]!);
}

/** Every block of the input plus `addend` plus one, modulo 2 to the 512th. */
function advanced(input: Uint8Array, addend: Uint8Array): ReturnType<typeof concat> {
  const next = concat(input);
  for (let start = 0; start < next.length; start += BLOCK) {
    let carry = 1;
    for (let index = BLOCK - 1; index >= 0; index--) {
      carry += next[start + index]! + addend[index]!;
      next[start + index] = carry & 0xff;
      carry >>= 8;
    }
  }
  return next;
}
