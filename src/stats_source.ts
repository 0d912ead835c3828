// What the stats door shows of the running server: its parts, read and never changed.

import { redact } from "./config/redact.ts";
import type { Config } from "./config/schema.ts";
import type { EventLoopMonitor } from "./core/event_loop.ts";
import { Histogram } from "./core/histogram.ts";
import { hostAndPort } from "./core/host_port.ts";
import type { OpenFileLimit } from "./core/open_files.ts";
import { processUsage } from "./core/process_usage.ts";
import { LAG_WINDOW_MS, systemView, traceView } from "./core/system.ts";
import { BUILD, VERSION } from "./core/version.ts";
import type { Doors } from "./doors.ts";
import { topChannels } from "./engine/top_channels.ts";
import type { OpenCluster } from "./open_cluster.ts";
import type { OpenStorage } from "./open_storage.ts";
import { ERROR_CODES } from "./proto/errors.ts";
import { viewOfSelf } from "./s2s/node_view.ts";
import { topConnections } from "./serv/connection_view.ts";
import type { Server } from "./serv/server.ts";
import type { StatLists, StatsDeps, StatSnapshot } from "./stats/app.ts";
import type { LiveNumbers, LiveSource } from "./stats/live_source.ts";
import type { Latencies, MetricNumbers } from "./stats/metrics.ts";
import {
  FAILINGS,
  type NodesAnswer,
  type ReadyAnswer,
  type StatAnswer,
  type SysAnswer,
  type TraceAnswer,
} from "./stats/shapes.ts";

/** The parts of the running server. */
export interface RunningParts {
  readonly node: string;
  /** What is in force. */
  readonly config: Config;
  readonly doors: Doors;
  readonly server: Server;
  readonly storage: OpenStorage | null;
  readonly cluster: OpenCluster | null;
  readonly files: OpenFileLimit;
  readonly eventLoop: EventLoopMonitor;
  /** How reloads of the configuration have ended. */
  readonly reloads: { readonly ok: number; readonly failed: number };
  /** On the monotonic clock. */
  readonly startedMs: number;
  readonly isDraining: boolean;
}

/** Answers what the stats door asks. Every answer is made when it is asked for. */
export class StatsSource implements StatsDeps, LiveSource {
  readonly lists: StatLists;

  #parts: RunningParts;

  /** `listenHost`: the host that the door listens on. */
  constructor(parts: RunningParts, readonly listenHost: string) {
    this.#parts = parts;
    const { server } = parts;
    this.lists = {
      channels: (limit, prefix) => topChannels(server.engine.channelChunks(), limit, prefix),
      connections: (limit, order) => topConnections(server.connections, limit, order),
      closed: (limit) => server.closed.last(limit),
    };
  }

  /** As in the file; what the server worked out by itself as it is in force. */
  conf(): StatAnswer["conf"] {
    const { config, node, server } = this.#parts;
    const { maxConnections } = server.limits;
    return { ...redact(config), node_id: node, max_connections: maxConnections };
  }

  get node(): string {
    return this.#parts.node;
  }

  token(): string {
    return this.#parts.config.stats_token;
  }

  allowedHosts(): string[] {
    const { allowed_hosts, web_origins } = this.#parts.config;
    return [...allowed_hosts, ...web_origins.flatMap(originHost)];
  }

  readiness(): ReadyAnswer {
    const { storage, isDraining } = this.#parts;
    const failing: ReadyAnswer["failing"] = [];
    if (storage?.queue.admission === "down") failing.push("storage");
    if (isDraining) failing.push("draining");
    const ready = failing.length === 0;
    // No other node would be better for it.
    const cluster = this.#parts.cluster?.cluster;
    if (cluster?.isDirectoryUp === false) failing.push("etc");
    if (cluster?.isShort === true) failing.push("s2s");
    return { ready, failing };
  }

  sys(): SysAnswer {
    const { server, files, eventLoop } = this.#parts;
    return systemView({
      eventLoop,
      clientFiles: server.files,
      fileLimit: files.limit,
    });
  }

  trace(): TraceAnswer {
    const { server, storage, cluster, eventLoop } = this.#parts;
    let clientBytes = 0;
    for (const { writer } of server.connections) clientBytes += writer.pending;
    return traceView({
      eventLoop,
      resources: {
        connections: server.connections.size,
        client_files: server.files,
        deadlines: server.wheel.size,
        channels: server.engine.channelCount,
        s2s_links: cluster?.cluster?.links ?? 0,
      },
      pending: {
        client_bytes: clientBytes,
        storage_messages: storage?.queue.messages ?? 0,
        storage_bytes: storage?.queue.bytes ?? 0,
        storage_commits: storage?.queue.commitsUnderWay ?? 0,
        s2s_replay_bytes: cluster?.router.replayBytes ?? 0,
      },
    });
  }

  nodes(): NodesAnswer {
    const { node, cluster, config } = this.#parts;
    return {
      node,
      cluster: cluster === null ? null : config.cluster,
      nodes: cluster?.cluster?.nodes() ?? [this.#viewOfItself()],
    };
  }

  liveNumbers(): LiveNumbers {
    const { server, storage, cluster } = this.#parts;
    const { engine, counters } = server;
    return {
      connections: server.connections.size,
      published: engine.counters.published,
      delivered: engine.counters.delivered,
      bytesIn: counters.bytesIn,
      bytesOut: counters.bytesOut,
      // The page looks once a second.
      lagMs: this.#parts.eventLoop.maxSince(1000),
      storagePending: storage?.queue.messages ?? 0,
      s2s: cluster?.router.counters ?? null,
      latency: this.latency(),
    };
  }

  snapshot(): StatSnapshot {
    const { server, storage } = this.#parts;
    const { engine, counters } = server;
    return {
      version: VERSION,
      build: BUILD,
      nodeId: this.#parts.node,
      uptimeS: Math.floor((performance.now() - this.#parts.startedMs) / 1000),
      stats: {
        connections: server.connections.size,
        connections_total: counters.connectionsTotal,
        connections_refused: counters.refused,
        pubsub_channel_count: engine.channelCount,
        s2s_channel_count: this.#parts.cluster?.router.channelCount ?? 0,
        subscriptions: engine.counters.subscriptions,
        published: engine.counters.published,
        delivered: engine.counters.delivered,
        slow_consumers: counters.slowConsumers,
        bytes_in: counters.bytesIn,
        bytes_out: counters.bytesOut,
        history_cache_bytes: engine.historyBytes,
        history_cache_hits: engine.historyReads.hits,
        history_cache_misses: engine.historyReads.misses,
        storage_pending: storage?.queue.messages ?? 0,
        storage_commits: storage?.queue.counters.commits ?? 0,
        storage_errors: storage?.queue.counters.errors ?? 0,
        ...this.#clusterCounters(),
        config_reloads_ok: this.#parts.reloads.ok,
        config_reloads_failed: this.#parts.reloads.failed,
        ...flat("errors", this.#errors()),
        ...flat("disconnects", counters.disconnects),
      },
    };
  }

  /** What `/s/nodes` shows where there are no others. */
  #viewOfItself() {
    const { hostname, port } = this.#parts.doors.plain.addr;
    return viewOfSelf({
      id: this.#parts.node,
      s2sAddr: null,
      clientAddr: hostAndPort(hostname, port),
      software: VERSION,
    }, Date.now() - (performance.now() - this.#parts.startedMs));
  }

  #clusterMetrics(): MetricNumbers["s2s"] {
    const router = this.#parts.cluster?.router;
    return {
      links: this.#parts.cluster?.cluster?.links ?? 0,
      forwarded: router?.counters.forwarded ?? 0,
      received: router?.counters.received ?? 0,
      replayBytes: router?.replayBytes ?? 0,
      lost: router?.lost ?? 0,
    };
  }

  #clusterCounters(): Record<string, number> {
    const { cluster } = this.#parts;
    if (cluster === null) return {};
    const { router, cluster: links } = cluster;
    const { counters, bytes } = router;
    return {
      s2s_links: links?.links ?? 0,
      s2s_forwarded: counters.forwarded,
      s2s_received: counters.received,
      s2s_unwanted: counters.unwanted,
      s2s_replay_bytes: router.replayBytes,
      s2s_lost: router.lost,
      s2s_refused: links?.refused ?? 0,
      s2s_nonsense: links?.nonsense ?? 0,
      s2s_bytes_in: bytes.in,
      s2s_bytes_out: bytes.out,
    };
  }

  latency(): Latencies {
    const { server, storage } = this.#parts;
    const { publish, delivery } = server.engine.latency;
    const commit = storage?.queue.durations ?? new Histogram();
    return {
      publish: publish.snapshot(),
      delivery: delivery.snapshot(),
      commit: commit.snapshot(),
    };
  }

  /** Other nodes by their state, those of no state too. */
  #otherNodes(): Record<string, number> {
    const count = { up: 0, connecting: 0, down: 0 };
    for (const { self, state } of this.#parts.cluster?.cluster?.nodes() ?? []) {
      if (!self) count[state]++;
    }
    return count;
  }

  metrics(): MetricNumbers {
    const { server, storage, files, eventLoop } = this.#parts;
    const { engine, counters, limits } = server;
    const { ready, failing } = this.readiness();
    return {
      version: VERSION,
      ready,
      failing: Object.fromEntries(FAILINGS.map((what) => [what, failing.includes(what)])),
      connections: server.connections.size,
      connectionsLimit: limits.maxConnections,
      connectionsTotal: counters.connectionsTotal,
      connectionsRefused: counters.refused,
      disconnects: { ...counters.disconnects },
      subscriptions: engine.counters.subscriptions,
      channels: engine.channelCount,
      published: engine.counters.published,
      delivered: engine.counters.delivered,
      bytesIn: counters.bytesIn,
      bytesOut: counters.bytesOut,
      commands: { ...counters.commands },
      errors: this.#errors(),
      latency: this.latency(),
      storagePending: storage?.queue.messages ?? 0,
      storagePendingLimit: storage?.queue.maxMessages ?? 0,
      storageErrors: storage?.queue.counters.errors ?? 0,
      historyCacheBytes: engine.historyBytes,
      historyCache: { ...engine.historyReads },
      s2s: this.#clusterMetrics(),
      nodes: this.#otherNodes(),
      configReloads: { ...this.#parts.reloads },
      eventLoopLagMs: eventLoop.maxSince(LAG_WINDOW_MS),
      clientFiles: server.files,
      clientFilesLimit: limits.maxFiles,
      fileLimit: files.limit,
      process: processUsage(),
    };
  }

  /** Errors by code, those that never happened too. */
  #errors(): Record<string, number> {
    const { errors } = this.#parts.server.counters;
    return Object.fromEntries(ERROR_CODES.map((code) => [code, errors[code] ?? 0]));
  }
}

/** The counts under names for `/s/stat`: `errors_too_busy`. */
function flat(kind: string, counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counts).map(([name, n]) => [`${kind}_${name.replaceAll("-", "_")}`, n]),
  );
}

function originHost(origin: string): string[] {
  return URL.canParse(origin) ? [new URL(origin).hostname] : [];
}
