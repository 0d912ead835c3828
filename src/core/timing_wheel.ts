// One timing wheel for the deadlines of very many connections, driven by a single timer.

import { setImmediate } from "node:timers";

/**
 * What a wheel keeps: links in the entry itself, so that a deadline costs no allocation. An entry
 * belongs to one wheel at a time; `prev`, `next`, `slot` and `dueMs` are the wheel's to write.
 */
export interface WheelEntry {
  prev: WheelEntry | null;
  next: WheelEntry | null;
  /** Where in the wheel it is; -1 while it is not scheduled (the value to begin with). */
  slot: number;
  /** When it is due, on the wheel's clock. */
  dueMs: number;
  /**
   * Called at or after `dueMs`, out of the wheel. Returns the next due time on the same clock, or 0 or
   * Infinity to stay out. It may schedule and cancel any entry. So that a busy connection need not move
   * its entry with each byte, it can look here whether it is due at all, and answer when it will be.
   */
  onDue(nowMs: number): number;
}

/** What a wheel can be told; see {@linkcode TimingWheel}. */
export interface TimingWheelOptions {
  /** Time between two ticks; an entry fires at most two of them late. Default 100. */
  tickMs?: number;
  /** Number of lists the entries are spread over. Default 512. */
  slots?: number;
  /** A tick that is later than this means that the process stood still. Default 1000. */
  stallMs?: number;
  /** A clock that never steps (never the wall clock). Default `performance.now`. */
  now?: () => number;
  /** For tests: stands for `setTimeout`; returns what takes the timer back. */
  setTimer?: (fn: () => void, delayMs: number) => () => void;
  /** Runs its argument once waiting reads have been done. Default `setImmediate`. */
  afterReads?: (fn: () => void) => void;
}

/** Ticks of grace in a row: a machine so loaded that each is late still has its deadlines. */
const MAX_GRACE_TICKS = 20;

/**
 * A hashed timing wheel (Varghese and Lauck, 1987, scheme 6): schedule and cancel are O(1), a tick
 * looks at one list. An entry further away than one round stays in its list until its time.
 *
 * After a stall (SIGSTOP, a suspended machine, a blocked loop) the deadlines that passed meanwhile say
 * nothing about the peers: what they sent still waits in the sockets. So the first tick after one judges
 * nobody; it lets the event loop turn for one more tick, in which waiting reads are done, and then
 * judges. A tick of grace that comes late itself (stopped again, or one of many processes continued
 * together) has let nobody read, and is followed by another, up to {@linkcode MAX_GRACE_TICKS}.
 */
export class TimingWheel {
  readonly #tickMs: number;
  readonly #stallMs: number;
  readonly #now: () => number;
  readonly #setTimer: (fn: () => void, delayMs: number) => () => void;
  readonly #afterReads: (fn: () => void) => void;
  readonly #heads: (WheelEntry | null)[];
  readonly #originMs: number;
  /** Number of the last tick that was carried out, counted from the origin. */
  #tick = 0;
  #size = 0;
  #expectedMs = 0;
  /** The entry a running tick will look at next; `cancel` moves it on. */
  #cursor: WheelEntry | null = null;
  /** Ticks of grace given since the last stall that have not been followed by a judgement. */
  #graceTicks = 0;
  #ticking = false;
  #clearTimer: (() => void) | null = null;

  constructor(options: TimingWheelOptions = {}) {
    this.#tickMs = options.tickMs ?? 100;
    this.#stallMs = options.stallMs ?? 1000;
    this.#now = options.now ?? (() => performance.now());
    this.#setTimer = options.setTimer ?? startTimer;
    this.#afterReads = options.afterReads ?? ((fn) => void setImmediate(fn));
    this.#heads = new Array<WheelEntry | null>(options.slots ?? 512).fill(null);
    this.#originMs = this.#now();
  }

  /** Number of entries that are scheduled. */
  get size(): number {
    return this.#size;
  }

  /**
   * Schedules `entry` for `dueMs` on the wheel's clock, or moves it there if it is scheduled already.
   * A time that has passed is due with the next tick; one that is not finite takes the entry out.
   */
  schedule(entry: WheelEntry, dueMs: number): void {
    if (entry.slot !== -1) this.cancel(entry);
    if (!Number.isFinite(dueMs)) return;
    if (this.#clearTimer === null && !this.#ticking) {
      // The wheel stood still while it was empty: bring it to the present before it counts on.
      this.#tick = this.#tickAt(this.#now());
    }
    const tick = Math.max(Math.ceil((dueMs - this.#originMs) / this.#tickMs), this.#tick + 1);
    const slot = tick % this.#heads.length;
    const head = this.#heads[slot];
    entry.slot = slot;
    entry.dueMs = dueMs;
    entry.prev = null;
    entry.next = head;
    if (head !== null) head.prev = entry;
    this.#heads[slot] = entry;
    this.#size++;
    this.#arm();
  }

  /** Takes `entry` out; does nothing when it is not scheduled. */
  cancel(entry: WheelEntry): void {
    if (entry.slot === -1) return;
    if (entry === this.#cursor) this.#cursor = entry.next;
    if (entry.next !== null) entry.next.prev = entry.prev;
    if (entry.prev !== null) entry.prev.next = entry.next;
    else this.#heads[entry.slot] = entry.next;
    entry.prev = null;
    entry.next = null;
    entry.slot = -1;
    this.#size--;
    if (this.#size === 0 && !this.#ticking) this.#disarm();
  }

  /** Takes every entry out without calling it, and the timer with them. The wheel can be used again. */
  stop(): void {
    for (let slot = 0; slot < this.#heads.length; slot++) {
      for (let entry = this.#heads[slot]; entry !== null; entry = this.#heads[slot]) {
        this.cancel(entry);
      }
    }
    this.#disarm();
  }

  #tickAt(nowMs: number): number {
    return Math.floor((nowMs - this.#originMs) / this.#tickMs);
  }

  #arm(): void {
    if (this.#clearTimer !== null || this.#ticking || this.#size === 0) return;
    const nowMs = this.#now();
    const nextMs = this.#originMs + (this.#tickAt(nowMs) + 1) * this.#tickMs;
    this.#startTimer(nowMs, nextMs);
  }

  #startTimer(nowMs: number, atMs: number): void {
    this.#expectedMs = atMs;
    this.#clearTimer = this.#setTimer(this.#onTimer, Math.max(1, Math.ceil(atMs - nowMs)));
  }

  #disarm(): void {
    this.#clearTimer?.();
    this.#clearTimer = null;
    this.#graceTicks = 0;
  }

  readonly #onTimer = (): void => {
    this.#clearTimer = null;
    const nowMs = this.#now();
    const lateMs = nowMs - this.#expectedMs;
    const tooLateMs = this.#graceTicks === 0 ? this.#stallMs : this.#tickMs / 2;
    if (lateMs > tooLateMs && this.#graceTicks < MAX_GRACE_TICKS) {
      this.#graceTicks++;
      this.#startTimer(nowMs, nowMs + this.#tickMs);
    } else if (this.#graceTicks > 0) {
      this.#graceTicks = 0;
      // Timers come before sockets in a round of the event loop.
      this.#ticking = true;
      this.#afterReads(() => this.#judge(this.#now()));
    } else {
      this.#judge(nowMs);
    }
  };

  #judge(nowMs: number): void {
    this.#ticking = true;
    try {
      this.#advance(nowMs);
    } finally {
      this.#ticking = false;
      this.#cursor = null;
      if (this.#size === 0) this.#disarm();
      else this.#arm();
    }
  }

  #advance(nowMs: number): void {
    const from = this.#tick + 1;
    const to = this.#tickAt(nowMs);
    // Set first: what is scheduled from onDue then lands behind this tick.
    this.#tick = Math.max(this.#tick, to);
    // However late it is, each list is walked once.
    const last = Math.min(to, from + this.#heads.length - 1);
    for (let tick = from; tick <= last; tick++) this.#fire(tick % this.#heads.length, nowMs);
  }

  #fire(slot: number, nowMs: number): void {
    this.#cursor = this.#heads[slot];
    while (this.#cursor !== null) {
      const entry: WheelEntry = this.#cursor;
      this.#cursor = entry.next;
      if (entry.dueMs > nowMs) continue;
      this.cancel(entry);
      const nextMs = entry.onDue(nowMs);
      if (nextMs > 0 && nextMs !== Infinity) this.schedule(entry, nextMs);
    }
  }
}

function startTimer(fn: () => void, delayMs: number): () => void {
  const id = setTimeout(fn, delayMs);
  return () => clearTimeout(id);
}
