// A cluster of three in which everything is broken in turn, by chance, and nothing may be lost or come twice.
//
// PUSHD_FAULT_MINUTES is how long, PUSHD_FAULT_SEED repeats the choices of a run, and in PUSHD_FAULT_LOGS
// the logs of the nodes are left.
// deno-lint-ignore-file no-console

import assert from "node:assert/strict";
import type { FaultRunOptions } from "./cluster_fault_run.ts";
import { runInHub } from "./cluster_hub.ts";
import { ClusterNet, requireNetwork } from "./cluster_net.ts";
import { requireZooKeeper } from "./zookeeper.ts";

/** In a run of all tests, ms. */
const SHORT_MS = 24_000;
const RUN = new URL("cluster_fault_run.ts", import.meta.url).href;

const network = requireNetwork();
const zooKeeper = requireZooKeeper();
const ignore = network.ignore || zooKeeper.ignore;
const reason = network.reason + zooKeeper.reason;

const minutes = Number(Deno.env.get("PUSHD_FAULT_MINUTES") ?? 0);
const isLong = minutes > 0;
const seed = Number(Deno.env.get("PUSHD_FAULT_SEED") ?? Math.floor(Math.random() * 2 ** 31));

const OPTIONS: FaultRunOptions = {
  seed,
  ms: isLong ? minutes * 60_000 : SHORT_MS,
  maxOutageMs: isLong ? 20_000 : 8000,
  rate: 3000,
  logFolder: Deno.env.get("PUSHD_FAULT_LOGS") ?? "",
  isApart: false,
};

Deno.test({
  name: `three nodes, everything broken in turn: nothing is lost, nothing comes twice${reason}`,
  ignore,
  async fn() {
    console.log(`PUSHD_FAULT_SEED=${seed}`);
    await using net = await ClusterNet.create(3);
    const onLine = isLong ? (line: string) => console.log(line) : undefined;
    const { code, said } = await runInHub(net, RUN, OPTIONS, onLine);
    assert.equal(code, 0, `PUSHD_FAULT_SEED=${seed}\n${said}`);
  },
});

Deno.test({
  name: `three nodes that know nothing of each other: the same run finds what is missing${reason}`,
  ignore,
  async fn() {
    await using net = await ClusterNet.create(3);
    const { code, said } = await runInHub(net, RUN, {
      ...OPTIONS,
      ms: 2000,
      logFolder: "",
      isApart: true,
    });
    assert.equal(code, 1, said);
    const kinds = new Set([...said.matchAll(/^([a-z ]+) × \d+: /gm)].map(([, kind]) => kind));
    // Each has what it was given itself, in order and once, and nothing of the others.
    assert.deepEqual([...kinds].sort(), ["history difference", "history loss", "loss"], said);
  },
});
