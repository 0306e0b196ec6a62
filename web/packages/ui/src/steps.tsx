import { type ReactNode } from "react";

export type StepState = "waiting" | "current" | "done" | "failed";

interface Properties {
  readonly label: string;
  readonly steps: readonly { readonly title: string; readonly state: StepState }[];
  /** How a state is said to somebody who does not see it. */
  readonly spoken: Readonly<Record<StepState, string>>;
}

/** Where one stands in a sequence of steps. */
export function Steps({ label, steps, spoken }: Properties): ReactNode {
  return (
    <ol className="steps" aria-label={label}>
      {steps.map(({ title, state }, index) => (
        <li key={title} data-state={state} aria-current={state === "current" ? "step" : undefined}>
          <span className="number" aria-hidden="true">
            {state === "done" ? "✓" : index + 1}
          </span>
          <span>
            {title}
            <span className="visually-hidden"> ({spoken[state]})</span>
          </span>
        </li>
      ))}
    </ol>
  );
}
