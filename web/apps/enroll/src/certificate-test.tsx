import { Notice } from "@intaglio/ui";
import { type ReactNode, useState } from "react";

import { type EnrolmentService, type Policy, type Recognised, Refusal } from "./api.ts";
import { type Failure, FailureNotice, failureOf } from "./failure.tsx";
import * as messages from "./messages.ts";

type Outcome =
  | { readonly name: "untested" }
  | { readonly name: "testing" }
  | { readonly name: "recognised"; readonly seen: Recognised }
  | { readonly name: "refused"; readonly failure: Failure };

interface Properties {
  readonly service: EnrolmentService;
  readonly policy: Policy;
}

/** Whether the mTLS host recognises what this browser presents. */
export function CertificateTest({ service, policy }: Properties): ReactNode {
  const [outcome, tell] = useState<Outcome>({ name: "untested" });
  const test = async (): Promise<void> => {
    tell({ name: "testing" });
    try {
      tell({ name: "recognised", seen: await service.recognise(policy) });
    } catch (error) {
      tell({ name: "refused", failure: hostFailure(error) });
    }
  };
  return (
    <section className="stack" aria-labelledby="certificate-test">
      <div>
        <h2 id="certificate-test">{messages.check.title}</h2>
        <p className="small">{messages.check.text}</p>
      </div>
      <div className="buttons">
        <button type="button" className="button primary" onClick={() => void test()} aria-disabled={outcome.name === "testing"}>
          {outcome.name === "testing" ? messages.check.testing : messages.check.button}
        </button>
        <a className="button quiet" href={policy.test_url} target="_blank" rel="noreferrer">
          {messages.check.open}
        </a>
      </div>
      <div role="status">
        {outcome.name === "recognised" && (
          <Notice tone="good" title={messages.check.recognised}>
            <dl className="rows">
              {messages.check.rows(outcome.seen).map(([name, value]) => (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{value}</dd>
                </div>
              ))}
            </dl>
          </Notice>
        )}
      </div>
      {outcome.name === "refused" && (
        <FailureNotice failure={outcome.failure}>
          <p className="small">{messages.check.openNote}</p>
        </FailureNotice>
      )}
    </section>
  );
}

function hostFailure(error: unknown): Failure {
  if (error instanceof Refusal && error.code === "unreachable") {
    return { code: error.code, explanation: messages.unreachableHost };
  }
  return failureOf(error);
}
