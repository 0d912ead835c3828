// The stats door's answers: what operators and their tools read about a running server.

import { type Context, Hono } from "hono";
import { accepts } from "hono/accepts";
import { VERSION } from "../core/version.ts";
import { jsonAnswer, jsonListAnswer } from "./answers.ts";
import { answerFaults, answerGet, type DoorDeps, guard } from "./door.ts";
import { CONNECTION_ORDERS, LIST_BOUNDS } from "./list_bounds.ts";
import type { LiveFeed } from "./live_feed.ts";
import { type Latencies, type MetricNumbers, METRICS_TYPES, metricsText } from "./metrics.ts";
import { answerFront, answerLive, answerPageFile } from "./page.ts";
import { countOf, textOf, wordOf } from "./query.ts";
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
export interface StatsDeps extends DoorDeps {
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

/** Makes the app. It opens nothing; see `startStatsServer`. `live` feeds the page; null for none. */
export function createStatsApp(deps: StatsDeps, live: LiveFeed | null = null): Hono {
  const app = new Hono();

  guard(app, deps, OPEN_PATHS);
  answerGet(app, "/", (c) => answerFront(c, live, INDEX));
  answerGet(app, "/openapi.json", async () => {
    const { openapiDocument } = await import("./openapi.ts");
    return jsonAnswer(openapiDocument(VERSION));
  });
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

  answerFaults(app);
  return app;
}

function answerLists(app: Hono, lists: StatLists): void {
  const { items, maxItems, maxClosedItems, maxPrefix } = LIST_BOUNDS;
  answerGet(app, "/s/channels", async (c) => {
    const limit = countOf(c, "limit", items, maxItems);
    return jsonListAnswer(await lists.channels(limit, textOf(c, "prefix", maxPrefix)));
  });
  answerGet(app, "/s/conns", async (c) => {
    const limit = countOf(c, "limit", items, maxItems);
    const order = wordOf(c, "sort", "pending", CONNECTION_ORDERS);
    return jsonListAnswer(await lists.connections(limit, order));
  });
  answerGet(app, "/s/closed", (c) => {
    return jsonListAnswer(lists.closed(countOf(c, "limit", items, maxClosedItems)));
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
