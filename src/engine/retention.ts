// Deletes what is older than it may be, in the background and in small steps.

import { systemTime, type TimeSource } from "../core/clock.ts";
import { getLogger } from "../core/logger.ts";
import { spawn, type Task } from "../core/spawn.ts";
import { nextTurn } from "../core/turn.ts";
import type { PruneRequest, PruneStep } from "./ports/history_store.ts";
import { StoreError } from "./ports/history_store.ts";

/** What may be kept; 0: all of it. */
export interface RetentionLimits {
  /** Age of the oldest message, ms. */
  maxAgeMs: number;
  /** Newest messages of each channel. */
  keepPerChannel: number;
}

/** Settings of a {@link Retention}. */
export interface RetentionOptions {
  limits: RetentionLimits;
  /** One step of deletion; see `HistoryStore.prune`. */
  prune(request: PruneRequest): Promise<PruneStep>;
  /** Whether there is anything to ask now. */
  isUp(): boolean;
  /** Messages of a channel up to `ts` are gone. */
  onPruned(app: string, channel: string, ts: number): void;
  time?: TimeSource;
}

/** A round begins at this share of the age, within these bounds, ms. */
const ROUNDS_PER_AGE = 10;
const MIN_INTERVAL_MS = 1000;
const MAX_INTERVAL_MS = 60_000;
/** How often a bound per channel alone is looked at, ms. */
const PER_CHANNEL_INTERVAL_MS = 5000;
/** A wall clock that moves by more against the monotonic one has been set, ms. */
const JUMP_MS = 5000;
/** How long nothing is deleted after that, ms: time for somebody to set it right. */
const PAUSE_MS = 3_600_000;

const log = getLogger("storage");

/**
 * Deletes old messages round by round. A wall clock that was set ahead by mistake must not cost the
 * history: after a jump nothing is deleted for an hour.
 */
export class Retention {
  #limits: RetentionLimits;

  #options: RetentionOptions;
  #time: TimeSource;
  /** Wall clock minus monotonic clock at the last look, ms. */
  #offsetMs: number;
  #pausedUntilMs = -Infinity;
  #task: Task | null = null;
  #wake: (() => void) | null = null;
  #isStopping = false;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#limits = options.limits;
    this.#time = options.time ?? systemTime;
    this.#offsetMs = this.#time.wallMs() - this.#time.monoMs();
  }

  /** Takes other bounds, and begins a round soon. */
  setLimits(limits: RetentionLimits): void {
    this.#limits = limits;
    this.#wake?.();
  }

  /** Begins the rounds. */
  start(): void {
    this.#task ??= spawn("engine.retention", () => this.#run());
  }

  /** Ends them; resolves when the step under way is over. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#wake?.();
    await this.#task?.done;
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      await this.#nap(this.#intervalMs());
      if (this.#isStopping) return;
      try {
        await this.round();
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        log.warn("old messages could not be deleted; trying again later", { error });
      }
    }
  }

  #nap(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #intervalMs(): number {
    const { maxAgeMs, keepPerChannel } = this.#limits;
    const byAge = maxAgeMs > 0 ? maxAgeMs / ROUNDS_PER_AGE : MAX_INTERVAL_MS;
    const most = keepPerChannel > 0 ? PER_CHANNEL_INTERVAL_MS : MAX_INTERVAL_MS;
    return Math.min(Math.max(byAge, MIN_INTERVAL_MS), most);
  }

  /** One round through all channels. Rejects as the store does. */
  async round(): Promise<void> {
    const { keepPerChannel, maxAgeMs } = this.#limits;
    const isPaused = this.#isPaused();
    const beforeTs = maxAgeMs > 0 && !isPaused ? (this.#time.wallMs() - maxAgeMs) * 1000 : 0;
    if (beforeTs <= 0 && keepPerChannel === 0) return;
    let cursor: unknown = undefined;
    do {
      if (this.#isStopping || !this.#options.isUp()) return;
      const step = await this.#options.prune({ beforeTs, keepPerChannel, cursor });
      for (const { app, channel, prunedTs } of step.pruned) {
        this.#options.onPruned(app, channel, prunedTs);
      }
      cursor = step.cursor;
      await nextTurn();
    } while (cursor !== undefined);
  }

  /** Whether the wall clock has jumped lately. */
  #isPaused(): boolean {
    const nowMs = this.#time.monoMs();
    const offsetMs = this.#time.wallMs() - nowMs;
    const jumpMs = offsetMs - this.#offsetMs;
    this.#offsetMs = offsetMs;
    if (Math.abs(jumpMs) > JUMP_MS) {
      this.#pausedUntilMs = nowMs + PAUSE_MS;
      if (this.#limits.maxAgeMs > 0) {
        log.warn(
          "the wall clock has jumped; msg_retention deletes nothing for an hour, or until a restart",
          { jump_s: Math.round(jumpMs / 1000) },
        );
      }
    }
    return nowMs < this.#pausedUntilMs;
  }
}
