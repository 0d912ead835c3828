// The answer of /metrics: the server's numbers as Prometheus or OpenMetrics text.

import type { Gauge, Registry, RegistryContentType } from "prom-client";
import type { HistogramSnapshot } from "../core/histogram.ts";
import type { ProcessUsage } from "../core/process_usage.ts";

/**
 * What is shown, at one moment. Each record has all of a fixed set of keys from the start on, never a
 * user, channel or address: a key is a series.
 */
export interface MetricNumbers {
  version: string;
  /** Whether `/readyz` answers 200. */
  ready: boolean;
  /** What `/readyz` can name, and whether it does. */
  failing: Readonly<Record<string, boolean>>;
  /** Open connections, and how many there may be. */
  connections: number;
  connectionsLimit: number;
  connectionsTotal: number;
  /** Of those, the ones that were not let in. */
  connectionsRefused: number;
  /** Connections that ended, by reason. */
  disconnects: Readonly<Record<string, number>>;
  subscriptions: number;
  channels: number;
  published: number;
  delivered: number;
  bytesIn: number;
  bytesOut: number;
  /** Requests by command. */
  commands: Readonly<Record<string, number>>;
  /** `ERROR` lines by code. */
  errors: Readonly<Record<string, number>>;
  latency: Latencies;
  /** Messages that wait for the store, and how many may. */
  storagePending: number;
  storagePendingLimit: number;
  storageErrors: number;
  historyCacheBytes: number;
  historyCache: { hits: number; misses: number };
  /** Links to other nodes; all 0 where the server stands alone. */
  s2s: {
    links: number;
    forwarded: number;
    received: number;
    replayBytes: number;
    lost: number;
  };
  /** Other nodes of the cluster, by how they are to this one: `up`, `connecting`, `down`. */
  nodes: Readonly<Record<string, number>>;
  configReloads: Readonly<Record<"ok" | "failed", number>>;
  /** How late a timer was, at most, in the last 15 s. */
  eventLoopLagMs: number;
  /** Files that clients hold, and may hold; of the process the limit, Infinity where there is none. */
  clientFiles: number;
  clientFilesLimit: number;
  fileLimit: number;
  process: ProcessUsage;
}

/** How long things have taken since the start. */
export interface Latencies {
  /** From the read that brought a message to its queued reply; sampled. */
  readonly publish: HistogramSnapshot;
  /** From a message's acceptance until a subscriber's socket took it; sampled. */
  readonly delivery: HistogramSnapshot;
  /** Each commit of the store. */
  readonly commit: HistogramSnapshot;
}

/** The formats there are, and the `Content-Type` of each. */
export const METRICS_TYPES = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
} as const satisfies Record<string, RegistryContentType>;

export type MetricsFormat = keyof typeof METRICS_TYPES;

/**
 * The text. The registry is a new one each time: it costs nothing while nobody asks, and prom-client
 * takes the `_total` off the names of a registry that was shown as OpenMetrics once.
 */
export async function metricsText(numbers: MetricNumbers, format: MetricsFormat): Promise<string> {
  // 45 ms of each start, and 10 MB where there is no stats door.
  const { default: client } = await import("prom-client");
  const registry = new client.Registry<RegistryContentType>();
  registry.setContentType(METRICS_TYPES[format]);
  const sheet = new Sheet(client, registry);
  const { latency, process } = numbers;
  sheet.gauge("pushd_ready", "1 where /readyz answers 200, else 0.", Number(numbers.ready));
  sheet.gauges(
    "pushd_failing",
    "What /readyz names as failing: 1, or 0 where it does not.",
    "what",
    numbers.failing,
  );
  sheet.gauge("pushd_connections", "Open connections.", numbers.connections);
  sheet.gauge(
    "pushd_connections_limit",
    "Connections that may be open at a time.",
    numbers.connectionsLimit,
  );
  const total = "Connections that came in, those that were refused included.";
  const kind = format === "prometheus" ? "counter" : "unknown";
  sheet[kind]("pushd_connections_total", total, numbers.connectionsTotal);
  sheet.counter(
    "pushd_connections_refused_total",
    "Connections that were not let in.",
    numbers.connectionsRefused,
  );
  sheet.counters(
    "pushd_disconnects_total",
    "Connections that ended, by reason.",
    "reason",
    numbers.disconnects,
  );
  sheet.gauge("pushd_subscriptions", "Subscriptions of open connections.", numbers.subscriptions);
  sheet.gauge("pushd_channels", "Channels with a subscriber or kept messages.", numbers.channels);
  sheet.counter("pushd_messages_published_total", "Messages accepted.", numbers.published);
  sheet.counter(
    "pushd_messages_delivered_total",
    "Messages queued for subscribers, once for each of them.",
    numbers.delivered,
  );
  sheet.counter("pushd_bytes_in_total", "Bytes that came from clients.", numbers.bytesIn);
  sheet.counter("pushd_bytes_out_total", "Bytes that clients took.", numbers.bytesOut);
  sheet.counters("pushd_commands_total", "Requests, by command.", "command", numbers.commands);
  sheet.counters("pushd_errors_total", "Errors that clients got, by code.", "code", numbers.errors);
  sheet.histogram(
    "pushd_publish_duration_seconds",
    "From the read that brought a message to its queued PUBLISHED, after the commit where that is waited for; sampled, at most one in 5 ms.",
    latency.publish,
  );
  sheet.histogram(
    "pushd_delivery_duration_seconds",
    "From the turn in which a message was accepted, or came from another node, until the kernel had taken it for one of its subscribers; sampled, at most one in 5 ms.",
    latency.delivery,
  );
  sheet.histogram(
    "pushd_storage_commit_duration_seconds",
    "Commits that stored their messages, each of them.",
    latency.commit,
  );
  sheet.gauge(
    "pushd_storage_pending",
    "Messages accepted and not yet stored.",
    numbers.storagePending,
  );
  sheet.gauge(
    "pushd_storage_pending_limit",
    "Messages that may be accepted and not yet stored; beyond it publishers wait.",
    numbers.storagePendingLimit,
  );
  sheet.counter("pushd_storage_errors_total", "Failures of the store.", numbers.storageErrors);
  sheet.gauge(
    "pushd_history_cache_bytes",
    "Memory that kept messages take.",
    numbers.historyCacheBytes,
  );
  const { historyCache, s2s } = numbers;
  sheet.counter(
    "pushd_history_cache_hits_total",
    "Reads of history that memory alone answered.",
    historyCache.hits,
  );
  sheet.counter(
    "pushd_history_cache_misses_total",
    "Reads of history for which the store had to be asked.",
    historyCache.misses,
  );
  sheet.gauges(
    "pushd_s2s_nodes",
    "Other nodes of the cluster, by how they are to this one.",
    "state",
    numbers.nodes,
  );
  sheet.gauge("pushd_s2s_links", "Nodes that are linked.", s2s.links);
  sheet.counter("pushd_s2s_forwarded_total", "Messages given to links.", s2s.forwarded);
  sheet.counter("pushd_s2s_received_total", "Messages that came over links.", s2s.received);
  sheet.gauge("pushd_s2s_replay_bytes", "Bytes kept for other nodes.", s2s.replayBytes);
  sheet.counter(
    "pushd_s2s_lost_total",
    "Messages that another node did not get: more than was kept for it.",
    s2s.lost,
  );
  sheet.counters(
    "pushd_config_reloads_total",
    "Reloads of the configuration, by how they ended.",
    "result",
    numbers.configReloads,
  );
  sheet.gauge(
    "pushd_event_loop_lag_seconds",
    "The latest that a timer was in the last 15 seconds.",
    numbers.eventLoopLagMs / 1000,
  );
  sheet.info("pushd_build_info", "What is running; always 1.", { version: numbers.version });
  sheet.counter("process_cpu_seconds_total", "Time on the processor.", process.cpuS);
  sheet.gauge("process_resident_memory_bytes", "Resident memory.", process.residentBytes);
  sheet.gauge("process_start_time_seconds", "Start, since the Unix epoch.", process.startS);
  sheet.gauge("pushd_client_files", "Open files that clients hold.", numbers.clientFiles);
  sheet.gauge(
    "pushd_client_files_limit",
    "Open files that clients may hold.",
    numbers.clientFilesLimit,
  );
  if (Number.isFinite(numbers.fileLimit)) {
    sheet.gauge("process_max_fds", "Files that the process may have open.", numbers.fileLimit);
  }
  return await registry.metrics();
}

type PromClient = typeof import("prom-client");

/** Puts numbers into a registry as they are. */
class Sheet {
  #client: PromClient;
  #registers: Registry<RegistryContentType>[];

  constructor(client: PromClient, registry: Registry<RegistryContentType>) {
    this.#client = client;
    this.#registers = [registry];
  }

  gauge(name: string, help: string, value: number): Gauge {
    const gauge = new this.#client.Gauge({ name, help, registers: this.#registers });
    gauge.set(value);
    return gauge;
  }

  gauges(
    name: string,
    help: string,
    label: string,
    values: Readonly<Record<string, number | boolean>>,
  ): void {
    const labelNames = [label];
    const gauge = new this.#client.Gauge({ name, help, labelNames, registers: this.#registers });
    for (const [key, value] of Object.entries(values)) gauge.set({ [label]: key }, Number(value));
  }

  /** A histogram that was filled elsewhere. */
  histogram(name: string, help: string, { bounds_s, counts, sum_s }: HistogramSnapshot): void {
    const bucket = `${name}_bucket`;
    let count = 0;
    const values = counts.map((inBucket, i) => {
      count += inBucket;
      return { metricName: bucket, labels: { le: bounds_s[i] ?? "+Inf" }, value: count };
    });
    const total = [
      { metricName: `${name}_sum`, labels: {}, value: sum_s },
      { metricName: `${name}_count`, labels: {}, value: count },
    ];
    const filled = { name, help, type: "histogram", values: [...values, ...total] };
    const registers = this.#registers;
    const histogram = new this.#client.Histogram({ name, help, buckets: [...bounds_s], registers });
    // prom-client's own can only be filled observation by observation; these are what it is asked for.
    const get = () => Promise.resolve(filled);
    Object.assign(histogram, { get, getForPromString: get });
  }

  counter(name: string, help: string, value: number): void {
    new this.#client.Counter({ name, help, registers: this.#registers }).inc(value);
  }

  counters(
    name: string,
    help: string,
    label: string,
    values: Readonly<Record<string, number>>,
  ): void {
    const counter = new this.#client.Counter({
      name,
      help,
      labelNames: [label],
      registers: this.#registers,
    });
    for (const [key, value] of Object.entries(values)) counter.inc({ [label]: key }, value);
  }

  info(name: string, help: string, labels: Record<string, string>): void {
    const labelNames = Object.keys(labels);
    new this.#client.Gauge({ name, help, labelNames, registers: this.#registers }).set(labels, 1);
  }

  /**
   * A counter whose name without `_total` is another metric's. OpenMetrics calls a counter by that name,
   * and two metrics of one name are an error there; as one of unknown type it keeps the name it has.
   */
  unknown(name: string, help: string, value: number): void {
    // prom-client has no class for the type; the field is what it writes.
    Object.assign(this.gauge(name, help, value), { type: "unknown" });
  }
}
