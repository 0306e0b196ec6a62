import { Field } from "@intaglio/ui";
import { type ReactNode, type SyntheticEvent, useRef, useState } from "react";

import { type Failure, FailureNotice } from "./failure.tsx";
import { details } from "./messages.ts";

export interface Details {
  readonly code: string;
  readonly email: string;
}

interface Properties {
  readonly values: Details;
  readonly change: (values: Details) => void;
  readonly submit: () => void;
  readonly renew: () => void;
  readonly busy: boolean;
  readonly failure: Failure | undefined;
}

/** Step 1. The browser must not offer the code again, so nothing here is named or remembered. */
export function DetailsForm({ values, change, submit, renew, busy, failure }: Properties): ReactNode {
  const [checked, check] = useState(false);
  const code = useRef<HTMLInputElement>(null);
  const email = useRef<HTMLInputElement>(null);
  const wrong = {
    code: values.code.trim() === "" ? details.codeMissing : undefined,
    email: /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(values.email.trim()) ? undefined : details.emailWrong,
  };

  const send = (event: SyntheticEvent): void => {
    event.preventDefault();
    if (busy) return;
    check(true);
    if (wrong.code !== undefined) code.current?.focus();
    else if (wrong.email !== undefined) email.current?.focus();
    else submit();
  };

  return (
    <form className="stack" noValidate onSubmit={send} autoComplete="off">
      {failure !== undefined && <FailureNotice failure={failure} />}
      <Field
        label={details.code}
        hint={details.codeHint}
        wrong={checked ? wrong.code : undefined}
        input={code}
        className="code"
        value={values.code}
        onChange={(event) => {
          change({ ...values, code: event.target.value });
        }}
        autoComplete="off"
        autoCapitalize="none"
        spellCheck={false}
        required
        maxLength={200}
      />
      <Field
        label={details.email}
        hint={details.emailHint}
        wrong={checked ? wrong.email : undefined}
        input={email}
        type="email"
        value={values.email}
        onChange={(event) => {
          change({ ...values, email: event.target.value });
        }}
        autoComplete="email"
        autoCapitalize="none"
        spellCheck={false}
        required
        maxLength={254}
      />
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
