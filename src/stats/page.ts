// The page at `/` and what it loads: answers for a browser, for curl, and for the page's feed.

import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import { accepts } from "hono/accepts";
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

const HTML = "text/html";
const PLAIN = "text/plain";

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
  if (prefersHtml(c)) return await answerFile(c, "page.html", vary);
  return c.text(`${await statusText(live)}\n${index}`, 200, vary);
}

/** Whether HTML is named, and not as less than plain text or as not acceptable (`q=0`; RFC 9110, 12.4.2). */
function prefersHtml(c: Context): boolean {
  const named = accepts(c, {
    header: "Accept",
    supports: [HTML, PLAIN],
    default: PLAIN,
    match(asked) {
      const qualityOf = (name: string) =>
        asked.find(({ type }) => type.toLowerCase() === name)?.q ?? 0;
      const quality = qualityOf(HTML);
      return quality > 0 && quality >= qualityOf(PLAIN) ? HTML : PLAIN;
    },
  });
  return named === HTML;
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
  // A proxy that compresses makes an ETag weak, which is the same here (RFC 9110, 13.1.2).
  const known =
    c.req.header("if-none-match")?.split(",").map((etag) => etag.trim().replace(/^W\//, "")) ?? [];
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
