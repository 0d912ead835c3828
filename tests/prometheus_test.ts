// What Prometheus makes of /metrics, and whether the alerts and the dashboard in etc/ ask for what there is.

import assert from "node:assert/strict";
import { Client, errorLine, type Pushd, startPushd } from "./harness.ts";
import { metricSeries } from "./metric_series.ts";
import { requireTool } from "./require.ts";

const ETC = new URL("../etc/", import.meta.url).pathname;
const RULES = `${ETC}prometheus/pushd.rules.yml`;
const RULES_TEST = `${ETC}prometheus/pushd.rules_test.yml`;
const DASHBOARD = `${ETC}grafana/pushd.json`;
/** Made by Prometheus itself. */
const SCRAPE_METRICS = ["up"];
/** Put to each series by whoever scrapes it. */
const SCRAPE_LABELS = ["job", "instance"];

const promtool = requireTool("promtool");

/** Runs promtool, which must be content. */
async function check(args: string[], stdin = ""): Promise<void> {
  const child = new Deno.Command("promtool", {
    args,
    cwd: `${ETC}prometheus`,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = child.output();
  await new Blob([stdin]).stream().pipeTo(child.stdin);
  const { code, stdout, stderr } = await output;
  const said = new TextDecoder().decode(Uint8Array.of(...stdout, ...stderr));
  assert.equal(code, 0, `promtool ${args.join(" ")}:\n${said}`);
}

/** Some of everything, so that no histogram and no counter that matters is empty. */
async function useIt(pushd: Pushd): Promise<void> {
  using client = await Client.connect(pushd.port);
  await client.ask("sub c", "SUBSCRIBED c");
  await client.send("pub c hello\n");
  const lines = (await client.lines(2)).map((line) => line.split(" ")[0]);
  assert.deepEqual(lines.sort(), ["MESSAGE", "PUBLISHED"]);
  await client.ask("his c 0", /^HISTORY c \[/);
  await client.ask("nonsense", errorLine("unknown-command"));
}

Deno.test({
  name: `promtool has nothing to say against /metrics of a running server${promtool.reason}`,
  ignore: promtool.ignore,
  fn: async () => {
    await using pushd = await startPushd();
    await useIt(pushd);
    const text = await (await pushd.get("/metrics")).text();
    assert.match(text, /^pushd_publish_duration_seconds_count 1$/m);
    assert.match(text, /^pushd_storage_commit_duration_seconds_count [1-9]/m);
    await check(["check", "metrics"], text);
  },
});

Deno.test({
  name: `the alerts are what Prometheus takes, each fires when it should${promtool.reason}`,
  ignore: promtool.ignore,
  fn: async () => {
    await check(["check", "rules", RULES]);
    await check(["test", "rules", RULES_TEST]);
    const tests = await Deno.readTextFile(RULES_TEST);
    for (const [, name] of (await Deno.readTextFile(RULES)).matchAll(/- alert: (\w+)/g)) {
      assert.ok(tests.includes(`alertname="${name}"`), `${name} has no test`);
    }
  },
});

/** Every expression in the file of alerts. */
async function alertExpressions(): Promise<string[]> {
  const text = await Deno.readTextFile(RULES);
  const found = [...text.matchAll(/^ +expr: (.+)$/gm)].map(([, expr]) => expr);
  assert.equal(found.length, [...text.matchAll(/- alert:/g)].length);
  return found;
}

/** Every expression in the dashboard, with the variables of Grafana filled in. */
async function dashboardExpressions(): Promise<string[]> {
  const { panels } = JSON.parse(await Deno.readTextFile(DASHBOARD));
  const found: string[] = [];
  for (const { title, type, targets } of panels) {
    if (type === "row") continue;
    assert.ok(targets.length > 0, title);
    for (const { expr, datasource } of targets) {
      assert.equal(datasource.uid, "${datasource}", `${title}: the data source is a variable`);
      found.push(expr.replaceAll("$__rate_interval", "5m"));
    }
  }
  return found;
}

Deno.test("alerts and dashboard ask for series that a server has", async () => {
  await using pushd = await startPushd();
  const series = [...(await metricSeries(pushd)).keys()];
  const names = new Set([...SCRAPE_METRICS, ...series.map((one) => one.replace(/\{.*/, ""))]);
  const expressions = [...await alertExpressions(), ...await dashboardExpressions()];
  assert.ok(expressions.length > 50, `${expressions.length}`);
  for (const expr of expressions) {
    const asked = [...expr.matchAll(/\b(up|(?:pushd|process)_\w+)\b(\{[^}]*\})?/g)];
    assert.ok(asked.length > 0, `no metric in ${expr}`);
    for (const [, name, matchers = ""] of asked) {
      assert.ok(names.has(name), `there is no ${name} in /metrics, but in ${expr}`);
      for (const [, label, op, value] of matchers.matchAll(/(\w+)(=~|!=|!~|=)"([^"]*)"/g)) {
        if (SCRAPE_LABELS.includes(label)) continue;
        const there = series.filter((one) => one.startsWith(`${name}{${label}="`));
        assert.ok(there.length > 0, `${name} has no label ${label}, but in ${expr}`);
        const isThere = there.includes(`${name}{${label}="${value}"}`);
        assert.ok(op === "=~" || isThere, `${name} has no ${label}="${value}", but in ${expr}`);
      }
    }
  }
});

Deno.test({
  name: `the dashboard's expressions are PromQL${promtool.reason}`,
  ignore: promtool.ignore,
  fn: async () => {
    const rules = (await dashboardExpressions())
      .map((expr, i) => ({ record: `panel:${i}`, expr, labels: { number: `${i}` } }));
    const file = await Deno.makeTempFile({ suffix: ".json" });
    try {
      // JSON is YAML.
      await Deno.writeTextFile(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
      await check(["check", "rules", file]);
    } finally {
      await Deno.remove(file);
    }
  },
});
