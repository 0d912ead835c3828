// What the page, its live feed and the text for curl are made of.

import type { HistogramSnapshot } from "../core/histogram.ts";
import type { ChannelsAnswer, ConnectionsAnswer, NodesAnswer, ReadyAnswer } from "./shapes.ts";

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
  /** How long requests and deliveries took, so far. */
  readonly latency: { readonly publish: HistogramSnapshot; readonly delivery: HistogramSnapshot };
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
  readiness(): ReadyAnswer;
  /** Secrets as `***`. */
  conf(): unknown;
  nodes(): NodesAnswer;
  /** `stats_token`; empty for none. */
  token(): string;
  readonly lists: {
    channels(limit: number, prefix: string): Promise<ChannelsAnswer>;
    connections(limit: number, order: "pending"): Promise<ConnectionsAnswer>;
  };
}
