import { type ReactNode, type SyntheticEvent, useRef, useState } from "react";

import { CodeAndEmail, type Details, wrongIn } from "./code-and-email.tsx";
import { type Failure, FailureNotice } from "./failure.tsx";
import { details } from "./messages.ts";

interface Properties {
  readonly values: Details;
  readonly change: (values: Details) => void;
  readonly submit: () => void;
  readonly renew: () => void;
  readonly busy: boolean;
  readonly failure: Failure | undefined;
}

/** Step 1. */
export function DetailsForm({ values, change, submit, renew, busy, failure }: Properties): ReactNode {
  const [checked, check] = useState(false);
  const code = useRef<HTMLInputElement>(null);
  const email = useRef<HTMLInputElement>(null);

  const send = (event: SyntheticEvent): void => {
    event.preventDefault();
    if (busy) return;
    check(true);
    const wrong = wrongIn(values);
    if (wrong.code !== undefined) code.current?.focus();
    else if (wrong.email !== undefined) email.current?.focus();
    else submit();
  };

  return (
    <form className="stack" noValidate onSubmit={send} autoComplete="off" aria-labelledby="registration-title">
      {failure !== undefined && <FailureNotice failure={failure} />}
      <CodeAndEmail values={values} change={change} checked={checked} code={code} email={email} />
      <button type="submit" className="button primary wide" aria-disabled={busy}>
        {busy ? details.checking : details.submit}
      </button>
      <p className="renewal">
        {details.renewQuestion}{" "}
        <button type="button" className="button quiet" onClick={renew} disabled={busy}>
          {details.renew}
        </button>
      </p>
    </form>
  );
}
