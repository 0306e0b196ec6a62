/** PKCS#12 files (RFC 7292) with one private key, its certificate and the chain above it. */

import { hmac } from "@noble/hashes/hmac.js";
import { sha1 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";

import { type Bytes, concat, random, utf8 } from "./bytes.ts";
import * as der from "./der.ts";
import { derive, Purpose } from "./pkcs12-kdf.ts";
import { encryptTripleDesCbc } from "./triple-des.ts";

/**
 * `modern`: AES-256 under PBKDF2 (RFC 8018), MAC with SHA-256. `compatible`: Triple DES and a MAC with SHA-1, for key
 * stores that take the modern form for a wrong password.
 */
export type Variant = "modern" | "compatible";

/** What goes into a file. */
export interface Contents {
  readonly privateKey: Uint8Array; // PKCS#8
  readonly certificate: Uint8Array; // DER
  readonly chain: readonly Uint8Array[]; // DER, issuer first
  readonly name: string; // shown by key stores
}

const OID = {
  data: "1.2.840.113549.1.7.1",
  encryptedData: "1.2.840.113549.1.7.6",
  shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  certificateBag: "1.2.840.113549.1.12.10.1.3",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyId: "1.2.840.113549.1.9.21",
  pbes2: "1.2.840.113549.1.5.13",
  pbkdf2: "1.2.840.113549.1.5.12",
  hmacWithSha256: "1.2.840.113549.2.9",
  aes256Cbc: "2.16.840.1.101.3.4.1.42",
  pbeWithSha1And3KeyTripleDes: "1.2.840.113549.1.12.1.3",
  sha1: "1.3.14.3.2.26",
  sha256: "2.16.840.1.101.3.4.2.1",
} as const;

/** Octets of a private key or of certificates, encrypted, with the AlgorithmIdentifier that says how. */
interface Encrypted {
  readonly algorithm: der.Value;
  readonly content: Uint8Array;
}

interface Protection {
  readonly digest: { readonly name: "SHA-1" | "SHA-256"; readonly oid: string; readonly size: number };
  readonly hash: typeof sha1 | typeof sha256;
  /** Rounds of the key derivations. The passwords are random and long enough without them; key stores set limits. */
  readonly iterations: number;
  readonly encrypt: (content: Uint8Array, password: string, iterations: number) => Promise<Encrypted>;
}

const PROTECTION: Readonly<Record<Variant, Protection>> = {
  modern: {
    digest: { name: "SHA-256", oid: OID.sha256, size: 32 },
    hash: sha256,
    iterations: 10_000,
    encrypt: encryptAes,
  },
  compatible: {
    digest: { name: "SHA-1", oid: OID.sha1, size: 20 },
    hash: sha1,
    iterations: 2048,
    encrypt: encryptTripleDes,
  },
};

/** Pack a file under a password of ASCII characters. */
export async function packPkcs12(contents: Contents, password: string, variant: Variant): Promise<Bytes> {
  const protection = PROTECTION[variant];
  const keyId = sha1(contents.certificate); // any octets that key and certificate share
  const certificates = await encryptedCertificates(contents, keyId, password, protection);
  const key = await shroudedKey(contents, keyId, password, protection);
  const safe = der.encode(der.sequence(certificates, key)); // AuthenticatedSafe
  return der.encode(der.sequence(der.integer(3), data(safe), macData(safe, password, protection)));
}

/** ContentInfo of the type encryptedData (RFC 7292, section 4.1; RFC 5652, section 8). */
async function encryptedCertificates(
  contents: Contents,
  keyId: Uint8Array,
  password: string,
  protection: Protection,
): Promise<der.Value> {
  const bags = [
    certificateBag(contents.certificate, attributes(contents.name, keyId)),
    ...contents.chain.map((certificate) => certificateBag(certificate)),
  ];
  const { algorithm, content } = await protection.encrypt(
    der.encode(der.sequence(...bags)),
    password,
    protection.iterations,
  );
  const information = der.sequence(der.oid(OID.data), algorithm, der.contextPrimitive(0, content));
  return der.sequence(der.oid(OID.encryptedData), der.context(0, der.sequence(der.integer(0), information)));
}

/** ContentInfo of the type data with a pkcs8ShroudedKeyBag (RFC 7292, section 4.2.2). */
async function shroudedKey(
  contents: Contents,
  keyId: Uint8Array,
  password: string,
  protection: Protection,
): Promise<der.Value> {
  const { algorithm, content } = await protection.encrypt(contents.privateKey, password, protection.iterations);
  const bag = der.sequence(
    der.oid(OID.shroudedKeyBag),
    der.context(0, der.sequence(algorithm, der.octets(content))),
    attributes(contents.name, keyId),
  );
  return data(der.encode(der.sequence(bag)));
}

function certificateBag(certificate: Uint8Array, ...ofTheLeaf: der.Value[]): der.Value {
  const value = der.sequence(der.oid(OID.x509Certificate), der.context(0, der.octets(certificate)));
  return der.sequence(der.oid(OID.certificateBag), der.context(0, value), ...ofTheLeaf);
}

function attributes(name: string, keyId: Uint8Array): der.Value {
  return der.set(
    der.sequence(der.oid(OID.friendlyName), der.set(der.bmpString(name))),
    der.sequence(der.oid(OID.localKeyId), der.set(der.octets(keyId))),
  );
}

function data(content: Uint8Array): der.Value {
  return der.sequence(der.oid(OID.data), der.context(0, der.octets(content)));
}

/** MacData (RFC 7292, section 4 and appendix A). */
function macData(safe: Uint8Array, password: string, { digest, hash, iterations }: Protection): der.Value {
  const salt = random(16);
  const key = derive(digest.name, password, salt, iterations, Purpose.mac, digest.size);
  const algorithm = der.sequence(der.oid(digest.oid), der.nothing());
  const mac = der.octets(hmac(hash, key, safe));
  return der.sequence(der.sequence(algorithm, mac), der.octets(salt), der.integer(iterations));
}

/** PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC (RFC 8018, sections 6.2 and A.2 to B.2.5). */
async function encryptAes(content: Uint8Array, password: string, iterations: number): Promise<Encrypted> {
  const [salt, iv] = [random(16), random(16)];
  const secret = await crypto.subtle.importKey("raw", utf8(password), "PBKDF2", false, ["deriveKey"]);
  const key = await crypto.subtle.deriveKey(
    { name: "PBKDF2", hash: "SHA-256", salt, iterations },
    secret,
    { name: "AES-CBC", length: 256 },
    false,
    ["encrypt"],
  );
  const derivation = der.sequence(
    der.oid(OID.pbkdf2),
    der.sequence(
      der.octets(salt),
      der.integer(iterations),
      der.sequence(der.oid(OID.hmacWithSha256), der.nothing()),
    ),
  );
  const scheme = der.sequence(der.oid(OID.aes256Cbc), der.octets(iv));
  return {
    algorithm: der.sequence(der.oid(OID.pbes2), der.sequence(derivation, scheme)),
    content: new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CBC", iv }, key, concat(content))),
  };
}

/** pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292, appendix C). */
function encryptTripleDes(content: Uint8Array, password: string, iterations: number): Promise<Encrypted> {
  const salt = random(8);
  const key = derive("SHA-1", password, salt, iterations, Purpose.key, 24);
  const iv = derive("SHA-1", password, salt, iterations, Purpose.iv, 8);
  const parameters = der.sequence(der.octets(salt), der.integer(iterations));
  return Promise.resolve({
    algorithm: der.sequence(der.oid(OID.pbeWithSha1And3KeyTripleDes), parameters),
    content: encryptTripleDesCbc(key, iv, content),
  });
}
