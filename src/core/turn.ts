// The end of a turn of the event loop: where a turn's messages are handed out and written, once.

import process from "node:process";
import { setImmediate } from "node:timers";
import type { IoPoll } from "./io_poll.ts";

/** Something that has work left for the end of the present turn. */
export interface TurnTask {
  /** Does it. Must not throw. May add further tasks, which still run in this turn. */
  endTurn(): void;
  /** Whether it may come some turns later where there is much to do. */
  readonly canWait?: boolean;
}

/** How long a turn's sinks that can wait may take before the loop goes round, ms. */
const SLICE_MS = 5;
/**
 * More sinks that can wait are a crowd, of which fewer are run in one turn. The runtime (tokio) does 128
 * reads and writes of sockets in a round of its loop; what is asked for beyond that is put off, and tried
 * in vain in each round until it is among the first 128: 10,000 writes at once took 43 µs of processor
 * time each, and 14 a hundred at a time. With a thousand or two it makes no difference.
 */
const CROWD = 2500;
/** Of a crowd, in one turn. */
const SINKS_PER_TURN = 112;
/** Of these, the turn's own: what others ask meanwhile is answered. */
const OWN_SINKS = 56;
/** Sinks that are run before the clock is looked at. */
const SINKS_AT_ONCE = 32;

/**
 * Collects tasks and runs them when the turn's callbacks are done (`process.nextTick`: measured
 * 30 % faster than a microtask and 2.6 times faster than acting at once, on 100 channels).
 * Sources (who hands out messages) run before sinks (who write to sockets).
 *
 * A message to 15,000 subscribers is as many writes, of some 11 µs each: what would take too long comes
 * in the next turns, a slice in each. What those turns have to do themselves comes first, so that others
 * are answered meanwhile.
 */
export class Turn {
  /** Turns that have ended. */
  count = 0;

  #nowMs = 0;
  #sources: TurnTask[] = [];
  #carriers: TurnTask[] = [];
  #sinks: TurnTask[] = [];
  /** Sinks of earlier turns that have not had their slice yet, from `#lateAt` on. */
  #late: TurnTask[] = [];
  #lateAt = 0;
  /** There were so many of them, and some are left. */
  #isCrowd = false;
  #scheduled = false;
  #run = () => this.#end();

  /**
   * The monotonic clock, ms, as it was when the present turn got its first task, or now where there is
   * none: for what is measured in tenths of a second and asked many times a turn.
   */
  get nowMs(): number {
    return this.#scheduled ? this.#nowMs : performance.now();
  }

  /** Whether sinks of this turn, or of earlier ones, have been left to the next. */
  get isBehind(): boolean {
    return this.#late.length > 0;
  }

  /** Adds a source; the caller sees to it that it is added once a turn. */
  addSource(task: TurnTask): void {
    this.#sources.push(task);
    this.#schedule();
  }

  /** Adds a sink; the caller sees to it that it is added once a turn. */
  addSink(task: TurnTask): void {
    this.#sinks.push(task);
    this.#schedule();
  }

  /** Adds a task that writes for sinks elsewhere: behind all sources, before all sinks. */
  addCarrier(task: TurnTask): void {
    this.#carriers.push(task);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#nowMs = performance.now();
    process.nextTick(this.#run);
  }

  /** Takes the tasks whose turn it is; none when everything is done. */
  #next(): TurnTask[] {
    let tasks = this.#sources;
    if (tasks.length > 0) {
      this.#sources = [];
    } else if (this.#carriers.length > 0) {
      tasks = this.#carriers;
      this.#carriers = [];
    } else {
      tasks = this.#sinks;
      this.#sinks = [];
    }
    return tasks;
  }

  #end(): void {
    if (this.isBehind) {
      let left = this.#isCrowd ? SINKS_PER_TURN : Infinity;
      left -= this.#runAll(this.#isCrowd ? OWN_SINKS : Infinity);
      left -= this.#runLate(left);
      // What those have added.
      this.#runAll(left);
    } else {
      this.#runAll(Infinity);
    }
    this.#isCrowd = this.isBehind && (this.#isCrowd || this.#late.length > CROWD);
    this.#scheduled = false;
    this.count++;
    if (this.isBehind) nextTurn().then(() => this.#schedule());
  }

  /** Runs all tasks but sinks beyond `most` that can wait, or for too long. Returns how many of those ran. */
  #runAll(most: number): number {
    let endMs = 0;
    let ran = 0;
    for (let tasks = this.#next(); tasks.length > 0; tasks = this.#next()) {
      if (tasks.length > CROWD) most = Math.min(most, ran + SINKS_PER_TURN);
      for (let i = 0; i < tasks.length; i++) {
        const task = tasks[i];
        if (task.canWait) {
          if (ran >= most) {
            this.#late.push(task);
            continue;
          }
          ran++;
        }
        task.endTurn();
        if (i % SINKS_AT_ONCE !== SINKS_AT_ONCE - 1) continue;
        const nowMs = performance.now();
        if (endMs === 0) endMs = nowMs + SLICE_MS;
        else if (nowMs >= endMs) most = ran;
      }
    }
    return ran;
  }

  /** Runs at most so many sinks that were left, for a slice of time. Returns how many. */
  #runLate(most: number): number {
    const late = this.#late;
    const from = this.#lateAt;
    const end = Math.min(from + most, late.length);
    const endMs = performance.now() + SLICE_MS;
    do {
      const to = Math.min(this.#lateAt + SINKS_AT_ONCE, end);
      while (this.#lateAt < to) late[this.#lateAt++].endTurn();
    } while (this.#lateAt < end && performance.now() < endMs);
    const ran = this.#lateAt - from;
    // Where each turn leaves some, the list is never through.
    if (this.#lateAt > late.length / 2) {
      this.#late = late.slice(this.#lateAt);
      this.#lateAt = 0;
    }
    return ran;
  }
}

let ioPoll: IoPoll | null = null;

/** Gives {@link nextTurn} the means to have sockets looked at; null takes them away. */
export function setIoPoll(poll: IoPoll | null): void {
  ioPoll = poll;
}

/**
 * Lets the event loop go round once, for a loop that would otherwise only await operations which can
 * be done at once: those are completed in microtasks, and everybody else would be kept waiting.
 * `setImmediate` lets what is ready run, at 2.4 µs where `setTimeout(0)` takes 2 ms; every few ms the
 * round includes a look at the sockets.
 */
export function nextTurn(): Promise<void> {
  if (ioPoll !== null && (ioPoll.isFaster || ioPoll.isDue(performance.now()))) return ioPoll.run();
  return new Promise((resolve) => setImmediate(resolve));
}

/** Whether the next {@link nextTurn} would look at the sockets. */
export function isPollDue(nowMs: number): boolean {
  return ioPoll !== null && ioPoll.isDue(nowMs);
}
