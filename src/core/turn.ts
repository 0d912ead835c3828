// The end of a turn of the event loop: where a turn's messages are handed out and written, once.

import process from "node:process";
import { setImmediate } from "node:timers";
import type { IoPoll } from "./io_poll.ts";

/** Something that has work left for the end of the present turn. */
export interface TurnTask {
  /** Does it. Must not throw. May add further tasks, which still run in this turn. */
  endTurn(): void;
}

/**
 * Collects tasks and runs them when the turn's callbacks are done (`process.nextTick`: measured
 * 30 % faster than a microtask and 2.6 times faster than acting at once, on 100 channels).
 * Sources (who hands out messages) run before sinks (who write to sockets).
 */
export class Turn {
  /** Turns that have ended. */
  count = 0;

  #nowMs = 0;
  #sources: TurnTask[] = [];
  #carriers: TurnTask[] = [];
  #sinks: TurnTask[] = [];
  #scheduled = false;
  #run = () => this.#end();

  /**
   * The monotonic clock, ms, as it was when the present turn got its first task, or now where there is
   * none: for what is measured in tenths of a second and asked many times a turn.
   */
  get nowMs(): number {
    return this.#scheduled ? this.#nowMs : performance.now();
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
    for (let tasks = this.#next(); tasks.length > 0; tasks = this.#next()) {
      for (const task of tasks) task.endTurn();
    }
    this.#scheduled = false;
    this.count++;
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
  if (ioPoll !== null && ioPoll.isDue(performance.now())) return ioPoll.run();
  return new Promise((resolve) => setImmediate(resolve));
}

/** Whether the next {@link nextTurn} would look at the sockets. */
export function isPollDue(nowMs: number): boolean {
  return ioPoll !== null && ioPoll.isDue(nowMs);
}
