// The stats door's listener: HTTP with a deadline on everything a client can drag out.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener, type HttpBindings, RequestError } from "@hono/node-server";
import { LogRate } from "../core/log_rate.ts";
import { getLogger } from "../core/logger.ts";
import { spawn } from "../core/spawn.ts";
import { nextTurn } from "../core/turn.ts";
import { AnswerTurns } from "./answer_turns.ts";
import { jsonError } from "./answers.ts";
import { ConnStream } from "./conn_stream.ts";
import { Pipeline } from "./pipeline.ts";
import { type PlainServerOptions, startPlainServer } from "./plain_server.ts";
import {
  NO_EXPECTATION,
  NO_PROXY,
  type ParserError,
  prepareRequest,
  type Refusal,
  refusalOf,
  refusalText,
  sendRefusal,
} from "./refusals.ts";
import { firstClient, firstRequest } from "./warm_up.ts";

/** Deadlines and bounds; each has a default. Node's http checks the first two twice a second. */
export interface HttpLimits {
  /** Until the headers of a request have arrived, also the first ones. Default 10 s. */
  headersTimeoutMs: number;
  /** Until a whole request has arrived. Default 15 s. */
  requestTimeoutMs: number;
  /**
   * From a request to the moment its answer has left. An answer that goes on ({@link goesOn}) may take
   * any time, as long as all of it so far has left, or more since the last such time. Default 10 s.
   */
  answerTimeoutMs: number;
  /** Between an answer and the next request; a second is added by node:http. Default 5 s. */
  keepAliveTimeoutMs: number;
  /** Default 16 KiB. */
  maxHeaderBytes: number;
  /** For one more, the connection is closed that has waited longest without a request. Default 256. */
  maxConnections: number;
  /** A client that has closed its side and takes nothing for so long is gone. Default 2 s. */
  halfClosedMs: number;
  /** What an answer under way may still take when the server is closed. Default 500 ms. */
  closeGraceMs: number;
  /** How often the deadlines of arriving requests are looked at. Default 500 ms. */
  checkIntervalMs: number;
}

const DEFAULT_LIMITS: HttpLimits = {
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 15_000,
  answerTimeoutMs: 10_000,
  keepAliveTimeoutMs: 5_000,
  maxHeaderBytes: 16 * 1024,
  maxConnections: 256,
  halfClosedMs: 2_000,
  closeGraceMs: 500,
  checkIntervalMs: 500,
};

/** What answers: a Hono app. */
export interface HttpApp {
  /** `env` is empty where the runtime has no node:http that can be used. */
  fetch(request: Request, env: Partial<HttpBindings>): Response | Promise<Response>;
}

/** What {@linkcode startStatsServer} takes. */
export interface StatsServerOptions {
  /** Host to listen on; empty for every interface. */
  hostname: string;
  /** 0 takes a free one. */
  port: number;
  app: HttpApp;
  limits?: Partial<HttpLimits>;
}

/** A listening server. */
export interface StatsServer {
  readonly addr: { hostname: string; port: number };
  /** Compiles what a first request needs, a piece a turn. Throws nothing. */
  warmUp(): Promise<void>;
  /** Stops listening, closes what is idle at once and what is not after `closeGraceMs`. Idempotent. */
  close(): Promise<void>;
}

const log = getLogger("stats");

const streams = new WeakSet<object>();

/**
 * Says that an answer is a stream that goes on. It counts among the connections as any other; whoever
 * makes it bounds how many there are and what waits for each, and ends them before the server is closed.
 */
export function goesOn(answer: HttpBindings["outgoing"]): void {
  streams.add(answer);
}

/** Before the next try where nothing can be accepted, ms. */
const RETRY_MS = 50;
/** How often the log says that nothing can be accepted, ms. */
const TELL_MS = 10_000;

/** Listens and answers with `app`. Throws what `Deno.listen` does. */
export function startStatsServer(options: StatsServerOptions): StatsServer {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  if (!takesConnections()) {
    return { ...startPlainServer(plainOptions(options, limits)), warmUp: async () => {} };
  }
  const answer = getRequestListener(
    (request, env) => options.app.fetch(request, env as HttpBindings),
    {
      // The globals belong to the whole process, other doors included.
      overrideGlobalObjects: false,
      errorHandler: answerError,
    },
  );
  /** Open connections; who was answered last is last. */
  const sockets = new Map<Duplex, Pipeline>();
  const turns = new AnswerTurns();
  let closing = false;
  let closed: Promise<void> | null = null;

  const drop = (socket: Duplex): void => {
    // At once, as the next may come before this one has closed.
    sockets.get(socket)?.end();
    sockets.delete(socket);
    socket.destroy();
  };

  // Not the newest, as a crowd that sends half a request would keep everybody else out; nor who is being
  // answered, unless that is all the others: a crowd that does not read.
  const makeRoom = (newest?: Duplex): void => {
    const others = [...sockets].filter(([socket]) => socket !== newest);
    const longest = others.find(([, { isBusy }]) => !isBusy) ?? others[0];
    if (longest !== undefined) drop(longest[0]);
  };

  const server = createServer({
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: limits.checkIntervalMs,
    maxHeaderSize: limits.maxHeaderBytes,
    // By itself it answers without a body.
    requireHostHeader: false,
  }, (request, response) => {
    const begin = () => {
      if (closing) response.setHeader("Connection", "close");
      const refusal = prepareRequest(request);
      if (refusal !== null) return sendRefusal(response, refusal);
      // It catches everything; it has an error handler.
      void answer(request, response);
    };
    sockets.get(request.socket)?.add({ request, response, begin });
  });
  // Who has sent everything may close that side and wait for the answer.
  Object.assign(server, { httpAllowHalfOpen: true });
  server.on("clientError", (error: ParserError, socket: Duplex) => {
    const pipeline = sockets.get(socket);
    if (error.code === "ECONNRESET" || pipeline === undefined) return socket.destroy();
    pipeline.finish((isBody) => leaveWith(socket, refusalOf(error, isBody)));
  });
  // By itself node:http closes without a word.
  server.on("connect", (_request, socket) => {
    sockets.get(socket)?.finish(() => leaveWith(socket, NO_PROXY));
  });
  server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) => {
    const begin = () => sendRefusal(response, NO_EXPECTATION);
    sockets.get(request.socket)?.add({ request, response, begin });
  });
  const listener = Deno.listen({ hostname: options.hostname || "0.0.0.0", port: options.port });
  // What node:http does and asks for where it listens itself: it looks at the deadlines from now on, and
  // keeps connections that have been answered.
  server.emit("listening");
  Object.defineProperty(server, "listening", { get: () => !closing });

  const serve = (socket: ConnStream): void => {
    const pipeline = new Pipeline(socket, {
      answerTimeoutMs: limits.answerTimeoutMs,
      halfClosedMs: limits.halfClosedMs,
      turns,
      goesOn: (response) => streams.has(response),
      onIdle: () => {
        if (sockets.delete(socket)) sockets.set(socket, pipeline);
        if (closing) socket.destroySoon();
      },
    });
    sockets.set(socket, pipeline);
    // A client that resets its connection is no event.
    socket.on("error", () => socket.destroy());
    socket.once("close", () => drop(socket));
    if (sockets.size > limits.maxConnections) makeRoom(socket);
    server.emit("connection", socket);
  };
  const accepting = spawn("stats.accept", async () => {
    const failures = new LogRate(TELL_MS);
    while (!closing) {
      try {
        serve(new ConnStream(await listener.accept()));
      } catch (error) {
        if (closing) return;
        const further = failures.next();
        if (further !== null) {
          log.warn("cannot accept a connection for statistics", { error, ...further });
        }
        // Mostly "too many open files", of which we may hold some for nothing.
        makeRoom();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  });

  const close = async (): Promise<void> => {
    closing = true;
    listener.close();
    server.close();
    for (const [socket, { isBusy }] of sockets) if (!isBusy) socket.destroy();
    const grace = setTimeout(() => {
      for (const socket of sockets.keys()) socket.destroy();
    }, limits.closeGraceMs);
    await accepting.done;
    await Promise.all([...sockets.keys()].map(untilClosed));
    clearTimeout(grace);
  };
  const warmUp = async (): Promise<void> => {
    await options.app.fetch(firstRequest(), {});
    await nextTurn();
    if (!closing) serve(new ConnStream(firstClient()));
  };
  return {
    addr: listener.addr,
    warmUp,
    close: () => closed ??= close(),
  };
}

/** Whether node:http serves connections that it has not accepted itself; that of Deno 2.4 does not. */
function takesConnections(): boolean {
  return createServer().listenerCount("connection") > 0;
}

/** For the server of our own: Hono's app wants no bindings there. */
function plainOptions(options: StatsServerOptions, limits: HttpLimits): PlainServerOptions {
  const { hostname, port, app } = options;
  return { hostname, port, limits, app: { fetch: (request) => app.fetch(request, {}) } };
}

/** The answer to a request that Hono never saw, or that broke on the way to it. */
function answerError(error: unknown): Response {
  if (error instanceof RequestError) {
    return jsonError(400, "bad-argument", `the request cannot be understood: ${error.message}`);
  }
  log.error("a request for statistics failed", { error });
  return jsonError(500, "internal-error", "the answer could not be made; the log says why");
}

/** Answers and closes, on a socket that no response of node:http is for. */
function leaveWith(socket: Duplex, refusal: Refusal): void {
  if (socket instanceof ConnStream && socket.writable) socket.leave(refusalText(refusal));
  else socket.destroy();
}

function untilClosed(socket: Duplex): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}
