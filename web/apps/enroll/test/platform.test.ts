import { expect, test } from "vitest";

import { judge } from "../src/platform.ts";

const MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15";
const PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148";
const REDUCED_ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36";
const FIREFOX_ANDROID = "Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0";
const WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
const WINDOWS_7 = "Mozilla/5.0 (Windows NT 6.1; Win64; x64; rv:115.0) Gecko/20100101 Firefox/115.0";
const LINUX = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

test.each([
  ["a Mac", MAC, 0, undefined, "macos", "compatible"],
  ["an iPad that asks for desktop pages", MAC, 5, undefined, "ios", "compatible"],
  ["an iPhone", PHONE, 5, undefined, "ios", "compatible"],
  ["Android that tells nothing", REDUCED_ANDROID, 5, undefined, "android", "compatible"],
  ["Android 13", REDUCED_ANDROID, 5, "13.0.0", "android", "compatible"],
  ["Android 14", REDUCED_ANDROID, 5, "14.0.0", "android", "modern"],
  ["Firefox on Android 15", FIREFOX_ANDROID, 5, undefined, "android", "modern"],
  ["Windows 11", WINDOWS, 0, "15.0.0", "windows", "modern"],
  ["Windows 10 version 1709", WINDOWS, 0, "5.0.0", "windows", "modern"],
  ["Windows Server 2016", WINDOWS, 0, "3.0.0", "windows", "compatible"],
  ["Windows 10 that tells nothing", WINDOWS, 0, undefined, "windows", "modern"],
  ["Windows 7", WINDOWS_7, 0, undefined, "windows", "compatible"],
  ["Linux", LINUX, 0, "6.1.0", "linux", "modern"],
  ["something else", "unheard-of", 0, undefined, "linux", "modern"],
])("%s is offered what it can read", (_, userAgent, touchPoints, platformVersion, system, variant) => {
  expect(judge({ userAgent, touchPoints, platformVersion })).toEqual({ system, variant });
});
