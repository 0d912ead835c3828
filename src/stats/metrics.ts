// The answer of /metrics: the server's numbers as Prometheus or OpenMetrics text.

import type { Gauge, Registry, RegistryContentType } from "prom-client";
import type { ProcessUsage } from "../core/process_usage.ts";

/**
 * What is shown, at one moment. Each record has all of a fixed set of keys from the start on, never a
 * user, channel or address: a key is a series.
 */
export interface MetricNumbers {
  version: string;
  /** Open connections. */
  connections: number;
  connectionsTotal: number;
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
  /** Messages that wait for the store. */
  storagePending: number;
  storageErrors: number;
  historyCacheBytes: number;
  /** Links to other nodes; all 0 where the server stands alone. */
  s2s: {
    links: number;
    forwarded: number;
    received: number;
    replayBytes: number;
    lost: number;
  };
  configReloads: Readonly<Record<"ok" | "failed", number>>;
  /** How late the last timer was. */
  eventLoopLagMs: number;
  process: ProcessUsage;
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
  // 45 ms of each start and 10 MB of memory where nobody asks.
  const { default: client } = await import("prom-client");
  const registry = new client.Registry<RegistryContentType>();
  registry.setContentType(METRICS_TYPES[format]);
  const sheet = new Sheet(client, registry);
  const { process } = numbers;
  sheet.gauge("pushd_connections", "Open connections.", numbers.connections);
  const total = "Connections that came in, those that were refused included.";
  const kind = format === "prometheus" ? "counter" : "unknown";
  sheet[kind]("pushd_connections_total", total, numbers.connectionsTotal);
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
  sheet.gauge(
    "pushd_storage_pending",
    "Messages accepted and not yet stored.",
    numbers.storagePending,
  );
  sheet.counter("pushd_storage_errors_total", "Failures of the store.", numbers.storageErrors);
  sheet.gauge(
    "pushd_history_cache_bytes",
    "Memory that kept messages take.",
    numbers.historyCacheBytes,
  );
  const { s2s } = numbers;
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
    "How late the last timer was.",
    numbers.eventLoopLagMs / 1000,
  );
  sheet.info("pushd_build_info", "What is running; always 1.", { version: numbers.version });
  sheet.counter("process_cpu_seconds_total", "Time on the processor.", process.cpuS);
  sheet.gauge("process_resident_memory_bytes", "Resident memory.", process.residentBytes);
  sheet.gauge("process_start_time_seconds", "Start, since the Unix epoch.", process.startS);
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
