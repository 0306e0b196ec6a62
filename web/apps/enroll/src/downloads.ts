/** Addresses of the packed files within this page; the files themselves never leave it but to the user's disk. */

import { appleProfile, type Variant } from "@intaglio/pki";

import type { Package } from "./enrolment.ts";

export type Downloads = Readonly<Record<Variant | "profile", string>>;

const PKCS12 = "application/x-pkcs12"; // the type that iOS offers to install
const PROFILE = "application/x-apple-aspen-config";

export function offer(packed: Package, organization: string): Downloads {
  const { modern, compatible } = packed.files;
  const fileName = `${packed.fileName}.p12`;
  const profile = appleProfile({ name: packed.email, organization, fileName, pkcs12: compatible });
  return { modern: address(modern, PKCS12), compatible: address(compatible, PKCS12), profile: address(profile, PROFILE) };
}

/** Let the browser forget the files. */
export function withdraw(downloads: Downloads): void {
  for (const url of Object.values(downloads)) URL.revokeObjectURL(url);
}

function address(content: Uint8Array<ArrayBuffer>, type: string): string {
  return URL.createObjectURL(new Blob([content], { type }));
}
