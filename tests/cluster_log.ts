// What a fault run leaves behind: the logs of its publishers, subscribers, faults and of history, compact.

/** What became of a published message. Everything else than a timestamp is below zero. */
export const Outcome = {
  /** No reply was read: the connection ended before. */
  unknown: -1,
  /** `ERROR …` without a timestamp: nothing has happened. */
  refused: -2,
  /** `ERROR storage-unavailable <timestamp> …`: delivered, and not in history. */
  notStored: -3,
} as const;

/**
 * The messages of one publisher connection; number n is at index n. Times here and elsewhere are
 * milliseconds of one monotonic clock, 0 the start of the run.
 */
export class PublisherLog {
  length = 0;
  /** When the connection ended; Infinity while it has not. */
  endedMs = Infinity;
  /** Whether the test ended it, and had every reply. */
  isComplete = false;
  /** Replies that are none of the contract's, and refusals, as they came. */
  readonly strays: string[] = [];
  channels: Uint16Array<ArrayBuffer> = new Uint16Array(1024);
  sentMs: Float64Array<ArrayBuffer> = new Float64Array(1024);
  answeredMs: Float64Array<ArrayBuffer> = new Float64Array(1024);
  /** The timestamp of PUBLISHED, or an {@link Outcome}. */
  outcomes: Float64Array<ArrayBuffer> = new Float64Array(1024);

  constructor(readonly id: number, readonly node: number) {}

  /** A message is about to be written; returns its number. */
  send(channel: number, sentMs: number): number {
    if (this.length === this.channels.length) {
      this.channels = grown(this.channels, new Uint16Array(2 * this.length));
      this.sentMs = grown(this.sentMs, new Float64Array(2 * this.length));
      this.answeredMs = grown(this.answeredMs, new Float64Array(2 * this.length));
      this.outcomes = grown(this.outcomes, new Float64Array(2 * this.length));
    }
    const n = this.length++;
    this.channels[n] = channel;
    this.sentMs[n] = sentMs;
    this.answeredMs[n] = Infinity;
    this.outcomes[n] = Outcome.unknown;
    return n;
  }

  /** The reply to message n was read. */
  answer(n: number, outcome: number, answeredMs: number): void {
    this.outcomes[n] = outcome;
    this.answeredMs[n] = answeredMs;
  }
}

/** One message as a subscriber, or history, showed it. */
export interface Receipt {
  readonly channel: number;
  readonly publisher: number;
  readonly n: number;
  readonly ts: number;
  readonly atMs: number;
}

/** Messages in the order in which they came. */
export class Receipts {
  length = 0;
  channels: Uint16Array<ArrayBuffer> = new Uint16Array(1024);
  publishers: Uint32Array<ArrayBuffer> = new Uint32Array(1024);
  numbers: Uint32Array<ArrayBuffer> = new Uint32Array(1024);
  timestamps: Float64Array<ArrayBuffer> = new Float64Array(1024);
  atMs: Float32Array<ArrayBuffer> = new Float32Array(1024);

  static of(list: Iterable<Receipt>): Receipts {
    const receipts = new Receipts();
    for (const { channel, publisher, n, ts, atMs } of list) {
      receipts.add(channel, publisher, n, ts, atMs);
    }
    return receipts;
  }

  add(channel: number, publisher: number, n: number, ts: number, atMs: number): void {
    if (this.length === this.channels.length) {
      this.channels = grown(this.channels, new Uint16Array(2 * this.length));
      this.publishers = grown(this.publishers, new Uint32Array(2 * this.length));
      this.numbers = grown(this.numbers, new Uint32Array(2 * this.length));
      this.timestamps = grown(this.timestamps, new Float64Array(2 * this.length));
      this.atMs = grown(this.atMs, new Float32Array(2 * this.length));
    }
    const at = this.length++;
    this.channels[at] = channel;
    this.publishers[at] = publisher;
    this.numbers[at] = n;
    this.timestamps[at] = ts;
    this.atMs[at] = atMs;
  }

  /** The one at an index. */
  at(index: number): Receipt {
    return {
      channel: this.channels[index],
      publisher: this.publishers[index],
      n: this.numbers[index],
      ts: this.timestamps[index],
      atMs: this.atMs[index],
    };
  }

  *[Symbol.iterator](): Generator<Receipt> {
    for (let i = 0; i < this.length; i++) yield this.at(i);
  }
}

/** Why a subscriber's connection ended. */
export type SubscriberEnd = "open" | "closed by the test" | "slow-consumer" | "lost";

/** How a subscriber that had been there before went on: by `sub <channel> <timestamp>`. */
export interface Resumption {
  /** Its connection before: the index in {@link ClusterLog.subscribers}. */
  readonly of: number;
  /** By channel, what it gave; a channel of which nothing had ever come was subscribed without. */
  readonly afterTs: ReadonlyMap<number, number>;
  /** Channels whose answer was PARTIAL. */
  readonly partial: Set<number>;
}

/** One connection of a subscriber, from its SUBSCRIBED lines to its end. */
export class SubscriberLog {
  receipts: Receipts = new Receipts();
  /** Null for one that comes for the first time. */
  resumption: Resumption | null = null;
  /** When it connected and asked. */
  askedMs = Infinity;
  /** When SUBSCRIBED was read, by channel; a channel that is not here was not subscribed. */
  readonly sinceMs: Map<number, number> = new Map<number, number>();
  endedMs = Infinity;
  end: SubscriberEnd = "open";
  /** Lines that should not have come. */
  readonly strays: string[] = [];

  constructor(readonly id: number, readonly node: number) {}
}

/** What is broken on purpose. */
export const FAULT_KINDS = [
  "kill",
  "restart",
  "freeze",
  "cut",
  "cut one way",
  "cut node",
  "slow",
  "etc member",
  "etc all",
] as const;
export type FaultKind = typeof FAULT_KINDS[number];

/** One fault. */
export interface Fault {
  readonly what: FaultKind;
  /** The node, or the two ends of the link; none for ZooKeeper. */
  readonly nodes: readonly number[];
  readonly fromMs: number;
  /** When it was undone: links whole, process running again. */
  readonly untilMs: number;
  /** When the nodes concerned were seen linked again; Infinity where they never were. */
  readonly backMs: number;
}

/** What `his` of one node showed at the end. */
export interface HistoryLog {
  readonly node: number;
  /** Oldest first within a channel. */
  readonly receipts: Receipts;
  /** The id of the node that accepted it, of each receipt. */
  readonly origins: readonly string[];
  /** Channels whose answer was PARTIAL. */
  readonly partial: readonly string[];
}

/** Within what the guarantees hold, and how long things may take. */
export interface Bounds {
  /** `s2s_replay_bytes` and `s2s_replay_timeout`. */
  readonly replayBytes: number;
  readonly replayMs: number;
  /** What a message takes in the replay buffer at most. */
  readonly messageBytes: number;
  /** How long a message may take from its publisher to a subscriber where nothing is broken. */
  readonly forwardMs: number;
  /** How long, after links are up again, what was kept may take to arrive; and history to be read. */
  readonly drainMs: number;
  /** `s2s_max_skew`. */
  readonly skewMs: number;
}

/** Of servers with the defaults, and the messages of `LoadPublisher`. */
export const DEFAULT_BOUNDS: Bounds = {
  replayBytes: 64 * 2 ** 20,
  replayMs: 120_000,
  messageBytes: 250,
  forwardMs: 2000,
  drainMs: 5000,
  skewMs: 500,
};

/** Everything that a checker looks at. */
export interface ClusterLog {
  readonly nodes: readonly string[];
  readonly channels: readonly string[];
  readonly publishers: readonly PublisherLog[];
  readonly subscribers: readonly SubscriberLog[];
  readonly faults: readonly Fault[];
  readonly histories: readonly HistoryLog[];
  readonly bounds: Bounds;
}

function grown<A extends { set(from: A): void }>(from: A, to: A): A {
  to.set(from);
  return to;
}
