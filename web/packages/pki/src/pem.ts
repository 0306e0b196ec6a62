/** Textual encoding (RFC 7468). */

import { base64, type Bytes } from "./bytes.ts";
import { PkiError } from "./errors.ts";

const BLOCK = /^\s*-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----\s*$/;
const LONGEST = 100_000; // characters; a certificate has a few thousand

export function pemEncode(label: string, der: Uint8Array): string {
  const lines = base64(der).match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}

/** The octets of the one block in `text`. Throws PkiError when there is none, several, or one of another kind. */
export function pemDecode(label: string, text: string): Bytes {
  const block = text.length <= LONGEST ? BLOCK.exec(text) : null;
  if (block?.[1] !== label) throw new PkiError(`This is not one PEM block of the kind "${label}".`);
  try {
    return Uint8Array.from(atob(block[2]!.replace(/\s/g, "")), (character) => character.charCodeAt(0));
  } catch {
    throw new PkiError(`The base64 of the PEM block "${label}" is damaged.`);
  }
}

export function isPem(label: string, text: string): boolean {
  return BLOCK.exec(text)?.[1] === label;
}
