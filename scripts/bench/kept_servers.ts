// Starts the servers that keep messages, each set of them when the first row wants it.

import { progress } from "./bench.ts";
import { type Contender, type Library, PAGE } from "./kept_rows.ts";
import { MissingError, type ServerName, type Storage } from "./known_servers.ts";
import type { Processes } from "./processes.ts";
import { type Server, startServer, storageName } from "./servers.ts";

/** Channel and message of the asker's history row. */
const HISTORY_CHANNEL = "c00000", HISTORY_MESSAGE = "m".repeat(64);
/** Twice a page: the last page of them is asked for, which a cache that keeps more than a page holds. */
const HISTORY_MESSAGES = 2 * PAGE;

export interface KeptServersOptions {
  folder: string;
  processes: Processes;
  names: readonly ServerName[];
  /** Where pushd keeps messages; `off` means as it should be measured, in SQLite. */
  storage: Storage;
  /** Told when a server is left out, and why. */
  leftOut: (what: string) => void;
}

export class KeptServers {
  readonly versions: string[] = [];
  #options: KeptServersOptions;
  #durable: Promise<Contender[]> | null = null;
  #writing: Promise<Map<string, Server>> | null = null;
  #libraries = new Map<string, Promise<Library[]>>();

  constructor(options: KeptServersOptions) {
    this.#options = options;
  }

  get #storage(): Storage {
    const { storage } = this.#options;
    return storage === "off" ? "sqlite" : storage;
  }

  durable(): Promise<Contender[]> {
    return this.#durable ??= this.#startDurable();
  }

  async #startDurable(): Promise<Contender[]> {
    const contenders: Contender[] = [];
    for (const name of this.#options.names) {
      // Mosquitto has no way to acknowledge what is on the disk.
      if (name === "mosquitto") continue;
      const isPushd = name === "pushd" || name === "binary";
      const storage = isPushd ? this.#storage : "off";
      const more = isPushd ? { storage, flushPolicy: 0 as const } : { storage };
      const server = await this.#start(name, `durable-${name}`, { ...more, durable: true });
      if (server === null) continue;
      if (isPushd) contenders.push({ name, question: "pub", server });
      if (name === "nats") contenders.push({ name: "jetstream", question: "jetstream", server });
      if (name !== "redis") continue;
      contenders.push({ name: "redis xadd", question: "xadd", server });
      contenders.push({ name: "redis xadd+publish", question: "xadd-publish", server });
    }
    return contenders;
  }

  /**
   * pushds whose cache holds what is asked for, and Redis, which has everything in memory; or pushds whose
   * cache is too small and whose store has to answer.
   */
  libraries(from: "cache" | "store"): Promise<Library[]> {
    const started = this.#libraries.get(from) ?? this.#startLibraries(from);
    this.#libraries.set(from, started);
    return started;
  }

  async #startLibraries(from: "cache" | "store"): Promise<Library[]> {
    if (from === "store" && this.#storage === "memory") {
      this.#options.leftOut("his:store is left out: memory keeps nothing beside the cache");
      return [];
    }
    const cacheMessages = from === "cache" ? HISTORY_MESSAGES : 1;
    const options = { storage: this.#storage, flushPolicy: 0 as const, cacheMessages };
    const libraries: Library[] = [];
    for (const name of this.#options.names) {
      if (name === "pushd" || name === "binary") {
        const server = await this.#start(name, `his-${from}-${name}`, options);
        if (server === null) continue;
        const since = (await publishAll(server.port))[HISTORY_MESSAGES - PAGE];
        libraries.push({ name, question: "his", server, since });
      } else if (name === "redis" && from === "cache") {
        const server = await this.#start(name, "his-redis", { storage: "off" });
        if (server === null) continue;
        await addAll(server.port);
        libraries.push({ name: "redis xrange", question: "xrange", server, since: "0" });
      }
    }
    return libraries;
  }

  /** One pushd for every way to keep messages, by what stands in the report; the first is the measure. */
  writing(): Promise<Map<string, Server>> {
    return this.#writing ??= this.#startWriting();
  }

  async #startWriting(): Promise<Map<string, Server>> {
    const servers = new Map<string, Server>();
    if (!this.#options.names.includes("pushd")) return servers;
    const ways = [
      { storage: "off" },
      { storage: "memory" },
      { storage: "sqlite", flushPolicy: 1 },
      { storage: "sqlite", flushPolicy: 0 },
    ] as const;
    for (const [i, way] of ways.entries()) {
      const server = await this.#start("pushd", `writing-${i}`, way);
      if (server !== null) servers.set(storageName(way), server);
    }
    return servers;
  }

  async #start(
    name: ServerName,
    folderName: string,
    more: { storage: Storage; flushPolicy?: 0 | 1; durable?: boolean; cacheMessages?: number },
  ): Promise<Server | null> {
    const { folder, processes, leftOut } = this.#options;
    progress(`starting ${folderName}`);
    try {
      const server = await startServer(name, { folder, processes, folderName, ...more });
      if (!this.versions.includes(server.version)) this.versions.push(server.version);
      return server;
    } catch (error) {
      if (!(error instanceof MissingError)) throw error;
      leftOut(`${name} is left out: ${error.message}`);
      return null;
    }
  }
}

/** Publishes a history and returns its timestamps, oldest first. */
async function publishAll(port: number): Promise<string[]> {
  const answers = await askAll(port, `pub ${HISTORY_CHANNEL} ${HISTORY_MESSAGE}\n`, 1);
  return answers.map((answer) => {
    const stamp = /^PUBLISHED (\d{16})$/.exec(answer)?.[1];
    if (stamp === undefined) throw new Error(`pushd did not keep a history: ${answer}`);
    return stamp;
  });
}

/** The same for Redis, as a stream. */
async function addAll(port: number): Promise<void> {
  const answers = await askAll(port, `XADD ${HISTORY_CHANNEL} * m ${HISTORY_MESSAGE}\r\n`, 2);
  const odd = answers.find((answer) => !/^(\$\d+|\d+-\d+)$/.test(answer));
  if (odd !== undefined) throw new Error(`Redis did not keep a history: ${odd}`);
}

/** Asks for each message of a history to be kept; each answer has so many lines. */
async function askAll(port: number, request: string, linesEach: number): Promise<string[]> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const writing = writeAll(conn, new TextEncoder().encode(request.repeat(HISTORY_MESSAGES)));
  const answers: string[] = [];
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(65536);
  for (let rest = ""; answers.length < HISTORY_MESSAGES * linesEach;) {
    const count = await conn.read(bytes);
    if (count === null) throw new Error("a server closed a connection that made a history");
    const text = rest + decoder.decode(bytes.subarray(0, count), { stream: true });
    const lines = text.split("\r\n");
    rest = lines.pop() ?? "";
    answers.push(...lines);
  }
  await writing;
  return answers;
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}
