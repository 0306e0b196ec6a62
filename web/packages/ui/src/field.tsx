import { type InputHTMLAttributes, type ReactNode, type Ref, useId } from "react";

interface Properties extends InputHTMLAttributes<HTMLInputElement> {
  readonly label: string;
  readonly hint: string;
  /** What is wrong with the value, if anything. */
  readonly wrong?: string | undefined;
  readonly input?: Ref<HTMLInputElement>;
}

/** A labelled text field; hint and error are read out with it. */
export function Field({ label, hint, wrong, input, ...rest }: Properties): ReactNode {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        {...rest}
        id={id}
        ref={input}
        aria-invalid={wrong !== undefined}
        aria-describedby={wrong === undefined ? `${id}-hint` : `${id}-wrong ${id}-hint`}
      />
      {wrong !== undefined && (
        <p className="wrong" id={`${id}-wrong`}>
          {wrong}
        </p>
      )}
      <p className="hint" id={`${id}-hint`}>
        {hint}
      </p>
    </div>
  );
}
