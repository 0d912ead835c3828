// What the configuration means for each part: the bounds that a reload may change.

import type { Config } from "./config/schema.ts";
import type { OpenFileLimit } from "./core/open_files.ts";
import { isClustered } from "./config/clustered.ts";
import type { AuthLimits } from "./engine/auth.ts";
import type { EngineLimits } from "./engine/engine.ts";
import type { RetentionLimits } from "./engine/retention.ts";
import type { RouterLimits } from "./s2s/router.ts";
import type { ServLimits } from "./serv/limits.ts";
import type { CommitLimits } from "./storage/commit_queue.ts";

/** Files that are kept free for the stats door, the log, the store and the runtime itself. */
const RESERVED_FILES = 64;

/** How many connections are taken, and what says so. */
export interface MaxConnections {
  readonly count: number;
  /** For the log: the key, or the limit of open files. */
  readonly why: string;
  /** Whether the configuration asks for more than there can be. */
  readonly isCapped: boolean;
}

/** What connections may hold of the open files. */
function possibleFiles({ limit }: OpenFileLimit): number {
  return Math.max(1, Math.ceil(limit - Math.min(RESERVED_FILES, limit / 4)));
}

/** As many as the configuration says, where the open-file limit allows it. */
export function maxConnections(config: Config, files: OpenFileLimit): MaxConnections {
  const possible = possibleFiles(files);
  const asked = config.max_connections;
  if (asked !== null && asked <= possible) {
    return { count: asked, why: "max_connections", isCapped: false };
  }
  const why = `open-file limit ${files.limit}, ${files.how}`;
  return { count: possible, why, isCapped: asked !== null };
}

/** For the doors of clients. */
export function servLimits(config: Config, files: OpenFileLimit): ServLimits {
  return {
    maxConnections: maxConnections(config, files).count,
    maxFiles: possibleFiles(files),
    maxConnectionsPerAddress: config.max_connections_per_address,
    maxLineBytes: config.max_line_bytes,
    maxPendingBytes: config.max_pending_bytes,
    writeTimeoutMs: config.write_timeout,
    sessionTimeoutMs: config.session_timeout,
    authTimeoutMs: config.auth_timeout,
    maxPublishesPerSecond: config.max_publishes_per_second,
    maxChannelsPerConnection: config.max_channels_per_connection,
  };
}

/** For tokens and secrets. */
export function authLimits(config: Config): AuthLimits {
  return {
    apps: config.apps,
    tokenTtlMs: config.token_ttl,
    maxUnusedTokens: config.max_unused_tokens,
  };
}

/** For the engine. */
export function engineLimits(config: Config): EngineLimits {
  const { max_cache_msgs_every_channel: mostCached, msg_retention_per_channel: kept } = config;
  const maxMessagesPerChannel = kept > 0 ? Math.min(mostCached, kept) : mostCached;
  // In a cluster half of it is for the order in which messages arrived from all nodes.
  const maxBytes = isClustered(config) ? config.max_cache_bytes / 2 : config.max_cache_bytes;
  return {
    history: { maxMessagesPerChannel, maxBytes, maxIdleChannels: config.pubsub_channel_max_items },
    arrivals: { maxMessagesPerChannel, maxBytes },
    maxChannelsPerConnection: config.max_channels_per_connection,
  };
}

/** For the links to other nodes. */
export function routerLimits(config: Config): RouterLimits {
  return {
    sessionTimeoutMs: config.s2s_session_timeout,
    replayBytes: config.s2s_replay_bytes,
    replayTimeoutMs: config.s2s_replay_timeout,
    bloomThreshold: config.s2s_bloom_threshold,
    maxChannels: config.s2s_channel_peers_max_items,
    maxSkewMs: config.s2s_max_skew,
  };
}

/** For what waits to be stored. */
export function commitLimits(config: Config): CommitLimits {
  return {
    flushPolicy: config.msg_storage_flush_policy === 1 ? 1 : 0,
    maxMessages: config.max_storage_outstanding_msg,
    maxBytes: config.max_storage_outstanding_bytes,
    maxBufferedMessages: config.msg_storage_write_buffer_size,
  };
}

/** For the deletion of old messages. */
export function retentionLimits(config: Config): RetentionLimits {
  return { maxAgeMs: config.msg_retention, keepPerChannel: config.msg_retention_per_channel };
}
