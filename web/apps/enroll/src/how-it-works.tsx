import type { ReactNode } from "react";

import type { Policy } from "./api.ts";
import { how } from "./messages.ts";

/** The four stages, and where each takes place. */
export function HowItWorks({ policy }: { readonly policy: Policy | undefined }): ReactNode {
  return (
    <section className="band" aria-labelledby="how-it-works">
      <p className="eyebrow">{how.eyebrow}</p>
      <h2 id="how-it-works">{how.title}</h2>
      <ol className="stages">
        {how.stages(policy).map(({ title, text, place }) => (
          <li key={title}>
            <span className={`place ${place}`}>{how[place]}</span>
            <h3>{title}</h3>
            <p>{text}</p>
          </li>
        ))}
      </ol>
    </section>
  );
}
