// Crowds that begin and do not go on (slow loris): sent away in time, for little memory, beside others who
// notice nothing.

import assert from "node:assert/strict";
import { openFileLimit } from "../src/core/open_files.ts";
import { Bystander } from "./bystander.ts";
import { Authority, opensslRequirement } from "./certificates.ts";
import { Crowd } from "./crowd.ts";
import { startPushd, within } from "./harness.ts";
import { ownMs, Process, processReason, timed } from "./process.ts";
import { visitStats } from "./stats_visit.ts";

const CROWD = 5000;
/** How long an answer to a bystander may take, ms. */
const PATIENCE_MS = 200;
/** How much later than at their deadline a crowd may be gone, where the machine does other things, too, ms. */
const LATE_MS = 3000;
/** Resident memory for each of a crowd, at most; it is about 11 KiB. */
const MAX_KB = 24;
/** What each of a second crowd may add to what the first one needed: nothing but noise. It is about 1 KiB. */
const MAX_LEFT_KB = 4;
/** Else what the collector has not yet looked at is counted, too. */
const STEADY = { DENO_V8_FLAGS: "--max-old-space-size=128,--max-semi-space-size=2" };

const isCompiled = (Deno.env.get("PUSHD_BIN") ?? "") !== "";

const { limit } = await openFileLimit();
const neededFiles = CROWD + 500;
const filesReason = limit < neededFiles
  ? ` (the open-file limit of ${limit} is below ${neededFiles})`
  : "";

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((a, b) => a + b, 0);
}

Deno.test({
  name: `loris: 5,000 that send half a line${processReason || filesReason}`,
  ignore: processReason + filesReason !== "",
  async fn() {
    await using pushd = await startPushd({
      config: { msg_storage: "memory", session_timeout: "2s" },
      env: STEADY,
    });
    const server = new Process(pushd.pid);
    await using bystander = await Bystander.join(pushd);
    // One of them may be that of the first request of the stats door, which the server makes itself.
    const sockets = server.fileCount("sockets");
    const startKb = server.memoryKb("VmRSS");
    const afterKb: number[] = [];
    for (let i = 0; i < 2; i++) {
      await using crowd = await Crowd.gather(pushd.port, CROWD, ["pub chan", "sub", "é", "pi\r"]);
      const { earlier, last, shortestMs, longestMs } = await crowd.report();
      assert.deepEqual(last, { "ERROR idle-timeout nothing came from you for 2s": CROWD });
      // One whose half line is read after the first one gets another.
      assert.ok(sum(earlier) >= CROWD, `${sum(earlier)} notes`);
      for (const line of Object.keys(earlier)) assert.match(line, /^NOTE idle for 1/);
      assert.ok(shortestMs >= 2000 && longestMs < 2000 + LATE_MS, `${shortestMs}, ${longestMs}`);
      await server.untilSockets(0, sockets);
      afterKb.push(server.memoryKb("VmRSS"));
      if (i > 0) continue;
      const eachKb = (server.memoryKb("VmHWM") - startKb) / CROWD;
      assert.ok(eachKb < MAX_KB, `each of the crowd costs ${eachKb} KiB`);
    }
    const leftKb = (afterKb[1] - afterKb[0]) / CROWD;
    // A compiled program takes no options for the collector, which then leaves more for later.
    if (!isCompiled) {
      assert.ok(leftKb < MAX_LEFT_KB, `each of the second crowd leaves ${leftKb} KiB`);
    }
    await bystander.assertServed(PATIENCE_MS, 100);
    const { stats } = await pushd.stat();
    // The bystander.
    assert.equal(stats.connections, 1);
    assert.equal(stats.connections_total, 2 * CROWD + 1);
    assert.equal(stats.subscriptions, 0);
    assert.doesNotMatch(pushd.log(), /WARN|ERROR/);
  },
});

Deno.test({
  name: "loris: 5,000 that do not authenticate, and 300 that do not finish a TLS handshake" +
    (processReason || filesReason || opensslRequirement.reason),
  ignore: processReason + filesReason !== "" || opensslRequirement.ignore,
  async fn() {
    await using authority = await Authority.create();
    const { cert, key } = await authority.issue("one");
    await using pushd = await startPushd({
      config: {
        msg_storage: "memory",
        auth: "on",
        auth_timeout: "1s",
        apps: [{ id: "a", secret: "s3cret" }],
        tls_listen_addr: "127.0.0.1:0",
        tls_cert: cert,
        tls_key: key,
      },
    });
    const [, tlsPort] = await pushd.waitForLog(/clients over TLS: 127\.0\.0\.1:(\d+)/);
    const server = new Process(pushd.pid);
    await using bystander = await Bystander.join(pushd, [
      "auth_server a s3cret",
      "AUTHENTICATED a",
    ]);
    // One of them may be that of the first request of the stats door, which the server makes itself.
    const sockets = server.fileCount("sockets");
    // Nothing, the head of a handshake's record, and the first byte of a hello.
    const hello = ["", "\x16\x03\x01", "\x16\x03\x01\x02\x00\x01"];
    await using tls = await Crowd.gather(Number(tlsPort), 300, hello);
    await server.untilSockets(sockets + 299, limit);
    const half = ["", "auth u", "auth_server a s3cre", "hello 1"];
    await using crowd = await Crowd.gather(pushd.port, CROWD, half);
    const { earlier, last, shortestMs, longestMs } = await crowd.report();
    assert.deepEqual(last, { "ERROR need-auth not authenticated within auth_timeout": CROWD });
    assert.deepEqual(earlier, {});
    assert.ok(shortestMs >= 1000 && longestMs < 1000 + LATE_MS, `${shortestMs}, ${longestMs}`);
    const silent = await tls.report();
    assert.equal(sum(silent.earlier) + sum(silent.last), 300);
    assert.ok(silent.longestMs < 8000 + LATE_MS, `${silent.longestMs} ms`);
    await server.untilSockets(0, sockets);
    await bystander.assertServed(PATIENCE_MS, 100);
    assert.equal((await pushd.stat()).stats.connections, 1);
    assert.doesNotMatch(pushd.log(), /WARN|ERROR/);
  },
});

Deno.test({
  name: `loris: more at the stats door than it takes, with half a request${processReason}`,
  ignore: processReason !== "",
  async fn() {
    await using pushd = await startPushd({ config: { msg_storage: "memory" } });
    const server = new Process(pushd.pid);
    await using bystander = await Bystander.join(pushd);
    const bound = 256;
    const stalled: Held[] = [];
    try {
      const half = encode("GET /readyz HTTP/1.1\r\nHost: localhost\r\nX: ");
      while (stalled.length < bound + 50) stalled.push(await hold(pushd.statsPort, half));
      for (let i = 0; i < 20; i++) {
        const took = await timed(server, async () => {
          const { status } = await visitStats(pushd, i % 2 === 0 ? "/readyz" : "/s/stat");
          assert.equal(status, 200);
        });
        assert.ok(ownMs(took) < PATIENCE_MS, `an answer took ${JSON.stringify(took)}`);
        stalled.push(await hold(pushd.statsPort, half));
      }
      // Each who came has made the one go that was there longest, and no other.
      const gone = stalled.slice(0, -bound);
      await within(() => "the first to be closed", Promise.all(gone.map(({ ended }) => ended)));
      await bystander.assertServed(PATIENCE_MS, 5);
      const open = stalled.filter(({ hasEnded }) => !hasEnded).length;
      // A visitor may still have been there when the next one came.
      assert.ok(open > bound - 20 && open <= bound, `${open} are open`);
      assert.ok(server.fileCount("sockets") < bound + 50);
    } finally {
      await Promise.all(stalled.map(letGo));
    }
  },
});

Deno.test({
  name: `loris: requests for statistics without end${processReason}`,
  ignore: processReason !== "",
  async fn() {
    await using pushd = await startPushd({ config: { msg_storage: "memory" }, env: STEADY });
    const server = new Process(pushd.pid);
    // What the door needs is loaded after a start, which is not what is measured here.
    for (const path of ["/metrics", "/s/stat"]) await visitStats(pushd, path);
    // Made once and before anybody pings: the pings stand still for as long as this takes.
    const flood = encode("GET /s/stat HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100_000));
    await using bystander = await Bystander.join(pushd);
    const startKb = server.memoryKb("VmRSS");
    const floods: Held[] = [];
    try {
      for (let i = 0; i < 20; i++) floods.push(await hold(pushd.statsPort, flood));
      for (let i = 0; i < 10; i++) {
        const took = await timed(server, async () => {
          assert.equal((await visitStats(pushd, "/readyz")).status, 200);
        });
        assert.ok(ownMs(took) < PATIENCE_MS, `an answer took ${JSON.stringify(took)}`);
      }
      await bystander.assertServed(PATIENCE_MS, 10);
    } finally {
      await Promise.all(floods.map(letGo));
    }
    assert.equal((await visitStats(pushd, "/readyz")).status, 200);
    const grownKb = server.memoryKb("VmHWM") - startKb;
    assert.ok(grownKb < 100 * 1024, `resident memory grew by ${grownKb} KiB`);
  },
});

/** A connection that is kept until the server closes it. */
interface Held {
  conn: Deno.TcpConn;
  /** Resolves when it is closed. */
  ended: Promise<void>;
  hasEnded: boolean;
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Connects, writes `bytes`, and only then begins to read. */
async function hold(port: number, bytes: Uint8Array): Promise<Held> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const untilEnded = async () => {
    try {
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
      while (await conn.read(new Uint8Array(512)) !== null);
    } catch {
      // A reset, or let go.
    }
    held.hasEnded = true;
  };
  const held: Held = { conn, ended: Promise.resolve(), hasEnded: false };
  held.ended = untilEnded();
  return held;
}

async function letGo({ conn, ended }: Held): Promise<void> {
  conn.close();
  await ended;
}
