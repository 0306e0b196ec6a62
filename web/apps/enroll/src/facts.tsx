import type { ReactNode } from "react";

import type { Policy } from "./api.ts";
import { facts } from "./messages.ts";

/** What kind of certificate it will be, as the server's policy has it. */
export function Facts({ policy }: { readonly policy: Policy | undefined }): ReactNode {
  return (
    <dl className="facts" aria-label={facts.label}>
      <div>
        <dt>{facts.algorithm}</dt>
        <dd>{policy ? facts.algorithmValue(policy.key_algorithm) : facts.unknown}</dd>
      </div>
      <div>
        <dt>{facts.validity}</dt>
        <dd>{policy ? facts.validityValue(policy.validity_days) : facts.unknown}</dd>
      </div>
      <div className="long">
        <dt>{facts.custody}</dt>
        <dd>
          {facts.custodyValue}
          <span className="small">{facts.custodyNote}</span>
        </dd>
      </div>
    </dl>
  );
}
