// The feed of the page: the last quarter of an hour at once, then each second what is new.

import { pause } from "../core/pause.ts";
import { recentLog } from "../core/recent_log.ts";
import { spawn, type Task } from "../core/spawn.ts";
import type { LiveSource } from "./live_source.ts";
import { Sampler } from "./sampler.ts";
import { SERIES } from "./timeline.ts";
import { eventBytes, Viewer } from "./viewer.ts";

/** Bounds; each has a default. */
export interface FeedLimits {
  /** Viewers at one time. Default 32. */
  maxViewers: number;
  /** What may wait for one of them, beside what its socket took. Default 1 MiB. */
  maxWaitingBytes: number;
  /** The least time between two looks at channels, connections and nodes. Default 3 s. */
  lookIntervalMs: number;
  /** After a look this many times its duration passes: with a million channels it takes a while. Default 50. */
  lookPauseFactor: number;
}

const DEFAULT_LIMITS: FeedLimits = {
  maxViewers: 32,
  maxWaitingBytes: 1024 * 1024,
  lookIntervalMs: 3000,
  lookPauseFactor: 50,
};

/** Channels and connections that are shown. */
const TOP = 10;
/** What is logged within this time is told together, ms. */
const LOG_DELAY_MS = 100;

/**
 * Takes a moment each second, and sends it to whoever watches; the lists are made for all of them
 * together, and only while there is one. Events: `hello` (what there is so far), `moment`, `look`
 * (channels, connections, nodes), `log` (new warnings), `conf` (after a reload).
 */
export class LiveFeed {
  readonly sampler: Sampler;

  #limits: FeedLimits;
  #viewers = new Set<Viewer>();
  #looking: Task | null = null;
  #lastLook: unknown = null;
  #confText = "";
  #toldOfLog = 0;
  #logTimer: ReturnType<typeof setTimeout> | undefined;
  #endLog: (() => void) | null = null;
  /** The beginning for who comes now; made once a second at most. */
  #hello: Uint8Array<ArrayBuffer> | null = null;
  #isRunning = false;

  constructor(readonly source: LiveSource, limits: Partial<FeedLimits> = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.sampler = new Sampler(() => source.liveNumbers(), () => this.#onSample());
  }

  /** Begins to take moments. */
  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.sampler.start();
    this.#endLog = recentLog.onAdded(() => this.#onLogged());
  }

  /** Ends every stream, and takes no more moments. */
  async stop(): Promise<void> {
    this.#isRunning = false;
    this.#endLog?.();
    clearTimeout(this.#logTimer);
    for (const viewer of this.#viewers) viewer.end();
    this.#looking?.stop();
    await Promise.all([this.sampler.stop(), this.#looking?.done]);
  }

  /** How many watch. */
  get viewers(): number {
    return this.#viewers.size;
  }

  /** Whether one more may watch. */
  get hasRoom(): boolean {
    return this.#isRunning && this.#viewers.size < this.#limits.maxViewers;
  }

  /** Lets somebody watch; null where there is no room. `cutOff` ends its connection at once. */
  open(cutOff?: () => void): ReadableStream<Uint8Array<ArrayBuffer>> | null {
    if (!this.hasRoom) return null;
    // First, as it tells the others of what it will say.
    const hello = this.#hello ??= this.#makeHello();
    const viewer = new Viewer({
      maxWaitingBytes: this.#limits.maxWaitingBytes,
      token: this.source.token(),
      cutOff,
      onGone: (gone) => {
        this.#viewers.delete(gone);
        if (this.#viewers.size === 0) this.#looking?.stop();
      },
    });
    this.#viewers.add(viewer);
    viewer.send(hello);
    this.#looking ??= this.#look();
    return viewer.body;
  }

  #makeHello(): Uint8Array<ArrayBuffer> {
    const { version, nodeId, uptimeS } = this.source.snapshot();
    const { timeline } = this.sampler;
    const { s2s } = this.source.liveNumbers();
    this.#tellOfLog();
    this.#tellOfConf();
    return eventBytes("hello", {
      node: nodeId,
      version,
      runtime: `Deno ${Deno.version.deno}`,
      now_ms: Date.now(),
      uptime_s: uptimeS,
      series: SERIES,
      step_ms: timeline.stepMs,
      capacity: timeline.capacity,
      rows: timeline.rows(),
      // Which series there are at all here.
      has: { s2s: s2s !== null },
      ...this.source.readiness(),
      conf: this.source.conf(),
      look: this.#lastLook,
      log: recentLog.after(0),
    });
  }

  #tell(bytes: Uint8Array<ArrayBuffer>): void {
    for (const viewer of this.#viewers) viewer.send(bytes);
  }

  #onSample(): void {
    this.#hello = null;
    const token = this.source.token();
    for (const viewer of this.#viewers) if (viewer.token !== token) viewer.end();
    if (this.#viewers.size === 0) return;
    const { uptimeS } = this.source.snapshot();
    const row = this.sampler.timeline.last();
    this.#tell(eventBytes("moment", { row, uptime_s: uptimeS, ...this.source.readiness() }));
  }

  #onLogged(): void {
    this.#hello = null;
    if (this.#viewers.size === 0 || this.#logTimer !== undefined) return;
    this.#logTimer = setTimeout(() => this.#tellOfLog(), LOG_DELAY_MS);
  }

  #tellOfLog(): void {
    clearTimeout(this.#logTimer);
    this.#logTimer = undefined;
    const records = recentLog.after(this.#toldOfLog);
    this.#toldOfLog = recentLog.count;
    if (records.length > 0) this.#tell(eventBytes("log", records));
  }

  /** Looks around while somebody watches. */
  #look(): Task {
    return spawn("stats.look", async (signal) => {
      try {
        while (this.#viewers.size > 0) {
          const startMs = performance.now();
          this.#lastLook = await this.#lookOnce();
          if (signal.aborted) return;
          this.#hello = null;
          this.#tell(eventBytes("look", this.#lastLook));
          this.#tellOfConf();
          const tookMs = performance.now() - startMs;
          const { lookIntervalMs, lookPauseFactor } = this.#limits;
          const restMs = Math.max(lookIntervalMs, lookPauseFactor * tookMs);
          if (!await pause(restMs, signal)) return;
        }
      } finally {
        this.#lastLook = null;
        this.#looking = null;
        // Somebody came just when the last one had gone.
        if (this.#viewers.size > 0 && this.#isRunning) this.#looking = this.#look();
      }
    });
  }

  async #lookOnce() {
    const { source } = this;
    const { stats } = source.snapshot();
    const [channels, slowest] = await Promise.all([
      source.lists.channels(TOP, ""),
      source.lists.connections(TOP, "pending"),
    ]);
    return {
      ...source.nodes(),
      channels,
      channel_count: stats.pubsub_channel_count,
      subscriptions: stats.subscriptions,
      slowest: slowest.filter(({ pending }) => pending > 0),
      slow_consumers: stats.slow_consumers,
    };
  }

  #tellOfConf(): void {
    const conf = this.source.conf();
    const text = JSON.stringify(conf);
    if (text === this.#confText) return;
    this.#confText = text;
    this.#tell(eventBytes("conf", conf));
  }
}
