// A link between two nodes that is cut again and again, under load: nothing is lost, nothing comes twice.
//
// With PUSHD_FAULT_MINUTES it is cut 30 times.

import assert from "node:assert/strict";
import type { FlapRunOptions } from "./cluster_flap_run.ts";
import { runInHub } from "./cluster_hub.ts";
import { ClusterNet, requireNetwork } from "./cluster_net.ts";

const RUN = new URL("cluster_flap_run.ts", import.meta.url).href;
const isLong = Number(Deno.env.get("PUSHD_FAULT_MINUTES") ?? 0) > 0;

const network = requireNetwork();

const OPTIONS: FlapRunOptions = {
  times: isLong ? 30 : 2,
  cutMs: 2000,
  wholeMs: 3000,
  rate: 10_000,
  replayBytes: "64MiB",
};

Deno.test({
  name: `a link that is cut for 2 s every 5 s, 10,000 messages a second each way${network.reason}`,
  ignore: network.ignore,
  async fn() {
    await using net = await ClusterNet.create(2);
    const { code, said } = await runInHub(net, RUN, OPTIONS);
    assert.equal(code, 0, said);
  },
});

Deno.test({
  name:
    `a link that is cut for longer than is kept for it: what is lost is counted${network.reason}`,
  ignore: network.ignore,
  async fn() {
    await using net = await ClusterNet.create(2);
    const options = { ...OPTIONS, times: 1, replayBytes: "64KiB" };
    const { code, said } = await runInHub(net, RUN, options);
    assert.equal(code, 1, said);
    for (const node of ["n0", "n1"]) {
      assert.match(said, new RegExp(`^${node} says that it has lost [1-9]\\d* messages$`, "m"));
    }
    // The counts are what is missing, and nothing is wrong beside that.
    const counted = [...said.matchAll(/^n\d says that it has lost (\d+) messages$/gm)];
    const missing = [...said.matchAll(/^loss × (\d+): /gm)];
    const sum = (found: RegExpExecArray[]) => found.reduce((all, [, n]) => all + Number(n), 0);
    assert.equal(sum(counted), sum(missing), said);
    const others = said.split("\n").filter((line) =>
      / × /.test(line) && !line.startsWith("loss ") || line.includes("are missing")
    );
    assert.deepEqual(others, [], said);
  },
});
