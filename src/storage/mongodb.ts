// The history in MongoDB, which several nodes may share: a document for each message.

import { type Filter, Long } from "mongodb";
import type {
  ChannelBlock,
  HistoryStore,
  MessageRange,
  NewestRequest,
  Page,
  PruneRequest,
  PruneStep,
  ReadRequest,
  StoreInfo,
} from "../engine/ports/history_store.ts";
import { insertBlocks, takeBack } from "./mongodb_append.ts";
import { readMark } from "./mongodb_channels.ts";
import type { Attempt, MongoConnection } from "./mongodb_connection.ts";
import { Pruner } from "./mongodb_prune.ts";
import { type PageRequest, readPage } from "./mongodb_read.ts";
import {
  channelsOf,
  createIndexes,
  type MessageDoc,
  messagesOf,
  nodesOf,
} from "./mongodb_schema.ts";
import { scanMessages } from "./mongodb_scan.ts";
import { Unsettled } from "./mongodb_unsettled.ts";

export { MongoConnection, type MongoOptions } from "./mongodb_connection.ts";
export { MongoTokenStore } from "./mongodb_tokens.ts";
export { type MongoAddress, mongoUrl } from "./mongodb_url.ts";

/** How often a count is done again because retention was at work meanwhile. */
const MAX_COUNTS = 10;

/**
 * Messages in MongoDB. Each method settles within `operationTimeoutMs`, {@link open} within that and
 * the time to connect, whatever the server does; {@link append} takes that long for each command, of
 * which a large one has several. A failure is always a StoreError "unavailable".
 *
 * A reader on another node may see the first messages of an append that has not resolved, in their
 * order; this process sees all of it or nothing.
 */
export class MongoStore implements HistoryStore {
  readonly description: string;
  /** Of two that are under way at once the second could be kept without the first. */
  readonly appendsAtOnce = 1;

  #connection: MongoConnection;
  #unsettled = new Unsettled();
  #pruner = new Pruner();

  /** The connection is the store's from now on: it opens it and closes it. */
  constructor(connection: MongoConnection) {
    this.#connection = connection;
    this.description = `MongoDB ${connection.place}`;
  }

  async open(): Promise<StoreInfo> {
    return await this.#connection.open(async (attempt) => {
      const { db, signal } = attempt;
      await createIndexes(attempt);
      const { node } = this.#connection.options;
      await nodesOf(db).updateOne(
        { _id: node },
        { $set: { opened: new Date() } },
        { upsert: true },
      );
      const newest = await messagesOf(db).findOne({}, {
        sort: { ts: -1 },
        projection: { _id: 0, ts: 1 },
        signal,
      });
      const pruned = await channelsOf(db).findOne({}, { sort: { prunedTs: -1 }, signal });
      return { lastTs: Math.max(Number(newest?.ts ?? 0), Number(pruned?.prunedTs ?? 0)) };
    });
  }

  async append(blocks: readonly ChannelBlock[]): Promise<void> {
    if (blocks.length === 0) return;
    const ranges = blocks.map(({ app, channel, node, firstTs, lastTs }) => ({
      app,
      channel,
      node,
      firstTs,
      lastTs,
    }));
    this.#unsettled.begin(ranges);
    this.#pruner.touch(ranges);
    await insertBlocks(
      (work) => this.#connection.run(work),
      blocks,
      (messages) => this.#unsettled.doubt(messages),
    );
    this.#unsettled.settle(ranges);
  }

  async forget(ranges: readonly MessageRange[]): Promise<void> {
    if (ranges.length === 0) return;
    const inDoubt = this.#unsettled.inDoubt(ranges);
    await this.#connection.run((attempt) => takeBack(attempt, ranges, inDoubt));
    this.#unsettled.settle(ranges);
  }

  async read(request: ReadRequest): Promise<Page> {
    return await this.#read(request);
  }

  async readNewest(request: NewestRequest): Promise<Page> {
    return await this.#read({ ...request, afterTs: undefined });
  }

  async #read(request: PageRequest): Promise<Page> {
    return await this.#unsettled.whileHidden(
      request,
      (hidden) => this.#connection.run((attempt) => readPage(attempt, request, hidden)),
    );
  }

  async count(app: string, channel: string, afterTs: number, throughTs: number): Promise<number> {
    const name = { app, channel };
    const unseen = this.#unsettled.hidden(name).map(({ node, firstTs, lastTs }) => ({
      node,
      ts: { $gte: Long.fromNumber(firstTs), $lte: Long.fromNumber(lastTs) },
    }));
    return await this.#connection.run(async (attempt) => {
      let mark = await readMark(attempt, name);
      for (let i = 1;; i++) {
        const after = Math.max(afterTs, mark.deletingTs);
        const filter: Filter<MessageDoc> = {
          app,
          channel,
          ts: { $gt: Long.fromNumber(after), $lte: Long.fromNumber(throughTs) },
        };
        if (unseen.length > 0) filter.$nor = unseen;
        const count = await countLive(attempt, filter);
        const { step } = mark;
        mark = await readMark(attempt, name);
        if (mark.step === step || i >= MAX_COUNTS) return count;
      }
    });
  }

  async prune(request: PruneRequest): Promise<PruneStep> {
    return await this.#connection.run((attempt) => this.#pruner.step(attempt, request));
  }

  scan(): AsyncIterable<ChannelBlock> {
    return scanMessages(this.#connection);
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }
}

/** The number of messages, without the marks of those that were taken back. */
async function countLive({ db, signal }: Attempt, filter: Filter<MessageDoc>): Promise<number> {
  // Two counts that an index can answer by itself; there are hardly ever any marks.
  const messages = messagesOf(db);
  const [all, gone] = await Promise.all([
    messages.countDocuments(filter, { signal }),
    messages.countDocuments({ ...filter, gone: { $exists: true } }, { signal }),
  ]);
  return all - gone;
}
