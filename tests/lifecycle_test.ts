// How a server starts and ends as a process: signals, taken ports, pauses, clocks, closed pipes.

import assert from "node:assert/strict";
import { Client, errorLine, type Pushd, runPushd, startPushd, within } from "./harness.ts";
import { requireTool } from "./require.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;

/** A client with so much waiting for it that it does not fit into the sockets' buffers. */
async function connectBehind(pushd: Pushd, count: number): Promise<Client> {
  const client = await Client.connect(pushd.port);
  await client.ask("sub c", "SUBSCRIBED c");
  using publisher = await Client.connect(pushd.port);
  const text = "m".repeat(60_000);
  for (let i = 0; i < count; i++) await publisher.ask(`pub c ${i} ${text}`, PUBLISHED);
  return client;
}

/** Waits until nobody listens on the port; who still gets in at that moment is not served. */
async function untilRefused(port: number): Promise<void> {
  let isLate = false;
  const trying = (async () => {
    while (!isLate) {
      try {
        using conn = await Deno.connect({ hostname: "127.0.0.1", port });
        assert.equal(await conn.read(new Uint8Array(1)), null);
      } catch (error) {
        if (error instanceof Deno.errors.ConnectionRefused) return;
        if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
      }
    }
  })();
  await within(() => "connections to be refused", trying, { onLate: () => isLate = true });
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(`${signal}: what waits is delivered, everybody is told, exit 0`, async () => {
    await using pushd = await startPushd();
    const behind = await connectBehind(pushd, 120);
    using idle = await Client.connect(pushd.port);
    using busy = await Client.connect(pushd.port);
    await idle.ask("ping", "PONG");
    await busy.ask("ping", "PONG");
    await busy.send("pub other x\n".repeat(2_000));
    pushd.signal(signal);

    await idle.expect(errorLine("shutting-down"));
    await idle.eof();
    const lines = await busy.rest();
    assert.match(lines.pop() ?? "", errorLine("shutting-down"));
    for (const line of lines) assert.match(line, PUBLISHED);
    await untilRefused(pushd.port);
    for (let i = 0; i < 120; i++) {
      assert.ok((await behind.line()).split(" ")[3] === `${i}`, `message ${i} is missing`);
    }
    await behind.expect(errorLine("shutting-down"));
    await behind.eof();
    for (const client of [idle, busy, behind]) client.close();
    assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
    assert.match(pushd.log(), /stopped\n$/);
    assert.equal(pushd.stderr, "");
  });
}

Deno.test("an idle server is gone in under a second", async () => {
  await using pushd = await startPushd();
  // The stats door has served somebody who keeps the connection.
  assert.equal((await pushd.stat()).stats.connections, 0);
  const startMs = performance.now();
  assert.deepEqual(await pushd.stop(), { code: 0, signal: null });
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 1000, `it took ${Math.round(tookMs)} ms`);
});

Deno.test("who does not close is closed a second later", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  await client.ask("ping", "PONG");
  const startMs = performance.now();
  assert.deepEqual(await pushd.stop(), { code: 0, signal: null });
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 3000, `it took ${Math.round(tookMs)} ms`);
  await client.expect(errorLine("shutting-down"));
  await client.eof();
});

Deno.test("who does not read is waited for until drain_timeout", async () => {
  await using pushd = await startPushd({ config: { drain_timeout: "700ms" } });
  using _behind = await connectBehind(pushd, 120);
  const startMs = performance.now();
  assert.deepEqual(await pushd.stop(), { code: 0, signal: null });
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs >= 650 && tookMs < 3000, `it took ${Math.round(tookMs)} ms`);
});

Deno.test("a second signal ends it at once with exit 1", async () => {
  await using pushd = await startPushd({ config: { drain_timeout: "1m", write_timeout: "1m" } });
  using _behind = await connectBehind(pushd, 120);
  pushd.signal("SIGINT");
  await pushd.waitForLog(/ stopping /);
  // Sooner it would count as the same: Ctrl-C reaches a process directly and through those above it.
  await new Promise((resolve) => setTimeout(resolve, 100));
  const startMs = performance.now();
  pushd.signal("SIGTERM");
  assert.deepEqual(await pushd.ended(), { code: 1, signal: null });
  assert.ok(performance.now() - startMs < 1000);
});

Deno.test("Ctrl-C that comes twice in one moment is one", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  await client.ask("ping", "PONG");
  pushd.signal("SIGINT");
  pushd.signal("SIGINT");
  await client.expect(errorLine("shutting-down"));
  await client.eof();
  client.close();
  assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
});

Deno.test("a signal that comes as soon as the server is there is not lost, and kills nobody", async () => {
  await using pushd = await startPushd();
  for (const signal of ["SIGHUP", "SIGUSR1"] as const) pushd.signal(signal);
  await pushd.waitForLog(/configuration reloaded: nothing changed cause=SIGHUP/);
  using client = await Client.connect(pushd.port);
  await client.ask("ping", "PONG");
  await using other = await startPushd();
  other.signal("SIGUSR2");
  assert.deepEqual(await other.ended(), { code: 0, signal: null });
});

Deno.test("a taken port: one line with the key and the address, exit 1, nothing left", async () => {
  await using pushd = await startPushd();
  for (
    const [key, port] of [
      ["tcp_listen_addr", pushd.port],
      ["stats_listen_addr", pushd.statsPort],
    ] as const
  ) {
    const taken = `127.0.0.1:${port}`;
    const env = {
      PUSHD_TCP_LISTEN_ADDR: "127.0.0.1:0",
      PUSHD_STATS_LISTEN_ADDR: "127.0.0.1:0",
      [`PUSHD_${key.toUpperCase()}`]: taken,
    };
    const run = await runPushd([], { env });
    assert.equal(run.code, 1);
    assert.match(run.stderr, new RegExp(`^.*${key}.*"${taken}".*in use.*\\n$`));
    assert.doesNotMatch(run.stdout, /clients:|stats:|ready:/);
  }
  using client = await Client.connect(pushd.port);
  await client.ask("ping", "PONG");
});

Deno.test("stopped and continued: who sent meanwhile is not idle, timestamps go on", async () => {
  await using pushd = await startPushd({ config: { session_timeout: "1s" } });
  using client = await Client.connect(pushd.port);
  using silent = await Client.connect(pushd.port);
  await silent.ask("ping", "PONG");
  const times = [Number((await client.ask("pub c 1", PUBLISHED))[1])];
  pushd.signal("SIGSTOP");
  await client.send("pub c 2\n");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await client.send("ping\n");
  pushd.signal("SIGCONT");
  for (let line = ""; line !== "PONG";) {
    line = await client.line();
    const [, ts] = PUBLISHED.exec(line) ?? [];
    if (ts !== undefined) times.push(Number(ts));
    else assert.match(line, /^(PONG$|NOTE idle )/);
  }
  times.push(Number((await client.ask("pub c 3", PUBLISHED))[1]));
  assert.equal(times.length, 3);
  assert.ok(times[0] < times[1] && times[1] < times[2], `${times}`);
  // The silent one was silent all the time.
  const last = (await silent.rest()).pop();
  assert.match(last ?? "", errorLine("idle-timeout"));
});

/** What puts libfaketime under a program. */
async function fakeTimePreload(): Promise<string> {
  const { stdout } = await new Deno.Command("faketime", {
    args: ["-f", "+0s", "sh", "-c", 'printf %s "$LD_PRELOAD"'],
  }).output();
  return new TextDecoder().decode(stdout);
}

const faketime = requireTool("faketime");
Deno.test({
  name: `the wall clock is set back an hour, and ahead${faketime.reason}`,
  ignore: faketime.ignore,
  async fn() {
    const folder = await Deno.makeTempDir({ prefix: "pushd-clock-" });
    const file = `${folder}/clock`;
    const set = async (offset: string) => {
      await Deno.writeTextFile(`${file}.new`, offset);
      await Deno.rename(`${file}.new`, file);
    };
    try {
      await set("+0s");
      await using pushd = await startPushd({
        config: { session_timeout: "1h", auth: "on", apps: [{ id: "a", secret: "b" }] },
        env: {
          LD_PRELOAD: await fakeTimePreload(),
          FAKETIME_TIMESTAMP_FILE: file,
          FAKETIME_NO_CACHE: "1",
          FAKETIME_DONT_FAKE_MONOTONIC: "1",
          DONT_FAKE_MONOTONIC: "1",
        },
      });
      using client = await Client.connect(pushd.port);
      using follower = await Client.connect(pushd.port);
      for (const one of [client, follower]) {
        await one.ask("auth_server a b", "AUTHENTICATED a");
        await one.ask("sub c", "SUBSCRIBED c");
      }
      const [, token] = await client.ask("gettoken u", /^TOKEN u (.*)$/);
      let last = 0;
      const publish = async () => {
        await client.send("pub c x\n");
        const lines = (await client.lines(2)).sort();
        const ts = Number(PUBLISHED.exec(lines[1])?.[1]);
        assert.ok(ts > last, `${ts} after ${last}`);
        assert.equal(lines[0], `MESSAGE c ${ts} x`);
        await follower.expect(`MESSAGE c ${ts} x`);
        last = ts;
      };
      await publish();
      const before = last;
      await set("-3600s");
      for (let i = 0; i < 20; i++) await publish();
      assert.ok(last - before < 60_000_000, "it goes on counting");
      await set("+7200s");
      await publish();
      assert.ok(last - before > 3_600_000_000, "the server's clock was changed by this test");
      await set("+0s");
      for (let i = 0; i < 20; i++) await publish();
      // No deadline is measured by that clock.
      await client.ask("unsub c", "UNSUBSCRIBED c");
      await client.ask(`auth u ${token}`, "AUTHENTICATED u");
      await follower.ask("ping", "PONG");
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test("pushd | head -1 serves on", async () => {
  await using pushd = await startPushd({ config: { auth: "on" } });
  await pushd.closeLog();
  // Each refusal is a line in the log.
  using client = await Client.connect(pushd.port);
  for (let i = 0; i < 3; i++) await client.ask(`auth u wrong${i}`, errorLine("auth-failed"));
  await client.ask("ping", "PONG");
  assert.equal((await pushd.stat()).stats.connections, 1);
  using another = await Client.connect(pushd.port);
  await another.ask("ping", "PONG");
  another.close();
  client.close();
  assert.deepEqual(await pushd.stop(), { code: 0, signal: null });
});

const nc = requireTool("nc");
Deno.test({
  name: `printf … | nc -N gets its answers${nc.reason}`,
  ignore: nc.ignore,
  async fn() {
    await using pushd = await startPushd();
    const { stdout } = await new Deno.Command("sh", {
      args: ["-c", `printf 'pub c hi\\nhis c 0\\n' | timeout 10 nc -N 127.0.0.1 ${pushd.port}`],
    }).output();
    assert.match(
      new TextDecoder().decode(stdout),
      /^PUBLISHED \d{16}\r\nHISTORY c \[\{.*"msg":"hi".*\}\]\r\n$/,
    );
  },
});
