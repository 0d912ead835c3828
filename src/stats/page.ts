// The page at `/` and what it loads: answers for a browser, for curl, and for the page's feed.

import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import { jsonError } from "./answers.ts";
import type { LiveFeed } from "./live_feed.ts";
import { pageFile } from "./page_files.ts";
import { goesOn } from "./server.ts";
import { statusText } from "./status_text.ts";

/** Nothing from elsewhere, nothing inline, nothing around it. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** How long who finds no room should wait, s. */
const RETRY_AFTER_S = "5";

/**
 * The page where a browser asks, else the state of the server as text with `index` behind it; a browser
 * is who takes `text/html` by name.
 */
export async function answerFront(
  c: Context,
  live: LiveFeed | null,
  index: string,
): Promise<Response> {
  const vary = { Vary: "Accept" };
  if (live === null) return c.text(index, 200, vary);
  const accept = c.req.header("accept") ?? "";
  if (/\btext\/html\b/i.test(accept)) return await answerFile(c, "page.html", vary);
  return c.text(`${await statusText(live)}\n${index}`, 200, vary);
}

/** A file of the page; null where there is none of this name. */
export async function answerPageFile(c: Context): Promise<Response> {
  return await answerFile(c, c.req.param("file") ?? "");
}

async function answerFile(
  c: Context,
  name: string,
  more: Record<string, string> = {},
): Promise<Response> {
  const file = await pageFile(name);
  if (file === null) return await c.notFound();
  const headers = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "ETag": file.etag,
    "Referrer-Policy": "no-referrer",
    ...more,
  };
  const known = c.req.header("if-none-match")?.split(",").map((etag) => etag.trim()) ?? [];
  if (known.includes(file.etag) || known.includes("*")) {
    return new Response(null, { status: 304, headers });
  }
  return new Response(file.text, { headers: { "Content-Type": file.type, ...headers } });
}

/** The feed, as Server-Sent Events. */
export function answerLive(c: Context<{ Bindings: Partial<HttpBindings> }>, live: LiveFeed) {
  const headers = {
    "Content-Type": "text/event-stream; charset=utf-8",
    // nginx would otherwise gather it.
    "X-Accel-Buffering": "no",
  };
  if (!live.hasRoom) return tooBusy();
  // The answer to HEAD has no body that anybody would read.
  if (c.req.method === "HEAD") return new Response(null, { headers });
  // None where a test asks the app itself.
  const outgoing = c.env?.outgoing;
  const body = live.open(outgoing === undefined ? undefined : () => outgoing.destroy());
  if (body === null) return tooBusy();
  if (outgoing !== undefined) goesOn(outgoing);
  return new Response(body, { headers });
}

function tooBusy(): Response {
  const text = "as many pages as may look at this server do so already; try again later";
  return jsonError(429, "too-busy", text, { "Retry-After": RETRY_AFTER_S });
}
