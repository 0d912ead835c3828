// The configuration and the command line, as a person meets them: the program is run, its text is read.

import assert from "node:assert/strict";
import { Client, type PushdOptions, type Run, runPushd, startPushd } from "./harness.ts";

const ROOT = new URL("../", import.meta.url);
const SAMPLE = new URL("etc/pushd.cf.sample", ROOT).pathname;
const ORIGINAL = new URL("tests/fixtures/original_pushd.cf", ROOT).pathname;

/** Runs `check-config` on this text, as the file `pushd.cf`. */
async function checkConfig(text: string, options: Partial<PushdOptions> = {}): Promise<Run> {
  const cwd = await Deno.makeTempDir({ prefix: "pushd-config-" });
  try {
    await Deno.writeTextFile(`${cwd}/pushd.cf`, text);
    return await runPushd(["check-config", "pushd.cf"], { cwd, ...options });
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
}

/** A configuration with a mistake of each kind. The lines that are expected name line and key. */
const WRONG = `{
  session_timeout: 5
  max_line_bytes: 64kb
  auth: maybe
  msg_storge: "memory"
  apps: [{ id: "default", secret: "hidden1" }]
  max_connections: -1
  stats_token: hidden2,
  tcp_backlog: 10
  tcp_backlog: 20
  write_timeout: 1e3ms
  tcp_listen_addr: "127.0.0.1:99999"
}
`;
const MISTAKES = [
  /^pushd\.cf:2: session_timeout: "?5"?: .*5s/m,
  /^pushd\.cf:3: max_line_bytes: "64kb": .*KiB/m,
  /^pushd\.cf:4: auth: "maybe": .*on.*off|^pushd\.cf:4: auth: "maybe": .*off.*on/m,
  /^pushd\.cf:6: apps.*default/m,
  /^pushd\.cf:7: max_connections: "?-1"?: /m,
  /^pushd\.cf:8: stats_token: .*quote/m,
  /^pushd\.cf:\d+: tcp_backlog: .*line 9.*line 10/m,
  /^pushd\.cf:11: write_timeout: "1e3ms": /m,
  /^pushd\.cf:12: tcp_listen_addr: "127\.0\.0\.1:99999": /m,
];

Deno.test("check-config prints every mistake and warning", async () => {
  const run = await checkConfig(WRONG);
  assert.equal(run.code, 2);
  assert.equal(run.stdout, "");
  for (const mistake of MISTAKES) assert.match(run.stderr, mistake);
  assert.match(run.stderr, new RegExp(`^pushd\\.cf: ${MISTAKES.length} mistakes$`, "m"));
  assert.match(run.stderr, /^warning: pushd\.cf:5: msg_storge: .*msg_storage/m);
  assert.equal(run.stderr.trimEnd().split("\n").length, MISTAKES.length + 2);
  assert.doesNotMatch(run.stderr, /hidden/);
});

Deno.test("a start with that file says the same, and starts nothing", async () => {
  const cwd = await Deno.makeTempDir({ prefix: "pushd-config-" });
  try {
    await Deno.writeTextFile(`${cwd}/pushd.cf`, WRONG);
    const run = await runPushd(["--conf", "pushd.cf"], { cwd });
    assert.equal(run.code, 2);
    assert.equal(run.stdout, "");
    for (const mistake of MISTAKES) {
      assert.match(run.stderr.replaceAll(/^pushd: /gm, ""), mistake);
    }
    assert.doesNotMatch(run.stderr, /hidden/);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("after a fault of syntax there is only that one", async () => {
  const run = await checkConfig('{\n  auth: "maybe"\n  apps: [ }\n}\n');
  assert.equal(run.code, 2);
  assert.match(run.stderr, /^pushd\.cf:3:\d+: .*\npushd\.cf: 1 mistake\n$/);
});

Deno.test("what is accepted: the samples, the README's, nothing at all", async () => {
  const sample = await runPushd(["check-config", SAMPLE]);
  assert.deepEqual(sample, {
    code: 0,
    signal: null,
    stdout: `${SAMPLE}: ok\n`,
    stderr: "",
  });
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  const [text] = /^ {4}\{\n[^]*?^ {4}\}\n/m.exec(readme) ?? assert.fail("no sample in the README");
  assert.deepEqual((await checkConfig(text)).stdout, "pushd.cf: ok\n");
  assert.deepEqual((await checkConfig("")).code, 0);
  assert.deepEqual((await checkConfig("{}")).code, 0);
  assert.deepEqual((await checkConfig('\ufeff{ auth: "off" }')).code, 0);
  assert.equal((await runPushd(["check-config"])).stdout, "defaults: ok\n");
});

Deno.test("what has no effect, or not yet, is said once", async () => {
  const run = await runPushd(["check-config", ORIGINAL], { env: { PUSHD_S2S_SECRET: "nodes" } });
  assert.equal(run.code, 0);
  assert.equal(run.stdout, `${ORIGINAL}: ok\n`);
  const warnings = run.stderr.trimEnd().split("\n");
  for (const key of ["redis_offline", "serv_initial_goroutine_num", "s2s_initial_goroutine_num"]) {
    assert.equal(warnings.filter((line) => line.includes(`: ${key}: `)).length, 1, key);
  }
  for (const key of ["long_polling_listen_addr"]) {
    const about = warnings.filter((line) => line.includes(`: ${key}: `));
    assert.equal(about.length, 1, key);
    assert.match(about[0], /^warning: .*not yet in this version/);
  }
  assert.equal(new Set(warnings).size, warnings.length);
});

Deno.test("the original's sample starts a server", async () => {
  await using pushd = await startPushd({
    config: await Deno.readTextFile(ORIGINAL),
    env: {
      PUSHD_TCP_LISTEN_ADDR: "127.0.0.1:0",
      PUSHD_STATS_LISTEN_ADDR: "127.0.0.1:0",
      PUSHD_S2S_LISTEN_ADDR: "127.0.0.1:0",
    },
  });
  assert.match(pushd.log(), /INFO .*a node of a cluster .*ZooKeeper 127.0.0.1:2181,127.0.0.1:2182/);
  assert.equal((await pushd.stat()).conf.session_timeout, "2m");
  using client = await Client.connect(pushd.port);
  await client.ask("sub channel1", "SUBSCRIBED channel1");
});

Deno.test("the environment wins over the file", async () => {
  await using pushd = await startPushd({
    config: { session_timeout: "1m", max_line_bytes: 1000, allowed_hosts: ["a.example"] },
    env: {
      PUSHD_SESSION_TIMEOUT: "5m",
      PUSHD_ALLOWED_HOSTS: "b.example,c.example",
      PUSHD_SQLITE_PATH: "other.db",
      PUSHD_TEST_SOMETHING: "1",
    },
  });
  const { conf } = await pushd.stat();
  assert.equal(conf.session_timeout, "5m");
  assert.equal(conf.max_line_bytes, 1000);
  assert.deepEqual(conf.allowed_hosts, ["b.example", "c.example"]);
  assert.deepEqual(conf.sqlite, { path: "other.db" });
  assert.doesNotMatch(pushd.log(), /PUSHD_TEST/);
});

Deno.test("mistakes in the environment are named by their variables", async () => {
  const env = { PUSHD_SESSION_TIMEOUT: "5", PUSHD_AUHT: "on", PUSHD_STATS_TOKEN: "hidden" };
  const run = await checkConfig("{ session_timeout: 1m }".replace(": 1m", ': "1m"'), { env });
  assert.equal(run.code, 2);
  assert.match(run.stderr, /^PUSHD_SESSION_TIMEOUT: "5": /m);
  assert.match(run.stderr, /^warning: PUSHD_AUHT: .*PUSHD_AUTH$/m);
  assert.doesNotMatch(run.stderr, /hidden/);
});

Deno.test("without --conf it is etc/pushd.cf, where that is there", async () => {
  const cwd = await Deno.makeTempDir({ prefix: "pushd-config-" });
  try {
    await Deno.mkdir(`${cwd}/etc`);
    await Deno.writeTextFile(`${cwd}/etc/pushd.cf`, '{ auth: "maybe" }');
    for (const args of [[], ["serve"], ["check-config"]]) {
      const run = await runPushd(args, { cwd });
      assert.equal(run.code, 2);
      assert.match(run.stderr, /^(pushd: )?etc\/pushd\.cf:1: auth: "maybe": /);
    }
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("the command line: what is wrong is one line and exit 2", async () => {
  for (
    const [args, message] of [
      [["--conf", "nothing.cf"], /nothing\.cf/],
      [["serve", "--conf", "nothing.cf"], /nothing\.cf/],
      [["-conf", "nothing.cf"], /nothing\.cf/],
      [["--conf=nothing.cf"], /nothing\.cf/],
      [["--conf"], /--conf/],
      [["--nothing"], /--nothing/],
      [["nothing"], /nothing/],
      [["--level", "loud"], /loud.*debug/],
      [["check-config", "a.cf", "b.cf"], /too many/],
    ] as const
  ) {
    const run = await runPushd(args);
    assert.equal(run.code, 2, args.join(" "));
    assert.match(run.stderr, message);
    assert.match(run.stderr, /^[^\n]+\n$/, "one line");
    assert.equal(run.stdout, "");
  }
  const run = await runPushd(["check-config", "nothing.cf"]);
  assert.equal(run.code, 2);
  assert.match(run.stderr, /^nothing\.cf: no such file/);
});

Deno.test("the command line: version and help", async () => {
  const version =
    /^pushd \d+\.\d+\.\d+ \((?:dev|[0-9a-f]{12}(?:-dirty)?), Deno \d+\.\d+\.\d+, \S+ \S+\)\n$/;
  for (const args of [["--version"], ["-v"]]) {
    const run = await runPushd(args);
    assert.equal(run.code, 0);
    assert.match(run.stdout, version);
  }
  for (const args of [["--help"], ["-h"], ["help"]]) {
    const run = await runPushd(args);
    assert.equal(run.code, 0);
    assert.match(run.stdout, /check-config/);
    assert.match(run.stdout, /--conf/);
  }
});

Deno.test("pushd sample-config prints etc/pushd.cf.sample", async () => {
  const run = await runPushd(["sample-config"]);
  assert.equal(run.code, 0);
  assert.equal(run.stdout, await Deno.readTextFile(new URL("etc/pushd.cf.sample", ROOT)));
});

Deno.test("--log-format json: every line of the log is an object", async () => {
  await using pushd = await startPushd({ args: ["--log-format", "json", "--level", "debug"] });
  using client = await Client.connect(pushd.port);
  await client.ask("quit", "BYE");
  await client.eof();
  client.close();
  await pushd.stop();
  const lines = pushd.log().trimEnd().split("\n").map((line) => JSON.parse(line));
  for (const { time, level, category, message } of lines) {
    assert.ok(!Number.isNaN(Date.parse(time)), time);
    assert.match(level, /^(debug|info|warn|error)$/);
    assert.equal(typeof category, "string");
    assert.equal(typeof message, "string");
  }
  assert.ok(lines.some(({ message }) => /^clients: /.test(message)));
});

Deno.test("--log FILE: the log is there, and nothing on standard output", async () => {
  await using other = await startPushd();
  const cwd = await Deno.makeTempDir({ prefix: "pushd-config-" });
  try {
    const run = await runPushd(["--log", "pushd.log"], {
      cwd,
      env: { PUSHD_TCP_LISTEN_ADDR: `127.0.0.1:${other.port}`, PUSHD_AUHT: "on" },
    });
    assert.equal(run.code, 1);
    assert.equal(run.stdout, "");
    assert.match(await Deno.readTextFile(`${cwd}/pushd.log`), / WARN .*PUSHD_AUTH/);
    const missing = await runPushd(["--log", "no/such/folder.log"], { cwd });
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /^[^\n]*no\/such\/folder\.log[^\n]*\n$/);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
