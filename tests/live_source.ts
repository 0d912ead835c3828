// A running server as the page sees it, made up.

import { Histogram } from "../src/core/histogram.ts";
import type { LiveNumbers, LiveSource } from "../src/stats/live_source.ts";
import type { ConnectionsAnswer, NodesAnswer } from "../src/stats/shapes.ts";

type ShownNode = NodesAnswer["nodes"][number];

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
    latency: { publish: new Histogram().snapshot(), delivery: new Histogram().snapshot() },
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

/** A connection of somebody whose name is not known, and a node that is up, but for `overrides`. */
export function shownConnection(
  overrides: Partial<ConnectionsAnswer[number]> = {},
): ConnectionsAnswer[number] {
  return {
    id: 1,
    address: "::1",
    user: null,
    app: "default",
    channels: 1,
    pending: 0,
    bytes_in: 0,
    bytes_out: 0,
    connected_s: 1,
    idle_s: 1,
    ...overrides,
  };
}

export function shownNode(overrides: Partial<ShownNode> = {}): ShownNode {
  return {
    id: "b",
    self: false,
    state: "up",
    s2s_addr: null,
    client_addr: null,
    version: null,
    since: null,
    rtt_ms: null,
    skew_ms: null,
    replay_bytes: 0,
    lost: 0,
    ...overrides,
  };
}
