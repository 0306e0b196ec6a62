/**
 * What a browser does for a certificate of its own: make a key, ask for the certificate, pack both for the key store of
 * the operating system. Nothing here talks to a network or keeps anything.
 */

export { generateKey, isSupported, type KeyPair } from "./keys.ts";
export { certificateRequest, type RequestedIdentity } from "./request.ts";
export { carriesKey } from "./certificate.ts";
export { isPem, pemDecode, pemEncode } from "./pem.ts";
export { packPkcs12, type Contents, type Variant } from "./pkcs12.ts";
export { appleProfile, type AppleProfile } from "./apple-profile.ts";
export { newPassword, PASSWORD_BITS } from "./password.ts";
export { PkiError } from "./errors.ts";
