// What a stats app is given in tests that are about something else: every question not expected is a failure.

import assert from "node:assert/strict";
import type { StatsDeps } from "../src/stats/app.ts";

/** Dependencies of a ready server on loopback; what is not in `overrides` and asked for fails the request. */
export function statsDeps(overrides: Partial<StatsDeps> = {}): StatsDeps {
  const unexpected = () => assert.fail("was asked");
  return {
    snapshot: unexpected,
    metrics: unexpected,
    latency: unexpected,
    conf: unexpected,
    readiness: () => ({ ready: true, failing: [] }),
    nodes: unexpected,
    sys: unexpected,
    trace: unexpected,
    lists: { channels: unexpected, connections: unexpected, closed: unexpected },
    token: () => "",
    listenHost: "127.0.0.1",
    allowedHosts: () => [],
    ...overrides,
  };
}
