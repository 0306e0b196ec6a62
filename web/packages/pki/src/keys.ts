/** Key pairs of the Web Cryptography API. */

import { type Bytes } from "./bytes.ts";
import * as der from "./der.ts";
import { PkiError } from "./errors.ts";

/** A key pair and how it signs. Drop it to forget the private key. */
export interface KeyPair {
  readonly subjectPublicKeyInfo: Bytes;
  readonly signatureAlgorithm: der.Value;
  /** Signature of `content` in the form that certificates and requests carry. */
  sign(content: Bytes): Promise<Bytes>;
  /** The private key as PKCS#8; overwrite it after use. */
  exportPrivateKey(): Promise<Bytes>;
}

interface Scheme {
  readonly generation: EcKeyGenParams | RsaHashedKeyGenParams;
  readonly signing: EcdsaParams | Algorithm;
  readonly identifier: () => der.Value;
}

const RSA_EXPONENT = new Uint8Array([1, 0, 1]);

/** By the names that the server's policy uses. */
const SCHEMES: Readonly<Record<string, Scheme>> = {
  "EC P-256": ec("P-256", "SHA-256", "1.2.840.10045.4.3.2"),
  "EC P-384": ec("P-384", "SHA-384", "1.2.840.10045.4.3.3"),
  "EC P-521": ec("P-521", "SHA-512", "1.2.840.10045.4.3.4"),
  "RSA 2048": rsa(2048),
  "RSA 3072": rsa(3072),
  "RSA 4096": rsa(4096),
};

/** Whether this browser, on this page, offers what is needed at all: WebCrypto exists only in secure contexts. */
export function isSupported(): boolean {
  // The DOM's types promise what an insecure origin does not have.
  const offered = globalThis as { crypto?: { subtle?: unknown } };
  return offered.crypto?.subtle !== undefined;
}

/** Make a key pair. Throws PkiError when the algorithm is not one of those above. */
export async function generateKey(algorithm: string): Promise<KeyPair> {
  const scheme = SCHEMES[algorithm];
  if (scheme === undefined) throw new PkiError(`This page cannot make keys of the kind "${algorithm}".`);
  // Extractable, because the file that is installed carries it.
  const pair = await crypto.subtle.generateKey(scheme.generation, true, ["sign", "verify"]);
  return {
    subjectPublicKeyInfo: new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey)),
    signatureAlgorithm: scheme.identifier(),
    sign: async (content) => {
      const raw = new Uint8Array(await crypto.subtle.sign(scheme.signing, pair.privateKey, content));
      return scheme.signing.name === "ECDSA" ? der.ecdsaSignature(raw) : raw;
    },
    exportPrivateKey: async () => new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey)),
  };
}

/** ecdsa-with-SHA2 (RFC 5758, section 3.2): no parameters. */
function ec(namedCurve: string, hash: string, signature: string): Scheme {
  return {
    generation: { name: "ECDSA", namedCurve },
    signing: { name: "ECDSA", hash },
    identifier: () => der.sequence(der.oid(signature)),
  };
}

/** sha256WithRSAEncryption (RFC 4055, section 5): parameters NULL. */
function rsa(modulusLength: number): Scheme {
  return {
    generation: { name: "RSASSA-PKCS1-v1_5", modulusLength, publicExponent: RSA_EXPONENT, hash: "SHA-256" },
    signing: { name: "RSASSA-PKCS1-v1_5" },
    identifier: () => der.sequence(der.oid("1.2.840.113549.1.1.11"), der.nothing()),
  };
}
