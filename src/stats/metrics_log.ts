// The metrics log: a line of JSON now and then with all counters, for who keeps files and no Prometheus.

import { between, type HistogramSnapshot, quantile } from "../core/histogram.ts";
import { FileOutput, LogSink } from "../core/log_sink.ts";
import { getLogger } from "../core/logger.ts";
import { spawn } from "../core/spawn.ts";
import { Wake } from "../core/wake.ts";
import type { StatsDeps, StatSnapshot } from "./app.ts";
import type { Latencies } from "./metrics.ts";

/** Lines that wait for a file that cannot be written, in bytes: an hour and more of them. */
const MAX_QUEUE_BYTES = 256 * 1024;
/** How long the last line may take, ms. */
const LAST_LINE_MS = 500;
/** While it is off, or a day away from the next line, it is looked at so often, ms. */
const LONGEST_NAP_MS = 3_600_000;

/** Counters of `/s/stat` that are also shown as a rate: `published_per_s`. */
const RATED = [
  "connections_total",
  "published",
  "delivered",
  "bytes_in",
  "bytes_out",
  "storage_commits",
  "s2s_forwarded",
  "s2s_received",
];

const log = getLogger("stats");

/** A file that was opened for lines. */
export interface MetricsFile {
  readonly path: string;
  readonly output: FileOutput;
}

/** Opens a file for {@link MetricsLog.use}, and makes it where there is none; rejects with what the system says. */
export async function openMetricsFile(path: string): Promise<MetricsFile> {
  const output = new FileOutput(path);
  await output.prepare();
  return { path, output };
}

/** What the lines are made of. */
export type MetricsLogSource = Pick<StatsDeps, "snapshot" | "metrics">;

/** How things were when the last line was written. */
interface Look {
  readonly atMs: number;
  readonly snapshot: StatSnapshot;
  readonly latency: Latencies;
  readonly eventLoopLagMs: number;
  readonly cpuS: number;
  readonly residentBytes: number;
}

/** Writes the lines, from {@link use} on; what becomes of the file never reaches the caller. */
export class MetricsLog {
  #source: MetricsLogSource;
  #sink: LogSink | null = null;
  #intervalMs = Infinity;
  #last: Look;
  /** The next line is due an interval after this. */
  #fromMs: number;
  #wake = new Wake();
  #isClosed = false;
  #running: Promise<void> | null = null;

  constructor(source: MetricsLogSource) {
    this.#source = source;
    this.#last = this.#look();
    this.#fromMs = this.#last.atMs;
  }

  /**
   * A line each `intervalMs` from now on, counted from the last one. `file`: goes on in this one, null:
   * writes no more; undefined: in the one it had.
   */
  use(file: MetricsFile | null | undefined, intervalMs: number): void {
    this.#intervalMs = intervalMs;
    if (file !== undefined) {
      const before = this.#sink;
      if (before !== null) spawn("stats.metrics_log", () => before.close(LAST_LINE_MS));
      // What was before is nobody's interval.
      if (before === null) {
        this.#last = this.#look();
        this.#fromMs = this.#last.atMs;
      }
      this.#sink = file && this.#sinkOf(file);
    }
    if (this.#sink !== null) {
      this.#running ??= spawn("stats.metrics_log", () => this.#run()).done;
    }
    this.#wake.set();
  }

  #sinkOf({ path, output }: MetricsFile): LogSink {
    return new LogSink({
      output,
      maxQueueBytes: MAX_QUEUE_BYTES,
      notice: (note, properties) => {
        const { nodeId: node } = this.#source.snapshot();
        return `${JSON.stringify({ time: new Date().toISOString(), node, note, ...properties })}\n`;
      },
      onFailure: (reason) =>
        log.warn("metrics_logfile cannot be written; it is tried again", { path, reason }),
    });
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      const dueMs = this.#sink === null ? Infinity : this.#fromMs + this.#intervalMs;
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) await this.#wake.wait(Math.min(Math.ceil(leftMs), LONGEST_NAP_MS));
      else this.#writeLine(dueMs);
    }
  }

  /** `dueMs`: when it was due, so that late lines do not make all that follow later and later. */
  #writeLine(dueMs: number): void {
    const look = this.#look();
    this.#sink?.write(`${JSON.stringify(lineOf(this.#last, look))}\n`);
    // After a standstill the next one is a whole interval away.
    const isOnTime = look.atMs - dueMs < this.#intervalMs;
    this.#fromMs = isOnTime ? dueMs : look.atMs;
    this.#last = look;
  }

  /** Goes on in a new file of the same name. */
  reopen(): void {
    this.#sink?.reopen();
  }

  /** Writes a last line, with what came since the one before, and lets go of the file. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake.set();
    await this.#running;
    if (this.#sink === null) return;
    this.#writeLine(performance.now());
    await this.#sink.close(LAST_LINE_MS);
    this.#sink = null;
  }

  #look(): Look {
    const { latency, eventLoopLagMs, process: { cpuS, residentBytes } } = this.#source.metrics();
    const snapshot = this.#source.snapshot();
    return { atMs: performance.now(), snapshot, latency, eventLoopLagMs, cpuS, residentBytes };
  }
}

/** A line's object: everything flat, so that `jq` and a table have it easy. */
function lineOf(before: Look, now: Look): Record<string, string | number | null> {
  const { nodeId, version, uptimeS, stats } = now.snapshot;
  const intervalS = Math.max(0.001, (now.atMs - before.atMs) / 1000);
  const rates = RATED.filter((name) => name in stats).map((name) => {
    const added = stats[name] - (before.snapshot.stats[name] ?? 0);
    return [`${name.replace(/_total$/, "")}_per_s`, rounded(added / intervalS)];
  });
  return {
    time: new Date().toISOString(),
    node: nodeId,
    version,
    uptime_s: uptimeS,
    interval_s: rounded(intervalS),
    ...stats,
    ...Object.fromEntries(rates),
    ...percentiles("publish", before.latency.publish, now.latency.publish),
    ...percentiles("delivery", before.latency.delivery, now.latency.delivery),
    ...percentiles("commit", before.latency.commit, now.latency.commit),
    resident_bytes: now.residentBytes,
    cpu_percent: rounded((now.cpuS - before.cpuS) / intervalS * 100),
    event_loop_lag_ms: rounded(now.eventLoopLagMs),
  };
}

/** Of what was measured in between, ms; null where nothing was. */
function percentiles(
  name: string,
  before: HistogramSnapshot,
  now: HistogramSnapshot,
): Record<string, number | null> {
  const measured = between(before, now);
  const ms = (q: number) => {
    const seconds = quantile(measured, q);
    return seconds === null ? null : rounded(seconds * 1000);
  };
  return { [`${name}_p50_ms`]: ms(0.5), [`${name}_p99_ms`]: ms(0.99) };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
