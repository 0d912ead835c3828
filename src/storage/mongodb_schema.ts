// What the database holds: the collections of MongoDB, their documents and their indexes.

import {
  type Collection,
  type Db,
  type IndexDescription,
  type Long,
  MongoServerError,
  type ObjectId,
} from "mongodb";
import { getLogger } from "../core/logger.ts";
import type { Attempt } from "./mongodb_connection.ts";

const log = getLogger("storage.mongodb");

/** A message, or the mark that one has been taken back (see `gone`). */
export interface MessageDoc {
  _id: ObjectId;
  app: string;
  channel: string;
  /** Microseconds since the epoch: a Long on its way in, a number on its way out. */
  ts: Long | number;
  /** The node that accepted it. */
  node: string;
  /** The publisher's user name, where it is known. */
  from?: string;
  /** Its text; missing where `gone` is set. */
  msg?: string;
  /**
   * When it was taken back. Such a document stands in the way of a write of the same message that was
   * given up and may still be under way to the server; it goes after {@link GONE_TTL_S}.
   */
  gone?: Date;
}

/** What retention has done to a channel. */
export interface ChannelDoc {
  _id: ObjectId;
  app: string;
  channel: string;
  /** The newest timestamp that retention has deleted, microseconds. */
  prunedTs: Long | number;
  /** The last step of deletion; each has an identity of its own. */
  step: ObjectId;
  /** While that step is under way: messages up to this timestamp count as deleted already. */
  deletingTs?: Long | number;
}

/** A node that has used the database; writing it proves that writing works. */
export interface NodeDoc {
  /** Its name. */
  _id: string;
  /** When it last opened the database. */
  opened: Date;
}

/** An unused token. */
export interface TokenDoc {
  /** SHA-256 of the token, base64url. */
  _id: string;
  app: string;
  user: string;
  expires: Date;
}

/** How long the mark of a message that was taken back stays, seconds. */
export const GONE_TTL_S = 600;

export const MESSAGES = "messages";
const CHANNELS = "channels";
const NODES = "nodes";
const TOKENS = "tokens";

export function messagesOf(db: Db): Collection<MessageDoc> {
  return db.collection(MESSAGES);
}

export function channelsOf(db: Db): Collection<ChannelDoc> {
  return db.collection(CHANNELS);
}

export function nodesOf(db: Db): Collection<NodeDoc> {
  return db.collection(NODES);
}

export function tokensOf(db: Db): Collection<TokenDoc> {
  return db.collection(TOKENS);
}

/** Order of a channel's messages, and of all. */
export const MESSAGE_ORDER = { app: 1, channel: 1, ts: 1, node: 1 } as const;

/** The error code of a server that does not know an option of an index. */
const NOT_IMPLEMENTED = 238;

/** The indexes of each collection; those with `expireAfterSeconds` let the server delete by time. */
const INDEXES: readonly [collection: string, index: IndexDescription][] = [
  [MESSAGES, { name: "message", key: MESSAGE_ORDER, unique: true }],
  // For retention by age, and for the newest timestamp of all.
  [MESSAGES, { name: "age", key: { ts: 1 } }],
  [MESSAGES, { name: "gone", key: { gone: 1 }, sparse: true, expireAfterSeconds: GONE_TTL_S }],
  [CHANNELS, { name: "channel", key: { app: 1, channel: 1 }, unique: true }],
  [CHANNELS, { name: "pruned", key: { prunedTs: 1 } }],
  [TOKENS, { name: "unused", key: { app: 1, expires: 1 } }],
  [TOKENS, { name: "expired", key: { expires: 1 }, expireAfterSeconds: 0 }],
];

/** Makes the indexes that are missing. One of the same name that is another makes it reject. */
export async function createIndexes({ db, signal }: Attempt): Promise<void> {
  const without: string[] = [];
  // One by one: FerretDB breaks off the connection when two of a command are there already.
  for (const [collection, index] of INDEXES) {
    try {
      await db.collection(collection).createIndexes([index]);
    } catch (error) {
      const isUnknown = error instanceof MongoServerError && error.code === NOT_IMPLEMENTED &&
        index.expireAfterSeconds !== undefined;
      if (!isUnknown) throw error;
      without.push(collection);
    }
    signal.throwIfAborted();
  }
  if (without.length > 0) {
    log.warn(
      "the database cannot delete by time (no TTL indexes): unused tokens are refused once they have expired, but stay in it",
    );
  }
}
