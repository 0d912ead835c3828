// What the page, its live feed and the text for curl are made of.

/** Observations of a histogram so far: `counts[i]` of at most `bounds_s[i]` seconds, the last of more. */
export interface Observed {
  readonly bounds_s: readonly number[];
  readonly counts: ArrayLike<number>;
}

/** Numbers of the server at one moment; those marked "so far" only grow. */
export interface LiveNumbers {
  readonly connections: number;
  /** So far. */
  readonly published: number;
  /** So far. */
  readonly delivered: number;
  /** So far. */
  readonly bytesIn: number;
  /** So far. */
  readonly bytesOut: number;
  /** The largest lag of the event loop since this was asked last. */
  readonly lagMs: number;
  /** Messages that wait for the store. */
  readonly storagePending: number;
  /** Messages to and from other nodes, so far; null where the server stands alone. */
  readonly s2s: { readonly forwarded: number; readonly received: number } | null;
  /** How long requests and deliveries took, so far; null where that is not measured. */
  readonly latency: { readonly publish: Observed; readonly delivery: Observed } | null;
}

/** A node of the cluster. */
export interface ShownNode {
  /** Null while only its address is known. */
  readonly id: string | null;
  readonly self: boolean;
  readonly state: "up" | "connecting" | "down";
  readonly s2s_addr: string | null;
  readonly version: string | null;
  /** Since when it is in this state, ISO 8601. */
  readonly since: string | null;
  readonly rtt_ms: number | null;
  /** Its wall clock less ours. */
  readonly skew_ms: number | null;
  readonly replay_bytes: number;
  readonly lost: number;
}

/** The answer of `/s/nodes`. */
export interface ShownNodes {
  readonly node: string;
  /** Its name; null where the server stands alone. */
  readonly cluster: string | null;
  readonly nodes: readonly ShownNode[];
}

/** An item of `/s/channels`. */
export interface ShownChannel {
  readonly channel: string;
  readonly app: string;
  readonly subscribers: number;
  readonly published: number;
  /** Of its newest message, microseconds; 0 before the first. */
  readonly last_ts: number;
}

/** An item of `/s/conns`. */
export interface ShownConnection {
  readonly address: string;
  readonly user: string | null;
  readonly app: string;
  readonly channels: number;
  /** Bytes that wait for it. */
  readonly pending: number;
  readonly bytes_out: number;
}

/** The running server, as far as the page shows it. Every function is cheap, but for the lists. */
export interface LiveSource {
  liveNumbers(): LiveNumbers;
  snapshot(): {
    readonly version: string;
    readonly nodeId: string;
    readonly uptimeS: number;
    readonly stats: Readonly<Record<string, number>>;
  };
  readiness(): { readonly ready: boolean; readonly failing: readonly string[] };
  /** Secrets as `***`. */
  conf(): unknown;
  nodes(): ShownNodes;
  /** `stats_token`; empty for none. */
  token(): string;
  readonly lists: {
    channels(limit: number, prefix: string): Promise<readonly ShownChannel[]>;
    connections(limit: number, order: "pending"): Promise<readonly ShownConnection[]>;
  };
}
