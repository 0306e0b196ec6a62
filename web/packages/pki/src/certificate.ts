/** The little a page has to know about a certificate (RFC 5280, section 4.1). */

import { equal } from "./bytes.ts";
import * as der from "./der.ts";

/** Whether a certificate is about this public key: what came back must belong to what was asked. Throws PkiError. */
export function carriesKey(certificate: Uint8Array, subjectPublicKeyInfo: Uint8Array): boolean {
  const [signed] = der.members(der.decode(certificate));
  const fields = der.members(signed);
  const version = der.isContext(fields[0], 0) ? 1 : 0; // absent in version 1
  const key = fields[version + 5]; // serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
  return key !== undefined && equal(der.encode(key), subjectPublicKeyInfo);
}
