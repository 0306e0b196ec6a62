import { Tabs } from "@intaglio/ui";
import { Fragment, type ReactNode } from "react";

import type { Authority, EnrolmentService, Policy } from "./api.ts";
import { fingerprint, trust } from "./messages.ts";
import type { Platform } from "./platform.ts";

interface Properties {
  readonly service: EnrolmentService;
  readonly policy: Policy;
  readonly platform: Platform | undefined;
}

/** The certificate of the authority, and how each system is told to trust it. */
export function CaTrust({ service, policy, platform }: Properties): ReactNode {
  const guides = trust.guides.toSorted((left, right) => Number(right.id === platform?.system) - Number(left.id === platform?.system));
  return (
    <section className="band" aria-labelledby="ca-trust">
      <p className="eyebrow">{trust.optional}</p>
      <h2 id="ca-trust">{trust.title}</h2>
      <div className="columns">
        <div className="stack">
          <p>{trust.text(policy.ca.subject)}</p>
          <div className="buttons">
            <a className="button" href={service.caCertificate("ca.pem")} download>
              {trust.pem}
            </a>
            <a className="button" href={service.caCertificate("ca.cer")} download>
              {trust.der}
            </a>
            <a className="button" href={service.caCertificate("ca.mobileconfig")} download>
              {trust.profile}
            </a>
          </div>
          <Fingerprint title={trust.fingerprint} authority={policy.ca} />
          {policy.server_ca && policy.server_ca.sha256 !== policy.ca.sha256 && (
            <Fingerprint title={trust.server(policy.server_ca.subject)} authority={policy.server_ca} />
          )}
          <p className="small">{trust.compare}</p>
        </div>
        <Tabs
          key={platform?.system}
          label={trust.label}
          tabs={guides.map(({ id, name, steps }) => ({ id, title: name, content: <NumberedSteps steps={steps} /> }))}
        />
      </div>
    </section>
  );
}

function Fingerprint({ title, authority }: { readonly title: string; readonly authority: Authority }): ReactNode {
  return (
    <div>
      <h3>{title}</h3>
      <p className="fingerprint">
        <code>
          {fingerprintLines(authority.sha256).map((part, index) => (
            <Fragment key={index}>
              <span>{part}</span>
              <wbr />
            </Fragment>
          ))}
        </code>
      </p>
    </div>
  );
}

export function NumberedSteps({ steps }: { readonly steps: readonly string[] }): ReactNode {
  return (
    <ol className="numbered">
      {steps.map((step) => (
        <li key={step}>{step}</li>
      ))}
    </ol>
  );
}

/** Where a fingerprint may be broken: between groups of eight pairs. */
function fingerprintLines(sha256: string): string[] {
  return fingerprint(sha256).match(/(?:..:?){1,8}/g) ?? [];
}
