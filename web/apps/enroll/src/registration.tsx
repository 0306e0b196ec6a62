import { type StepState, Steps } from "@intaglio/ui";
import { type ReactNode, useEffect, useRef, useState } from "react";

import type { EnrolmentService, Policy } from "./api.ts";
import { NO_DETAILS } from "./code-and-email.tsx";
import { DetailsForm } from "./details-form.tsx";
import { type Downloads, offer, withdraw } from "./downloads.ts";
import { enrol, type Package, type Progress, renew, Resumable, type Stage } from "./enrolment.ts";
import { type Failure, FailureNotice, failureOf } from "./failure.tsx";
import * as messages from "./messages.ts";
import type { Platform } from "./platform.ts";
import { Result } from "./result.tsx";

/** Where an enrolment stands. Nothing of it outlives the page. */
type Phase =
  | { readonly name: "details"; readonly busy: boolean; readonly failure?: Failure }
  | { readonly name: "working"; readonly stage: Stage }
  | { readonly name: "stopped"; readonly stage: Stage; readonly failure: Failure; readonly retry: (() => void) | undefined }
  | { readonly name: "done"; readonly packed: Package; readonly downloads: Downloads };

interface Properties {
  readonly service: EnrolmentService;
  readonly policy: Policy | undefined;
  readonly platform: Platform | undefined;
  /** Why nothing can be done here. */
  readonly unusable: Failure | undefined;
  readonly reload: (() => void) | undefined;
  readonly finished: (is: boolean) => void;
}

const FORM: Phase = { name: "details", busy: false };

/** The card with the four steps. */
export function Registration({ service, policy, platform, unusable, reload, finished }: Properties): ReactNode {
  const [phase, go] = useState<Phase>(FORM);
  const [details, setDetails] = useState(NO_DETAILS);

  const run = async (work: (progress: Progress) => Promise<Package>): Promise<void> => {
    let stage: Stage | undefined;
    const progress = (next: Stage): void => {
      stage = next;
      go({ name: "working", stage: next });
    };
    try {
      const packed = await work(progress);
      setDetails(NO_DETAILS);
      go({ name: "done", packed, downloads: offer(packed, policy?.organization ?? "") });
      finished(true);
    } catch (error) {
      go(afterFailure(error, stage, run));
    }
  };
  const start = (work: (progress: Progress) => Promise<Package>): void => {
    go({ name: "details", busy: true });
    void run(work);
  };
  const startOver = (): void => {
    if (phase.name === "done") withdraw(phase.downloads);
    go(FORM);
    finished(false);
  };

  return (
    <section className="card" id="registration" aria-labelledby="registration-title" tabIndex={-1}>
      <h2 id="registration-title">{phase.name === "done" ? doneTitle(phase.packed) : messages.details.title}</h2>
      <Steps label={messages.steps.label} steps={stepStates(phase)} spoken={messages.steps.spoken} />
      <p className="visually-hidden" role="status">
        {phase.name === "working" ? workingText(phase.stage, policy) : ""}
      </p>
      {unusable !== undefined && phase.name === "details" && (
        <FailureNotice failure={unusable}>{reload && <Retry label={messages.failures.retry} act={reload} />}</FailureNotice>
      )}
      {unusable === undefined && phase.name === "details" && (
        <DetailsForm
          values={details}
          change={setDetails}
          submit={() => {
            start((progress) => enrol(service, details.code.trim(), details.email.trim(), progress));
          }}
          renew={() => {
            if (policy !== undefined) start((progress) => renew(service, policy, progress));
          }}
          busy={phase.busy}
          failure={phase.failure}
        />
      )}
      {phase.name === "working" && <Working stage={phase.stage} policy={policy} />}
      {phase.name === "stopped" && (
        <FailureNotice failure={phase.failure}>
          <div className="actions buttons">
            {phase.retry && <Retry label={messages.failures.retry} act={phase.retry} />}
            <button type="button" className="button" onClick={startOver}>
              {messages.failures.back}
            </button>
          </div>
        </FailureNotice>
      )}
      {phase.name === "done" && platform !== undefined && (
        <Result {...phase} service={service} policy={policy} platform={platform} startOver={startOver} />
      )}
    </section>
  );
}

/** What can be mended in the form leads back to it; what can be resumed is resumed with the same key and request. */
function afterFailure(
  error: unknown,
  stage: Stage | undefined,
  run: (work: (progress: Progress) => Promise<Package>) => Promise<void>,
): Phase {
  if (error instanceof Resumable) {
    const retry = (): void => void run(error.resume);
    return { name: "stopped", stage: stage ?? "sign", failure: failureOf(error.refusal), retry };
  }
  const failure = failureOf(error);
  if (stage === undefined) return { name: "details", busy: false, failure };
  return { name: "stopped", stage, failure, retry: undefined };
}

function stepStates(phase: Phase): { title: string; state: StepState }[] {
  const reached = { details: 0, keygen: 1, sign: 2, done: 3 }[
    phase.name === "working" || phase.name === "stopped" ? phase.stage : phase.name
  ];
  return messages.steps.titles.map((title, index) => {
    if (index < reached) return { title, state: "done" };
    if (index > reached) return { title, state: "waiting" };
    return { title, state: phase.name === "stopped" ? "failed" : "current" };
  });
}

function workingText(stage: Stage, policy: Policy | undefined): string {
  return stage === "keygen" ? messages.working.keygen(policy?.key_algorithm ?? "") : messages.working.sign;
}

function doneTitle(packed: Package): string {
  return packed.session === undefined ? messages.result.renewedTitle : messages.result.title;
}

function Working({ stage, policy }: { readonly stage: Stage; readonly policy: Policy | undefined }): ReactNode {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    box.current?.focus(); // the form that had it is gone
  }, []);
  return (
    <div className="working" ref={box} tabIndex={-1}>
      <div className="spinner" aria-hidden="true" />
      <div>
        <p>
          <strong>{workingText(stage, policy)}</strong>
        </p>
        <p className="small">{stage === "keygen" ? messages.working.keygenNote : messages.working.signNote}</p>
      </div>
    </div>
  );
}

function Retry({ label, act }: { readonly label: string; readonly act: () => void }): ReactNode {
  return (
    <div>
      <button type="button" className="button primary" onClick={act}>
        {label}
      </button>
    </div>
  );
}
