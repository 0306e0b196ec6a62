/**
 * One enrolment from the code to the packed files.
 *
 * The private key exists between "keygen" and the end of "packing", in a variable of a running function; a failure that
 * can be tried again keeps it for exactly that.
 */

import { carriesKey, certificateRequest, generateKey, type KeyPair, newPassword, packPkcs12, pemDecode, pemEncode, PkiError, type RequestedIdentity, type Variant } from "@intaglio/pki"; // prettier-ignore

import { type EnrolmentService, type Issued, type Policy, Refusal, type Session } from "./api.ts";

/** The packed identity: nothing in it can be used without the password, which is beside it only in this page. */
export interface Package {
  readonly files: Readonly<Record<Variant, Uint8Array<ArrayBuffer>>>;
  readonly password: string;
  readonly fileName: string; // without its extension
  readonly email: string;
  readonly issued: Issued;
  readonly clock: ClockSkew | undefined;
  /** Absent for a renewal. */
  readonly session: Session | undefined;
}

/** This device's clock against the certificate's dates; `minutes` is how far it is off at least. */
export interface ClockSkew {
  readonly direction: "behind" | "ahead";
  readonly minutes: number;
}

export type Stage = "keygen" | "sign";

/** Told about the stage that begins. */
export type Progress = (stage: Stage) => void;

/** An enrolment that stopped where it can be resumed without a new code: the CA was away for a moment. */
export class Resumable extends Error {
  override readonly name = "Resumable";
  readonly refusal: Refusal;
  readonly resume: (progress: Progress) => Promise<Package>;

  constructor(refusal: Refusal, resume: (progress: Progress) => Promise<Package>) {
    super(refusal.message);
    this.refusal = refusal;
    this.resume = resume;
  }
}

const RESUMABLE = new Set(["ca_unavailable", "unreachable", "rate_limited", "enrolment-in-progress", "http-502", "http-503", "http-504"]);

/** First certificate, for a code. Throws Refusal, Resumable or PkiError. */
export async function enrol(
  service: EnrolmentService,
  code: string,
  email: string,
  progress: Progress,
): Promise<Package> {
  const session = await service.open(code, email);
  progress("keygen");
  const identity = { commonName: session.identity, email: session.email, challenge: session.nonce };
  const { pair, csr } = await newKey(session.key_algorithm, identity);
  return await signed(pair, identity, session, () => service.sign(session, csr), progress);
}

/** Next certificate, for the one that this browser presents; always with a new key. Throws Refusal or PkiError. */
export async function renew(service: EnrolmentService, policy: Policy, progress: Progress): Promise<Package> {
  const current = await service.renewal(policy);
  progress("keygen");
  const identity = { commonName: current.identity, email: current.email, challenge: current.nonce };
  const { pair, csr } = await newKey(current.key_algorithm ?? policy.key_algorithm, identity);
  return await signed(pair, identity, undefined, () => service.renew(policy, csr), progress);
}

async function newKey(algorithm: string, identity: RequestedIdentity): Promise<{ pair: KeyPair; csr: string }> {
  const pair = await generateKey(algorithm);
  return { pair, csr: pemEncode("CERTIFICATE REQUEST", await certificateRequest(pair, identity)) };
}

async function signed(
  pair: KeyPair,
  identity: RequestedIdentity,
  session: Session | undefined,
  submit: () => Promise<Issued>,
  progress: Progress,
): Promise<Package> {
  progress("sign");
  try {
    return await pack(pair, identity, session, await submit());
  } catch (error) {
    if (!(error instanceof Refusal) || !RESUMABLE.has(error.code)) throw error;
    throw new Resumable(error, (again) => signed(pair, identity, session, submit, again));
  }
}

/** Both variants at once, so that the key need not stay for the one that turns out to be needed. */
async function pack(
  pair: KeyPair,
  identity: RequestedIdentity,
  session: Session | undefined,
  issued: Issued,
): Promise<Package> {
  const certificate = pemDecode("CERTIFICATE", issued.certificate);
  if (!carriesKey(certificate, pair.subjectPublicKeyInfo)) throw new PkiError("The certificate is for another key.");
  const chain = issued.chain.map((pem) => pemDecode("CERTIFICATE", pem));
  const password = newPassword();
  const privateKey = await pair.exportPrivateKey();
  try {
    const contents = { privateKey, certificate, chain, name: identity.email };
    return {
      files: {
        modern: await packPkcs12(contents, password, "modern"),
        compatible: await packPkcs12(contents, password, "compatible"),
      },
      password,
      fileName: identity.email.replace(/[^A-Za-z0-9._-]+/g, "-"),
      email: identity.email,
      issued,
      clock: clockSkew(issued, Date.now()),
      session,
    };
  } finally {
    privateKey.fill(0);
  }
}

/** How wrong this device's clock must be for a certificate that has just been issued, if it must be. `now` in ms. */
export function clockSkew(issued: Pick<Issued, "not_before" | "not_after">, now: number): ClockSkew | undefined {
  const [begin, end] = [Date.parse(issued.not_before), Date.parse(issued.not_after)];
  if (now < begin) return { direction: "behind", minutes: Math.ceil((begin - now) / 60_000) };
  if (now > end) return { direction: "ahead", minutes: Math.ceil((now - end) / 60_000) };
  return undefined;
}
