// Asks the stats door of a running server, as `pushd top` does.

import { parseDialAddr } from "../../config/values.ts";
import { hostAndPort } from "../../core/host_port.ts";
import { messageOf } from "../../core/message_of.ts";

/** Why there is no answer; the message is a sentence for the person at the terminal. */
export class StatsFault extends Error {
  override readonly name = "StatsFault";
}

/** `/s/stat`, as far as it is shown. */
export interface Stat {
  readonly ver: string;
  readonly node: string;
  readonly uptime_s: number;
  readonly stats: Readonly<Record<string, number>>;
}

/** `/s/sys`, as far as it is shown. */
export interface Sys {
  readonly memory: { readonly resident_bytes: number; readonly heap_used_bytes: number };
  readonly rusage: { readonly user_s: number; readonly system_s: number };
  readonly event_loop: { readonly lag_ms: number; readonly lag_max_15s_ms: number };
  readonly files: {
    readonly open: number | null;
    readonly clients: number;
    readonly limit: number | null;
  };
}

/** A node of `/s/nodes`. */
export interface Node {
  readonly id: string | null;
  readonly self: boolean;
  readonly state: string;
  readonly s2s_addr: string | null;
  readonly client_addr: string | null;
  readonly version: string | null;
  readonly rtt_ms: number | null;
  readonly skew_ms: number | null;
  readonly replay_bytes: number;
  readonly lost: number;
}

/** A channel of `/s/channels`. */
export interface TopChannel {
  readonly channel: string;
  readonly app: string;
  readonly subscribers: number;
  readonly published: number;
  readonly last_ts: number;
}

/** A connection of `/s/conns`. */
export interface TopConnection {
  readonly id: number;
  readonly address: string;
  readonly user: string | null;
  readonly app: string;
  readonly channels: number;
  readonly pending: number;
  readonly bytes_in: number;
  readonly bytes_out: number;
  readonly connected_s: number;
  readonly idle_s: number;
}

/** What the server says of itself at one moment. */
export interface Sample {
  /** When it was taken: on the wall clock here, and on a clock that never steps, ms. */
  readonly wallMs: number;
  readonly atMs: number;
  readonly stat: Stat;
  readonly sys: Sys;
  readonly ready: { readonly ready: boolean; readonly failing: readonly string[] };
  readonly nodes: { readonly cluster: string | null; readonly nodes: readonly Node[] };
  readonly channels: readonly TopChannel[];
  readonly connections: readonly TopConnection[];
}

/** A server that takes the connection and says nothing, ms. */
const DEADLINE_MS = 5000;
/** No answer of pushd is longer, with the limits that are asked for. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/**
 * The URL of a stats door: `host:port`, `:port` (this machine), `[::1]:9020`, or a URL. Throws a
 * `ValueFault`, or an error, whose message says what is right.
 */
export function parseStatsUrl(text: string): string {
  if (!/^https?:\/\//i.test(text)) {
    const { hostname, port } = parseDialAddr(text.startsWith(":") ? `127.0.0.1${text}` : text);
    return `http://${hostAndPort(hostname, port)}`;
  }
  if (!URL.canParse(text)) throw new Error("not a URL; write http://host:port");
  const { origin, pathname, search, hash, username, password } = new URL(text);
  if (username !== "" || password !== "") {
    throw new Error("no user and no password in the URL; give the token by --stats-token");
  }
  if (pathname !== "/" || search !== "" || hash !== "") {
    throw new Error("the URL of the door alone, without a path; write http://host:port");
  }
  return origin;
}

/** Asks one door, time and again. */
export class StatsClient {
  /** `url` of {@linkcode parseStatsUrl}; `token`: `stats_token`, empty for none. */
  constructor(readonly url: string, readonly token: string) {}

  /** At most `limit` items of each list. Throws a {@linkcode StatsFault}, or what `signal` says. */
  async sample(limit: number, signal: AbortSignal): Promise<Sample> {
    const stat = await this.#get<Stat>("/s/stat", signal);
    if (typeof stat?.ver !== "string" || typeof stat.stats !== "object" || stat.stats === null) {
      throw this.#stranger();
    }
    const [sys, ready, nodes, channels, connections] = await Promise.all([
      this.#get<Sys>("/s/sys", signal),
      this.#get<Sample["ready"]>("/readyz", signal),
      this.#get<Sample["nodes"]>("/s/nodes", signal),
      this.#get<TopChannel[]>(`/s/channels?limit=${limit}`, signal),
      this.#get<TopConnection[]>(`/s/conns?limit=${limit}&sort=pending`, signal),
    ]);
    const atMs = performance.now();
    return { wallMs: Date.now(), atMs, stat, sys, ready, nodes, channels, connections };
  }

  async #get<T>(path: string, signal: AbortSignal): Promise<T> {
    const deadline = AbortSignal.timeout(DEADLINE_MS);
    const headers: Record<string, string> = this.token === ""
      ? {}
      : { Authorization: `Bearer ${latin1(this.token)}` };
    let status: number;
    let text: string;
    try {
      const response = await fetch(this.url + path, {
        headers,
        redirect: "manual",
        signal: AbortSignal.any([signal, deadline]),
      });
      status = response.status;
      text = await readText(response);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof StatsFault) throw error;
      if (/invalid HTTP/i.test(reasonOf(error))) throw this.#stranger();
      throw new StatsFault(
        deadline.aborted
          ? `${this.url}: no answer within ${DEADLINE_MS / 1000} s`
          : `${this.url}: ${reasonOf(error)}`,
        { cause: error },
      );
    }
    if (status === 401) throw new StatsFault(`${this.url}: ${this.#unauthorized()}`);
    const answer = parseJson(text);
    if (answer === undefined || status === 404) throw this.#stranger();
    // 503 is how /readyz says no.
    if (status === 200 || (status === 503 && path === "/readyz")) return answer as T;
    const message = (answer as { error?: { message?: unknown } } | null)?.error?.message;
    throw new StatsFault(
      typeof message === "string"
        ? `${this.url}${path}: ${message}`
        : `${this.url}${path}: answered with status ${status}; is it the stats door of a pushd?`,
    );
  }

  #stranger(): StatsFault {
    return new StatsFault(`${this.url}: what answers there is not the stats door of a pushd`);
  }

  #unauthorized(): string {
    return this.token === ""
      ? "it wants its stats_token; put it into PUSHD_STATS_TOKEN, or give --stats-token"
      : "this is not its stats_token";
  }
}

/** The text of an answer that is not too long. */
async function readText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let bytes = 0;
  let text = "";
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new StatsFault("the answer has no end; it is not a pushd");
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Header values are bytes. */
function latin1(text: string): string {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/** The system's reason, without what fetch says in front of it and behind. */
function reasonOf(error: unknown): string {
  let reason = error;
  while (reason instanceof Error && reason.cause instanceof Error) reason = reason.cause;
  return messageOf(reason)
    .replace(/^.*client error \(\w+\): /s, "")
    .replace(/^tcp connect error: /, "")
    .replace(/ \(os error \d+\).*$/s, "");
}
