// The files of the page, which are part of the program: there is nothing to install or to find at run time.

import { createHash } from "node:crypto";

/** A file as it is served. */
export interface PageFile {
  readonly type: string;
  readonly text: string;
  /** A strong one: what it says has it. */
  readonly etag: string;
}

const HTML = "text/html; charset=utf-8";
const CSS = "text/css; charset=utf-8";
const JAVASCRIPT = "text/javascript; charset=utf-8";
const SVG = "image/svg+xml";

/** Each is loaded once, when somebody asks for it or by {@link loadPage}. */
const LOADERS: ReadonlyMap<string, { type: string; load: () => Promise<string> }> = new Map([
  ["page.html", {
    type: HTML,
    load: async () => (await import("./dashboard/page.html", { with: { type: "text" } })).default,
  }],
  ["page.css", {
    type: CSS,
    load: async () => (await import("./dashboard/page.css", { with: { type: "text" } })).default,
  }],
  ["icon.svg", {
    type: SVG,
    load: async () => (await import("./dashboard/icon.svg", { with: { type: "text" } })).default,
  }],
  ["page.js", {
    type: JAVASCRIPT,
    load: async () => (await import("./dashboard/page.js", { with: { type: "text" } })).default,
  }],
  ["feed.js", {
    type: JAVASCRIPT,
    load: async () => (await import("./dashboard/feed.js", { with: { type: "text" } })).default,
  }],
  ["format.js", {
    type: JAVASCRIPT,
    load: async () => (await import("./dashboard/format.js", { with: { type: "text" } })).default,
  }],
  ["plots.js", {
    type: JAVASCRIPT,
    load: async () => (await import("./dashboard/plots.js", { with: { type: "text" } })).default,
  }],
  ["tables.js", {
    type: JAVASCRIPT,
    load: async () => (await import("./dashboard/tables.js", { with: { type: "text" } })).default,
  }],
  ["uplot.js", { type: JAVASCRIPT, load: loadPlots }],
  ["uplot.css", {
    type: CSS,
    load: async () =>
      (await import("uplot/dist/uPlot.min.css", { with: { type: "text" } })).default,
  }],
]);

/** uPlot as npm has it, its licence before it. */
async function loadPlots(): Promise<string> {
  const [{ default: licence }, { default: code }] = await Promise.all([
    import("uplot/LICENSE", { with: { type: "text" } }),
    import("uplot/dist/uPlot.iife.min.js", { with: { type: "text" } }),
  ]);
  return `/*!\n${licence}*/\n${code}`;
}

const loaded = new Map<string, PageFile>();

/** The file of this name; null where there is none. */
export async function pageFile(name: string): Promise<PageFile | null> {
  const known = loaded.get(name);
  if (known !== undefined) return known;
  const loader = LOADERS.get(name);
  if (loader === undefined) return null;
  const text = await loader.load();
  const etag = `"${createHash("sha256").update(text).digest("base64url").slice(0, 27)}"`;
  const file = { type: loader.type, text, etag };
  loaded.set(name, file);
  return file;
}

/** Loads all of them, before anybody asks. */
export async function loadPage(): Promise<void> {
  await Promise.all(pageFileNames().map(pageFile));
}

/** The names there are. */
export function pageFileNames(): string[] {
  return [...LOADERS.keys()];
}
