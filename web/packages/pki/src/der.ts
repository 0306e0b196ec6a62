/** DER values by the names their standards use. Encoding and decoding are asn1js's. */

import * as asn1js from "asn1js";

import { type Bytes, compare } from "./bytes.ts";
import { PkiError } from "./errors.ts";

export type Value = asn1js.BaseBlock;

export function encode(value: Value): Bytes {
  return new Uint8Array(value.toBER());
}

/** Decode one value that fills `der`. Throws PkiError. */
export function decode(der: Uint8Array): Value {
  const { offset, result } = asn1js.fromBER(der);
  if (offset !== der.length || result.error) throw new PkiError("This is not the DER encoding of one value.");
  return result;
}

export function sequence(...value: Value[]): Value {
  return new asn1js.Sequence({ value });
}

/** SET OF: its members in the order of their encodings (X.690, section 11.6). */
export function set(...members: Value[]): Value {
  const encoded = members.map((value) => ({ value, der: encode(value) }));
  encoded.sort((left, right) => compare(left.der, right.der));
  return new asn1js.Set({ value: encoded.map(({ value }) => value) });
}

/** [tag] of constructed content: EXPLICIT of one value, or IMPLICIT over the members of a SEQUENCE or SET. */
export function context(tagNumber: number, ...value: Value[]): Value {
  return new asn1js.Constructed({ idBlock: { tagClass: 3, tagNumber }, value });
}

/** [tag] IMPLICIT of a primitive type. */
export function contextPrimitive(tagNumber: number, content: Uint8Array): Value {
  return new asn1js.Primitive({ idBlock: { tagClass: 3, tagNumber }, valueHex: content });
}

export function integer(value: number): Value {
  return new asn1js.Integer({ value });
}

export function oid(value: string): Value {
  return new asn1js.ObjectIdentifier({ value });
}

export function octets(content: Uint8Array): Value {
  return new asn1js.OctetString({ valueHex: content });
}

export function bits(content: Uint8Array): Value {
  return new asn1js.BitString({ valueHex: content });
}

export function nothing(): Value {
  return new asn1js.Null();
}

export function utf8String(value: string): Value {
  return new asn1js.Utf8String({ value });
}

export function bmpString(value: string): Value {
  return new asn1js.BmpString({ value });
}

/** The members of a constructed value. Throws PkiError for a primitive one. */
export function members(value: Value | undefined): Value[] {
  if (!(value instanceof asn1js.Constructed)) throw new PkiError("A constructed value was expected.");
  return value.valueBlock.value;
}

/** Whether this is [tag]. */
export function isContext(value: Value | undefined, tagNumber: number): boolean {
  return value?.idBlock.tagClass === 3 && value.idBlock.tagNumber === tagNumber;
}

/** Both INTEGERs of an `Ecdsa-Sig-Value` (RFC 3279, section 2.2.3) from the two halves that WebCrypto returns. */
export function ecdsaSignature(halves: Uint8Array): Bytes {
  const size = halves.length / 2;
  const number = (bytes: Uint8Array): Value => {
    let hexadecimal = "0x0";
    for (const octet of bytes) hexadecimal += octet.toString(16).padStart(2, "0");
    return asn1js.Integer.fromBigInt(BigInt(hexadecimal));
  };
  return encode(sequence(number(halves.subarray(0, size)), number(halves.subarray(size))));
}
