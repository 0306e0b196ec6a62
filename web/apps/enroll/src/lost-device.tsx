import { Notice } from "@intaglio/ui";
import { type ReactNode, useState } from "react";

import type { EnrolmentService } from "./api.ts";
import { CodeAndEmail, type Details, isComplete, NO_DETAILS } from "./code-and-email.tsx";
import { type Failure, FailureNotice, failureOf } from "./failure.tsx";
import { lost } from "./messages.ts";

type Outcome =
  | { readonly name: "open"; readonly checked: boolean; readonly failure?: Failure }
  | { readonly name: "busy" }
  | { readonly name: "revoked"; readonly count: number };

/** Whoever lost a device ends its certificates with a fresh code; the code stays good for a new certificate. */
export function LostDevice({ service }: { readonly service: EnrolmentService }): ReactNode {
  const [details, setDetails] = useState<Details>(NO_DETAILS);
  const [outcome, tell] = useState<Outcome>({ name: "open", checked: false });

  const revoke = async (): Promise<void> => {
    tell({ name: "busy" });
    try {
      const { revoked } = await service.revoke(details.code.trim(), details.email.trim());
      setDetails(NO_DETAILS);
      tell({ name: "revoked", count: revoked });
    } catch (error) {
      tell({ name: "open", checked: true, failure: failureOf(error) });
    }
  };

  return (
    <section className="band" aria-labelledby="lost-device">
      <p className="eyebrow">{lost.eyebrow}</p>
      <h2 id="lost-device">{lost.title}</h2>
      <div className="columns">
        <p>{lost.text}</p>
        <form
          className="stack"
          noValidate
          autoComplete="off"
          aria-labelledby="lost-device"
          onSubmit={(event) => {
            event.preventDefault();
            if (outcome.name === "busy") return;
            if (isComplete(details)) void revoke();
            else tell({ name: "open", checked: true });
          }}
        >
          {outcome.name === "open" && outcome.failure !== undefined && <FailureNotice failure={outcome.failure} />}
          <div role="status">
            {outcome.name === "revoked" && (
              <Notice tone="good" title={lost.done}>
                <p>{lost.revoked(outcome.count)}</p>
              </Notice>
            )}
          </div>
          <CodeAndEmail values={details} change={setDetails} checked={outcome.name === "open" && outcome.checked} />
          <button type="submit" className="button" aria-disabled={outcome.name === "busy"}>
            {outcome.name === "busy" ? lost.revoking : lost.button}
          </button>
        </form>
      </div>
    </section>
  );
}
