import { type ReactNode, useState } from "react";

interface Properties {
  readonly text: string;
  readonly label: string;
  readonly done: string;
  readonly failed: string;
}

/** A button that copies `text`, and says whether it could. */
export function Copy({ text, label, done, failed }: Properties): ReactNode {
  const [outcome, tell] = useState("");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      tell(done);
    } catch {
      tell(failed); // the browser or its administrator does not let pages write to the clipboard
    }
  };
  return (
    <>
      <button type="button" className="button" onClick={() => void copy()}>
        {label}
      </button>
      <span className="copy-outcome" role="status">
        {outcome}
      </span>
    </>
  );
}
