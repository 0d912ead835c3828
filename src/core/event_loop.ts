// How late the event loop is, watched all the time: timers that come late, and the longest stalls.

import process from "node:process";
import { clearTimeout, setTimeout } from "node:timers";

/** Something kept the event loop from turning: work in one go, the machine, or a stopped process. */
export interface Stall {
  /** Wall clock when it began, as near as that is known, ms since the Unix epoch. */
  readonly atMs: number;
  /** How long it lasted. */
  readonly ms: number;
  /**
   * Processor time of the whole process meanwhile, ms: much less than `ms` says that it was stopped, or
   * that the machine was busy with others.
   */
  readonly cpuMs: number;
  /** Turns of clients' work that ended meanwhile: none where it was one piece of work. */
  readonly turns: number;
}

/** What a monitor can be told; see {@linkcode EventLoopMonitor}. */
export interface EventLoopOptions {
  /** Grows with the work that is done: while it does, the loop is looked at more often. */
  turns?: () => number;
  /** For tests. A clock that never steps; the wall clock; processor time used so far; all ms. */
  now?: () => number;
  wallMs?: () => number;
  cpuMs?: () => number;
  /** For tests: stands for a timer that does not keep the process alive; returns what takes it back. */
  setTimer?: (fn: () => void, delayMs: number) => () => void;
}

/** Between two looks while there is work, and while there is none, ms. */
const BUSY_MS = 50;
const IDLE_MS = 250;
/** Looks without any work before there are fewer of them. */
const IDLE_LOOKS = 20;
/** Seconds for which the greatest lag is known. */
const SECONDS = 64;
/** From this on a delay is a stall, ms. */
const STALL_MS = 20;
const MAX_STALLS = 20;
const STALL_TTL_MS = 3_600_000;

/**
 * A timer that looks how late it is. A wake-up of the runtime costs some 0.2 ms of processor time, so an
 * idle server, where nobody is kept waiting, is looked at four times a second, and one that works twenty
 * times, which it does not notice beside its work. A stall is seen by as much as it is longer than what
 * was left until the next look; one that is shorter may go unseen, many such are seen now and then.
 */
export class EventLoopMonitor {
  readonly #turns: () => number;
  readonly #now: () => number;
  readonly #wallMs: () => number;
  readonly #cpuMs: () => number;
  readonly #setTimer: (fn: () => void, delayMs: number) => () => void;
  /** The greatest lag of each of the last seconds, and which second it is. */
  readonly #lags = new Float64Array(SECONDS);
  readonly #seconds = new Float64Array(SECONDS).fill(-1);
  #expectedMs = Infinity;
  #clearTimer: (() => void) | null = null;
  #lastTurns = 0;
  #lastCpuMs = 0;
  #idleLooks = 0;
  #lagMs = 0;
  /** The longest first. */
  #stalls: Stall[] = [];

  constructor(options: EventLoopOptions = {}) {
    this.#turns = options.turns ?? (() => 0);
    this.#now = options.now ?? (() => performance.now());
    this.#wallMs = options.wallMs ?? (() => Date.now());
    this.#cpuMs = options.cpuMs ?? processorMs;
    this.#setTimer = options.setTimer ?? startTimer;
  }

  /** Begins to look. Does not keep the process alive. */
  start(): void {
    if (this.#clearTimer !== null) return;
    this.#lastTurns = this.#turns();
    this.#lastCpuMs = this.#cpuMs();
    this.#idleLooks = 0;
    this.#arm(this.#now());
  }

  /** Looks no more; what was seen stays. */
  stop(): void {
    this.#clearTimer?.();
    this.#clearTimer = null;
    this.#expectedMs = Infinity;
  }

  /** How late the last look was, or the next one is by now, ms. */
  get lagMs(): number {
    return Math.max(this.#lagMs, this.#now() - this.#expectedMs);
  }

  /**
   * The greatest lag that was seen in the last `ms`, at most a minute, and up to a second before that.
   * Asking changes nothing, so each who asks at an interval of his own misses nothing.
   */
  maxSince(ms: number): number {
    const nowMs = this.#now();
    const second = Math.floor(nowMs / 1000);
    const from = Math.max(second - SECONDS + 1, Math.floor((nowMs - ms) / 1000));
    let most = Math.max(0, nowMs - this.#expectedMs);
    for (let i = 0; i < SECONDS; i++) {
      if (this.#seconds[i] >= from) most = Math.max(most, this.#lags[i]);
    }
    return most;
  }

  /** The longest stalls of the last hour, at most twenty, the longest first. */
  stalls(): Stall[] {
    this.#forgetOld();
    return [...this.#stalls];
  }

  #arm(nowMs: number): void {
    const periodMs = this.#idleLooks < IDLE_LOOKS ? BUSY_MS : IDLE_MS;
    this.#expectedMs = nowMs + periodMs;
    this.#clearTimer = this.#setTimer(this.#onTimer, periodMs);
  }

  readonly #onTimer = (): void => {
    const nowMs = this.#now();
    this.#lagMs = Math.max(0, nowMs - this.#expectedMs);
    const turns = this.#turns();
    const cpuMs = this.#cpuMs();
    const second = Math.floor(nowMs / 1000);
    const at = second % SECONDS;
    this.#lags[at] = this.#seconds[at] === second
      ? Math.max(this.#lags[at], this.#lagMs)
      : this.#lagMs;
    this.#seconds[at] = second;
    if (this.#lagMs >= STALL_MS) {
      this.#keep({
        atMs: this.#wallMs() - this.#lagMs,
        ms: this.#lagMs,
        cpuMs: cpuMs - this.#lastCpuMs,
        turns: turns - this.#lastTurns,
      });
    }
    this.#idleLooks = turns === this.#lastTurns ? this.#idleLooks + 1 : 0;
    this.#lastTurns = turns;
    this.#lastCpuMs = cpuMs;
    this.#arm(nowMs);
  };

  #keep(stall: Stall): void {
    const last = this.#stalls.at(-1);
    if (this.#stalls.length === MAX_STALLS && last !== undefined && last.ms >= stall.ms) {
      // There may be room all the same, where one has become old.
      this.#forgetOld();
      if (this.#stalls.length === MAX_STALLS) return;
    }
    this.#stalls.push(stall);
    this.#stalls.sort((a, b) => b.ms - a.ms);
    if (this.#stalls.length > MAX_STALLS) this.#stalls.pop();
  }

  #forgetOld(): void {
    const fromMs = this.#wallMs() - STALL_TTL_MS;
    this.#stalls = this.#stalls.filter(({ atMs }) => atMs >= fromMs);
  }
}

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

// The timers of node:timers cost a third less than the global ones.
function startTimer(fn: () => void, delayMs: number): () => void {
  const timer = setTimeout(fn, delayMs).unref();
  return () => clearTimeout(timer);
}
