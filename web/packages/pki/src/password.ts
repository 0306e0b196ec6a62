/** Passwords that nobody has to invent and nobody misreads. */

/** Lower case letters and digits without those that look alike: no i, l, o, 0, 1. */
const ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789";
const GROUPS = 6;
const GROUP_LENGTH = 4;

/** Entropy of a password, in bits. */
export const PASSWORD_BITS = GROUPS * GROUP_LENGTH * Math.log2(ALPHABET.length);

/** A random password such as `k7mp-w3xq-...`; the hyphens are part of it. */
export function newPassword(): string {
  return Array.from({ length: GROUPS }, group).join("-");
}

function group(): string {
  return Array.from({ length: GROUP_LENGTH }, character).join("");
}

/** One character, every one equally likely: octets that would favour the first ones are drawn again. */
function character(): string {
  const limit = 256 - (256 % ALPHABET.length);
  const drawn = new Uint8Array(1);
  do crypto.getRandomValues(drawn);
  while (drawn[0]! >= limit);
  return ALPHABET[drawn[0]! % ALPHABET.length]!;
}
