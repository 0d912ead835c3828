// The series of a server's /metrics, for tests.

import assert from "node:assert/strict";
import type { Pushd } from "./harness.ts";

/** Every series of `/metrics` and its value. */
export async function metricSeries(
  pushd: Pushd,
  accept = "text/plain",
): Promise<Map<string, number>> {
  const response = await pushd.get("/metrics", { headers: { Accept: accept } });
  assert.equal(response.status, 200);
  const all = new Map<string, number>();
  for (const line of (await response.text()).split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [, name, value] = /^(\S+) (\d\S*)$/.exec(line) ?? assert.fail(`no sample: ${line}`);
    assert.ok(!all.has(name), `${name} twice`);
    all.set(name, Number(value));
  }
  return all;
}
