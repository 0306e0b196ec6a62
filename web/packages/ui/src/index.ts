/** Components that all pages share. Import "@intaglio/ui/tokens.css" and "@intaglio/ui/base.css" once per page. */

export { Copy } from "./copy.tsx";
export { Field } from "./field.tsx";
export { Notice, type Tone } from "./notice.tsx";
export { type StepState, Steps } from "./steps.tsx";
export { type Tab, Tabs } from "./tabs.tsx";
