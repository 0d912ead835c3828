// Group commit and write-behind before any store: what is accepted is kept in order, in groups.

import { Histogram } from "../core/histogram.ts";
import { getLogger } from "../core/logger.ts";
import { spawn, type Task } from "../core/spawn.ts";
import type { Turn, TurnTask } from "../core/turn.ts";
import type {
  Admission,
  CommitGroup,
  CommitWaiter,
  HistoryQueue,
  QueuedBlock,
} from "../engine/ports/history_queue.ts";
import type { HistoryStore, MessageRange } from "../engine/ports/history_store.ts";

/** Bounds and policy of a {@link CommitQueue}; see docs/configuration.md. */
export interface CommitLimits {
  /** 0: a message is acknowledged by its commit. 1: at once, with a commit at least every second. */
  flushPolicy: 0 | 1;
  /** Messages and bytes that may be accepted and not yet kept. */
  maxMessages: number;
  maxBytes: number;
  /** The bound in messages with policy 1. */
  maxBufferedMessages: number;
}

/** Settings of a {@link CommitQueue}. */
export interface CommitQueueOptions {
  store: HistoryStore;
  turn: Turn;
  limits: CommitLimits;
  /** Called each time when the store has been opened, with the newest timestamp it knows, before messages are taken. */
  onOpened(lastTs: number): void;
  /** Messages that were accepted and will not be kept; called before anybody else hears of it. */
  onFailed(ranges: readonly MessageRange[]): void;
  /** Where nothing was committed for so long the store is asked how it is, ms; 0: never. */
  checkIntervalMs?: number;
}

/** Plain counters and the last look at the store, for the stats door. */
export interface CommitCounters {
  commits: number;
  storedMessages: number;
  /** Commits that failed, and failed attempts to open the store again. */
  errors: number;
  /** How long the last commit took, ms. */
  lastCommitMs: number;
}

/** A commit takes about so much; what waits beyond it goes into the next. */
const MAX_GROUP_BYTES = 1024 * 1024;
const MAX_GROUP_MESSAGES = 50_000;
/**
 * With policy 1, how long the oldest message waits for its commit to begin, ms: half of the second
 * that may be lost, so that the commit has the other half.
 */
const WRITE_BEHIND_MS = 500;
/** How often a store that is down is tried, ms. */
const PROBE_INTERVAL_MS = 1000;

class Group implements CommitGroup {
  state: "waiting" | "stored" | "failed" = "waiting";
  readonly waiters: CommitWaiter[] = [];
  readonly blocks: QueuedBlock[] = [];
  /** Messages accepted for it, those in batches that are still open included. */
  messages = 0;
  bytes = 0;
  lastTs = 0;

  /** `isPromised`: its messages were acknowledged when they were accepted (policy 1). */
  constructor(readonly isPromised: boolean) {}
}

/** A commit under way. */
interface Flight {
  readonly group: Group;
  /** Null until it is known. */
  outcome: "stored" | "failed" | null;
  error: unknown;
}

/**
 * Puts accepted messages into a store, commit by commit; everything that arrives meanwhile goes into
 * the next one (group commit), of which a store may be given a second while it does the first. With policy 1 a commit begins when the oldest message has waited
 * for half a second, or half of the room is taken (write-behind).
 *
 * When a commit fails the circuit opens: with policy 0 everything that waits has failed, and further
 * messages are refused until the store, which is tried every second, can be written to again; with
 * policy 1 what waits is kept and tried again, and messages are taken until the room is full.
 */
export class CommitQueue implements HistoryQueue, TurnTask {
  readonly counters: CommitCounters = { commits: 0, storedMessages: 0, errors: 0, lastCommitMs: 0 };
  /** How long commits took that kept their messages, each of them. */
  readonly durations: Histogram = new Histogram();
  settledTs = 0;
  /** Accepted and not yet settled. */
  messages = 0;
  bytes = 0;

  #options: CommitQueueOptions;
  #limits: CommitLimits;
  /** To be taken soon; see {@link #takeLimits}. */
  #nextLimits: CommitLimits | null = null;
  #isUp = false;
  #isClosing = false;
  #open: Group;
  /** Groups behind those in flight, oldest first. */
  #sealed: Group[] = [];
  /** Commits under way, oldest first. */
  #inFlight: Flight[] = [];
  #inTurn = false;
  #waiting: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The open group has waited for long enough (policy 1). */
  #isFlushDue = false;
  /** Taken back from the store before it gets anything new. */
  #toForget: MessageRange[] = [];
  #probe: Task | null = null;
  #stopProbe: (() => void) | null = null;
  #lastCommitMs = performance.now();
  /** Called at each change that {@link close} may be waiting for. */
  #onProgress: (() => void) | null = null;
  #log = getLogger("storage");

  constructor(options: CommitQueueOptions) {
    this.#options = options;
    this.#limits = options.limits;
    this.#open = new Group(options.limits.flushPolicy === 1);
  }

  /** Whether the store works, as far as is known. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /** Commits that the store has been given and has not answered. */
  get commitsUnderWay(): number {
    return this.#inFlight.length;
  }

  get repliesAfterCommit(): boolean {
    return !this.#open.isPromised;
  }

  get group(): CommitGroup {
    return this.#open;
  }

  /** Bound of {@link messages}. */
  get maxMessages(): number {
    const { flushPolicy, maxMessages, maxBufferedMessages } = this.#limits;
    return flushPolicy === 0 ? maxMessages : maxBufferedMessages;
  }

  get admission(): Admission {
    const { flushPolicy, maxBytes } = this.#limits;
    if (flushPolicy === 0 && !this.#isUp) return "down";
    if (this.#nextLimits !== null) return "full";
    if (this.messages < this.maxMessages && this.bytes < maxBytes) return "open";
    return this.#isUp ? "full" : "down";
  }

  accept(bytes: number): void {
    this.messages++;
    this.bytes += bytes;
    this.#open.messages++;
    this.#open.bytes += bytes;
    this.#joinTurn();
  }

  append(block: QueuedBlock): void {
    this.#open.blocks.push(block);
    if (block.lastTs > this.#open.lastTs) this.#open.lastTs = block.lastTs;
    this.#joinTurn();
  }

  whenAdmitted(retry: () => void): void {
    this.#waiting.push(retry);
    this.#joinTurn();
  }

  /** Takes new bounds, and another policy: what has been promised stays so. */
  setLimits(limits: CommitLimits): void {
    this.#nextLimits = limits;
    this.#joinTurn();
  }

  /**
   * Takes what {@link setLimits} has brought. Before promises are given without a commit, what still
   * waits for one is settled, and publishers wait so long: should it fail, it is taken back from a
   * channel's end, and nothing that was promised may stand behind it.
   */
  #takeLimits(): void {
    const next = this.#nextLimits;
    if (next === null) return;
    const groups = [...this.#inFlight.map(({ group }) => group), ...this.#sealed, this.#open];
    const isAsked = groups.some((group) => !group.isPromised && group.messages > 0);
    if (isAsked && next.flushPolicy === 1 && this.#limits.flushPolicy === 0) return;
    this.#nextLimits = null;
    this.#limits = next;
  }

  /**
   * Opens the store, which is to be done once before anything is published; rejects with its
   * StoreError. {@link supervise} then looks after it.
   */
  async open(): Promise<void> {
    const { lastTs } = await this.#options.store.open();
    this.#options.onOpened(lastTs);
    this.#isUp = true;
    this.#joinTurn();
  }

  /** Nothing has been accepted up to this timestamp, which is the start. */
  startAt(ts: number): void {
    this.settledTs = ts;
  }

  /** Looks after the store from now on: tries every second to open it while it is down. */
  supervise(): void {
    this.#probe ??= spawn("storage.probe", () => this.#superviseLoop());
  }

  /** Has the store looked at soon, because something other than a commit has failed. */
  suspect(): void {
    this.#lastCommitMs = -Infinity;
    this.#stopProbe?.();
  }

  async #superviseLoop(): Promise<void> {
    while (!this.#isClosing) {
      await this.#nap(PROBE_INTERVAL_MS);
      if (this.#isClosing) return;
      if (!this.#isUp) await this.#tryToOpen();
      else if (this.#isCheckDue()) await this.#check();
    }
  }

  #nap(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#stopProbe = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #isCheckDue(): boolean {
    const { checkIntervalMs = 0 } = this.#options;
    if (this.#inFlight.length > 0) return false;
    if (this.#lastCommitMs === -Infinity) return true;
    return checkIntervalMs > 0 && performance.now() - this.#lastCommitMs > checkIntervalMs;
  }

  /** A store that has nothing to do can be lost as well. */
  async #check(): Promise<void> {
    this.#lastCommitMs = performance.now();
    try {
      await this.#options.store.open();
    } catch (error) {
      this.counters.errors++;
      if (this.#isUp) this.#goDown(error);
      this.#joinTurn();
    }
  }

  async #tryToOpen(): Promise<void> {
    const { store } = this.#options;
    try {
      const { lastTs } = await store.open();
      // Some of it may have been kept although the store said no.
      const ranges = this.#toForget;
      if (ranges.length > 0) await store.forget(ranges);
      this.#toForget = [];
      this.#options.onOpened(lastTs);
      // Nothing of ours waits, so what the store knows is all there is up to there.
      if (this.messages === 0) this.settledTs = Math.max(this.settledTs, lastTs);
    } catch (error) {
      this.counters.errors++;
      this.#log.debug("the store is still down", { error });
      return;
    }
    this.#isUp = true;
    this.#lastCommitMs = performance.now();
    this.#log.info(`${store.description} works again`);
    this.#joinTurn();
  }

  #goDown(error: unknown): void {
    this.#isUp = false;
    const what = this.#limits.flushPolicy === 0
      ? "publishing is refused until it works again"
      : "messages are kept in memory until it works again";
    this.#log.error(`${this.#options.store.description} fails: ${what}`, { error });
  }

  #joinTurn(): void {
    if (this.#inTurn) return;
    this.#inTurn = true;
    this.#options.turn.addSink(this);
  }

  /**
   * Sinks run when all batches of the turn are closed: so what was accepted is in the open group
   * with all its messages, and the group can be sealed.
   */
  endTurn(): void {
    this.#inTurn = false;
    this.#settle();
    if (!this.#isUp && this.#inFlight.length === 0) this.#fail();
    this.#takeLimits();
    if (this.#open.isPromised !== (this.#limits.flushPolicy === 1)) this.#seal();
    if (this.#waiting.length > 0 && this.#admitWaiting()) {
      // They have published, and those batches are open.
      this.#joinTurn();
      return;
    }
    this.#dispatch();
  }

  /** Calls those who wait, as far as there is room; whether any was called. */
  #admitWaiting(): boolean {
    let calls = this.#waiting.length;
    const called = calls > 0 && this.admission !== "full";
    for (; calls > 0 && this.admission !== "full"; calls--) this.#waiting.shift()?.();
    return called;
  }

  #dispatch(): void {
    if (this.#open.bytes >= MAX_GROUP_BYTES || this.#open.messages >= MAX_GROUP_MESSAGES) {
      this.#seal();
    }
    while (this.#isUp && this.#inFlight.length < this.#options.store.appendsAtOnce) {
      let group = this.#sealed.shift();
      if (group === undefined && this.#open.messages > 0 && this.#isDue()) {
        this.#seal();
        group = this.#sealed.shift();
      }
      if (group === undefined) return;
      this.#commit(group);
    }
  }

  #commit(group: Group): void {
    const flight: Flight = { group, outcome: null, error: null };
    this.#inFlight.push(flight);
    const startMs = performance.now();
    const settled = (outcome: "stored" | "failed", error: unknown) => {
      const nowMs = performance.now();
      this.#lastCommitMs = nowMs;
      this.counters.lastCommitMs = nowMs - startMs;
      if (outcome === "stored") this.durations.observeMs(nowMs - startMs);
      flight.outcome = outcome;
      flight.error = error;
      this.#joinTurn();
    };
    this.#options.store.append(group.blocks).then(
      () => settled("stored", null),
      (error: unknown) => settled("failed", error),
    );
  }

  /** With policy 1, whether the open group has waited long enough; if not, it is looked at in time. */
  #isDue(): boolean {
    if (!this.#open.isPromised || this.#isClosing || this.#isFlushDue) return true;
    const { maxBufferedMessages, maxBytes } = this.#limits;
    if (this.messages >= maxBufferedMessages / 2 || this.bytes >= maxBytes / 2) return true;
    if (this.#timer === undefined) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#isFlushDue = true;
        this.#joinTurn();
      }, WRITE_BEHIND_MS);
    }
    return false;
  }

  /** Closes the open group; only where no batch of it is open. */
  #seal(): void {
    if (this.#open.messages > 0) this.#sealed.push(this.#open);
    this.#isFlushDue = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#open = new Group(this.#limits.flushPolicy === 1);
  }

  /** Acts on the commits that have ended, in their order. */
  #settle(): void {
    const flights = this.#inFlight;
    const before = flights.length;
    while (flights[0]?.outcome === "stored") {
      const { group } = flights[0];
      flights.shift();
      this.counters.commits++;
      this.counters.storedMessages += group.messages;
      this.#finish(group, "stored");
    }
    if (flights[0]?.outcome === "failed") {
      if (this.#isUp) {
        this.counters.errors++;
        this.#goDown(flights[0].error);
      }
      // Those behind it are about to fail, too; the store is theirs until they have.
      if (flights.every(({ outcome }) => outcome !== null)) this.#fail();
    }
    if (flights.length < before) this.#onProgress?.();
  }

  /**
   * The groups in flight, if any, were not kept: so they go with all that waits and was not promised.
   * What was promised waits on.
   */
  #fail(): void {
    const inFlight = this.#inFlight.splice(0).map(({ group }) => group);
    const groups = [...inFlight, ...this.#sealed, this.#open];
    const failed = groups.filter((group) => !group.isPromised && group.messages > 0);
    this.#toForget.push(...rangesOf(inFlight.filter((group) => !group.isPromised)));
    this.#sealed = groups.filter((group) => group.isPromised && group !== this.#open);
    if (!this.#open.isPromised) this.#open = new Group(this.#limits.flushPolicy === 1);
    if (failed.length === 0) return;
    this.#options.onFailed(rangesOf(failed));
    for (const group of failed) this.#finish(group, "failed");
  }

  #finish(group: Group, state: "stored" | "failed"): void {
    group.state = state;
    this.messages -= group.messages;
    this.bytes -= group.bytes;
    if (group.lastTs > this.settledTs) this.settledTs = group.lastTs;
    for (const { buffer } of group.blocks) buffer.release();
    for (const waiter of group.waiters) waiter.onSettled(group);
  }

  /**
   * Keeps what was accepted and lets go of the store. Resolves to the number of messages that were
   * acknowledged and could not be kept within `timeoutMs`. Nothing may be published any more.
   */
  async close(timeoutMs: number): Promise<number> {
    this.#isClosing = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<void>((resolve) => timer = setTimeout(resolve, timeoutMs));
    let isLate = false;
    timeout.then(() => isLate = true);
    await Promise.race([this.#drain(() => isLate), timeout]);
    clearTimeout(timer);
    clearTimeout(this.#timer);
    this.#stopProbe?.();
    const left = this.#promisedMessages();
    await this.#options.store.close();
    return left;
  }

  async #drain(isLate: () => boolean): Promise<void> {
    this.#stopProbe?.();
    await this.#probe?.done;
    while (this.messages > 0 && !isLate()) {
      if (!this.#isUp) await this.#tryToOpen();
      if (isLate()) return;
      if (!this.#isUp) await this.#nap(PROBE_INTERVAL_MS);
      else await this.#progress();
    }
    // Once: what was said not to be kept should not come back with the next start.
    if (this.#toForget.length > 0 && !isLate()) await this.#tryToOpen();
  }

  /** Resolves when a commit has ended. */
  #progress(): Promise<void> {
    return new Promise((resolve) => {
      this.#onProgress = resolve;
      this.#joinTurn();
    });
  }

  #promisedMessages(): number {
    const groups = [...this.#inFlight.map(({ group }) => group), ...this.#sealed, this.#open];
    return groups.reduce((sum, group) => sum + (group.isPromised ? group.messages : 0), 0);
  }
}

/** The groups' messages by channel and node. */
function rangesOf(groups: readonly Group[]): MessageRange[] {
  const ranges = new Map<string, MessageRange>();
  for (const { blocks } of groups) {
    for (const { app, channel, node, firstTs, lastTs } of blocks) {
      // None of the names holds a NUL.
      const key = `${app}\0${channel}\0${node}`;
      const known = ranges.get(key);
      ranges.set(key, { app, channel, node, firstTs: known?.firstTs ?? firstTs, lastTs });
    }
  }
  return [...ranges.values()];
}
