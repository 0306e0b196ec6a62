/** Apple configuration profiles with a PKCS#12 file: another way onto iPhone, iPad and Mac. */

import { base64, type Bytes, utf8 } from "./bytes.ts";

export interface AppleProfile {
  readonly name: string; // shown when it is installed
  readonly organization: string;
  readonly fileName: string;
  readonly pkcs12: Uint8Array; // the compatible variant
}

/**
 * A profile that installs the identity; the device asks for the password, which is not in it.
 *
 * Source: Apple, Device Management, "CertificatePKCS12" and "TopLevel".
 */
export function appleProfile(profile: AppleProfile): Bytes {
  const payload = dictionary({
    PayloadType: "com.apple.security.pkcs12",
    PayloadVersion: 1,
    PayloadIdentifier: `org.intaglio.identity.${crypto.randomUUID()}`,
    PayloadUUID: crypto.randomUUID(),
    PayloadDisplayName: profile.name,
    PayloadCertificateFileName: profile.fileName,
    PayloadContent: profile.pkcs12,
  });
  const whole = dictionary({
    PayloadType: "Configuration",
    PayloadVersion: 1,
    PayloadIdentifier: `org.intaglio.enrolment.${crypto.randomUUID()}`,
    PayloadUUID: crypto.randomUUID(),
    PayloadDisplayName: profile.name,
    PayloadOrganization: profile.organization,
    PayloadContent: [payload],
  });
  return utf8(
    `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
${whole}
</plist>
`,
  );
}

type PropertyValue = string | number | Uint8Array | string[];

function dictionary(values: Record<string, PropertyValue>): string {
  const lines = Object.entries(values).map(([name, value]) => `<key>${name}</key>${element(value)}`);
  return `<dict>\n${lines.join("\n")}\n</dict>`;
}

/** A list holds finished elements. */
function element(value: PropertyValue): string {
  if (typeof value === "number") return `<integer>${value}</integer>`;
  if (value instanceof Uint8Array) return `<data>${base64(value)}</data>`;
  if (Array.isArray(value)) return `<array>\n${value.join("\n")}\n</array>`;
  return `<string>${escaped(value)}</string>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
