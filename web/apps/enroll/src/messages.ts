/** Every text of the page, in English. A translation replaces this file. */

import type { Policy, Recognised } from "./api.ts";
import type { ClockSkew } from "./enrolment.ts";
import type { System } from "./platform.ts";

/** What went wrong, what it means, what to do. */
export interface Explanation {
  readonly title: string;
  readonly text: string;
  readonly remedy: string;
}

export const page = {
  title: "Get your certificate",
  headline: "Your certificate, made in this browser.",
  lede:
    "The private key is generated on this device, here in the page. What leaves it is a certificate signing request; " +
    "the certificate authority signs it, and you get a file that is ready to install.",
  skip: "Skip to the form",
  footer: "This page sets no cookies, stores nothing in the browser and loads nothing from other sites.",
};

export const facts = {
  label: "About the certificate",
  algorithm: "Algorithm",
  validity: "Validity",
  custody: "Key custody",
  custodyValue: "Your device",
  custodyNote: "In this page's memory until it is packed, then only in the encrypted file, until you delete that.",
  unknown: "…",
  algorithmValue: (name: string): string => name.replace(/^EC /, "ECDSA "),
  validityValue: (days: number): string => (days < 1 ? count(Math.round(days * 24), "hour") : count(days, "day")),
};

export const steps = {
  label: "Progress",
  titles: ["Details", "Key gen", "Sign", "Download"],
  spoken: { waiting: "not reached yet", current: "current step", done: "done", failed: "failed" },
} as const;

export const details = {
  title: "Certificate registration",
  code: "Security code",
  codeHint: "Provided by your system administrator.",
  codeMissing: "Enter the security code that your administrator gave you.",
  email: "E-mail address",
  emailHint: "The Subject Alternative Name of your certificate.",
  emailWrong: "Enter your e-mail address, such as name@example.org.",
  submit: "Create my certificate",
  checking: "Checking the code…",
  renewQuestion: "Already have a certificate in this browser?",
  renew: "Renew it without a code",
  loading: "Asking the server what it issues…",
};

export const working = {
  keygen: (algorithm: string): string => `Generating ${facts.algorithmValue(algorithm)} key pair…`,
  keygenNote: "This happens on your device. The private key is not sent anywhere.",
  sign: "Waiting for the certificate authority to sign…",
  signNote: "Only the signing request was sent: your public key, your identity and your e-mail address.",
};

export const result = {
  title: "Your certificate is ready",
  renewedTitle: "Your new certificate is ready",
  downloaded: (file: string): string => `${file} has been downloaded.`,
  notDownloaded: "Nothing there, or the browser blocked it?",
  link: "Download it here",
  password: "Password of the file",
  passwordNote: "Made in this page and shown only here. You need it once, when you install the file.",
  copy: "Copy password",
  copied: "Copied",
  copyFailed: "The browser did not allow it; select the password and copy it yourself.",
  identity: "Identity",
  email: "E-mail",
  serial: "Serial number",
  until: "Valid until",
  secretTitle: "Keep this file secret",
  secret:
    "Its private key is what proves that you are you. Keep it in a password manager or an encrypted vault, or delete it " +
    "once it is installed. Never share it, mail it, or commit it to source control.",
  again: "Start over with another code",
};

export const variants = {
  modern: { name: "modern", explanation: "AES-256 and SHA-256" },
  compatible: { name: "compatible", explanation: "Triple DES and SHA-1, for systems that cannot read the modern form" },
  chosen: (name: string, explanation: string): string => `This is the ${name} form of the file: ${explanation}.`,
  wrongPassword: "“Wrong password” although it is right?",
  hint: "Some systems say so when they cannot read the form of the file. The other form holds the same key and certificate, under the same password.",
  other: (name: string): string => `Download the ${name} form`,
} as const;

export const clock = {
  title: "The clock of this device is wrong",
  text: ({ direction, minutes }: ClockSkew): string =>
    direction === "behind"
      ? `It is at least ${duration(minutes)} behind, so your certificate looks as if it were not valid yet.`
      : `It is at least ${duration(minutes)} ahead, so your certificate looks as if it had expired.`,
  remedy: "Set date and time (best: automatically), then install the certificate.",
};

export const install = {
  title: "Install your certificate",
  note: "Your system comes first; the others are one tab away.",
  label: "Operating systems",
  profile: "Apple configuration profile (.mobileconfig)",
  profileNote: "The same key and certificate as a profile, for iPhone, iPad and Mac. Its password is the one above.",
};

export interface Guide {
  readonly name: string;
  readonly steps: readonly string[];
  /** Commands, and what each is for. */
  readonly commands?: readonly { readonly label: string; readonly command: string }[];
  readonly note?: string;
}

export const guides: Readonly<Record<System | "firefox" | "managed", (file: string) => Guide>> = {
  macos: (file) => ({
    name: "macOS",
    steps: [
      `Double-click ${file}. Keychain Access opens; choose the keychain “login”.`,
      "Enter the password above when you are asked for it.",
      "Restart your browser. It offers your certificate from now on.",
    ],
  }),
  windows: (file) => ({
    name: "Windows",
    steps: [
      `Double-click ${file}. The Certificate Import Wizard opens.`,
      "Select Current User and click Next, then Next again.",
      "Enter the password above and click Next.",
      "Place the certificate in the store Personal and click Finish.",
      "Restart your browser. It offers your certificate from now on.",
    ],
  }),
  ios: (file) => ({
    name: "iPhone / iPad",
    steps: [
      "Open this page on the iPhone or iPad itself, enrol there, and tap the download link above.",
      `Tap ${file} (in Files, folder Downloads). iOS says that a profile was downloaded.`,
      "Open Settings > General > VPN & Device Management and tap the downloaded profile.",
      "Tap Install and enter the passcode of the device.",
      "Enter the password above when you are asked for the certificate's password.",
      "Safari presents the certificate from now on.",
    ],
    note: "Safari may ask once which certificate to use; choose the one with your e-mail address.",
  }),
  android: (file) => ({
    name: "Android",
    steps: [
      "Tap the download link above to save the file on the device.",
      "Open Settings > Security > Encryption & credentials > Install a certificate.",
      "Select VPN & app certificate (User certificate on some devices).",
      `Find and choose ${file}.`,
      "Enter the password above.",
      "Give the certificate a name and tap OK.",
      "Chrome presents the certificate from now on.",
    ],
    note: "On some devices the menu is Settings > Security & privacy > More security settings.",
  }),
  linux: (file) => ({
    name: "Linux",
    steps: [
      "Close Chromium or Chrome, then import the file into the key store that they share (package libnss3-tools).",
      "Enter the password above when you are asked for it.",
      "Start the browser again. It offers your certificate from now on.",
    ],
    commands: [
      { label: "Chromium, Chrome", command: `pk12util -d sql:$HOME/.pki/nssdb -i ${file}` },
      { label: "curl", command: `curl --cert-type P12 --cert ${file} https://…` },
    ],
    note: "curl asks for the password when it is not given. Firefox has a store of its own: see its tab.",
  }),
  firefox: (file) => ({
    name: "Firefox",
    steps: [
      "Open Settings > Privacy & Security > Certificates > View Certificates.",
      `On the tab Your Certificates choose Import… and select ${file}.`,
      "Enter the password above.",
    ],
    note: "Firefox has its own certificate store on every system, beside that of the system.",
  }),
  managed: () => ({
    name: "Managed devices",
    steps: [
      "Devices that your organization manages get certificates without this page, with keys that cannot be exported.",
      "Apple devices: a configuration profile (.mobileconfig) with a SCEP or ACME payload, or the profile below.",
      "Windows in a domain: autoenrollment. ChromeOS: SCEP through the admin console.",
      "Ask your administrator whether your device is one of them.",
    ],
  }),
};

export const check = {
  title: "Test your certificate",
  text: "Once it is installed, see whether the server recognises you.",
  button: "Test my certificate",
  testing: "Asking the server who you are…",
  recognised: "The server recognises you",
  open: "Open the test in a tab",
  openNote: "A browser asks which certificate to present only when a page is opened, and not on every system.",
  rows: (seen: Recognised): [string, string][] =>
    (
      [
        ["Identity", seen.identity],
        ["E-mail", seen.email],
        ["Serial number", seen.serial],
        ["Issuer", seen.issuer],
        ["Valid until", seen.not_after && date(seen.not_after)],
      ] as [string, string | null | undefined][]
    ).filter((row): row is [string, string] => Boolean(row[1])),
};

export const trust = {
  title: "Trust the certificate authority",
  optional: "Optional",
  text: (subject: string): string =>
    `Certificates made here chain to “${subject}”. Install the certificate of that authority once, and programs verify yours, and those of the services behind it, without a warning.`,
  pem: "CA certificate (.pem)",
  der: "CA certificate (.cer)",
  profile: "Apple profile (.mobileconfig)",
  fingerprint: "SHA-256 fingerprint",
  server: (subject: string): string => `SHA-256 fingerprint of “${subject}”, which vouches for this server`,
  compare: "Compare it with the one in your administrator's message before you trust it.",
  label: "Trusting the authority, by system",
  guides: [
    {
      id: "macos",
      name: "macOS",
      steps: [
        "Double-click the downloaded .pem. Keychain Access opens.",
        "Double-click the certificate in the list and expand Trust.",
        "Set “When using this certificate” to Always Trust.",
      ],
    },
    {
      id: "windows",
      name: "Windows",
      steps: [
        "Double-click the downloaded .cer and click Install Certificate.",
        "Select Current User, then “Place all certificates in the following store”.",
        "Choose Trusted Root Certification Authorities and finish.",
      ],
    },
    {
      id: "ios",
      name: "iPhone / iPad",
      steps: [
        "Tap the .mobileconfig, then install it in Settings > General > VPN & Device Management.",
        "Open Settings > General > About > Certificate Trust Settings.",
        "Switch on full trust for this authority.",
      ],
    },
    {
      id: "android",
      name: "Android",
      steps: [
        "Download the .cer.",
        "Open Settings > Security > Encryption & credentials > Install a certificate > CA certificate.",
        "Confirm the warning and choose the file.",
      ],
    },
    {
      id: "linux",
      name: "Linux",
      steps: [
        "Save the .pem as /usr/local/share/ca-certificates/enrolment-ca.crt and run update-ca-certificates as root.",
        "Chromium: certutil -d sql:$HOME/.pki/nssdb -A -n enrolment-ca -t C,, -i ca.pem",
        "Firefox: Settings > Privacy & Security > Certificates > View Certificates > Authorities > Import.",
      ],
    },
  ],
};

export const how = {
  eyebrow: "Under the hood",
  title: "How your certificate is created",
  browser: "Browser",
  server: "Server",
  stages: (policy: Policy | undefined) =>
    [
      {
        title: "Key pair generation",
        text: `The Web Cryptography API of your browser generates an ${facts.algorithmValue(policy?.key_algorithm ?? "EC P-256")} key pair. The private key stays in this page's memory.`,
        place: "browser",
      },
      {
        title: "Certificate signing request",
        text: "The browser builds a PKCS#10 request: your public key, an identity that the server derived from your security code, and your e-mail address. Nothing else is sent, above all no private key.",
        place: "browser",
      },
      {
        title: "Signature of the private CA",
        text: `The server checks code, request and proof of possession, and has the certificate authority sign a client certificate${policy ? `, valid for ${facts.validityValue(policy.validity_days)}` : ""}. A record of it is kept encrypted.`,
        place: "server",
      },
      {
        title: "PKCS#12 packaging and download",
        text: "The browser packs certificate, chain and private key into a .p12 file, encrypted under a random password that it never sends. Your system's key store takes it from there.",
        place: "browser",
      },
    ] as const,
};

export const lost = {
  eyebrow: "In case of need",
  title: "Lost a device?",
  text: "Ask your administrator for a fresh security code and enter it here with your e-mail address. All your certificates end at once: whoever has the device, or a copy of the file, gets nowhere with it. The code stays good for a new certificate afterwards.",
  button: "Revoke all my certificates",
  revoking: "Revoking…",
  done: "Your certificates are revoked",
  revoked: (number: number): string =>
    number === 0 ? "There was none that was still valid." : `${count(number, "certificate")} ended just now.`,
};

export const failures = {
  retry: "Try again",
  back: "Back to the form",
  reload: "Load the page again",
  code: "Code",
};

export const insecure: Explanation = {
  title: "This page needs a secure connection",
  text: "Keys can only be made on pages that were loaded over HTTPS; your browser keeps its Web Cryptography away from this one.",
  remedy: "Open the same address with https:// in front. If it already is, your browser is too old: update it.",
};

const EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  code_invalid: {
    title: "This code is not known",
    text: "The security code is wrong, or it was never issued.",
    remedy: "Compare it with the message from your administrator; after a few wrong tries a code is locked.",
  },
  code_expired: {
    title: "This code has expired",
    text: "Security codes work for a limited time only.",
    remedy: "Ask your administrator for a new one.",
  },
  code_used: {
    title: "This code has been used",
    text: "A certificate has already been issued for it; every code works once.",
    remedy: "If that was not you, tell your administrator at once. Otherwise ask for a new code.",
  },
  code_revoked: {
    title: "This code has been withdrawn",
    text: "Your administrator has revoked it.",
    remedy: "Ask your administrator for a new one.",
  },
  code_locked: {
    title: "This code is locked",
    text: "It was tried too often with something wrong in it.",
    remedy: "Ask your administrator for a new one.",
  },
  email_not_allowed: {
    title: "This e-mail address does not belong to the code",
    text: "A code is made out to certain addresses, and this is none of them.",
    remedy: "Enter the address at which you received the code, or ask your administrator.",
  },
  csr_malformed: csr("The server could not read the request that your browser built."),
  csr_signature: csr("The signature of the request did not verify."),
  csr_key_type: csr("The kind of key is not allowed any more; the policy may just have changed."),
  csr_mismatch: csr("The request does not agree with the session that it was sent in."),
  key_reused: csr("The key already belongs to another identity."),
  rate_limited: {
    title: "Too many tries",
    text: "The server takes only so many from one address in a while.",
    remedy: "Wait a little, then try again.",
  },
  ca_unavailable: {
    title: "The certificate authority cannot be reached",
    text: "Your code is not used up and your key is still here.",
    remedy: "Try again in a moment; you can continue where it stopped, as long as this page stays open.",
  },
  "session-unknown": {
    title: "That took too long",
    text: "An enrolment has to be finished within a few minutes, and this one is over.",
    remedy: "Start again; as long as no certificate was issued, the code is still good.",
  },
  "too-many-sessions": {
    title: "This code was tried too often",
    text: "Only so many enrolments may be begun with one code.",
    remedy: "Ask your administrator for a new one.",
  },
  "code-not-approved": {
    title: "This code is not approved yet",
    text: "A second person has to approve it before it can be used.",
    remedy: "Try again later, or ask your administrator.",
  },
  "enrolment-in-progress": {
    title: "The request is being worked on",
    text: "The server is still at the request that was sent before.",
    remedy: "Wait a moment, then try again.",
  },
  "domain-unset": {
    title: "The address of this page is incomplete",
    text: "This server issues certificates in several trust domains, and the address does not say in which.",
    remedy: "Use the address from your administrator's message; it ends with ?domain= and a name.",
  },
  "domain-not-active": {
    title: "Enrolment is closed here",
    text: "No certificates are issued in this trust domain at present.",
    remedy: "Ask your administrator.",
  },
  "domain-unknown": {
    title: "Enrolment is not set up",
    text: "This server has no trust domain of that name to issue certificates in.",
    remedy: "Check the address of this page, or ask your administrator.",
  },
  unreachable: {
    title: "The server does not answer",
    text: "There was no answer, or the connection broke.",
    remedy: "Check your network connection, then try again.",
  },
  "certificate-mismatch": {
    title: "The server returned something unexpected",
    text: "What came back is not a certificate for the key of this page, so it was thrown away.",
    remedy: "Start again, and tell your administrator if it happens once more.",
  },
  // Reason codes of the mTLS host.
  ip_denied: reason("Your network is not allowed", "This service accepts connections from certain networks only.", "Connect from one of them, or through the VPN."),
  no_certificate: reason(
    "No certificate was presented",
    "The browser did not present a certificate: it is not installed yet, the browser was not restarted, or you chose “cancel”.",
    "Install it as described, restart the browser, and test again.",
  ),
  self_signed: reason("This certificate is self-signed", "The browser presented one that no authority has signed.", "Choose the one that you got here; restart the browser to be asked again."),
  unknown_ca: reason("This certificate is from another authority", "The browser presented one that this service does not trust.", "Choose the one that you got here; restart the browser to be asked again."),
  wrong_environment: reason("This certificate is for another environment", "It was issued for another environment than that of this service.", "Enrol for the environment of this service."),
  expired: reason("Your certificate has expired", "Its validity is over.", "Enrol again with a new code."),
  not_yet_valid: reason("Your certificate is not valid yet", "Its validity begins later than now, by the server's clock.", "Wait a little and test again."),
  revoked: reason("Your certificate has been revoked", "It is not accepted any more.", "Ask your administrator why, and for a new code."),
  status_unavailable: reason("The status of your certificate is unknown just now", "The server could not find out whether it was revoked, and takes no risk.", "Test again in a moment."),
  bad_purpose: reason("This certificate is for another purpose", "It may not be used to sign in.", "Choose the one that you got here; restart the browser to be asked again."),
  policy_denied: reason("You are known here, but not allowed in", "The access policy does not let your identity in.", "Ask your administrator."),
  weak_key: reason("The key of this certificate is too weak", "This service asks for stronger keys.", "Enrol again."),
  bad_signature: reason("This certificate is damaged", "Its signature does not verify.", "Install the file again, or enrol again."),
};

/** Without an answer the browser tells nothing; these are the usual reasons when the mTLS host is meant. */
export const unreachableHost: Explanation = {
  title: "The connection did not come about",
  text: "The browser ended it before there was an answer: it does not trust the server's certificate, or the server refused yours in the handshake (expired, or from another authority).",
  remedy: "Open the test in a tab to see the browser's own message.",
};

/** A refusal in words; the server's own where the page has none. */
export function explain(code: string, detail: string, remedy: string): Explanation {
  return (
    EXPLANATIONS[code] ?? {
      title: "That did not work",
      text: detail || "The server refused without saying why.",
      remedy: remedy || "Try again; if it stays like this, tell your administrator.",
    }
  );
}

export function retryIn(seconds: number): string {
  return `The server asks to wait ${seconds < 90 ? `${seconds} seconds` : duration(Math.ceil(seconds / 60))}.`;
}

/** A time of the certificate, in the manner and time zone of the reader. */
export function date(rfc3339: string): string {
  return new Date(rfc3339).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Upper-case hexadecimal pairs, as other programs print fingerprints. */
export function fingerprint(sha256: string): string {
  const digits = sha256.replace(/[^0-9a-fA-F]/g, "").toUpperCase();
  return digits.match(/../g)?.join(":") ?? sha256;
}

function duration(minutes: number): string {
  if (minutes < 120) return count(minutes, "minute");
  if (minutes < 48 * 60) return count(Math.floor(minutes / 60), "hour");
  return count(Math.floor(minutes / 1440), "day");
}

function count(number: number, unit: string): string {
  return `${number} ${unit}${number === 1 ? "" : "s"}`;
}

function csr(text: string): Explanation {
  return { title: "The request was refused", text, remedy: "Start again: the page makes a new key and a new request." };
}

function reason(title: string, text: string, remedy: string): Explanation {
  return { title, text, remedy };
}
