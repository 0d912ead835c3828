// A server with few open files, and more clients than those allow.

import assert from "node:assert/strict";
import { Authority, opensslRequirement } from "./certificates.ts";
import { type Pushd, startPushd, within } from "./harness.ts";
import { connectMany, LineClient } from "./load_client.ts";
import { Process } from "./process.ts";
import { requireTool } from "./require.ts";
import { visitStats } from "./stats_visit.ts";

const LIMIT = 256;
const prefix = ["prlimit", `--nofile=${LIMIT}:${LIMIT}`];
/** What clients may have of them. */
const FILES = 192;
const FILES_OVER_TLS = 3;
/** What waiting may use of one processor. */
const MAX_SHARE = 0.1;
/** How soon a file that has become free lets the next one in, ms. */
const SOON_MS = 1000;

const prlimit = requireTool("prlimit");
const PUBLISHED = /^PUBLISHED \d{16}$/;

type Fate = "served" | "too-busy" | "closed";

/** What becomes of a client that has connected and pings. */
async function fateOf(client: LineClient): Promise<Fate> {
  try {
    const answer = await client.ask("ping");
    if (answer === "PONG") return "served";
    if (answer === null) return "closed";
    assert.match(answer, /^ERROR too-busy \S.*\S$/);
    assert.equal(await client.line(), null);
    return "too-busy";
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionReset) return "closed";
    if (error instanceof Deno.errors.BrokenPipe) return "closed";
    throw error;
  }
}

/** Comes in as soon as there is room, which must be soon. */
async function comeIn(connect: () => Promise<LineClient>): Promise<LineClient> {
  const startMs = performance.now();
  for (;;) {
    const client = await connect();
    if (await fateOf(client) === "served") {
      const ms = performance.now() - startMs;
      assert.ok(ms < SOON_MS, `it took ${ms} ms to come in`);
      return client;
    }
    client.close();
    if (performance.now() - startMs > SOON_MS) assert.fail(`no room after ${SOON_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The part of one processor that a server uses in a second. */
async function shareOf(server: Process): Promise<number> {
  const cpuMs = server.cpuMs();
  const startMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return (server.cpuMs() - cpuMs) / (performance.now() - startMs);
}

/** One subscribes, one publishes, and it is stored. */
async function talk(one: LineClient, other: LineClient): Promise<void> {
  assert.equal(await one.ask("sub c"), "SUBSCRIBED c");
  assert.match(await other.ask("pub c hello") ?? "closed", PUBLISHED);
  assert.match(await one.line() ?? "closed", /^MESSAGE c \d{16} hello$/);
  assert.equal(await one.ask("unsub c"), "UNSUBSCRIBED c");
  assert.match(await other.ask("his c 0") ?? "closed", /^HISTORY c \[.*"msg":"hello".*\]$/);
}

/** Log lines above INFO. */
function complaints(pushd: Pushd): string[] {
  return pushd.log().split("\n").filter((line) => / (WARN|ERROR|FATAL) /.test(line));
}

Deno.test({
  name: `files: 256, and 400 clients that stay${prlimit.reason}`,
  ignore: prlimit.ignore,
  async fn() {
    await using pushd = await startPushd({
      config: { msg_storage: "sqlite", max_connections: 100_000 },
      prefix,
    });
    await pushd.waitForLog(
      /WARN .*max_connections 100000 is more than the open-file limit of 256 allows, 192 are taken/,
    );
    const server = new Process(pushd.pid);
    const clients = await connectMany(pushd.port, 400);
    const leaving = Promise.withResolvers<void>();
    const fates = Promise.all(clients.map(async (client) => {
      const fate = await fateOf(client);
      if (fate !== "served") {
        await leaving.promise;
        client.close();
      }
      return fate;
    }));
    for (const path of ["/readyz", "/s/stat", "/readyz"]) {
      const { status, ms } = await visitStats(pushd, path);
      assert.equal(status, 200);
      assert.ok(ms < 3000, `${path} took ${ms} ms`);
    }
    const share = await shareOf(server);
    assert.ok(share < MAX_SHARE, `it uses ${share} of a processor`);
    assert.ok(server.fileCount() <= LIMIT);
    // Those who came first are in.
    await talk(clients[0], clients[1]);
    leaving.resolve();
    const served = (await within(() => "400 answers", fates)).flatMap((fate, i) =>
      fate === "served" ? [clients[i]] : []
    );
    assert.equal(served.length, FILES);
    assert.ok((await fates).includes("too-busy"));
    assert.equal(JSON.parse((await visitStats(pushd, "/s/stat")).text).stats.connections, FILES);

    for (const client of served.splice(0, 50)) client.close();
    const more = await Promise.all(
      Array.from({ length: 50 }, () => comeIn(() => LineClient.connect(pushd.port, 512))),
    );
    using late = await LineClient.connect(pushd.port);
    assert.equal(await fateOf(late), "too-busy");
    await talk(more[0], served[0]);
    for (const client of [...served, ...more]) client.close();
    // One a second at most of those who were refused, of the doors, and the one at the start.
    assert.ok(complaints(pushd).length < 30, complaints(pushd).join("\n"));
    console.log("M share", share, complaints(pushd).length);
  },
});

Deno.test({
  name: `files: 256, and clients over TLS, each for three of them` +
    (prlimit.reason || opensslRequirement.reason),
  ignore: prlimit.ignore || opensslRequirement.ignore,
  async fn() {
    await using authority = await Authority.create();
    const { cert, key } = await authority.issue("one");
    const caCerts = [await authority.pem()];
    await using pushd = await startPushd({
      config: {
        msg_storage: "sqlite",
        tls_listen_addr: "127.0.0.1:0",
        tls_cert: cert,
        tls_key: key,
      },
      prefix,
    });
    const [, port] = await pushd.waitForLog(/clients over TLS: 127\.0\.0\.1:(\d+)/);
    const connectTls = async () => {
      const conn = await Deno.connectTls({ hostname: "127.0.0.1", port: Number(port), caCerts });
      return LineClient.over(conn);
    };
    const connectPlain = () => LineClient.connect(pushd.port);
  },
});
