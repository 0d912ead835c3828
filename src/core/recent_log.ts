// The last warnings and errors of the log, kept in memory for whoever asks what has happened lately.

import type { LogLevel, LogRecord } from "@logtape/logtape";
import { categoryOf, textOf } from "./log_format.ts";

/** A warning or worse. */
export interface RecentRecord {
  /** Counts up from 1, also over what is not kept any more. */
  readonly number: number;
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly level: "warn" | "error" | "fatal";
  /** The part of the server: `serv`. */
  readonly category: string;
  /** As in a line of text: `message key=value`, without control characters. */
  readonly text: string;
}

/** Characters of one record; one more is cut. */
const MAX_TEXT = 2000;

const LEVELS: Partial<Record<LogLevel, RecentRecord["level"]>> = {
  warning: "warn",
  error: "error",
  fatal: "fatal",
};

/** Keeps the last so many records of level warning and above, and tells of new ones. */
export class RecentLog {
  #records: RecentRecord[] = [];
  #added = 0;
  #listeners = new Set<() => void>();

  constructor(readonly capacity: number) {}

  /** Takes what is a warning or worse. */
  add(record: LogRecord): void {
    const level = LEVELS[record.level];
    if (level === undefined) return;
    const text = textOf(record);
    this.#records.push({
      number: ++this.#added,
      time: new Date(record.timestamp).toISOString(),
      level,
      category: categoryOf(record),
      text: text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text,
    });
    if (this.#records.length > this.capacity) this.#records.shift();
    for (const listener of this.#listeners) listener();
  }

  /** Those behind `number` that are still kept, the oldest first. */
  after(number: number): RecentRecord[] {
    return this.#records.filter((record) => record.number > number);
  }

  /** How many there were so far: the number of the newest. */
  get count(): number {
    return this.#added;
  }

  /** Calls `listener` behind each new one, within the call that logs it. Returns what ends that. */
  onAdded(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** What the log of this process has taken. */
export const recentLog: RecentLog = new RecentLog(100);
