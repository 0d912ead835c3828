// Chromium, without a screen, and what a page in it has done wrong.

import { deepEqual } from "node:assert/strict";
import axe from "axe-core";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { findTool } from "./require.ts";

/** Starts it; only where `requireTool("chromium")` says that it is there. */
export async function startBrowser(): Promise<Browser> {
  return await chromium.launch({
    executablePath: findTool("chromium") ?? undefined,
    // Its sandbox does not work for root, and it is shown nothing but our own page.
    args: ["--no-sandbox"],
  });
}

/** A page at `url`, and a list of whatever it should not do: errors, requests to elsewhere, dialogs. */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<{ page: Page; faults: string[] }> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 2000 }, ...options });
  const faults: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`error: ${error}`));
  page.on("dialog", (dialog) => faults.push(`dialog: ${dialog.message()}`));
  page.on("request", (request) => {
    const other = new URL(request.url());
    if (other.protocol !== "data:" && other.origin !== new URL(url).origin) {
      faults.push(`request: ${request.url()}`);
    }
  });
  await page.goto(url);
  return { page, faults };
}

/** Fails where axe-core finds something serious in the page as it is. */
export async function checkAccess(page: Page, what: string): Promise<void> {
  // Not as an element of the page, whose policy would refuse it.
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: typeof import("axe-core") };
    const { violations } = await axe.run({ resultTypes: ["violations"] });
    return violations.map(({ id, impact, nodes }) => ({
      id,
      impact,
      where: nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`),
    }));
  });
  deepEqual(found.filter(({ impact }) => impact === "serious" || impact === "critical"), [], what);
}
