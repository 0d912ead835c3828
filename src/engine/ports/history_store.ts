// The seam to what keeps messages: blocks of lines in, pages of blocks out.

/**
 * Messages of one channel, accepted by one node, as the bytes of their MESSAGE lines
 * (`proto/encoder.ts`): what is delivered is what is kept, so neither way needs a decoder.
 */
export interface Block {
  /** The node that accepted them. */
  readonly node: string;
  /** One or more whole MESSAGE lines, timestamps strictly increasing. */
  readonly lines: Uint8Array;
  /** Lines in it. */
  readonly count: number;
  /** Timestamps of its first and its last line, microseconds since the epoch. */
  readonly firstTs: number;
  readonly lastTs: number;
  /** The publishers' names, one place a line; null where none is known. */
  readonly froms: readonly (string | undefined)[] | null;
}

/** A block on its way into a store. */
export interface ChannelBlock extends Block {
  readonly app: string;
  readonly channel: string;
}

/** Messages of one channel, one node and a range of timestamps, both ends included. */
export interface MessageRange {
  readonly app: string;
  readonly channel: string;
  readonly node: string;
  readonly firstTs: number;
  readonly lastTs: number;
}

/** What {@link HistoryStore.read} is asked for. */
export interface ReadRequest {
  readonly app: string;
  readonly channel: string;
  /** Messages with a later timestamp than this; 0 for all. */
  readonly afterTs: number;
  /** At most about so many messages and bytes of lines, but at least one message where there is one. */
  readonly maxMessages: number;
  readonly maxBytes: number;
}

/** What {@link HistoryStore.readNewest} is asked for. */
export type NewestRequest = Omit<ReadRequest, "afterTs">;

/** Kept messages of one channel, oldest first: by timestamp, then by node. */
export interface Page {
  /**
   * In order, and not overlapping: each begins where the one before it has ended. Two blocks share a
   * timestamp only where two nodes accepted messages in the same microsecond. The bytes are the
   * caller's.
   */
  readonly blocks: readonly Block[];
  /** Of {@link HistoryStore.read}: nothing newer was kept at that moment. Of `readNewest`: nothing older. */
  readonly isEnd: boolean;
  /** Messages up to this timestamp have been deleted from the channel by retention; 0 for none. */
  readonly prunedTs: number;
}

/** What {@link HistoryStore.prune} does in one step. */
export interface PruneRequest {
  /** Messages with a smaller timestamp are deleted; 0 for none. */
  readonly beforeTs: number;
  /** Newest messages that are kept of each channel; 0 for all. */
  readonly keepPerChannel: number;
  /** Where the step before ended; undefined begins a round through all channels. */
  readonly cursor?: unknown;
}

/** What one step of {@link HistoryStore.prune} has done. */
export interface PruneStep {
  /** Channels that lost messages, and the newest timestamp that is gone. */
  readonly pruned: readonly { app: string; channel: string; prunedTs: number }[];
  /** For the next step; undefined at the end of the round. */
  readonly cursor: unknown;
}

/** What a store knows when it has been opened. */
export interface StoreInfo {
  /** The newest timestamp ever kept, microseconds; 0 for none. */
  readonly lastTs: number;
}

/**
 * Keeps messages. One caller, which appends at most {@link appendsAtOnce} batches at a time (it may
 * read meanwhile). A method
 * that cannot do its work rejects with a {@link StoreError}; until {@link open} has succeeded again
 * nothing is appended.
 */
export interface HistoryStore {
  /** For the log: what it is and where, without secrets; `SQLite pushd.db`. */
  readonly description: string;

  /**
   * How many appends may be under way at the same time. They are carried out in order, and when one
   * rejects, those behind it do, too.
   */
  readonly appendsAtOnce: number;

  /**
   * Opens it, or opens it anew after a failure, and proves with a write that it can keep messages.
   * After it has rejected it may be called again.
   */
  open(): Promise<StoreInfo>;

  /**
   * Keeps all blocks durably: when it resolves, they survive a crash of the process, of the store and
   * of the machine. A message that is kept already, by (app, channel, timestamp, node), is kept once.
   * Blocks of a channel and node come in order. When it rejects, some of them may be kept: the caller
   * appends them again or takes them back by {@link forget}. `blocks` and their bytes are read
   * until it settles, and belong to the caller.
   */
  append(blocks: readonly ChannelBlock[]): Promise<void>;

  /** Removes the messages of a rejected {@link append}, durably; those that are not there are no fault. */
  forget(ranges: readonly MessageRange[]): Promise<void>;

  /**
   * A page of a channel's messages, oldest first. It never ends between two messages of one
   * timestamp. It sees every append that has resolved, and no half of one that has not; nor does it see
   * one without those that were made before it.
   * A long read never keeps an append waiting: pages are small, and the caller asks for the next.
   */
  read(request: ReadRequest): Promise<Page>;

  /** The newest messages of a channel, as a page: about as many as asked for, whole blocks. */
  readNewest(request: NewestRequest): Promise<Page>;

  /** Number of messages with `afterTs < timestamp <= throughTs`. */
  count(app: string, channel: string, afterTs: number, throughTs: number): Promise<number>;

  /**
   * One small step of deletion, oldest first. A reader sees a channel before a step or after it,
   * never between.
   */
  prune(request: PruneRequest): Promise<PruneStep>;

  /** Every message, by application, channel and time, for an export. What is kept meanwhile may be among them. */
  scan(): AsyncIterable<ChannelBlock>;

  /** Lets go of everything. Nothing is to be called any more. Idempotent. */
  close(): Promise<void>;
}

/** Why a store could not do its work. */
export type StoreFault =
  /** It does not answer, or cannot write now: worth another try. */
  | "unavailable"
  /** It can never be used like this (a foreign file, a newer version, wrong credentials): a person has to act. */
  | "unusable";

/** A store's failure; the message names the file or the server, and what to do. */
export class StoreError extends Error {
  override readonly name = "StoreError";

  constructor(readonly fault: StoreFault, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}
