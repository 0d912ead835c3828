// pushd bench: that its figures are right, and that it finds what goes wrong.

import assert from "node:assert/strict";
import { runPushd, startPushd } from "./harness.ts";
import { LineProxy } from "./line_proxy.ts";

const LOAD = ["--rate", "2000", "--seconds", "1", "--json"];

async function bench(port: number, ...args: string[]) {
  const server = ["--server", `127.0.0.1:${port}`];
  const { code, stdout, stderr } = await runPushd(["bench", ...server, ...LOAD, ...args]);
  return { code, stderr, result: stdout === "" ? null : JSON.parse(stdout) };
}

Deno.test("bench: what it counts is what the server counts", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  const load = ["--pubs", "3", "--subs", "7", "--channels", "5", "--size", "100"];
  const { code, result, stderr } = await bench(pushd.port, ...load);
  assert.equal(code, 0, stderr);
  const { stats } = await pushd.stat();
  assert.equal(result.published, stats.published);
  assert.equal(result.delivered, stats.delivered);
  assert.ok(result.published > 500 && result.delivered > result.published, JSON.stringify(result));
  assert.deepEqual([result.lost, result.out_of_order, result.refused], [0, 0, 0]);
  const { mean, p50, p99, max } = result.delivery_ms;
  assert.ok(0 < p50 && p50 <= p99 && p99 <= max && mean <= max, JSON.stringify(result));
});

Deno.test("bench: messages lost, repeated or out of order are found, and refusals said", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  const isMessage = (line: string) => line.startsWith("MESSAGE ");
  const changes = {
    lost: () => {
      let n = 0;
      return (line: string) => isMessage(line) && n++ === 100 ? [] : [line];
    },
    repeated: () => {
      let n = 0;
      return (line: string) => isMessage(line) && n++ === 100 ? [line, line] : [line];
    },
    swapped: () => {
      let [n, held] = [0, ""];
      return (line: string) => {
        if (!isMessage(line)) return [line];
        if (n++ === 100) {
          held = line;
          return [];
        }
        return n === 102 ? [line, held] : [line];
      };
    },
    refused: () => {
      let n = 0;
      return (line: string) => {
        const isOne = line.startsWith("PUBLISHED ") && n++ === 100;
        return isOne ? ["ERROR too-busy not now"] : [line];
      };
    },
  };
  const seen: Record<string, unknown> = {};
  await Promise.all(
    Object.entries(changes).map(async ([name, newChange]) => {
      await using proxy = new LineProxy(pushd.port, newChange);
      const { code, result, stderr } = await bench(proxy.port);
      assert.equal(code, 1, `${name}: ${stderr}`);
      seen[name] = [result.lost, result.out_of_order, result.refused];
      if (name === "refused") {
        assert.match(stderr, /1 messages were refused: ERROR too-busy not now/);
      }
    }),
  );
  assert.deepEqual(seen, {
    lost: [1, 0, 0],
    repeated: [0, 1, 0],
    swapped: [0, 1, 0],
    refused: [0, 0, 1],
  });
});
