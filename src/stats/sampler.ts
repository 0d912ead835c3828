// Looks at the running server once a second and keeps what it sees.

import process from "node:process";
import { between, type HistogramSnapshot, quantile } from "../core/histogram.ts";
import { pause } from "../core/pause.ts";
import { spawn, type Task } from "../core/spawn.ts";
import type { LiveNumbers } from "./live_source.ts";
import { type Moment, Timeline } from "./timeline.ts";

const STEP_MS = 1000;
/** A quarter of an hour. */
const MOMENTS = 900;

/** What a moment is worked out against. */
interface Before {
  readonly ms: number;
  readonly cpuMs: number;
  readonly numbers: LiveNumbers;
}

/** Takes a moment a second from {@link start} to {@link stop}, and tells of each. */
export class Sampler {
  readonly timeline: Timeline = new Timeline(MOMENTS, STEP_MS);
  /** The newest moment, unrounded; null before the first. */
  latest: Moment | null = null;

  #read: () => LiveNumbers;
  #onSample: () => void;
  #before: Before | null = null;
  #task: Task | null = null;

  /** `read` has to be cheap: it is called each second, whether or not anybody looks. */
  constructor(read: () => LiveNumbers, onSample: () => void) {
    this.#read = read;
    this.#onSample = onSample;
  }

  /** Begins; the first moment comes a second later, since rates need two looks. */
  start(): void {
    if (this.#task !== null) return;
    this.sample(Date.now());
    this.#task = spawn("stats.sample", async (signal) => {
      let dueMs = performance.now() + STEP_MS;
      while (await pause(Math.max(1, dueMs - performance.now()), signal)) {
        const nowMs = performance.now();
        this.sample(Date.now(), nowMs - dueMs);
        // Not a quick succession of those that were missed.
        dueMs = Math.max(dueMs + STEP_MS, nowMs + STEP_MS / 2);
      }
    });
  }

  async stop(): Promise<void> {
    this.#task?.stop();
    await this.#task?.done;
    this.#task = null;
  }

  /** Takes a look now. `timeMs` is the wall clock's, `lateMs` by how much it comes too late. */
  sample(timeMs: number, lateMs = 0): void {
    const numbers = this.#read();
    const { user, system } = process.cpuUsage();
    const before = this.#before;
    const now: Before = {
      ms: performance.now(),
      cpuMs: (user + system) / 1000,
      numbers,
    };
    this.#before = now;
    if (before === null) return;
    this.latest = momentOf(before, now, lateMs);
    this.timeline.add(timeMs, this.latest);
    this.#onSample();
  }
}

function momentOf(before: Before, now: Before, lateMs: number): Moment {
  const seconds = Math.max(now.ms - before.ms, 1) / 1000;
  const rate = (from: number, to: number) => Math.max(0, to - from) / seconds;
  const { numbers } = now;
  const old = before.numbers;
  const { rss, heapUsed } = Deno.memoryUsage();
  const publish = (q: number) => quantileMs(old.latency.publish, numbers.latency.publish, q);
  const delivery = (q: number) => quantileMs(old.latency.delivery, numbers.latency.delivery, q);
  return {
    connections: numbers.connections,
    published: rate(old.published, numbers.published),
    delivered: rate(old.delivered, numbers.delivered),
    bytes_in: rate(old.bytesIn, numbers.bytesIn),
    bytes_out: rate(old.bytesOut, numbers.bytesOut),
    publish_p50_ms: publish(0.5),
    publish_p99_ms: publish(0.99),
    delivery_p50_ms: delivery(0.5),
    delivery_p99_ms: delivery(0.99),
    lag_ms: Math.max(numbers.lagMs, lateMs, 0),
    resident_bytes: rss,
    heap_bytes: heapUsed,
    cpu_percent: rate(before.cpuMs, now.cpuMs) / 10,
    storage_pending: numbers.storagePending,
    s2s_forwarded: rate(old.s2s?.forwarded ?? 0, numbers.s2s?.forwarded ?? NaN),
    s2s_received: rate(old.s2s?.received ?? 0, numbers.s2s?.received ?? NaN),
  };
}

/** What a part `q` of what came between two looks took at most, ms; NaN where nothing came. */
function quantileMs(before: HistogramSnapshot, now: HistogramSnapshot, q: number): number {
  return (quantile(between(before, now), q) ?? NaN) * 1000;
}
