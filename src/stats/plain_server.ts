// The stats door on a runtime whose node:http takes no connection from outside (Deno 2.4): one request on
// a connection, its body left unread, and closed behind the answer. Everything has a deadline here, too.

import { STATUS_CODES } from "node:http";
import { closeQuietly } from "../core/close_quietly.ts";
import { LogRate } from "../core/log_rate.ts";
import { getLogger } from "../core/logger.ts";
import { spawn, type Task } from "../core/spawn.ts";
import { writeAll } from "../core/write_all.ts";
import { jsonError } from "./answers.ts";
import {
  LARGE_HEADERS,
  NO_HOST,
  NO_HTTP,
  type Refusal,
  refusal,
  unknownMethod,
} from "./refusals.ts";

/** Deadlines and bounds, as those of the door on node:http; all are given. */
export interface PlainLimits {
  headersTimeoutMs: number;
  answerTimeoutMs: number;
  maxHeaderBytes: number;
  maxConnections: number;
  closeGraceMs: number;
}

/** What {@linkcode startPlainServer} takes. */
export interface PlainServerOptions {
  hostname: string;
  port: number;
  app: { fetch(request: Request): Response | Promise<Response> };
  limits: PlainLimits;
}

/** What cannot be answered by the app, and what is said instead. */
class Refused extends Error {
  constructor(readonly refusal: Refusal) {
    super(refusal.message);
  }
}

const log = getLogger("stats");

/** Before the next try where nothing can be accepted, ms. */
const RETRY_MS = 50;
/** How often the log says that nothing can be accepted, ms. */
const TELL_MS = 10_000;
/** How long what a client still sends is read behind its answer, so that it is not reset, ms. */
const LINGER_MS = 1000;
const CHUNK_BYTES = 4096;

/** Listens and answers with `app`. Throws what `Deno.listen` does. */
export function startPlainServer(options: PlainServerOptions): {
  addr: { hostname: string; port: number };
  close(): Promise<void>;
} {
  const { app, limits } = options;
  const listener = Deno.listen({ hostname: options.hostname || "0.0.0.0", port: options.port });
  /** Open ones; who has come first is first. */
  const visits = new Set<Visit>();
  /** Those that have not come to their end, a moment longer. */
  const tasks = new Set<Task>();
  let closing = false;

  const drop = (visit: Visit): void => {
    // At once, as the next may come before this one has come to its end.
    visits.delete(visit);
    visit.end();
  };
  const makeRoom = (): void => {
    const all = [...visits];
    const longest = all.find((visit) => !visit.isBeingAnswered) ?? all[0];
    if (longest !== undefined) drop(longest);
  };
  const accepting = spawn("stats.accept", async () => {
    const failures = new LogRate(TELL_MS);
    while (!closing) {
      try {
        const visit = new Visit(await listener.accept(), limits);
        if (visits.size >= limits.maxConnections) makeRoom();
        visits.add(visit);
        const task = spawn("stats.visit", () => visit.run(app).finally(() => visits.delete(visit)));
        tasks.add(task);
        void task.done.then(() => tasks.delete(task));
      } catch (error) {
        if (closing) return;
        const further = failures.next();
        if (further !== null) {
          log.warn("cannot accept a connection for statistics", { error, ...further });
        }
        makeRoom();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  });

  let closed: Promise<void> | null = null;
  const close = async (): Promise<void> => {
    closing = true;
    listener.close();
    for (const visit of visits) if (!visit.isBeingAnswered) visit.end();
    const grace = setTimeout(() => {
      for (const visit of visits) visit.end();
    }, limits.closeGraceMs);
    await accepting.done;
    await Promise.all([...tasks].map(({ done }) => done));
    clearTimeout(grace);
  };
  return { addr: listener.addr, close: () => closed ??= close() };
}

/** One connection: a request, its answer, the end. */
class Visit {
  isBeingAnswered = false;
  #conn: Deno.TcpConn;
  #limits: PlainLimits;
  #body: ReadableStreamDefaultReader<Uint8Array> | null = null;
  /** Aborts when nobody waits for the answer any more. */
  #gone = new AbortController();
  /** Resolves when the client has sent its last byte, or has gone; null before its request is there. */
  #silent: Promise<void> | null = null;
  #hasEnded = false;

  constructor(conn: Deno.TcpConn, limits: PlainLimits) {
    this.#conn = conn;
    this.#limits = limits;
    conn.setNoDelay(true);
  }

  /** Closes the connection whatever it is doing, and lets go of the answer's source. */
  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#gone.abort();
    closeQuietly(this.#conn);
    void this.#body?.cancel().catch(() => {});
  }

  async run(app: PlainServerOptions["app"]): Promise<void> {
    try {
      const { method, response } = await this.#answer(app);
      await this.#send(method, response);
      await this.#conn.closeWrite();
      await this.#within(LINGER_MS, () => this.#silent ??= this.#readOn());
    } catch {
      // The client has gone, or was too slow.
    } finally {
      this.end();
    }
  }

  async #answer(
    app: PlainServerOptions["app"],
  ): Promise<{ method: string; response: Response }> {
    try {
      const head = await this.#within(this.#limits.headersTimeoutMs, () => this.#readHead());
      if (head === null) throw new Error("the client has left");
      this.#silent = this.#readOn();
      const request = requestOf(head, this.#gone.signal);
      this.isBeingAnswered = true;
      const { answerTimeoutMs } = this.#limits;
      const response = await this.#within(answerTimeoutMs, async () => await app.fetch(request));
      return { method: request.method, response };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const { status, code, message } = error.refusal;
      const headers: HeadersInit = status === 405 ? { Allow: "GET, HEAD, OPTIONS" } : {};
      const response = jsonError(status, code, message, headers);
      return { method: "GET", response };
    }
  }

  /** Reads what comes behind the request and leaves it, to see when the client goes. */
  async #readOn(): Promise<void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    try {
      while (await this.#conn.read(buffer) !== null);
    } catch {
      // A reset, or the end of the visit.
    }
    // It may have closed its side only, so what is done for it is given up, and the answer sent all the same.
    this.#gone.abort();
  }

  /** Runs `fn`, and ends the visit when it takes longer. */
  async #within<T>(ms: number, fn: () => Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.end(), ms);
    try {
      return await fn();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Everything before the empty line; null when the client has closed before. */
  async #readHead(): Promise<string | null> {
    let head = "";
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (;;) {
      const count = await this.#conn.read(buffer);
      if (count === null) return null;
      const from = Math.max(0, head.length - 3);
      for (const byte of buffer.subarray(0, count)) head += String.fromCharCode(byte);
      // Whoever speaks something else is told at once.
      if (!/^[A-Z]/.test(head) || (head.includes("\n") && !REQUEST_LINE.test(head))) {
        throw new Refused(NO_HTTP);
      }
      const end = head.indexOf("\r\n\r\n", from);
      if (end !== -1) return head.slice(0, end);
      if (head.length > this.#limits.maxHeaderBytes) {
        throw new Refused(LARGE_HEADERS);
      }
    }
  }

  async #send(method: string, response: Response): Promise<void> {
    const { status, headers, body } = response;
    const goesOn = headers.get("Content-Type")?.startsWith("text/event-stream") === true;
    const all = new Headers(headers);
    all.set("Connection", "close");
    all.set("Date", new Date().toUTCString());
    this.#body = body?.getReader() ?? null;
    const whole = goesOn || body === null
      ? new Uint8Array()
      : await this.#within(this.#limits.answerTimeoutMs, () => this.#readBody());
    // RFC 9110, 8.6: HEAD and 304 tell what GET would, or nothing.
    const hasBody = method !== "HEAD" && status !== 204 && status !== 304;
    if (!goesOn && hasBody) all.set("Content-Length", `${whole.length}`);
    const lines = [...all].map(([name, value]) => `${name}: ${value}\r\n`).join("");
    const head = new TextEncoder().encode(
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${lines}\r\n`,
    );
    await this.#within(this.#limits.answerTimeoutMs, async () => {
      await writeAll(this.#conn, head);
      if (method !== "HEAD") await writeAll(this.#conn, whole);
    });
    while (goesOn && method !== "HEAD") {
      const { done, value } = await this.#body?.read() ?? { done: true, value: undefined };
      if (done) break;
      await this.#within(this.#limits.answerTimeoutMs, () => writeAll(this.#conn, value));
    }
  }

  async #readBody(): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for (;;) {
      const { done, value } = await this.#body?.read() ?? { done: true, value: undefined };
      if (done || value === undefined) break;
      parts.push(value);
    }
    return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
  }
}

const REQUEST_LINE = /^([A-Z]{1,20}) (\S+) HTTP\/1\.([01])\r\n/;
/** RFC 9110, 5.6.2 and 5.5: a token, and a value without control characters. */
// deno-lint-ignore no-control-regex
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*$/;

/** The request that `head` makes, without its body; `signal` is its own. Throws {@link Refused}. */
function requestOf(head: string, signal: AbortSignal): Request {
  const [, method, target, minor] = REQUEST_LINE.exec(`${head}\r\n`) ?? refuse(NO_HTTP);
  const headers = new Headers();
  for (const line of head.split("\r\n").slice(1)) {
    const [, name, value] = FIELD.exec(line) ?? refuseRequest("a header that cannot be understood");
    headers.append(name, value);
  }
  // HTTP/1.0 need not name one, and load balancers that were told nothing else do not.
  const named = headers.get("Host") ?? (minor === "0" ? NO_HOST : null);
  // RFC 3986, 3.2.3: a port may be empty.
  const host = named?.replace(/:$/, "") ?? null;
  if (host === null || !/^[^\s,/@?#\\]+$/.test(host)) return refuseRequest("one Host, please");
  headers.set("Host", host);
  const length = headers.get("Content-Length");
  if (length !== null && (!/^\d+$/.test(length) || headers.has("Transfer-Encoding"))) {
    return refuseRequest("the length of the body is not clear");
  }
  const unknown = unknownMethod(method);
  if (unknown !== null) refuse(unknown);
  // No Request can be made of them.
  if (method === "CONNECT" || method === "TRACE") {
    refuse(refusal(405, "method-not-allowed", `${method} is not possible`));
  }
  // RFC 9110, 9.3.7: "OPTIONS *" is of the server as a whole.
  const path = method === "OPTIONS" && target === "*" ? "/" : target;
  if (!path.startsWith("/") && !/^http:\/\//i.test(path)) {
    return refuseRequest(`${method} of something that is no path`);
  }
  try {
    return new Request(path.startsWith("/") ? `http://${host}${path}` : path, {
      method,
      headers,
      signal,
    });
  } catch {
    return refuseRequest("an address that cannot be understood");
  }
}

function refuse(refusal: Refusal): never {
  throw new Refused(refusal);
}

function refuseRequest(message: string): never {
  return refuse(refusal(400, "bad-argument", message));
}
