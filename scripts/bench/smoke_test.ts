// Whether the benchmark runs: each kind of row, for a moment, on pushd alone, and nothing is lost.

import assert from "node:assert/strict";
import { findCompiler } from "./compile.ts";
import { markdownOf } from "./markdown.ts";
import { plotsOf } from "./plots.ts";
import { withResults } from "./publish.ts";
import type { Results } from "./results.ts";

const ROWS = [
  "1x10@16",
  "4x100x1",
  "zipf:2x1000",
  "json:1x1",
  "at:1000:1x1",
  "durable:10",
  "his:cache:1",
  "connect:200",
];
const MAIN = new URL("main.ts", import.meta.url).pathname;
const why = Deno.build.os !== "linux"
  ? " (skipped: it needs epoll, so Linux)"
  : await findCompiler() === null
  ? " (skipped: no C compiler on PATH)"
  : "";

Deno.test({
  name: `bench: every kind of row runs on pushd, and nothing is lost${why}`,
  ignore: why !== "",
  fn: async () => {
    const short = ["--rounds", "1", "--seconds", "0.05", "--warmup", "0", "--json"];
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", MAIN, "--servers", "pushd", "--rows", ROWS.join(), ...short],
    }).output();
    assert.equal(new TextDecoder().decode(stderr), "");
    assert.equal(code, 0);
    const results = JSON.parse(new TextDecoder().decode(stdout)) as Results;
    assert.deepEqual(results.faults, []);
    assert.deepEqual(
      results.rows.map(({ row }) => typeof row === "string" ? row : row.id),
      ROWS,
    );
    for (const report of results.rows) {
      if (report.of !== "throughput") continue;
      const { deliveries, published } = report.servers.pushd.runs[0];
      assert.ok(published > 0 && deliveries === published * report.row.subscribers, report.row.id);
    }
    // What is made of it for people has every row.
    const page = withResults(
      "a <!-- results: written by scripts/bench/publish.ts --> old <!-- end of results --> z",
      markdownOf(results),
    );
    assert.match(
      page,
      /^a .*\n[^]*1 → 10, 16 B[^]*connections per second[^]*<!-- end of results --> z$/,
    );
    assert.ok(!page.includes(" old "));
    assert.deepEqual([...plotsOf(results).keys()], [
      "performance-deliveries.svg",
      "performance-latency.svg",
    ]);
  },
});
