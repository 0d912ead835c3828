// The door for profiles: what the server spends its time on, and what its memory holds.

import type { HttpBindings } from "@hono/node-server";
import { type Context, Hono } from "hono";
import { getLogger } from "../core/logger.ts";
import {
  type ByteSource,
  heapSnapshot,
  profileCpu,
  ProfilerUnavailable,
} from "../core/profiler.ts";
import { jsonError } from "./answers.ts";
import { answerFaults, answerGet, type DoorDeps, guard } from "./door.ts";
import { countOf } from "./query.ts";
import type { HttpLimits } from "./server.ts";

/** What the app asks while it answers. */
export interface ProfilingDeps extends DoorDeps {
  /** The node's name, for the names of files. */
  readonly node: string;
}

const DEFAULT_SECONDS = 10;
const MAX_SECONDS = 300;
/** A client that takes nothing for so long is closed, ms. */
const STALL_MS = 10_000;

/** For `startStatsServer`: the longest profile takes minutes, and a heap is long. */
export const PROFILING_LIMITS: Partial<HttpLimits> = {
  answerTimeoutMs: 15 * 60_000,
  maxConnections: 8,
};

const INDEX = `pushd profiles

GET /profile?seconds=10   where the time goes, for 1 to ${MAX_SECONDS} seconds (.cpuprofile)
GET /heap                 what memory holds (.heapsnapshot); the server stands still meanwhile

curl -OJ saves them under names of their own; Chrome's developer tools open both, and so does VS Code.
`;

const log = getLogger("stats");

type Kind = "cpuprofile" | "heapsnapshot";

/** Makes the app. `heap` and `stallMs` are for tests. */
export function createProfilingApp(
  deps: ProfilingDeps,
  { heap = heapSnapshot, stallMs = STALL_MS } = {},
): Hono {
  const app = new Hono();
  /** When the profile under way ends, on the monotonic clock; 0 while there is none. */
  let busyUntilMs = 0;
  const end = () => busyUntilMs = 0;

  /** Answers with what `make` gives, one at a time; HEAD is answered as if there were something. */
  const answer = async (
    c: Context,
    kind: Kind,
    seconds: number,
    make: () => Promise<ByteSource | null>,
  ): Promise<Response> => {
    const headers = {
      "Content-Type": "application/json; charset=utf-8",
      "Content-Disposition": `attachment; filename="${fileName(deps.node, kind)}"`,
    };
    if (c.req.method === "HEAD") return new Response(null, { headers });
    if (busyUntilMs > 0) return tooBusy(busyUntilMs - performance.now());
    busyUntilMs = performance.now() + seconds * 1000;
    let source: ByteSource | null;
    try {
      source = await make();
    } catch (error) {
      end();
      if (!(error instanceof ProfilerUnavailable)) throw error;
      return jsonError(501, "not-implemented", error.message);
    }
    if (source !== null) return new Response(bodyOf(source, end, c, stallMs), { headers });
    end();
    // Nobody reads it.
    return jsonError(408, "bad-argument", "the client has left");
  };

  guard(app, deps);
  app.use(async (c, next) => {
    if (isOfAnotherSite(c)) {
      return jsonError(403, "not-permitted", "a page of another site may not ask for this");
    }
    await next();
  });
  answerGet(app, "/", (c) => c.text(INDEX));
  answerGet(app, "/profile", (c) => {
    const seconds = countOf(c, "seconds", DEFAULT_SECONDS, MAX_SECONDS);
    return answer(c, "cpuprofile", seconds, async () => {
      log.info("a profile is taken", { seconds });
      const text = await profileCpu(seconds * 1000, c.req.raw.signal);
      return text === null ? null : sourceOf(text);
    });
  });
  answerGet(app, "/heap", (c) => {
    return answer(c, "heapsnapshot", 1, async () => {
      const startMs = performance.now();
      const source = await heap();
      const ms = Math.round(performance.now() - startMs);
      log.warn("a heap snapshot was taken; the server stood still meanwhile", { ms });
      return source;
    });
  });
  answerFaults(app);
  return app;
}

function tooBusy(leftMs: number): Response {
  const seconds = Math.max(1, Math.ceil(leftMs / 1000));
  const text = "another profile is being taken; one at a time";
  return jsonError(429, "too-busy", text, { "Retry-After": `${seconds}` });
}

/** `pushd-node1-2026-01-31T12-00-00Z.cpuprofile`; names of nodes may hold what names of files may not. */
function fileName(node: string, kind: Kind): string {
  const time = new Date().toISOString().replace(/\.\d+/, "").replaceAll(":", "-");
  return `pushd-${node.replaceAll(/[^A-Za-z0-9._-]/g, "-")}-${time}.${kind}`;
}

/** The text in pieces, so that one who does not read it is noticed. */
function sourceOf(text: string): ByteSource {
  const bytes = new TextEncoder().encode(text);
  let at = 0;
  return {
    read() {
      if (at === bytes.length) return Promise.resolve(null);
      const chunk = bytes.subarray(at, at + 64 * 1024);
      at += chunk.length;
      return Promise.resolve(chunk);
    },
    close() {},
  };
}

/** Reads as fast as the client does. `onEnd` is called once, however it ends. */
function bodyOf(
  source: ByteSource,
  onEnd: () => void,
  c: Context,
  stallMs: number,
): ReadableStream<Uint8Array> {
  // Without one in tests that have no socket.
  const outgoing = (c.env as Partial<HttpBindings> | undefined)?.outgoing;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let hasEnded = false;
  const end = () => {
    clearTimeout(timer);
    if (hasEnded) return;
    hasEnded = true;
    source.close();
    onEnd();
  };
  // Whoever has left before the first byte does not cancel it.
  outgoing?.once("close", end);
  return new ReadableStream({
    async pull(controller) {
      clearTimeout(timer);
      const chunk = await source.read();
      if (hasEnded) return;
      if (chunk === null) {
        controller.close();
        end();
        return;
      }
      controller.enqueue(chunk);
      timer = setTimeout(() => outgoing?.destroy(), stallMs);
    },
    cancel: end,
  }, { highWaterMark: 0 });
}

/** Whether a page elsewhere asks: an image's source is enough to stop the server for a heap nobody gets. */
function isOfAnotherSite(c: Context): boolean {
  const site = c.req.header("sec-fetch-site") ?? "none";
  return c.req.header("origin") !== undefined || (site !== "none" && site !== "same-origin");
}
