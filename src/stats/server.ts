// The stats door's listener: HTTP with a deadline on everything a client can drag out.

import { createServer, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener, type HttpBindings, RequestError } from "@hono/node-server";
import { LogRate } from "../core/log_rate.ts";
import { getLogger } from "../core/logger.ts";
import { spawn } from "../core/spawn.ts";
import { jsonError } from "./answers.ts";
import { ConnStream } from "./conn_stream.ts";
import { type PlainServerOptions, startPlainServer } from "./plain_server.ts";

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
  /** Requests of one connection that are answered at one time; one more closes it. Default 4. */
  maxPipelined: number;
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
  maxPipelined: 4,
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
  /** Stops listening, closes what is idle at once and what is not after `closeGraceMs`. Idempotent. */
  close(): Promise<void>;
}

/** Stands for the host that HTTP/1.0 need not name. */
const NO_HOST = "127.0.0.1";

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
  if (!takesConnections()) return startPlainServer(plainOptions(options, limits));
  const answer = getRequestListener(
    (request, env) => options.app.fetch(request, env as HttpBindings),
    {
      // The globals belong to the whole process, other doors included.
      overrideGlobalObjects: false,
      errorHandler: answerError,
    },
  );
  /** Open connections, and the deadlines of what each is being answered; who was answered last is last. */
  const sockets = new Map<Duplex, Set<ReturnType<typeof setTimeout>>>();
  let closing = false;
  let closed: Promise<void> | null = null;

  const drop = (socket: Duplex): void => {
    // A response that waits for the one before it is not told that its socket has closed.
    for (const deadline of sockets.get(socket) ?? []) clearTimeout(deadline);
    // At once, as the next may come before this one has closed.
    sockets.delete(socket);
    socket.destroy();
  };

  // Not the newest, as a crowd that sends half a request would keep everybody else out; nor who is being
  // answered, unless that is all the others: a crowd that does not read.
  const makeRoom = (newest?: Duplex): void => {
    const others = [...sockets].filter(([socket]) => socket !== newest);
    const longest = others.find(([, deadlines]) => deadlines.size === 0) ?? others[0];
    if (longest !== undefined) drop(longest[0]);
  };

  const server = createServer({
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: limits.checkIntervalMs,
    maxHeaderSize: limits.maxHeaderBytes,
  }, (request, response) => {
    const { socket } = request;
    const deadlines = sockets.get(socket);
    // What came in the same read as one too many.
    if (deadlines === undefined) return;
    if (deadlines.size >= limits.maxPipelined) return drop(socket);
    if (request.httpVersion === "1.0" && request.headers.host === undefined) {
      // As load balancers ask who were told nothing else; a browser would name one.
      request.headers.host = NO_HOST;
      request.rawHeaders.push("Host", NO_HOST);
    }
    let deadline: ReturnType<typeof setTimeout>;
    const setDeadline = () => {
      const { bytesWritten } = socket;
      deadline = setTimeout(() => {
        const isStalled = socket.writableLength > 0 && socket.bytesWritten === bytesWritten;
        if (!streams.has(response) || isStalled) return socket.destroy();
        deadlines.delete(deadline);
        setDeadline();
      }, limits.answerTimeoutMs);
      deadlines.add(deadline);
    };
    setDeadline();
    response.once("close", () => {
      clearTimeout(deadline);
      deadlines.delete(deadline);
      if (deadlines.size === 0 && sockets.delete(socket)) sockets.set(socket, deadlines);
      if (closing) socket.destroySoon();
    });
    if (closing) response.setHeader("Connection", "close");
    // It catches everything; it has an error handler.
    void answer(request, response);
  });
  server.on("clientError", refuseRequest);
  // By itself node:http closes without a word, or answers without a body.
  server.on("connect", (_request, socket) => {
    writeError(socket, 405, "method-not-allowed", "this is no proxy; use GET");
  });
  server.on("checkExpectation", ({ socket }: { socket: Duplex }) => {
    writeError(socket, 417, "bad-argument", "nothing but 100-continue can be expected");
  });
  const listener = Deno.listen({ hostname: options.hostname || "0.0.0.0", port: options.port });
  // What node:http does and asks for where it listens itself: it looks at the deadlines from now on, and
  // keeps connections that have been answered.
  server.emit("listening");
  Object.defineProperty(server, "listening", { get: () => !closing });

  const serve = (socket: Duplex): void => {
    sockets.set(socket, new Set());
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
    for (const [socket, { size }] of sockets) if (size === 0) socket.destroy();
    const grace = setTimeout(() => {
      for (const socket of sockets.keys()) socket.destroy();
    }, limits.closeGraceMs);
    await accepting.done;
    await Promise.all([...sockets.keys()].map(untilClosed));
    clearTimeout(grace);
  };
  return {
    addr: listener.addr,
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

/** Statuses of what node:http gives up on before there is a request. */
const REFUSALS: Record<string, { status: number; text: string }> = {
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, text: "the request did not arrive in time" },
  HPE_HEADER_OVERFLOW: { status: 431, text: "the headers are too large" },
};

function refuseRequest(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const { status, text } = REFUSALS[error.code ?? ""] ??
    { status: 400, text: "this is not an HTTP request" };
  writeError(socket, status, status === 431 ? "line-too-long" : "bad-argument", text);
}

/** Answers on a socket that no response of node:http is for, and closes it. */
function writeError(socket: Duplex, status: number, code: string, message: string): void {
  const body = `${JSON.stringify({ error: { code, message } })}\n`;
  const allow = status === 405 ? "Allow: GET, HEAD, OPTIONS\r\n" : "";
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n` +
      `Content-Type: application/json; charset=utf-8\r\n${allow}` +
      `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    // Not waiting for the client to close.
    () => socket.destroy(),
  );
}

function untilClosed(socket: Duplex): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}
