import { type ReactNode, type Ref } from "react";

export type Tone = "info" | "good" | "warn" | "bad";

interface Properties {
  readonly tone: Tone;
  readonly title?: string;
  readonly children: ReactNode;
  /** Read out at once when it appears. */
  readonly urgent?: boolean;
  /** To move the focus here. */
  readonly target?: Ref<HTMLDivElement>;
}

/** Something that deserves attention, in a box whose colour only repeats what the words say. */
export function Notice({ tone, title, children, urgent = false, target }: Properties): ReactNode {
  return (
    <div className={`notice ${tone}`} role={urgent ? "alert" : undefined} ref={target} tabIndex={target ? -1 : undefined}>
      {title !== undefined && <h3>{title}</h3>}
      {children}
    </div>
  );
}
