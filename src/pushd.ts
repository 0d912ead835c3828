// The running server: the parts, put together as the configuration says.

import { isClustered } from "./config/clustered.ts";
import type { Config, ListenAddr } from "./config/schema.ts";
import type { Certificate } from "./core/certificate.ts";
import { Clock } from "./core/clock.ts";
import { EventLoopMonitor } from "./core/event_loop.ts";
import { hostAndPort, isWildcard } from "./core/host_port.ts";
import { IoPoll } from "./core/io_poll.ts";
import { getLogger } from "./core/logger.ts";
import { oldRuntimeNote } from "./core/old_runtime.ts";
import { type OpenFileLimit, openFileLimit } from "./core/open_files.ts";
import { somaxconn } from "./core/somaxconn.ts";
import { spawn } from "./core/spawn.ts";
import { setIoPoll, Turn } from "./core/turn.ts";
import { VERSION } from "./core/version.ts";
import { Doors, listenError, trustedProxies } from "./doors.ts";
import { Auth } from "./engine/auth.ts";
import { Engine } from "./engine/engine.ts";
import { Retention } from "./engine/retention.ts";
import { metricsFileOf } from "./open_metrics_file.ts";
import type { OpenCluster } from "./open_cluster.ts";
import { type OpenStorage, openStorage } from "./open_storage.ts";
import { Server } from "./serv/server.ts";
import {
  authLimits,
  commitLimits,
  engineLimits,
  maxConnections,
  retentionLimits,
  servLimits,
} from "./settings.ts";
import { createStatsApp } from "./stats/app.ts";
import { LiveFeed } from "./stats/live_feed.ts";
import { metricsText } from "./stats/metrics.ts";
import { type MetricsFile, MetricsLog } from "./stats/metrics_log.ts";
import { loadPage } from "./stats/page_files.ts";
import { createProfilingApp, PROFILING_LIMITS } from "./stats/profiling.ts";
import { startStatsServer, type StatsServer, type StatsServerOptions } from "./stats/server.ts";
import { type RunningParts, StatsSource } from "./stats_source.ts";
import { MemoryTokenStore } from "./storage/memory_tokens.ts";

/** The least time for what is to be stored at a stop, ms. */
const MIN_STORE_STOP_MS = 2000;
/** The least time that other nodes are given for what is on its way to them at a stop, ms. */
const LEAVE_CLUSTER_MS = 2000;
/** What connections that a lame duck could not close get on top, ms at most. */
const LAST_CALL_MS = 2000;
/** A certificate that ends sooner is warned of, days. */
const CERTIFICATE_WARNING_DAYS = 14;
const DAY_MS = 86_400_000;

const log = getLogger("main");

/** How reloads of the configuration have ended. */
export interface ReloadCounters {
  ok: number;
  failed: number;
}

/** A running server: the parts, put together. */
export class Pushd implements RunningParts {
  readonly reloads: ReloadCounters = { ok: 0, failed: 0 };

  #config: Config;
  /** No new clients are taken. */
  isDraining = false;
  #hasLeft = false;
  readonly startedMs: number = performance.now();
  readonly eventLoop: EventLoopMonitor;
  #stats: StatsServer | null = null;
  #metricsLog: MetricsLog | null = null;
  #live: LiveFeed | null = null;
  #profiling: StatsServer | null = null;

  private constructor(
    config: Config,
    readonly node: string,
    readonly doors: Doors,
    readonly server: Server,
    readonly storage: OpenStorage | null,
    readonly cluster: OpenCluster | null,
    readonly retention: Retention | null,
    readonly files: OpenFileLimit,
  ) {
    this.#config = config;
    const { turn } = server;
    this.eventLoop = new EventLoopMonitor({ turns: () => turn.count });
  }

  /** Opens every door, then starts to serve. Throws a {@link StartError} with nothing left open. */
  static async start(config: Config): Promise<Pushd> {
    const files = await openFileLimit();
    const doors = Doors.open(config);
    setIoPoll(await openIoPoll());
    const node = config.node_id || `${Deno.hostname()}:${doors.plain.addr.port}`;
    const turn = new Turn();
    const clock = new Clock();
    const storage = await openStorage(config, clock, turn, node).catch((error) => {
      doors.abandon();
      throw error;
    });
    const ownTokens = storage?.tokens ?? new MemoryTokenStore();
    const abandon = async () => {
      doors.abandon();
      await storage?.queue.close(0);
    };
    let cluster: OpenCluster | null = null;
    try {
      const clients = doors.plain.addr;
      // Not before it is wanted, as what a server that stands alone does without.
      if (isClustered(config)) {
        const { OpenCluster } = await import("./open_cluster.ts");
        cluster = OpenCluster.open({ config, turn, node, clients, tokens: ownTokens });
      }
    } catch (error) {
      await abandon();
      throw error;
    }
    const engine = new Engine({
      clock,
      turn,
      node,
      keepHistory: config.msg_storage !== "",
      storage: storage ?? undefined,
      cluster: cluster?.engineOptions,
      ...engineLimits(config),
    });
    storage?.bind(engine);
    const server = new Server({
      engine,
      turn,
      auth: new Auth({
        required: config.auth === "on",
        tokens: cluster?.tokens ?? ownTokens,
        ...authLimits(config),
      }),
      limits: servLimits(config, files),
      logger: getLogger("serv"),
      proxies: trustedProxies(config),
    });
    const retention = createRetention(config, engine, storage);
    const pushd = new Pushd(config, node, doors, server, storage, cluster, retention, files);
    try {
      pushd.#openStats();
      await pushd.#openMetricsLog();
      await pushd.#announce();
      if (engine.routerHost !== null) await cluster?.start(engine.routerHost);
    } catch (error) {
      await pushd.#metricsLog?.close();
      await pushd.#closeStats();
      await cluster?.stop(0);
      await abandon();
      throw error;
    }
    pushd.eventLoop.start();
    storage?.queue.supervise();
    retention?.start();
    doors.serve(server);
    pushd.#announceReady();
    if (pushd.#stats !== null) spawn("stats.load", () => pushd.#loadStats());
    return pushd;
  }

  /** What is in force. */
  get config(): Config {
    return this.#config;
  }

  #openStats(): void {
    const { stats_listen_addr: stats, prof_listen_addr: prof } = this.#config;
    if (stats !== null) {
      const source = new StatsSource(this, stats.hostname);
      const live = new LiveFeed(source);
      this.#stats = openHttp("stats_listen_addr", stats, { app: createStatsApp(source, live) });
      live.start();
      this.#live = live;
    }
    if (prof !== null) {
      const app = createProfilingApp(new StatsSource(this, prof.hostname));
      this.#profiling = openHttp("prof_listen_addr", prof, { app, limits: PROFILING_LIMITS });
    }
  }

  /**
   * Loads now what the stats door needs later: that takes 60 ms in which nobody is served, and Deno 2.9.6
   * panics where it loads a module and there is no file left to open.
   */
  async #loadStats(): Promise<void> {
    const metrics = new StatsSource(this, "").metrics();
    try {
      await Promise.all([
        metricsText(metrics, "prometheus"),
        loadPage(),
        import("./stats/openapi.ts"),
      ]);
      await this.#stats?.warmUp();
    } catch (error) {
      log.warn("what the stats door needs cannot be loaded; it is tried again when asked for", {
        error,
      });
    }
  }

  async #closeStats(): Promise<void> {
    await this.#live?.stop();
    await Promise.all([this.#stats?.close(), this.#profiling?.close()]);
  }

  async #openMetricsLog(): Promise<void> {
    const file = await metricsFileOf(this.#config);
    this.#metricsLog = new MetricsLog(new StatsSource(this, ""));
    this.#useMetricsFile(file);
  }

  #useMetricsFile(file: MetricsFile | null | undefined): void {
    const { stats_output_interval: intervalMs } = this.#config;
    this.#metricsLog?.use(file, intervalMs);
    if (file) log.info(`metrics: a line every ${intervalMs / 1000} s to ${file.path}`);
  }

  /** Goes on in new files of the same names, the log aside: somebody has moved the old ones away. */
  reopenFiles(): void {
    this.#metricsLog?.reopen();
  }

  /** Says at start what was opened, and what an operator should know. */
  async #announce(): Promise<void> {
    const config = this.#config;
    const { hostname, port } = this.doors.plain.addr;
    log.info(`pushd ${VERSION} on Deno ${Deno.version.deno}, node ${this.node}`);
    const { count, why } = maxConnections(config, this.files);
    log.info(`clients: ${hostAndPort(hostname, port)}, at most ${count} connections (${why})`);
    const tls = this.doors.tls?.listener.addr;
    if (tls !== undefined && this.doors.certificate !== null) {
      log.info(`clients over TLS: ${hostAndPort(tls.hostname, tls.port)}, each takes three files`);
      tellCertificate(this.doors.certificate);
    }
    log.info(historyLine(config, this.storage));
    if (this.#stats !== null) {
      const { addr } = this.#stats;
      log.info(`stats: http://${hostAndPort(addr.hostname, addr.port)}`);
    }
    if (this.#profiling !== null) {
      const { addr } = this.#profiling;
      log.info(`profiles: http://${hostAndPort(addr.hostname, addr.port)}`);
    }
    this.#warnOfCap();
    const old = oldRuntimeNote();
    // Nothing that is to be done about a server that runs, so it is no warning.
    if (old !== null) return log.info(old);
    const cap = await somaxconn();
    if (cap !== undefined && cap < config.tcp_backlog) {
      log.warn(`tcp_backlog ${config.tcp_backlog} is capped at ${cap} by the kernel (somaxconn)`);
    }
  }

  /** Says that clients are served from now on. */
  #announceReady(): void {
    const { hostname, port } = this.doors.plain.addr;
    const dialable = isWildcard(hostname) ? "localhost" : hostname;
    log.info(`ready: telnet ${dialable} ${port}, then type: sub channel1`);
  }

  #warnOfCap(): void {
    const { count, isCapped } = maxConnections(this.#config, this.files);
    if (!isCapped) return;
    log.warn(
      `max_connections ${this.#config.max_connections} is more than the open-file limit of ` +
        `${this.files.limit} allows, ${count} are taken; raise that limit (ulimit -n, LimitNOFILE)`,
    );
  }

  /**
   * Takes over a configuration that differs in what a reload applies only, and the certificate that
   * goes with it, and the file of the metrics log where that is another one or none any more. Cannot
   * fail. Resolves when every connection knows.
   */
  async apply(
    config: Config,
    certificate: Certificate | null,
    metricsFile?: MetricsFile | null,
  ): Promise<void> {
    const before = this.#config;
    this.#config = config;
    this.#useMetricsFile(metricsFile);
    this.server.auth.setLimits(authLimits(config));
    this.server.engine.setLimits(engineLimits(config));
    this.storage?.queue.setLimits(commitLimits(config));
    this.retention?.setLimits(retentionLimits(config));
    if (this.server.proxies !== null) this.server.proxies = trustedProxies(config);
    await this.cluster?.apply(config);
    if (certificate !== null && this.doors.isAnother(certificate)) {
      this.doors.renew(certificate);
      tellCertificate(certificate);
    }
    if (config.max_connections !== before.max_connections) this.#warnOfCap();
    await this.server.setLimits(servLimits(config, this.files));
    const ids = new Set(config.apps.map(({ id }) => id));
    const gone = new Set(before.apps.map(({ id }) => id).filter((id) => !ids.has(id)));
    if (gone.size > 0) await this.server.closeApps(gone);
  }

  /**
   * Lame duck: no new connections, and the present ones told to come back and closed one after the
   * other over `drain_timeout`; ends early when all have left, or at `signal`. {@link stop} follows.
   */
  async leave(signal: AbortSignal): Promise<void> {
    this.isDraining = true;
    await this.server.leave(this.#config.drain_timeout, signal);
    this.#hasLeft = !signal.aborted;
  }

  /**
   * Stops in order; resolves to the number of connections that had to be closed the hard way, and of
   * acknowledged messages that could not be stored.
   */
  async stop(): Promise<{ connections: number; messages: number }> {
    this.isDraining = true;
    const { drain_timeout } = this.#config;
    // After a lame duck everybody has been told long ago.
    const drainMs = this.#hasLeft ? Math.min(drain_timeout, LAST_CALL_MS) : drain_timeout;
    const endMs = performance.now() + drainMs;
    const connections = await this.server.stop(drainMs);
    this.doors.close();
    await this.cluster?.stop(Math.max(LEAVE_CLUSTER_MS, endMs - performance.now()));
    await this.retention?.stop();
    // What is acknowledged has earned a moment, also where the clients took all the time there was.
    const leftMs = Math.max(MIN_STORE_STOP_MS, endMs - performance.now());
    const messages = await this.storage?.queue.close(leftMs) ?? 0;
    await this.#metricsLog?.close();
    await this.#closeStats();
    this.eventLoop.stop();
    return { connections, messages };
  }
}

/** Throws a {@link StartError} that names the key. */
function openHttp(
  key: string,
  addr: ListenAddr,
  options: Pick<StatsServerOptions, "app" | "limits">,
): StatsServer {
  try {
    return startStatsServer({ hostname: addr.hostname, port: addr.port, ...options });
  } catch (error) {
    throw listenError(key, addr, error);
  }
}

function tellCertificate({ subject, validTo }: Certificate): void {
  const until = validTo.toISOString().slice(0, 10);
  const days = Math.floor((validTo.getTime() - Date.now()) / DAY_MS);
  if (days >= CERTIFICATE_WARNING_DAYS) log.info(`certificate: ${subject}, until ${until}`);
  else log.warn(`certificate: ${subject} ends on ${until}; renew it and reload`);
}

function createRetention(
  config: Config,
  engine: Engine,
  storage: OpenStorage | null,
): Retention | null {
  if (!engine.keepsHistory) return null;
  return new Retention({
    limits: retentionLimits(config),
    prune: async (request) => {
      if (request.cursor === undefined) await engine.forgetArrivals(request.beforeTs);
      return await (storage?.store.prune(request) ?? engine.pruneMemory(request));
    },
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
