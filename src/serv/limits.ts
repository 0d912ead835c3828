// What a server allows its connections; the object is shared, so that a change reaches all of them.

/** Limits of the client doors. Durations in milliseconds, sizes in bytes; 0 where it says so. */
export interface ServLimits {
  /** Connections in all. */
  maxConnections: number;
  /** Files that connections may hold: one each, over TLS three. */
  maxFiles: number;
  /** Connections from one address; 0: no limit. */
  maxConnectionsPerAddress: number;
  /** Longest request line, its line end not counted. */
  maxLineBytes: number;
  /** What may wait for one connection before it is cut off. */
  maxPendingBytes: number;
  /** How long a write may make no progress. */
  writeTimeoutMs: number;
  /** How long a client may send nothing; 0: for ever. */
  sessionTimeoutMs: number;
  /** With `auth: "on"`, the time to authenticate. */
  authTimeoutMs: number;
  /** Publishes per second and connection, beyond which it is read more slowly; 0: no limit. */
  maxPublishesPerSecond: number;
  /** Channels that one connection may follow (for `hello`; the engine enforces it). */
  maxChannelsPerConnection: number;
}

/** Longest request line before authentication, where that is needed. */
export const MAX_LINE_BYTES_BEFORE_AUTH = 4096;

/** Why a connection ended; fixed words, for the log and the metrics. */
export type CloseReason =
  | "client"
  | "quit"
  | "slow-consumer"
  | "idle-timeout"
  | "auth-timeout"
  | "auth-failed"
  | "http"
  | "too-busy"
  | "shutting-down"
  | "proxy"
  | "tls"
  | "failed";

/** Counters of the client doors, read by the stats door. */
export interface ServCounters {
  connectionsTotal: number;
  refused: number;
  slowConsumers: number;
  bytesIn: number;
  /** What sockets took. */
  bytesOut: number;
  disconnects: Record<CloseReason, number>;
  commands: Record<string, number>;
  errors: Record<string, number>;
}

export function newServCounters(): ServCounters {
  return {
    connectionsTotal: 0,
    refused: 0,
    slowConsumers: 0,
    bytesIn: 0,
    bytesOut: 0,
    disconnects: {
      "client": 0,
      "quit": 0,
      "slow-consumer": 0,
      "idle-timeout": 0,
      "auth-timeout": 0,
      "auth-failed": 0,
      "http": 0,
      "too-busy": 0,
      "shutting-down": 0,
      "proxy": 0,
      "tls": 0,
      "failed": 0,
    },
    commands: {},
    errors: {},
  };
}
