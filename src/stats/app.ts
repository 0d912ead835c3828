// The stats door's answers: what operators and their tools read about a running server.

import { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import { type Context, Hono } from "hono";
import { accepts } from "hono/accepts";
import { isHostAllowed } from "../core/host_check.ts";
import { getLogger } from "../core/logger.ts";
import { VERSION } from "../core/version.ts";
import { jsonAnswer, jsonError } from "./answers.ts";
import type { LiveFeed } from "./live_feed.ts";
import { type Latencies, type MetricNumbers, METRICS_TYPES, metricsText } from "./metrics.ts";
import { CONNECTION_ORDERS, LIST_BOUNDS, openapiDocument } from "./openapi.ts";
import { answerFront, answerLive, answerPageFile } from "./page.ts";
import { countOf, queryError, QueryFault, textOf, wordOf } from "./query.ts";
import type {
  ChannelsAnswer,
  ClosedAnswer,
  ConnectionsAnswer,
  NodesAnswer,
  ReadyAnswer,
  StatAnswer,
  SysAnswer,
  TraceAnswer,
} from "./shapes.ts";

/** What the server says about itself at one moment. */
export interface StatSnapshot {
  version: string;
  /** What was built: a commit, or "dev". */
  build: string;
  nodeId: string;
  uptimeS: number;
  stats: StatAnswer["stats"];
}

/** What the app asks while it answers. Every function is cheap, changes nothing, and sees the last reload. */
export interface StatsDeps {
  snapshot(): StatSnapshot;
  /** The numbers of `/metrics`. */
  metrics(): MetricNumbers;
  /** How long messages and commits have taken since the start; a part of {@link metrics}. */
  latency(): Latencies;
  /** The configuration as in the file, defaults filled in, secrets as `***`. */
  conf(): StatAnswer["conf"];
  readiness(): ReadyAnswer;
  /** The answer of `/s/nodes`. */
  nodes(): NodesAnswer;
  /** The answers of `/s/sys` and `/s/trace`. */
  sys(): SysAnswer;
  trace(): TraceAnswer;
  /** What lists of channels and connections are made of. */
  readonly lists: StatLists;
  /** `stats_token`; empty for none. */
  token(): string;
  /** The host this door listens on; empty for every interface. */
  listenHost: string;
  /** `allowed_hosts` and the hosts of `web_origins`, without ports. */
  allowedHosts(): readonly string[];
}

/** Lists that may be long: a few of many, picked over many turns where they are very many. */
export interface StatLists {
  channels(limit: number, prefix: string): Promise<ChannelsAnswer>;
  connections(
    limit: number,
    order: typeof CONNECTION_ORDERS[number],
  ): Promise<ConnectionsAnswer>;
  closed(limit: number): ClosedAnswer;
}

/** Paths that need no token: what load balancers ask, and nothing of it is worth hiding. */
const OPEN_PATHS = ["/healthz", "/readyz"];

const INDEX = `GET /          this text; in a browser a live page
GET /s/live    what the page is fed with: server-sent events
GET /s/ping    {"status":"ok"}
GET /s/stat    counters, version and configuration
GET /s/sys     memory, processor time, event loop, open files, versions
GET /s/trace   what the process is doing
GET /s/channels?limit=N&prefix=P       channels, those with the most subscribers first
GET /s/conns?limit=N&sort=pending|out|in   connections, those with the most first
GET /s/closed?limit=N                  the last connections that ended
GET /s/nodes   the nodes of the cluster, and how the links to them are
GET /metrics   counters for Prometheus, as its text or as OpenMetrics
GET /healthz   200 while the event loop turns
GET /readyz    200 while the server does its work, else 503
GET /openapi.json   all of this for programs
`;

const log = getLogger("stats");

/** Makes the app. It opens nothing; see `startStatsServer`. `live` feeds the page; null for none. */
export function createStatsApp(deps: StatsDeps, live: LiveFeed | null = null): Hono {
  const app = new Hono();

  app.use(async (c, next) => {
    const refusal = refuseHost(c, deps) ?? refuseToken(c, deps);
    if (refusal !== null) return refusal;
    await next();
  });

  answerGet(app, "/", (c) => answerFront(c, live, INDEX));
  answerGet(app, "/openapi.json", () => jsonAnswer(openapiDocument(VERSION)));
  answerGet(app, "/page/:file", answerPageFile);
  if (live !== null) answerGet(app, "/s/live", (c) => answerLive(c, live));
  answerGet(app, "/s/ping", () => jsonAnswer({ status: "ok" }));
  answerGet(app, "/healthz", () => jsonAnswer({ status: "ok" }));
  answerGet(app, "/readyz", () => {
    const { ready, failing } = deps.readiness();
    return ready ? jsonAnswer({ ready, failing }) : jsonAnswer({ ready, failing }, 503);
  });
  answerGet(app, "/s/stat", () => {
    const { version, build, nodeId, uptimeS, stats } = deps.snapshot();
    return jsonAnswer({
      ver: version,
      build,
      node: nodeId,
      uptime_s: uptimeS,
      stats,
      conf: deps.conf(),
    });
  });
  answerGet(app, "/s/sys", () => jsonAnswer(deps.sys()));
  answerGet(app, "/s/trace", () => jsonAnswer(deps.trace()));
  answerLists(app, deps.lists);
  answerGet(app, "/s/nodes", () => jsonAnswer(deps.nodes()));
  answerGet(app, "/metrics", (c) => answerMetrics(c, deps.metrics()));

  app.notFound((c) =>
    jsonError(404, "not-found", `there is no ${c.req.path} here; GET / lists all`)
  );
  app.onError((error, c) => {
    if (error instanceof QueryFault) return queryError(error);
    // The path alone: a query string can hold anything.
    log.error("a request for statistics failed", { path: c.req.path, error });
    return jsonError(500, "internal-error", "the answer could not be made; the log says why");
  });
  return app;
}

function answerLists(app: Hono, lists: StatLists): void {
  const { items, maxItems, maxClosedItems, maxPrefix } = LIST_BOUNDS;
  answerGet(app, "/s/channels", async (c) => {
    const limit = countOf(c, "limit", items, maxItems);
    return jsonAnswer(await lists.channels(limit, textOf(c, "prefix", maxPrefix)));
  });
  answerGet(app, "/s/conns", async (c) => {
    const limit = countOf(c, "limit", items, maxItems);
    const order = wordOf(c, "sort", "pending", CONNECTION_ORDERS);
    return jsonAnswer(await lists.connections(limit, order));
  });
  answerGet(app, "/s/closed", (c) => {
    return jsonAnswer(lists.closed(countOf(c, "limit", items, maxClosedItems)));
  });
}

/** Routes GET, and with it HEAD; OPTIONS lists the methods; any other method is refused. */
function answerGet(
  app: Hono,
  path: string,
  handler: (c: Context) => Response | Promise<Response>,
): void {
  const allow = "GET, HEAD, OPTIONS";
  app.get(path, async (c) => {
    const response = await handler(c);
    if (!response.headers.has("Cache-Control")) response.headers.set("Cache-Control", "no-store");
    response.headers.set("X-Content-Type-Options", "nosniff");
    return response;
  });
  app.options(path, () => new Response(null, { status: 204, headers: { Allow: allow } }));
  app.all(path, (c) => {
    const text = `${c.req.method} is not possible on ${path}; use GET`;
    return jsonError(405, "method-not-allowed", text, { Allow: allow });
  });
}

const PROMETHEUS_TEXT = "text/plain";
const OPEN_METRICS = "application/openmetrics-text";

async function answerMetrics(c: Context, numbers: MetricNumbers): Promise<Response> {
  const asked = accepts(c, {
    header: "Accept",
    supports: [OPEN_METRICS, PROMETHEUS_TEXT],
    default: PROMETHEUS_TEXT,
  });
  const format = asked === OPEN_METRICS ? "openMetrics" : "prometheus";
  const text = await metricsText(numbers, format);
  return new Response(text, { headers: { "Content-Type": METRICS_TYPES[format], Vary: "Accept" } });
}

function refuseHost(c: Context, deps: StatsDeps): Response | null {
  // An absolute request target (GET http://host/path) names a host, too.
  for (const host of [c.req.header("host") ?? "", new URL(c.req.url).host]) {
    if (isHostAllowed(host, deps.listenHost, deps.allowedHosts())) continue;
    const text = `this door does not answer to the host ${JSON.stringify(host)}; ` +
      "add it to allowed_hosts in the configuration if it should";
    return jsonError(403, "not-permitted", text);
  }
  return null;
}

function refuseToken(c: Context, deps: StatsDeps): Response | null {
  const token = deps.token();
  if (token === "" || OPEN_PATHS.includes(c.req.path)) return null;
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
