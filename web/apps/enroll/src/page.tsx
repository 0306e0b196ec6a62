import { isSupported } from "@intaglio/pki";
import { type ReactNode, useCallback, useEffect, useState } from "react";

import type { EnrolmentService, Policy } from "./api.ts";
import { CaTrust } from "./ca-trust.tsx";
import { type Failure, failureOf } from "./failure.tsx";
import { Facts } from "./facts.tsx";
import { HowItWorks } from "./how-it-works.tsx";
import { LostDevice } from "./lost-device.tsx";
import * as messages from "./messages.ts";
import { detect, type Platform } from "./platform.ts";
import { Registration } from "./registration.tsx";

const SUPPORTED = isSupported();
const UNSUPPORTED: Failure = { code: "insecure-origin", explanation: messages.insecure };

interface Properties {
  readonly service: EnrolmentService;
}

/** The whole page: what it is about, the registration, and what one may want to know besides. */
export function Page({ service }: Properties): ReactNode {
  const [policy, setPolicy] = useState<Policy>();
  const [platform, setPlatform] = useState<Platform>();
  const [failure, setFailure] = useState(SUPPORTED ? undefined : UNSUPPORTED);
  const [finished, finish] = useState(false);

  const load = useCallback(() => {
    if (!SUPPORTED) return;
    service.policy().then(
      (known) => {
        setFailure(undefined);
        setPolicy(known);
      },
      (error: unknown) => {
        setFailure(failureOf(error));
      },
    );
  }, [service]);

  useEffect(load, [load]);
  useEffect(() => {
    void detect().then(setPlatform);
  }, []);

  return (
    <>
      <a className="skip" href="#registration">
        {messages.page.skip}
      </a>
      <header className="top">
        <img src={`${import.meta.env.BASE_URL}seal.svg`} alt="" width="32" height="32" />
        <span>{policy?.title ?? policy?.organization ?? messages.page.title}</span>
      </header>
      <main>
        <div className={finished ? "hero finished" : "hero"}>
          <div className={finished ? "visually-hidden" : "intro"}>
            <h1>{messages.page.headline}</h1>
            <p className="lede">{messages.page.lede}</p>
            <Facts policy={policy} />
          </div>
          <Registration
            service={service}
            policy={policy}
            platform={platform}
            unusable={failure}
            reload={SUPPORTED ? load : undefined}
            finished={finish}
          />
        </div>
        <HowItWorks policy={policy} />
        {policy !== undefined && <CaTrust service={service} policy={policy} platform={platform} />}
        {policy !== undefined && <LostDevice service={service} />}
      </main>
      <footer>{messages.page.footer}</footer>
    </>
  );
}
