// Writes messages to MongoDB, each once however often it is sent, and takes them back.

import { pause } from "../core/pause.ts";
import {
  type Document,
  Long,
  MongoError,
  MongoNetworkError,
  MongoServerError,
  MongoServerSelectionError,
} from "mongodb";
import type { ChannelBlock, MessageRange } from "../engine/ports/history_store.ts";
import { againstRaces, DUPLICATE_KEY } from "./mongodb_channels.ts";
import type { Attempt } from "./mongodb_connection.ts";
import { blockDocs } from "./mongodb_lines.ts";
import { type MessageDoc, MESSAGES, messagesOf } from "./mongodb_schema.ts";
import type { MessageKey } from "./mongodb_unsettled.ts";

/** Bounds of what one command inserts: encoding it keeps everything else in the process waiting. */
const MAX_INSERT_MESSAGES = 2000;
const MAX_INSERT_BYTES = 1024 * 1024;
/** Ranges or messages that one command takes back. */
const MAX_FORGET = 500;

/** Pause before a write is sent again, ms. */
const RETRY_PAUSE_MS = 100;

/** Error codes of a server that stops, or is not the primary of its replica set (any more). */
const TRANSIENT = new Set([6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436]);

/** Runs a piece of work within the time that one operation may take. */
export type RunAttempt = (work: (attempt: Attempt) => Promise<void>) => Promise<void>;

/**
 * Inserts the messages, command by command in their order, each in an attempt of its own: a database
 * that is slow gets them all in the end, and one that hangs is found out in time. Each command is sent
 * again, until its time is over, when the connection is lost on the way. When it rejects, `onDoubt` has
 * been told the messages of the command that may still be under way, and no block is read any more.
 */
export async function insertBlocks(
  run: RunAttempt,
  blocks: readonly ChannelBlock[],
  onDoubt: (messages: MessageKey[]) => void,
): Promise<void> {
  let docs: MessageDoc[] = [];
  let size = 0;
  for (const block of blocks) {
    for (const { doc, bytes } of blockDocs(block)) {
      if (
        docs.length > 0 &&
        (docs.length >= MAX_INSERT_MESSAGES || size + bytes > MAX_INSERT_BYTES)
      ) {
        const sent = docs;
        await run((attempt) => insertSome(attempt, sent, onDoubt));
        docs = [];
        size = 0;
      }
      docs.push(doc);
      size += bytes;
    }
  }
  if (docs.length > 0) await run((attempt) => insertSome(attempt, docs, onDoubt));
}

async function insertSome(
  attempt: Attempt,
  docs: MessageDoc[],
  onDoubt: (messages: MessageKey[]) => void,
): Promise<void> {
  // At once and not when the driver gives up: the caller may take them back before that.
  const doubt = () => onDoubt(docs.map(keyOf));
  attempt.signal.addEventListener("abort", doubt, { once: true });
  try {
    await insertAll(attempt, docs);
  } catch (error) {
    if (!attempt.signal.aborted) doubt();
    throw error;
  } finally {
    attempt.signal.removeEventListener("abort", doubt);
  }
}

async function insertAll(attempt: Attempt, docs: MessageDoc[]): Promise<void> {
  const { signal, leftMs } = attempt;
  for (;;) {
    try {
      return await insert(attempt, docs);
    } catch (error) {
      if (signal.aborted || !isTransient(error) || leftMs() <= RETRY_PAUSE_MS) throw error;
    }
    await pause(RETRY_PAUSE_MS, signal);
    signal.throwIfAborted();
  }
}

/** One command. Not `insertMany`, which costs more and would hide how each document fared. */
async function insert(attempt: Attempt, documents: MessageDoc[]): Promise<void> {
  const { db, signal } = attempt;
  const answer = await db.command({
    insert: MESSAGES,
    documents,
    ordered: false,
    writeConcern: { w: "majority", j: true },
  }, { signal, ignoreUndefined: true });
  if (answer.writeConcernError !== undefined) {
    throw new MongoServerError(answer.writeConcernError);
  }
  const errors: Document[] = answer.writeErrors ?? [];
  const fault = errors.find((error) => !isKept(error));
  if (fault !== undefined) throw new MongoServerError(fault);
  if (errors.length > 0) await revive(attempt, errors.map(({ index }) => documents[index]));
}

/** Whether a message was refused because it is there already; indexes of others may have refused it, too. */
function isKept({ code, keyPattern }: Document): boolean {
  if (code !== DUPLICATE_KEY) return false;
  return keyPattern === undefined || "_id" in keyPattern ||
    ["app", "channel", "ts", "node"].every((field) => field in keyPattern);
}

/** Keeps messages after all that were taken back and whose marks are in the way. */
async function revive({ db, signal }: Attempt, docs: readonly MessageDoc[]): Promise<void> {
  const gone = { gone: { $exists: true } };
  if (await messagesOf(db).findOne(gone, { projection: { _id: 1 }, signal }) === null) return;
  const writes = docs.map(({ app, channel, ts, node, from, msg }) => ({
    replaceOne: {
      filter: { app, channel, ts, node, ...gone },
      replacement: { app, channel, ts, node, ...(from === undefined ? {} : { from }), msg },
    },
  }));
  await messagesOf(db).bulkWrite(writes, { ordered: false });
}

/**
 * Takes messages back. Those in doubt leave a mark in their place, which refuses a write that comes
 * late: deleting alone would overtake it.
 */
export async function takeBack(
  { db, signal }: Attempt,
  ranges: readonly MessageRange[],
  inDoubt: readonly MessageKey[],
): Promise<void> {
  const messages = messagesOf(db);
  const gone = new Date();
  for (let i = 0; i < inDoubt.length; i += MAX_FORGET) {
    const marks = inDoubt.slice(i, i + MAX_FORGET).map(({ app, channel, ts, node }) => ({
      updateOne: {
        filter: { app, channel, ts: Long.fromNumber(ts), node },
        update: { $set: { gone }, $unset: { msg: true as const, from: true as const } },
        upsert: true,
      },
    }));
    await againstRaces(() => messages.bulkWrite(marks, { ordered: false }));
    signal.throwIfAborted();
  }
  for (let i = 0; i < ranges.length; i += MAX_FORGET) {
    const deletions = ranges.slice(i, i + MAX_FORGET).map((range) => {
      const { app, channel, node, firstTs, lastTs } = range;
      const ts = { $gte: Long.fromNumber(firstTs), $lte: Long.fromNumber(lastTs) };
      return { deleteMany: { filter: { app, channel, node, ts, gone: { $exists: false } } } };
    });
    await messages.bulkWrite(deletions, { ordered: false });
    signal.throwIfAborted();
  }
}

function keyOf({ app, channel, ts, node }: MessageDoc): MessageKey {
  return { app, channel, ts: Number(ts), node };
}

function isTransient(error: unknown): boolean {
  if (error instanceof MongoNetworkError || error instanceof MongoServerSelectionError) return true;
  if (!(error instanceof MongoError)) return false;
  return error.hasErrorLabel("RetryableWriteError") || TRANSIENT.has(Number(error.code));
}
