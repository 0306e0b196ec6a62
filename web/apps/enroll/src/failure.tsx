import { Notice } from "@intaglio/ui";
import { PkiError } from "@intaglio/pki";
import { type ReactNode, useEffect, useRef } from "react";

import { Refusal } from "./api.ts";
import * as messages from "./messages.ts";

/** What the page knows about something that went wrong. */
export interface Failure {
  readonly code: string;
  readonly explanation: messages.Explanation;
  readonly retryAfter?: number | undefined;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof Refusal) {
    const { code, detail, remedy, retryAfter } = error;
    return { code, explanation: messages.explain(code, detail, remedy), retryAfter };
  }
  const code = error instanceof PkiError ? "certificate-mismatch" : "unexpected";
  return { code, explanation: messages.explain(code, error instanceof Error ? error.message : "", "") };
}

interface Properties {
  readonly failure: Failure;
  readonly children?: ReactNode;
}

/** Says what went wrong and takes the focus, so that nobody misses it. */
export function FailureNotice({ failure, children }: Properties): ReactNode {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    box.current?.focus();
  }, [failure]);
  const { title, text, remedy } = failure.explanation;
  return (
    <Notice tone="bad" title={title} urgent target={box}>
      <p>{text}</p>
      <p>
        {remedy} {failure.retryAfter !== undefined && messages.retryIn(failure.retryAfter)}
      </p>
      <p className="small">
        {messages.failures.code}: <code>{failure.code}</code>
      </p>
      {children}
    </Notice>
  );
}
