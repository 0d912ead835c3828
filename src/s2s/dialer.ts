// Dials one address until there is a link to who lives there, and again when it is down.

import { messageOf } from "../core/message_of.ts";
import { pause } from "../core/pause.ts";
import { spawn, type Task } from "../core/spawn.ts";
import { Wake } from "../core/wake.ts";
import { Refusal } from "./hello.ts";

/** Between two dials, at least, ms. */
const MIN_PAUSE_MS = 1000;
/** Between two dials, after many that failed, at most, ms. */
const MAX_PAUSE_MS = 8000;

/** What a dialer needs. */
export interface DialerHost {
  /** Whether there is a link to the node. */
  isLinked(id: string): boolean;
  /** Dials, greets and links. Rejects with what went wrong. */
  connect(dialer: Dialer): Promise<void>;
  /** It did not work; the same reason as the last time where `isNew` is not set. */
  onFailed(dialer: Dialer, error: unknown, isNew: boolean): void;
}

/** One address. */
export class Dialer {
  /** Who lives there; undefined before it is known. */
  id: string | undefined;
  /** Whether it is our own. */
  isSelf = false;
  /** Whether a connection is made and not a link yet. */
  isGreeting = false;
  /** Whether it is to be linked as soon as both sides have proved themselves. */
  isProving = false;
  /** Dials that have failed since the last link. */
  failures = 0;
  /** Resolves when the first dial has ended. */
  readonly first: Promise<void>;

  #host: DialerHost;
  /** Links in a row that ended because the peer sent nonsense. */
  #nonsense = 0;
  #wake = new Wake();
  #task: Task;
  #lastReason = "";
  #endFirst: () => void = () => {};

  /** `addr` as `host:port`; `id`: who is expected there, where that is known. Begins at once. */
  constructor(readonly addr: string, id: string | undefined, host: DialerHost) {
    this.id = id;
    this.#host = host;
    this.first = new Promise((resolve) => this.#endFirst = resolve);
    this.#task = spawn("s2s.dial", (signal) => this.#run(signal));
  }

  /** The link is down, or something has changed: looks at once. */
  wake(): void {
    this.#wake.set();
  }

  /** The link has ended because the peer sent nonsense: it is dialled again, but ever more slowly. */
  onNonsense(): void {
    this.#nonsense++;
  }

  stop(): void {
    this.#task.stop();
    this.#wake.set();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.isSelf || (this.id !== undefined && this.#host.isLinked(this.id))) {
        this.failures = 0;
        this.#lastReason = "";
        this.#endFirst();
        const sinceMs = performance.now();
        await this.#wake.wait(MAX_PAUSE_MS);
        if (performance.now() - sinceMs >= MAX_PAUSE_MS) this.#nonsense = 0;
        continue;
      }
      if (this.#nonsense > 0) await pause(pauseMs(this.#nonsense + 1), signal);
      const startMs = performance.now();
      await this.#dial(signal);
      // Never more often than once a second, whoever wakes.
      while (!signal.aborted) {
        const leftMs = startMs + MIN_PAUSE_MS - performance.now();
        if (leftMs <= 0) break;
        await this.#wake.wait(leftMs);
      }
      if (!signal.aborted && this.failures > 1) await this.#wake.wait(pauseMs(this.failures));
    }
  }

  async #dial(signal: AbortSignal): Promise<void> {
    try {
      await this.#host.connect(this);
      this.failures = 0;
      this.#lastReason = "";
      this.#endFirst();
    } catch (error) {
      this.isGreeting = false;
      this.#endFirst();
      if (signal.aborted || (error instanceof Refusal && error.code === "linked")) return;
      this.failures++;
      const reason = messageOf(error);
      const isNew = reason !== this.#lastReason;
      this.#lastReason = reason;
      this.#host.onFailed(this, error, isNew);
    }
  }
}

/** Longer with each failure, and never the same for two nodes: after a crash all would come at once. */
function pauseMs(failures: number): number {
  const most = Math.min(MAX_PAUSE_MS, MIN_PAUSE_MS * 2 ** Math.min(failures - 1, 10));
  return most * (0.5 + Math.random() / 2);
}
