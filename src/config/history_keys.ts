// The keys of history: where messages are kept, for how long, and how much of them in memory.

import { key, RELOAD } from "./key_spec.ts";
import {
  address,
  count,
  duration,
  MAX_TIMER_MS,
  oneOf,
  oneOfCounts,
  size,
  text,
} from "./value_types.ts";
import { parseDialAddr, parseMongoUrl, parsePath, ValueFault } from "./values.ts";

const KiB = 2 ** 10;
const GiB = 2 ** 30;

export const HISTORY_KEYS = {
  msg_storage: key(
    "history",
    oneOf("sqlite", "mongodb", "memory", ""),
    "sqlite",
    'Where messages are kept: `"sqlite"` (a file), `"mongodb"` (shared by all nodes of a cluster), `"memory"` (what the cache below holds and nothing else), or `""` for nowhere: `his` and `sub` with a timestamp are then `ERROR history-off`.',
  ),
  msg_storage_flush_policy: key(
    "history",
    oneOfCounts(0, 1),
    "0",
    "0: `PUBLISHED` is sent after the commit that holds the message. 1: at once, with a commit every second.",
    RELOAD,
  ),
  max_storage_outstanding_msg: key(
    "history",
    count(1),
    "100000",
    "Messages accepted and not yet stored; at this bound, or that in bytes, the publisher is made to wait.",
    RELOAD,
  ),
  max_storage_outstanding_bytes: key(
    "history",
    size(64 * KiB, 4 * GiB),
    "64MiB",
    "The same bound in bytes. At least `max_line_bytes`.",
    RELOAD,
  ),
  msg_storage_write_buffer_size: key(
    "history",
    count(1),
    "100000",
    "Messages that may wait to be stored with `msg_storage_flush_policy: 1`.",
    RELOAD,
  ),
  msg_retention: key(
    "history",
    duration({ zero: true }),
    "0",
    "Messages older than this are deleted in the background, except while the wall clock has just jumped. 0: all are kept.",
    RELOAD,
  ),
  msg_retention_per_channel: key(
    "history",
    count(0),
    "0",
    "Newest messages that are kept of a channel. 0: all.",
    RELOAD,
  ),
  max_cache_msgs_every_channel: key(
    "history",
    count(1, 10_000_000),
    "3000",
    "Newest messages of a channel that are kept in memory for `his`.",
    RELOAD,
  ),
  max_cache_bytes: key(
    "history",
    size(64 * KiB, 64 * GiB),
    "256MiB",
    "Bound of that cache over all channels. At least `max_line_bytes`.",
    RELOAD,
  ),
  pubsub_channel_max_items: key(
    "history",
    count(1),
    "2000000",
    "Channels with a cache and no subscriber that are remembered; the one not used for longest goes first.",
    RELOAD,
  ),
  "sqlite.path": key(
    "history",
    text("a path", parsePath),
    "pushd.db",
    'The file for `msg_storage: "sqlite"`. A second process on the same file is refused.',
  ),
  "mongodb.addr": key(
    "history",
    address(parseDialAddr),
    "127.0.0.1:27017",
    'The server for `msg_storage: "mongodb"`.',
  ),
  "mongodb.url": key(
    "history",
    text("a connection string", parseMongoUrl, { empty: true }),
    "",
    "A full connection string, `mongodb://…`; it wins over `mongodb.addr`.",
    { secret: true },
  ),
  "mongodb.database": key(
    "history",
    text("the name of a database", parseDatabase),
    "pushd",
    "Name of the database.",
  ),
  "mongodb.username": key(
    "history",
    text("a user", (value) => value, { empty: true }),
    "",
    "User at the database, where it asks for one.",
  ),
  "mongodb.password": key(
    "history",
    text("a password", (value) => value, { empty: true }),
    "",
    "Password of that user.",
    { secret: true },
  ),
  "mongodb.conn_timeout": key(
    "history",
    duration({ maxMs: MAX_TIMER_MS }),
    "5s",
    "How long connecting to the database may take.",
  ),
  "mongodb.sync_timeout": key(
    "history",
    duration({ maxMs: MAX_TIMER_MS }),
    "5s",
    "How long to look for a database server that can be used.",
  ),
  "mongodb.operation_timeout": key(
    "history",
    duration({ maxMs: MAX_TIMER_MS }),
    "5s",
    "How long one read or write of the database may take.",
  ),
};

function parseDatabase(value: string): string {
  if (/[/\\. "$*<>:|?\0]/.test(value) || value.length > 63) {
    throw new ValueFault(
      'the name of a database has at most 63 characters, none of / \\ . space " $',
    );
  }
  return value;
}
