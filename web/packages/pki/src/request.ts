/** PKCS#10 certificate requests (RFC 2986). */

import { type Bytes, utf8 } from "./bytes.ts";
import * as der from "./der.ts";
import { PkiError } from "./errors.ts";
import type { KeyPair } from "./keys.ts";

const COMMON_NAME = "2.5.4.3";
const CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7";
const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";
const SUBJECT_ALTERNATIVE_NAME = "2.5.29.17";
const RFC822_NAME = 1; // of GeneralName

/** What the server told this session; it compares the request with it. */
export interface RequestedIdentity {
  readonly commonName: string;
  readonly email: string;
  /** Ties the request to the session, so that a captured one cannot be sent again. */
  readonly challenge: string;
}

/** A request for `identity`, signed by the key it is about. Returns DER. Throws PkiError. */
export async function certificateRequest(pair: KeyPair, identity: RequestedIdentity): Promise<Bytes> {
  const information = der.sequence(
    der.integer(0),
    der.sequence(der.set(attributeValue(COMMON_NAME, identity.commonName))),
    der.decode(pair.subjectPublicKeyInfo),
    der.context(
      0,
      ...der.members(
        der.set(
          der.sequence(der.oid(CHALLENGE_PASSWORD), der.set(der.utf8String(identity.challenge))),
          der.sequence(der.oid(EXTENSION_REQUEST), der.set(der.sequence(alternativeName(identity.email)))),
        ),
      ),
    ),
  );
  const signature = await pair.sign(der.encode(information));
  return der.encode(der.sequence(information, pair.signatureAlgorithm, der.bits(signature)));
}

function attributeValue(type: string, value: string): der.Value {
  return der.sequence(der.oid(type), der.utf8String(value));
}

function alternativeName(email: string): der.Value {
  if (!/^[\x21-\x7e]+$/.test(email)) throw new PkiError("An e-mail address in a certificate is plain ASCII.");
  const names = der.sequence(der.contextPrimitive(RFC822_NAME, utf8(email)));
  return der.sequence(der.oid(SUBJECT_ALTERNATIVE_NAME), der.octets(der.encode(names)));
}
