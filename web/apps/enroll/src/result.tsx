import { Copy, Notice, Tabs } from "@intaglio/ui";
import type { Variant } from "@intaglio/pki";
import { type ReactNode, useEffect, useRef, useState } from "react";

import type { EnrolmentService, Policy } from "./api.ts";
import { NumberedSteps } from "./ca-trust.tsx";
import { CertificateTest } from "./certificate-test.tsx";
import type { Downloads } from "./downloads.ts";
import type { Package } from "./enrolment.ts";
import * as messages from "./messages.ts";
import type { Platform, System } from "./platform.ts";

interface Properties {
  readonly packed: Package;
  readonly downloads: Downloads;
  readonly service: EnrolmentService;
  readonly policy: Policy | undefined;
  readonly platform: Platform;
  readonly startOver: () => void;
}

/** Step 4: the file, its password, and what to do with both. */
export function Result({ packed, downloads, service, policy, platform, startOver }: Properties): ReactNode {
  const [variant, choose] = useState<Variant>(platform.variant);
  const file = `${packed.fileName}.p12`;
  const link = useRef<HTMLAnchorElement>(null);
  const top = useRef<HTMLDivElement>(null);
  const url = downloads[variant];

  useEffect(() => {
    top.current?.focus();
  }, []);
  useEffect(() => {
    link.current?.click(); // at first, and again when the other form is chosen
  }, [url]);
  const { session } = packed;
  useEffect(() => {
    if (session !== undefined) service.downloaded(session).catch(() => undefined); // only for the server's records
  }, [service, session]);

  const other: Variant = variant === "modern" ? "compatible" : "modern";
  return (
    <div className="stack result" ref={top} tabIndex={-1} aria-labelledby="registration-title" role="group">
      {packed.clock && (
        <Notice tone="warn" title={messages.clock.title} urgent>
          <p>{messages.clock.text(packed.clock)}</p>
          <p>{messages.clock.remedy}</p>
        </Notice>
      )}
      <div className="columns">
        <div className="stack">
          <p>
            {messages.result.downloaded(file)} {messages.result.notDownloaded}{" "}
            <a href={url} download={file} ref={link}>
              {messages.result.link}
            </a>
            .
          </p>
          <Password text={packed.password} />
          <OtherForm variant={variant} other={other} choose={choose} />
        </div>
        <div className="stack">
          <Summary packed={packed} />
          <Notice tone="warn" title={messages.result.secretTitle}>
            <p>{messages.result.secret}</p>
          </Notice>
        </div>
      </div>
      <Installation fileName={packed.fileName} profile={downloads.profile} platform={platform} />
      {policy !== undefined && <CertificateTest service={service} policy={policy} />}
      <div>
        <button type="button" className="button quiet" onClick={startOver}>
          {messages.result.again}
        </button>
      </div>
    </div>
  );
}

function Password({ text }: { readonly text: string }): ReactNode {
  return (
    <div className="password">
      <h3 id="password-title">{messages.result.password}</h3>
      <p className="secret" aria-labelledby="password-title">
        <code>{text}</code>
      </p>
      <div className="buttons">
        <Copy
          text={text}
          label={messages.result.copy}
          done={messages.result.copied}
          failed={messages.result.copyFailed}
        />
      </div>
      <p className="small">{messages.result.passwordNote}</p>
    </div>
  );
}

interface OtherFormProperties {
  readonly variant: Variant;
  readonly other: Variant;
  readonly choose: (variant: Variant) => void;
}

/** The same key and certificate in the other form of the file. */
function OtherForm({ variant, other, choose }: OtherFormProperties): ReactNode {
  const { name, explanation } = messages.variants[variant];
  return (
    <div className="other-form">
      <p className="small" role="status">
        {messages.variants.chosen(name, explanation)}
      </p>
      <h3>{messages.variants.wrongPassword}</h3>
      <p className="small">{messages.variants.hint}</p>
      <button
        type="button"
        className="button"
        onClick={() => {
          choose(other);
        }}
      >
        {messages.variants.other(messages.variants[other].name)}
      </button>
    </div>
  );
}

function Summary({ packed: { issued, email } }: { readonly packed: Package }): ReactNode {
  const rows = [
    [messages.result.identity, issued.identity],
    [messages.result.email, email],
    [messages.result.serial, issued.serial],
    [messages.result.until, messages.date(issued.not_after)],
  ] as const;
  return (
    <dl className="rows">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

const ORDER: readonly (System | "firefox" | "managed")[] = [
  "macos", "windows", "ios", "android", "linux", "firefox", "managed",
]; // prettier-ignore

interface InstallationProperties {
  readonly fileName: string;
  readonly profile: string;
  readonly platform: Platform;
}

function Installation({ fileName, profile, platform }: InstallationProperties): ReactNode {
  const order = ORDER.toSorted((left, right) => Number(right === platform.system) - Number(left === platform.system));
  return (
    <div className="stack">
      <div>
        <h2>{messages.install.title}</h2>
        <p className="small">{messages.install.note}</p>
      </div>
      <Tabs
        label={messages.install.label}
        tabs={order.map((id) => {
          const { name, steps, commands = [], note } = messages.guides[id](`${fileName}.p12`);
          const apple = id === "ios" || id === "macos" || id === "managed";
          return {
            id,
            title: name,
            content: (
              <div className="stack">
                <NumberedSteps steps={steps} />
                {commands.map(({ label, command }) => (
                  <div key={label}>
                    <h3>{label}</h3>
                    <pre tabIndex={0}>
                      <code>{command}</code>
                    </pre>
                  </div>
                ))}
                {note !== undefined && <p className="small">{note}</p>}
                {apple && (
                  <p className="small">
                    <a href={profile} download={`${fileName}.mobileconfig`}>
                      {messages.install.profile}
                    </a>
                    . {messages.install.profileNote}
                  </p>
                )}
              </div>
            ),
          };
        })}
      />
    </div>
  );
}
