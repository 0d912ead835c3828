// The running server: the parts, put together as the configuration says.

import { redact } from "./config/redact.ts";
import type { Config } from "./config/schema.ts";
import type { ListenAddr } from "./config/values.ts";
import { Clock } from "./core/clock.ts";
import { IoPoll } from "./core/io_poll.ts";
import { getLogger } from "./core/logger.ts";
import { openFileLimit } from "./core/open_files.ts";
import { somaxconn } from "./core/somaxconn.ts";
import { spawn } from "./core/spawn.ts";
import { setIoPoll, Turn } from "./core/turn.ts";
import { VERSION } from "./core/version.ts";
import { Auth } from "./engine/auth.ts";
import { Engine } from "./engine/engine.ts";
import { Retention } from "./engine/retention.ts";
import { type OpenStorage, openStorage } from "./open_storage.ts";
import { Server } from "./serv/server.ts";
import { StartError } from "./start_error.ts";
import { createStatsApp } from "./stats/app.ts";
import { startStatsServer, type StatsServer } from "./stats/server.ts";
import { MemoryTokenStore } from "./storage/memory_tokens.ts";

/** Files that are kept free for the stats door, the log, the store and the runtime itself. */
const RESERVED_FILES = 64;
/** The least time for what is to be stored at a stop, ms. */
const MIN_STORE_STOP_MS = 2000;

const log = getLogger("main");

function listenError(key: string, addr: ListenAddr, cause: unknown): StartError {
  const reason = cause instanceof Deno.errors.AddrInUse
    ? "the address is already in use; stop what listens there, or choose another"
    : messageOf(cause);
  return new StartError(`${key}: cannot listen on "${addr.text}": ${reason}`, { cause });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A running server: the parts, put together. */
export class Pushd {
  #draining = false;

  private constructor(
    readonly config: Config,
    readonly server: Server,
    readonly stats: StatsServer | null,
    readonly storage: OpenStorage | null,
    readonly retention: Retention | null,
  ) {}

  /** Opens every door, then starts to serve. Throws a {@link StartError} with nothing left open. */
  static async start(config: Config): Promise<Pushd> {
    const files = await openFileLimit();
    const listenAddr = config.tcp_listen_addr;
    const listener = listen("tcp_listen_addr", listenAddr, config.tcp_backlog);
    const { hostname, port } = listener.addr;
    setIoPoll(await openIoPoll());
    const node = config.node_id || `${Deno.hostname()}:${port}`;
    const turn = new Turn();
    const clock = new Clock();
    const storage = await openStorage(config, clock, turn, node).catch((error) => {
      listener.close();
      throw error;
    });
    const engine = createEngine(config, clock, turn, node, storage);
    storage?.bind(engine);
    const retention = createRetention(config, engine, storage);
    const maxConnections = config.max_connections ?? Math.max(1, files.limit - RESERVED_FILES);
    const server = new Server({
      engine,
      turn,
      auth: new Auth({
        required: config.auth === "on",
        apps: config.apps,
        tokenTtlMs: config.token_ttl,
        maxUnusedTokens: config.max_unused_tokens,
        tokens: storage?.tokens ?? new MemoryTokenStore(),
      }),
      limits: {
        maxConnections,
        maxConnectionsPerAddress: config.max_connections_per_address,
        maxLineBytes: config.max_line_bytes,
        maxPendingBytes: config.max_pending_bytes,
        writeTimeoutMs: config.write_timeout,
        sessionTimeoutMs: config.session_timeout,
        authTimeoutMs: config.auth_timeout,
        maxPublishesPerSecond: config.max_publishes_per_second,
        maxChannelsPerConnection: config.max_channels_per_connection,
      },
      logger: getLogger("serv"),
    });
    let pushd: Pushd | null = null;
    const startedMs = performance.now();
    let stats: StatsServer | null = null;
    if (config.stats_listen_addr !== null) {
      const app = createStatsApp({
        snapshot: () => snapshot(server, storage, node, startedMs),
        // What the server worked out by itself is shown as it is in force.
        conf: () => ({ ...redact(config), node_id: node, max_connections: maxConnections }),
        readiness: () => {
          const failing: string[] = [];
          if (storage?.queue.admission === "down") failing.push("storage");
          if (pushd?.isDraining) failing.push("draining");
          return { ready: failing.length === 0, failing };
        },
        token: () => config.stats_token,
        listenHost: config.stats_listen_addr.hostname,
        allowedHosts: () => [...config.allowed_hosts, ...config.web_origins.flatMap(originHost)],
      });
      const { hostname, port } = config.stats_listen_addr;
      try {
        stats = await startStatsServer({ hostname, port, app });
      } catch (error) {
        listener.close();
        await storage?.queue.close(0);
        throw listenError("stats_listen_addr", config.stats_listen_addr, error);
      }
    }
    pushd = new Pushd(config, server, stats, storage, retention);

    log.info(`pushd ${VERSION} on Deno ${Deno.version.deno}, node ${node}`);
    log.info(
      `clients: ${hostAndPort(hostname, port)}, at most ${maxConnections} connections (${
        config.max_connections === null
          ? `open-file limit ${files.limit}, ${files.how}`
          : "max_connections"
      })`,
    );
    log.info(historyLine(config, storage));
    storage?.queue.supervise();
    retention?.start();
    if (stats !== null) {
      log.info(`stats: http://${hostAndPort(stats.addr.hostname, stats.addr.port)}`);
    }
    await warnings(config, files.limit);
    const dialable = isWildcard(hostname) ? "localhost" : hostname;
    log.info(`ready: telnet ${dialable} ${port}, then type: sub channel1`);
    spawn("serv.accept", () => server.serve(listener));
    return pushd;
  }

  get isDraining(): boolean {
    return this.#draining;
  }

  /**
   * Stops in order; resolves to the number of connections that had to be closed the hard way, and of
   * acknowledged messages that could not be stored.
   */
  async stop(): Promise<{ connections: number; messages: number }> {
    this.#draining = true;
    const endMs = performance.now() + this.config.drain_timeout;
    const connections = await this.server.stop(this.config.drain_timeout);
    await this.retention?.stop();
    // What is acknowledged has earned a moment, also where the clients took all the time there was.
    const leftMs = Math.max(MIN_STORE_STOP_MS, endMs - performance.now());
    const messages = await this.storage?.queue.close(leftMs) ?? 0;
    await this.stats?.close();
    return { connections, messages };
  }
}

function createRetention(
  config: Config,
  engine: Engine,
  storage: OpenStorage | null,
): Retention | null {
  if (!engine.keepsHistory) return null;
  return new Retention({
    limits: {
      maxAgeMs: config.msg_retention,
      keepPerChannel: config.msg_retention_per_channel,
    },
    prune: (request) => storage?.store.prune(request) ?? engine.pruneMemory(request),
    isUp: () => storage?.queue.isUp ?? true,
    onPruned: (app, channel, ts) => engine.pruned(app, channel, ts),
  });
}

async function openIoPoll(): Promise<IoPoll | null> {
  try {
    return await IoPoll.open();
  } catch (error) {
    log.warn("no loopback connection: a client that floods can keep others waiting", { error });
    return null;
  }
}

function createEngine(
  config: Config,
  clock: Clock,
  turn: Turn,
  node: string,
  storage: OpenStorage | null,
): Engine {
  const { max_cache_msgs_every_channel: mostCached, msg_retention_per_channel: kept } = config;
  return new Engine({
    clock,
    turn,
    node,
    keepHistory: config.msg_storage !== "",
    storage: storage ?? undefined,
    history: {
      maxMessagesPerChannel: kept > 0 ? Math.min(mostCached, kept) : mostCached,
      maxBytes: config.max_cache_bytes,
      maxIdleChannels: config.pubsub_channel_max_items,
    },
    maxChannelsPerConnection: config.max_channels_per_connection,
  });
}

function listen(key: string, addr: ListenAddr, tcpBacklog: number): Deno.TcpListener {
  try {
    return Deno.listen({ hostname: addr.hostname, port: addr.port, tcpBacklog });
  } catch (error) {
    if (addr.hostname !== "::" || error instanceof Deno.errors.AddrInUse) {
      throw listenError(key, addr, error);
    }
    // A machine without IPv6: ":2222" then means every IPv4 interface.
    return listen(key, { ...addr, hostname: "0.0.0.0" }, tcpBacklog);
  }
}

/** What an operator should know at start although nothing is wrong enough to stop. */
async function warnings(config: Config, openFiles: number): Promise<void> {
  if (config.max_connections !== null && config.max_connections > openFiles - RESERVED_FILES) {
    log.warn(
      `max_connections ${config.max_connections} is more than the open-file limit of ${openFiles} ` +
        `allows; raise that limit (ulimit -n, LimitNOFILE)`,
    );
  }
  const cap = await somaxconn();
  if (cap !== undefined && cap < config.tcp_backlog) {
    log.warn(`tcp_backlog ${config.tcp_backlog} is capped at ${cap} by the kernel (somaxconn)`);
  }
}

function historyLine(config: Config, storage: OpenStorage | null): string {
  if (config.msg_storage === "") return 'history: off (msg_storage: "")';
  if (storage !== null) {
    const when = config.msg_storage_flush_policy === 0
      ? "PUBLISHED means stored"
      : "stored every second";
    return `history: ${storage.store.description}, ${when}`;
  }
  const perChannel = config.max_cache_msgs_every_channel;
  return `history: in memory, the newest ${perChannel} messages of each channel; gone when the server stops`;
}

function snapshot(
  server: Server,
  storage: OpenStorage | null,
  nodeId: string,
  startedMs: number,
) {
  const { engine, counters } = server;
  return {
    version: VERSION,
    build: "dev",
    nodeId,
    uptimeS: Math.floor((performance.now() - startedMs) / 1000),
    stats: {
      connections: server.connections.size,
      connections_total: counters.connectionsTotal,
      connections_refused: counters.refused,
      pubsub_channel_count: engine.channelCount,
      s2s_channel_count: 0,
      subscriptions: engine.counters.subscriptions,
      published: engine.counters.published,
      delivered: engine.counters.delivered,
      slow_consumers: counters.slowConsumers,
      bytes_in: counters.bytesIn,
      bytes_out: server.bytesOut,
      history_cache_bytes: engine.historyBytes,
      storage_pending: storage?.queue.messages ?? 0,
      storage_commits: storage?.queue.counters.commits ?? 0,
      storage_errors: storage?.queue.counters.errors ?? 0,
    },
  };
}

function originHost(origin: string): string[] {
  return URL.canParse(origin) ? [new URL(origin).hostname] : [];
}

function isWildcard(hostname: string): boolean {
  return hostname === "0.0.0.0" || hostname === "::";
}

function hostAndPort(hostname: string, port: number): string {
  return hostname.includes(":") ? `[${hostname}]:${port}` : `${hostname}:${port}`;
}
