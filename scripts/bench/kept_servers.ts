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
  #libraries = new Map<string, Promise<Library | null>>();

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

  /** A pushd whose cache holds what is asked for, or whose cache is too small and whose store has to answer. */
  library(from: "cache" | "store"): Promise<Library | null> {
    const started = this.#libraries.get(from) ?? this.#startLibrary(from);
    this.#libraries.set(from, started);
    return started;
  }

  async #startLibrary(from: "cache" | "store"): Promise<Library | null> {
    if (!this.#options.names.includes("pushd")) return null;
    if (from === "store" && this.#storage === "memory") {
      this.#options.leftOut("his:store is left out: memory keeps nothing beside the cache");
      return null;
    }
    const cacheMessages = from === "cache" ? HISTORY_MESSAGES : 1;
    const options = { storage: this.#storage, flushPolicy: 0 as const, cacheMessages };
    const server = await this.#start("pushd", `his-${from}`, options);
    if (server === null) return null;
    const stamps = await publishAll(server.port);
    return { server, since: stamps[HISTORY_MESSAGES - PAGE] };
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
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const lines = `pub ${HISTORY_CHANNEL} ${HISTORY_MESSAGE}\n`.repeat(HISTORY_MESSAGES);
  const stamps: string[] = [];
  const writing = writeAll(conn, new TextEncoder().encode(lines));
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(65536);
  for (let rest = ""; stamps.length < HISTORY_MESSAGES;) {
    const count = await conn.read(bytes);
    if (count === null) throw new Error("pushd closed a connection that published a history");
    const answers = (rest + decoder.decode(bytes.subarray(0, count), { stream: true })).split(
      "\r\n",
    );
    rest = answers.pop() ?? "";
    for (const answer of answers) {
      const stamp = /^PUBLISHED (\d{16})$/.exec(answer)?.[1];
      if (stamp === undefined) throw new Error(`pushd did not keep a history: ${answer}`);
      stamps.push(stamp);
    }
  }
  await writing;
  return stamps;
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}
