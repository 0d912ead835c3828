// The composition root: the only file that chooses implementations and puts them together.

import { parseArgs, type ServeArgs } from "./cli/args.ts";
import { checkConfig } from "./cli/check_config.ts";
import { printError, printOut, versionText } from "./cli/output.ts";
import { loadConfig } from "./config/load.ts";
import { redact } from "./config/redact.ts";
import type { Config } from "./config/schema.ts";
import type { ListenAddr } from "./config/values.ts";
import { Clock } from "./core/clock.ts";
import { IoPoll } from "./core/io_poll.ts";
import { configureLogging, flushLogs, getLogger, reopen } from "./core/logger.ts";
import { openFileLimit } from "./core/open_files.ts";
import { somaxconn } from "./core/somaxconn.ts";
import { setCrashHook, spawn } from "./core/spawn.ts";
import { setIoPoll, Turn } from "./core/turn.ts";
import { VERSION } from "./core/version.ts";
import { Auth } from "./engine/auth.ts";
import { Engine } from "./engine/engine.ts";
import { Server } from "./serv/server.ts";
import { createStatsApp } from "./stats/app.ts";
import { startStatsServer, type StatsServer } from "./stats/server.ts";

/** Exit codes: done; failed; called or configured wrongly. */
const DONE = 0;
const FAILED = 1;
const WRONG = 2;

/** Files that are kept free for the stats door, the log and the runtime itself. */
const RESERVED_FILES = 64;
/** How long the last log lines may take, ms. */
const FLUSH_MS = 500;

/** Signals that come this close together are one. */
const SAME_SIGNAL_MS = 50;

const log = getLogger("main");

async function main(argv: string[]): Promise<number> {
  const args = parseArgs(argv);
  switch (args.command) {
    case "serve":
      return await serve(args);
    case "check_config":
      return checkConfig(args.file, Deno.env.toObject());
    case "version":
      printOut(versionText(VERSION));
      return DONE;
    case "help":
      printOut(args.text);
      return DONE;
    case "usage_error":
      printError(args.message);
      return WRONG;
  }
}

async function serve(args: ServeArgs): Promise<number> {
  const loaded = loadConfig({
    path: args.conf,
    env: Deno.env.toObject(),
    overrides: args.overrides,
  });
  if (!loaded.ok) {
    for (const warning of loaded.warnings) printError(`warning: ${warning}`);
    for (const mistake of loaded.mistakes) printError(mistake);
    return WRONG;
  }
  try {
    await configureLogging({ level: args.level, file: args.log, format: args.logFormat });
  } catch (error) {
    printError(`--log ${args.log}: ${messageOf(error)}`);
    return FAILED;
  }
  const crashed = new Promise<number>((resolve) => setCrashHook(() => resolve(FAILED)));
  for (const warning of loaded.warnings) log.warn("{warning}", { warning });

  let pushd: Pushd;
  try {
    pushd = await Pushd.start(loaded.config);
  } catch (error) {
    if (!(error instanceof ListenError)) throw error;
    printError(error.message);
    return FAILED;
  }
  listenToSignals();
  return await Promise.race([crashed, untilSignal().then(() => stop(pushd))]);
}

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    let firstMs: number | null = null;
    const onSignal = () => {
      firstMs ??= performance.now();
      // Ctrl-C reaches a whole process group, and `deno task` passes it on once more: that is one.
      if (performance.now() - firstMs > SAME_SIGNAL_MS) Deno.exit(FAILED);
      resolve();
    };
    Deno.addSignalListener("SIGINT", onSignal);
    Deno.addSignalListener("SIGTERM", onSignal);
  });
}

/** The other signals: SIGUSR1 goes on in a new log file; what comes later must at least not kill. */
function listenToSignals(): void {
  Deno.addSignalListener("SIGUSR1", reopen);
  for (const [signal, what] of [["SIGHUP", "reload"], ["SIGUSR2", "lame duck"]] as const) {
    Deno.addSignalListener(signal, () => {
      log.warn("signal ignored: its work is not yet in this version", { signal, work: what });
    });
  }
}

async function stop(pushd: Pushd): Promise<number> {
  const open = pushd.server.connections.size;
  log.info("stopping", { connections: open });
  const left = await pushd.stop();
  if (left > 0) log.warn("stopped; some connections did not close in time", { connections: left });
  else log.info("stopped");
  return DONE;
}

/** An address that cannot be listened on; the message names its key. */
class ListenError extends Error {
  override readonly name = "ListenError";

  constructor(key: string, addr: ListenAddr, cause: unknown) {
    const reason = cause instanceof Deno.errors.AddrInUse
      ? "the address is already in use; stop what listens there, or choose another"
      : messageOf(cause);
    super(`${key}: cannot listen on "${addr.text}": ${reason}`, { cause });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A running server: the parts, put together. */
class Pushd {
  #draining = false;

  private constructor(
    readonly config: Config,
    readonly server: Server,
    readonly stats: StatsServer | null,
  ) {}

  /** Opens every door, then starts to serve. Throws a {@link ListenError} with nothing left open. */
  static async start(config: Config): Promise<Pushd> {
    const files = await openFileLimit();
    const listenAddr = config.tcp_listen_addr;
    const listener = listen("tcp_listen_addr", listenAddr, config.tcp_backlog);
    const { hostname, port } = listener.addr;
    setIoPoll(await openIoPoll());
    const node = config.node_id || `${Deno.hostname()}:${port}`;
    const turn = new Turn();
    const engine = createEngine(config, turn, node);
    const maxConnections = config.max_connections ?? Math.max(1, files.limit - RESERVED_FILES);
    const server = new Server({
      engine,
      turn,
      auth: new Auth({
        required: config.auth === "on",
        apps: config.apps,
        tokenTtlMs: config.token_ttl,
        maxUnusedTokens: config.max_unused_tokens,
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
        snapshot: () => snapshot(server, node, startedMs),
        // What the server worked out by itself is shown as it is in force.
        conf: () => ({ ...redact(config), node_id: node, max_connections: maxConnections }),
        readiness: () => {
          const draining = pushd?.isDraining ?? false;
          return { ready: !draining, failing: draining ? ["draining"] : [] };
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
        throw new ListenError("stats_listen_addr", config.stats_listen_addr, error);
      }
    }
    pushd = new Pushd(config, server, stats);

    log.info(`pushd ${VERSION} on Deno ${Deno.version.deno}, node ${node}`);
    log.info(
      `clients: ${hostAndPort(hostname, port)}, at most ${maxConnections} connections (${
        config.max_connections === null
          ? `open-file limit ${files.limit}, ${files.how}`
          : "max_connections"
      })`,
    );
    log.info(historyLine(config));
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

  /** Stops in order; resolves to the number of connections that had to be closed the hard way. */
  async stop(): Promise<number> {
    this.#draining = true;
    const left = await this.server.stop(this.config.drain_timeout);
    await this.stats?.close();
    return left;
  }
}

async function openIoPoll(): Promise<IoPoll | null> {
  try {
    return await IoPoll.open();
  } catch (error) {
    log.warn("no loopback connection: a client that floods can keep others waiting", { error });
    return null;
  }
}

function createEngine(config: Config, turn: Turn, node: string): Engine {
  return new Engine({
    clock: new Clock(),
    turn,
    node,
    keepHistory: config.msg_storage !== "",
    history: {
      maxMessagesPerChannel: config.max_cache_msgs_every_channel,
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
      throw new ListenError(key, addr, error);
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

function historyLine(config: Config): string {
  if (config.msg_storage === "") return 'history: off (msg_storage: "")';
  const perChannel = config.max_cache_msgs_every_channel;
  return `history: in memory, the newest ${perChannel} messages of each channel; gone when the server stops`;
}

function snapshot(server: Server, nodeId: string, startedMs: number) {
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

if (import.meta.main) {
  const code = await main(Deno.args);
  await flushLogs(FLUSH_MS);
  Deno.exit(code);
}
