// The channels of a MongoDB store: which there are, and what retention has done to each.

import { Long, MongoServerError, ObjectId } from "mongodb";
import type { Attempt } from "./mongodb_connection.ts";
import { channelsOf, messagesOf } from "./mongodb_schema.ts";

/** A channel by its names. */
export interface ChannelName {
  readonly app: string;
  readonly channel: string;
}

/** One string for a channel. */
export function channelKey({ app, channel }: ChannelName): string {
  return JSON.stringify([app, channel]);
}

/** What retention has done to a channel, at one moment. */
export interface Mark {
  /** The newest timestamp that has been deleted; 0 for none. */
  readonly prunedTs: number;
  /** Messages up to this are being deleted and are not to be shown; 0 for none. */
  readonly deletingTs: number;
  /** Names the last step of deletion, so that a reader sees that there was another one meanwhile. */
  readonly step: string;
}

/** Reads the mark of a channel. */
export async function readMark({ db, signal }: Attempt, name: ChannelName): Promise<Mark> {
  const { app, channel } = name;
  const doc = await channelsOf(db).findOne({ app, channel }, { signal });
  return {
    prunedTs: Number(doc?.prunedTs ?? 0),
    deletingTs: Number(doc?.deletingTs ?? 0),
    step: String(doc?.step ?? ""),
  };
}

/** The channel with messages that follows `after`, by application and name; the first for undefined. */
export async function nextChannel(
  { db, signal }: Attempt,
  after: ChannelName | undefined,
): Promise<ChannelName | undefined> {
  // Two questions, each of which an index answers by its first entry.
  const filters = after === undefined
    ? [{}]
    : [{ app: after.app, channel: { $gt: after.channel } }, { app: { $gt: after.app } }];
  for (const filter of filters) {
    const doc = await messagesOf(db).findOne(filter, {
      sort: { app: 1, channel: 1 },
      projection: { _id: 0, app: 1, channel: 1 },
      signal,
    });
    if (doc !== null) return { app: doc.app, channel: doc.channel };
  }
  return undefined;
}

/** A message that is to be deleted. */
export interface Doomed extends ChannelName {
  readonly _id: ObjectId;
  readonly ts: Long | number;
}

/** A channel that lost messages, and the newest timestamp that is gone. */
export interface Pruned extends ChannelName {
  readonly prunedTs: number;
}

/**
 * Deletes messages, so that a reader sees each channel before it or after it: the marks say that they
 * are gone before the first one goes. Several nodes may do it at once, and one that dies in between
 * leaves marks that hide the rest until another does it.
 */
export async function deleteMarked(
  { db, signal }: Attempt,
  messages: readonly Doomed[],
): Promise<Pruned[]> {
  const newest = new Map<string, Pruned>();
  for (const message of messages) {
    const key = channelKey(message);
    const prunedTs = Number(message.ts);
    if (prunedTs > (newest.get(key)?.prunedTs ?? -1)) {
      newest.set(key, { app: message.app, channel: message.channel, prunedTs });
    }
  }
  const pruned = [...newest.values()];
  if (pruned.length === 0) return pruned;
  const step = new ObjectId();
  const marks = pruned.map(({ app, channel, prunedTs }) => {
    const ts = Long.fromNumber(prunedTs);
    const update = { $max: { prunedTs: ts, deletingTs: ts }, $set: { step } };
    return { updateOne: { filter: { app, channel }, update, upsert: true } };
  });
  await againstRaces(() => channelsOf(db).bulkWrite(marks, { ordered: false }));
  signal.throwIfAborted();
  await messagesOf(db).deleteMany({ _id: { $in: messages.map(({ _id }) => _id) } });
  signal.throwIfAborted();
  // Not where another node has begun a step meanwhile: it ends that.
  const ends = pruned.map(({ app, channel }) => ({
    updateOne: {
      filter: { app, channel, step },
      update: { $unset: { deletingTs: true as const } },
    },
  }));
  await channelsOf(db).bulkWrite(ends, { ordered: false });
  return pruned;
}

/** The error code of a unique index that refuses a document. */
export const DUPLICATE_KEY = 11000;

/**
 * Does it, and once more where it met a duplicate key: of two upserts of one document at once a server
 * may refuse the second.
 */
export async function againstRaces<T>(write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    if (!(error instanceof MongoServerError) || error.code !== DUPLICATE_KEY) throw error;
    return await write();
  }
}
