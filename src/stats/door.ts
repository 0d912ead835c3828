// What the HTTP doors of operators have in common: who may ask, by which methods, and errors in JSON.

import { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import type { Context, Hono } from "hono";
import { isHostAllowed } from "../core/host_check.ts";
import { getLogger } from "../core/logger.ts";
import { jsonError } from "./answers.ts";
import { queryError, QueryFault } from "./query.ts";

/** What is asked before anything is answered. */
export interface DoorDeps {
  /** `stats_token`; empty for none. */
  token(): string;
  /** The host this door listens on; empty for every interface. */
  listenHost: string;
  /** `allowed_hosts` and the hosts of `web_origins`, without ports. */
  allowedHosts(): readonly string[];
}

const log = getLogger("stats");

/** Answers nobody who names a foreign host, and without the token nobody outside of `openPaths`. */
export function guard(app: Hono, deps: DoorDeps, openPaths: readonly string[] = []): void {
  app.use(async (c, next) => {
    const isOpen = openPaths.includes(c.req.path);
    const refusal = refuseHost(c, deps) ?? (isOpen ? null : refuseToken(c, deps));
    if (refusal !== null) return refusal;
    await next();
  });
}

/** The answers to an unknown path, a wrong parameter, and an error that nobody caught. */
export function answerFaults(app: Hono): void {
  app.notFound((c) =>
    jsonError(404, "not-found", `there is no ${c.req.path} here; GET / lists all`)
  );
  app.onError((error, c) => {
    if (error instanceof QueryFault) return queryError(error);
    // The path alone: a query string can hold anything.
    log.error("a request for statistics failed", { path: c.req.path, error });
    return jsonError(500, "internal-error", "the answer could not be made; the log says why");
  });
}

/** Routes GET, and with it HEAD; OPTIONS lists the methods; any other method is refused. */
export function answerGet(
  app: Hono,
  path: string,
  handler: (c: Context) => Response | Promise<Response>,
): void {
  const allow = "GET, HEAD, OPTIONS";
  app.get(path, async (c) => {
    const response = await handler(c);
    if (!response.headers.has("Cache-Control")) response.headers.set("Cache-Control", "no-store");
    response.headers.set("X-Content-Type-Options", "nosniff");
    if (c.req.method === "HEAD" && response.body !== null) {
      const { byteLength } = await response.arrayBuffer();
      response.headers.set("Content-Length", `${byteLength}`);
      return new Response(null, response);
    }
    return response;
  });
  app.options(path, () => new Response(null, { status: 204, headers: { Allow: allow } }));
  app.all(path, (c) => {
    const text = `${c.req.method} is not possible on ${path}; use GET`;
    return jsonError(405, "method-not-allowed", text, { Allow: allow });
  });
}

function refuseHost(c: Context, deps: DoorDeps): Response | null {
  // An absolute request target (GET http://host/path) names a host, too.
  for (const host of [c.req.header("host") ?? "", new URL(c.req.url).host]) {
    if (isHostAllowed(host, deps.listenHost, deps.allowedHosts())) continue;
    const text = `this door does not answer to the host ${JSON.stringify(host)}; ` +
      "add it to allowed_hosts in the configuration if it should";
    return jsonError(403, "not-permitted", text);
  }
  return null;
}

function refuseToken(c: Context, deps: DoorDeps): Response | null {
  const token = deps.token();
  if (token === "") return null;
  const header = c.req.header("authorization");
  const headers = { "WWW-Authenticate": 'Basic realm="pushd", charset="UTF-8"' };
  if (header === undefined) {
    const text = "send stats_token as Authorization: Bearer, or as the password of Basic";
    return jsonError(401, "need-auth", text, headers);
  }
  if (isSameSecret(presentedToken(header), Buffer.from(token))) return null;
  return jsonError(401, "auth-failed", "this is not the stats_token", headers);
}

/** The bytes of the token in an `Authorization` header; none where it holds none. */
function presentedToken(header: string): Buffer {
  const [, scheme, credentials] = /^(\S+) +(\S.*)$/.exec(header) ?? [];
  // Header values come as Latin-1, one character a byte.
  if (scheme?.toLowerCase() === "bearer") return Buffer.from(credentials.trimEnd(), "latin1");
  if (scheme?.toLowerCase() !== "basic") return Buffer.alloc(0);
  const userAndPassword = Buffer.from(credentials, "base64");
  return userAndPassword.subarray(userAndPassword.indexOf(":") + 1);
}

/** Compares digests, so that neither the time taken nor the length gives anything away. */
function isSameSecret(a: Uint8Array, b: Uint8Array): boolean {
  const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
  return timingSafeEqual(digest(a), digest(b));
}
