// The log as a process writes it: to pipes that end or stand still, to a full disk, in both formats.

import assert from "node:assert/strict";
import type { LogRecord } from "@logtape/logtape";
import { formatJson, formatText } from "./log_format.ts";

/** The device that is always full; on Linux only. */
const HAS_DEV_FULL = Deno.build.os === "linux";

/** Runs TypeScript that has `configureLogging`, `getLogger`, `flushLogs` and `reopen` in scope. */
function startChild(code: string): Deno.ChildProcess {
  const logger = new URL("./logger.ts", import.meta.url).href;
  const source = `import { configureLogging, getLogger, flushLogs, reopen } from "${logger}";
    const say = (value: unknown) => Deno.stderr.writeSync(new TextEncoder().encode(JSON.stringify(value) + "\\n"));
    ${code}`;
  return new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", "--ext=ts", source],
    cwd: new URL("../../", import.meta.url),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function text(stream: ReadableStream<Uint8Array>): Promise<string> {
  return await new Response(stream).text();
}

function record(
  properties: Record<string, unknown>,
  level: LogRecord["level"] = "info",
): LogRecord {
  const message = "connection closed";
  const timestamp = new Date(2026, 10, 25, 12, 0, 0, 123).getTime();
  return {
    category: ["pushd", "serv"],
    level,
    message: [message],
    rawMessage: message,
    timestamp,
    properties,
  };
}

Deno.test("log format: text", () => {
  assert.equal(
    formatText(record({ addr: "127.0.0.1:5", reason: "slow consumer", n: 5 })),
    '2026-11-25 12:00:00.123 INFO  serv  connection closed addr=127.0.0.1:5 reason="slow consumer" n=5\n',
  );
  const failed = new Error("no route", { cause: new Error("link down") });
  assert.match(
    formatText(record({ error: failed }, "error")),
    / error="Error: no route; cause: link down"\n$/,
  );
  assert.match(formatText(record({ error: failed }, "fatal")), / stack="Error: no route\\n {4}at /);
});

Deno.test("log format: a value cannot end the line or steer a terminal", () => {
  for (const value of ["a\nb", "\x1b[2J", "x\u009bm", "\u202eabc", "a\u2028b"]) {
    const line = formatText(record({ value, list: [value] }));
    assert.doesNotMatch(
      line.slice(0, -1),
      /[\p{Cc}\u2028\u202e]/u,
      JSON.stringify(line),
    );
  }
});

Deno.test("log format: JSON, one object a line", () => {
  const line = formatJson(
    record({ n: 12n, level: "mine", error: new TypeError("bad") }, "warning"),
  );
  assert.equal(line.indexOf("\n"), line.length - 1);
  const object = JSON.parse(line);
  assert.equal(object.level, "warn");
  assert.equal(object.category, "serv");
  assert.equal(object.message, "connection closed");
  assert.equal(object.n, "12");
  assert.equal(object.level_, "mine");
  assert.equal(object.error.name, "TypeError");
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  assert.equal(JSON.parse(formatJson(record({ circle }))).message, "connection closed");
});

Deno.test("logger: levels, and a flush before the end", async () => {
  const child = startChild(`
    await configureLogging({ level: "warn", file: "stdout", format: "json" });
    const log = getLogger("serv");
    log.debug("no"); log.info("no"); log.warn("yes", { n: 1 }); log.error("yes", { n: 2 });
    say(await flushLogs(1000));
    Deno.exit(0);`);
  const [out, err, status] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    child.status,
  ]);
  assert.equal(status.code, 0);
  assert.equal(err, "true\n");
  assert.deepEqual(out.trim().split("\n").map((line) => JSON.parse(line).n), [1, 2]);
});

Deno.test("logger: the reader of stdout goes away, the process goes on and says so on stderr", async () => {
  const child = startChild(`
    await configureLogging({ level: "info", file: "stdout", format: "text" });
    const log = getLogger("serv");
    log.info("first");
    await flushLogs(1000);
    await Deno.stderr.write(new TextEncoder().encode("ready\\n"));
    const failed = Promise.withResolvers<void>();
    for (let i = 0; i < 1000; i++) {
      log.info("line", { i });
      // Until one write has failed; then it is a matter of going on.
      if (i < 500 && !await flushLogs(1000)) i = 500;
    }
    say({ flushed: await flushLogs(1000) });
    Deno.exit(0);`);
  const reader = child.stdout.getReader();
  const first = await reader.read();
  assert.match(new TextDecoder().decode(first.value), /INFO {2}serv {2}first\n/);
  await reader.cancel();
  const [err, status] = await Promise.all([text(child.stderr), child.status]);
  assert.equal(status.code, 0, err);
  assert.match(
    err,
    /^ready\npushd: the log cannot be written to stdout: .*\n\{"flushed":false\}\n$/,
  );
});

Deno.test("logger: a reader that stands still blocks nothing; what is missing is counted", async () => {
  const total = 30_000;
  const child = startChild(`
    await configureLogging({ level: "info", file: "stdout", format: "json" });
    const log = getLogger("serv");
    let worstMs = 0;
    for (let i = 0; i < ${total}; i++) {
      log.info("a line of some length, so that the pipe and the queue are full soon", { i });
      if (i % 1000 === 999) {
        const start = performance.now();
        await new Promise((resolve) => setTimeout(resolve, 1));
        worstMs = Math.max(worstMs, performance.now() - start);
      }
    }
    say({ worstMs: Math.round(worstMs), flushed: await flushLogs(50) });
    say(await flushLogs(5000));
    Deno.exit(0);`);
  const errors = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
  const report = JSON.parse((await errors.read()).value ?? "");
  assert.equal(report.flushed, false);
  assert.ok(report.worstMs < 500, `the event loop stood still for ${report.worstMs} ms`);
  const lines = (await text(child.stdout)).trim().split("\n").map((line) => JSON.parse(line));
  assert.equal((await errors.read()).value, "true\n");
  await errors.cancel();
  await child.status;
  const kept = lines.filter((line) => line.category === "serv");
  const dropped = lines.filter((line) => line.message === "log lines were dropped");
  assert.ok(kept.length > 1000);
  assert.ok(dropped.length > 0);
  assert.equal(kept.length + dropped.reduce((sum, line) => sum + line.lines, 0), total);
});

Deno.test({
  name: "logger: an output that fails keeps no process alive",
  ignore: !HAS_DEV_FULL,
  async fn() {
    const child = startChild(`
    await configureLogging({ level: "info", file: "/dev/full", format: "text" });
    getLogger("serv").info("never written");
    say(await flushLogs(1000));`);
    const [err, status] = await Promise.all([
      text(child.stderr),
      child.status,
      child.stdout.cancel(),
    ]);
    assert.equal(status.code, 0);
    assert.match(err, /cannot be written to \/dev\/full/);
  },
});

Deno.test({
  name: "logger: a full disk does not stop the process; it says so once there is room",
  ignore: !HAS_DEV_FULL,
  async fn() {
    const dir = await Deno.makeTempDir();
    try {
      await Deno.symlink("/dev/full", `${dir}/log`);
      const child = startChild(`
        await configureLogging({ level: "info", file: "${dir}/log", format: "text" });
        const log = getLogger("serv");
        log.info("while full");
        say(await flushLogs(1000));
        Deno.removeSync("${dir}/log");
        reopen();
        log.info("room again");
        say(await flushLogs(10_000));
        Deno.exit(0);`);
      const [err, status] = await Promise.all([
        text(child.stderr),
        child.status,
        child.stdout.cancel(),
      ]);
      assert.equal(status.code, 0, err);
      // Standard error is not waited for, so the last word stands before or behind the first answer.
      const lines = err.trimEnd().split("\n");
      assert.deepEqual(lines.filter((line) => !line.startsWith("pushd: ")), ["false", "true"]);
      const said = lines.filter((line) => line.startsWith("pushd: "));
      assert.equal(said.length, 1);
      assert.match(said[0], /^pushd: the log cannot be written to .*No space left/);
      assert.match(
        await Deno.readTextFile(`${dir}/log`),
        /serv {2}while full\n.*serv {2}room again\n.*WARN {2}log {3}the log could not be written for a while seconds=0 reason=.*No space left/,
      );
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});

Deno.test("logger: a file that cannot be opened is an error at start", async () => {
  const child = startChild(`
    await configureLogging({ level: "info", file: "/nowhere/at/all", format: "text" })
      .catch((error) => say(error.code));
    Deno.exit(0);`);
  const [err] = await Promise.all([text(child.stderr), child.status, child.stdout.cancel()]);
  assert.equal(err, '"ENOENT"\n');
});
