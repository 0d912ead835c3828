// The stats door's listener: HTTP with a deadline on everything a client can drag out.

import { createServer, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { getRequestListener, type HttpBindings, RequestError } from "@hono/node-server";
import { getLogger } from "../core/logger.ts";
import { jsonError } from "./answers.ts";

/** Deadlines and bounds; each has a default. Node's http checks the first two twice a second. */
export interface HttpLimits {
  /** Until the headers of a request have arrived, also the first ones. Default 10 s. */
  headersTimeoutMs: number;
  /** Until a whole request has arrived. Default 15 s. */
  requestTimeoutMs: number;
  /** From a request to the moment its answer has left. Default 10 s. */
  answerTimeoutMs: number;
  /** Between an answer and the next request; a second is added by node:http. Default 5 s. */
  keepAliveTimeoutMs: number;
  /** Default 16 KiB. */
  maxHeaderBytes: number;
  /** Beyond it connections are closed at once. Default 256. */
  maxConnections: number;
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
  closeGraceMs: 500,
  checkIntervalMs: 500,
};

/** What answers: a Hono app. */
export interface HttpApp {
  fetch(request: Request, env: HttpBindings): Response | Promise<Response>;
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

const log = getLogger("stats");

/**
 * Listens and answers with `app`.
 *
 * Rejects with a `Deno.errors.AddrInUse`, `AddrNotAvailable` or `PermissionDenied` that has its name as
 * `code` too, or with what else the system says.
 */
export async function startStatsServer(options: StatsServerOptions): Promise<StatsServer> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const listener = getRequestListener(
    (request, env) => options.app.fetch(request, env as HttpBindings),
    {
      // The globals belong to the whole process, other doors included.
      overrideGlobalObjects: false,
      errorHandler: answerError,
    },
  );
  /** Open sockets and how many of their requests are being answered. */
  const sockets = new Map<Socket, number>();
  let closing = false;
  let closed: Promise<void> | null = null;

  const count = (socket: Socket, change: number): void => {
    const active = sockets.get(socket);
    if (active !== undefined) sockets.set(socket, active + change);
  };

  const server = createServer({
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: limits.checkIntervalMs,
    maxHeaderSize: limits.maxHeaderBytes,
  }, (request, response) => {
    const { socket } = request;
    const deadline = setTimeout(() => socket.destroy(), limits.answerTimeoutMs);
    count(socket, 1);
    response.once("close", () => {
      clearTimeout(deadline);
      count(socket, -1);
      if (closing) socket.destroySoon();
    });
    if (closing) response.setHeader("Connection", "close");
    // The listener catches everything; it has an error handler.
    void listener(request, response);
  });
  server.maxConnections = limits.maxConnections;
  server.on("connection", (socket: Socket) => {
    sockets.set(socket, 0);
    // A client that resets its connection is no event.
    socket.on("error", () => socket.destroy());
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("clientError", refuseRequest);

  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", (error) => reject(listenError(error, options)));
  server.listen({ host: options.hostname || undefined, port: options.port }, resolve);
  await promise;
  server.on("error", (error) => log.error("the stats door had an error", { error }));

  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new Error(`the stats door listens on ${address}, which is no TCP address`);
  }

  const close = async (): Promise<void> => {
    closing = true;
    const ended = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const [socket, active] of sockets) if (active === 0) socket.destroy();
    const grace = setTimeout(() => {
      for (const socket of sockets.keys()) socket.destroy();
    }, limits.closeGraceMs);
    await ended;
    clearTimeout(grace);
  };
  return {
    addr: { hostname: address.address, port: address.port },
    close: () => closed ??= close(),
  };
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

function refuseRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const { status, text } = REFUSALS[error.code ?? ""] ??
    { status: 400, text: "this is not an HTTP request" };
  const code = status === 431 ? "line-too-long" : "bad-argument";
  const body = `${JSON.stringify({ error: { code, message: text } })}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${
      STATUS_CODES[status]
    }\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    // Not waiting for the client to close.
    () => socket.destroy(),
  );
}

function listenError(error: NodeJS.ErrnoException, { hostname, port }: StatsServerOptions): Error {
  const known = {
    EADDRINUSE: Deno.errors.AddrInUse,
    EADDRNOTAVAIL: Deno.errors.AddrNotAvailable,
    // What Deno's node:net makes of it.
    EINVAL: Deno.errors.AddrNotAvailable,
    EACCES: Deno.errors.PermissionDenied,
  }[error.code ?? ""];
  if (known === undefined) return error;
  const message = `cannot listen on ${hostname}:${port}: ${error.message}`;
  return Object.assign(new known(message, { cause: error }), { code: known.name });
}
