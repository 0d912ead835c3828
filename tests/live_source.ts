// A running server as the page sees it, made up.

import type { LiveNumbers, LiveSource } from "../src/stats/live_source.ts";

/** Numbers of a server that does nothing. */
export function liveNumbers(overrides: Partial<LiveNumbers> = {}): LiveNumbers {
  return {
    connections: 0,
    published: 0,
    delivered: 0,
    bytesIn: 0,
    bytesOut: 0,
    lagMs: 0,
    storagePending: 0,
    s2s: null,
    latency: null,
    ...overrides,
  };
}

/** A source of a ready server that stands alone and is empty. */
export function liveSource(overrides: Partial<LiveSource> = {}): LiveSource {
  return {
    liveNumbers: () => liveNumbers(),
    snapshot: () => ({
      version: "1.2.3",
      nodeId: "host:2222",
      uptimeS: 3725,
      stats: { connections: 0, pubsub_channel_count: 0, subscriptions: 0, slow_consumers: 0 },
    }),
    readiness: () => ({ ready: true, failing: [] }),
    conf: () => ({ s2s_secret: "***" }),
    nodes: () => ({ node: "host:2222", cluster: null, nodes: [] }),
    token: () => "",
    lists: {
      channels: () => Promise.resolve([]),
      connections: () => Promise.resolve([]),
    },
    ...overrides,
  };
}
