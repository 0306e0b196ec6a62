import { type KeyboardEvent, type ReactNode, useId, useRef, useState } from "react";

export interface Tab {
  readonly id: string;
  readonly title: string;
  readonly content: ReactNode;
}

interface Properties {
  readonly label: string;
  readonly tabs: readonly Tab[];
}

const KEYS: Readonly<Record<string, (current: number, count: number) => number>> = {
  ArrowRight: (current, count) => (current + 1) % count,
  ArrowLeft: (current, count) => (current + count - 1) % count,
  Home: () => 0,
  End: (_, count) => count - 1,
};

/** Tabs that the arrow keys walk through (WAI-ARIA authoring practices, "Tabs"). The first is open to begin with. */
export function Tabs({ label, tabs }: Properties): ReactNode {
  const base = useId();
  const [selected, select] = useState(tabs[0]?.id);
  const list = useRef<HTMLDivElement>(null);

  const walk = (event: KeyboardEvent): void => {
    const next = KEYS[event.key]?.(tabs.findIndex((tab) => tab.id === selected), tabs.length);
    if (next === undefined) return;
    event.preventDefault();
    select(tabs[next]?.id);
    list.current?.querySelectorAll<HTMLElement>('[role="tab"]')[next]?.focus();
  };

  return (
    <div className="tabs">
      <div role="tablist" aria-label={label} ref={list} onKeyDown={walk}>
        {tabs.map(({ id, title }) => (
          <button
            key={id}
            type="button"
            role="tab"
            id={`${base}-${id}`}
            aria-selected={id === selected}
            aria-controls={`${base}-${id}-panel`}
            tabIndex={id === selected ? 0 : -1}
            onClick={() => {
              select(id);
            }}
          >
            {title}
          </button>
        ))}
      </div>
      {tabs.map(({ id, content }) => (
        <div
          key={id}
          role="tabpanel"
          id={`${base}-${id}-panel`}
          aria-labelledby={`${base}-${id}`}
          hidden={id !== selected}
          tabIndex={0}
        >
          {content}
        </div>
      ))}
    </div>
  );
}
