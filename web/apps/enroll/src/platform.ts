/** Which system this browser runs on: decides what is offered first, never what is possible. */

import type { Variant } from "@intaglio/pki";

export type System = "macos" | "windows" | "ios" | "android" | "linux";

export interface Platform {
  readonly system: System;
  /** The file that this system's key store takes for certain. */
  readonly variant: Variant;
}

/** What browsers tell about themselves; `platformVersion` comes from the User-Agent Client Hints. */
export interface Clues {
  readonly userAgent: string;
  readonly touchPoints: number;
  readonly platformVersion?: string | undefined;
}

interface HighEntropyHints {
  getHighEntropyValues(names: string[]): Promise<{ platformVersion?: string }>;
}

/** Ask the browser. */
export async function detect(): Promise<Platform> {
  const hints = (navigator as Navigator & { userAgentData?: HighEntropyHints }).userAgentData;
  const values = await hints?.getHighEntropyValues(["platformVersion"]).catch(() => undefined);
  return judge({
    userAgent: navigator.userAgent,
    touchPoints: navigator.maxTouchPoints,
    platformVersion: values?.platformVersion,
  });
}

export function judge({ userAgent, touchPoints, platformVersion }: Clues): Platform {
  if (/iPhone|iPad|iPod/.test(userAgent)) return { system: "ios", variant: "compatible" };
  if (userAgent.includes("Macintosh")) {
    // An iPad asks for desktop pages by saying that it is a Mac; no Mac has a touch screen.
    return { system: touchPoints > 1 ? "ios" : "macos", variant: "compatible" };
  }
  if (userAgent.includes("Android")) {
    const version = major(platformVersion ?? /Android (\d+)/.exec(userAgent)?.[1]);
    const told = platformVersion !== undefined || !userAgent.includes("Android 10; K)"); // "10; K" says Chrome everywhere
    return { system: "android", variant: told && version >= 14 ? "modern" : "compatible" };
  }
  if (userAgent.includes("Windows")) return { system: "windows", variant: windowsVariant(userAgent, platformVersion) };
  return { system: "linux", variant: "modern" };
}

/** Windows 10 version 1709 tells 5, Server 2016 tells 3, Windows 8.1 and older tell 0 or NT 6. */
function windowsVariant(userAgent: string, platformVersion: string | undefined): Variant {
  if (platformVersion !== undefined) return major(platformVersion) >= 5 ? "modern" : "compatible";
  return userAgent.includes("Windows NT 10") ? "modern" : "compatible";
}

function major(version: string | undefined): number {
  return Number.parseInt(version ?? "0", 10) || 0;
}
