import { Field } from "@intaglio/ui";
import { type ReactNode, type Ref } from "react";

import { details } from "./messages.ts";

export interface Details {
  readonly code: string;
  readonly email: string;
}

export const NO_DETAILS: Details = { code: "", email: "" };

/** What is wrong with each value; nothing when both can be sent. */
export function wrongIn({ code, email }: Details): { readonly [field in keyof Details]: string | undefined } {
  return {
    code: code.trim() === "" ? details.codeMissing : undefined,
    email: /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(email.trim()) ? undefined : details.emailWrong,
  };
}

export function isComplete(values: Details): boolean {
  const wrong = wrongIn(values);
  return wrong.code === undefined && wrong.email === undefined;
}

interface Properties {
  readonly values: Details;
  readonly change: (values: Details) => void;
  /** Whether what is wrong is shown. */
  readonly checked: boolean;
  readonly code?: Ref<HTMLInputElement>;
  readonly email?: Ref<HTMLInputElement>;
}

/** The two fields that prove somebody. The browser must not offer the code again, so nothing is named or remembered. */
export function CodeAndEmail({ values, change, checked, code, email }: Properties): ReactNode {
  const wrong = wrongIn(values);
  return (
    <>
      <Field
        label={details.code}
        hint={details.codeHint}
        wrong={checked ? wrong.code : undefined}
        {...(code && { input: code })}
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
        {...(email && { input: email })}
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
    </>
  );
}
