import "@intaglio/ui/tokens.css";
import "@intaglio/ui/base.css";
import "./page.css";

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { EnrolmentService } from "./api.ts";
import { Page } from "./page.tsx";

const address = new URL(location.href);
if (address.searchParams.has("code")) {
  // A code in an address ends up in histories and logs: it is not read, and not left standing there.
  address.searchParams.delete("code");
  history.replaceState(null, "", address);
}

const service = new EnrolmentService(address.searchParams.get("domain"));
createRoot(document.getElementById("page")!).render(
  <StrictMode>
    <Page service={service} />
  </StrictMode>,
);
