// The TLS door: real clients, a certificate that is renewed, files that are wrong, and who never shakes hands.

import assert from "node:assert/strict";
import { Authority, opensslRequirement, sClient } from "./certificates.ts";
import { Client, errorLine, type Pushd, runPushd, startPushd } from "./harness.ts";
import { Process, processReason } from "./process.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const { ignore, reason } = opensslRequirement;
const test = (name: string, fn: () => Promise<void>, more = "") =>
  Deno.test({ name: `tls: ${name}${reason || more}`, ignore: ignore || more !== "", fn });

/** A server with a plain and a TLS door. */
async function startTls(
  files: { cert: string; key: string },
  more: Record<string, unknown> = {},
): Promise<{ pushd: Pushd; tlsPort: number }> {
  const pushd = await startPushd({
    config: {
      msg_storage: "memory",
      tls_listen_addr: "127.0.0.1:0",
      tls_cert: files.cert,
      tls_key: files.key,
      ...more,
    },
  });
  const [, port] = await pushd.waitForLog(/clients over TLS: 127\.0\.0\.1:(\d+)/);
  return { pushd, tlsPort: Number(port) };
}

async function connectTls(port: number, authority: Authority): Promise<Client> {
  const caCerts = [await authority.pem()];
  const conn = await Deno.connectTls({ hostname: "localhost", port, caCerts });
  await conn.handshake();
  return Client.over(conn);
}

test("openssl s_client talks to it as telnet does to the other", async () => {
  await using authority = await Authority.create();
  const { pushd, tlsPort } = await startTls(await authority.issue("one"));
  await using _ = pushd;
  using subscriber = await Client.connect(pushd.port);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  const { stdout, code, stderr } = await sClient(
    tlsPort,
    authority,
    "ping\npub c hello\nquit\n",
    ["-quiet"],
  );
  assert.match(stdout, /^PONG\r\nPUBLISHED \d{16}\r\nBYE\r\n$/, stderr);
  assert.equal(code, 0);
  await subscriber.expect(/^MESSAGE c \d{16} hello$/);
});

test("a TLS client: large messages, pipelining, half-close", async () => {
  await using authority = await Authority.create();
  const { pushd, tlsPort } = await startTls(await authority.issue("one"));
  await using _ = pushd;
  using subscriber = await connectTls(tlsPort, authority);
  using publisher = await connectTls(tlsPort, authority);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  const text = "m".repeat(60_000);
  const sending = publisher.send(
    Array.from({ length: 200 }, (_, i) => `pub c ${i} ${text}\n`).join(""),
  );
  for (let i = 0; i < 200; i++) {
    const line = await subscriber.line();
    assert.equal(line.length, "MESSAGE c 1234567890123456 ".length + `${i} `.length + 60_000);
    assert.equal(line.split(" ")[3], `${i}`);
  }
  await sending;
  for (let i = 0; i < 200; i++) await publisher.expect(PUBLISHED);
  await publisher.send("pub c last\nping\n");
  await publisher.end();
  await publisher.expect(PUBLISHED);
  await publisher.expect("PONG");
  await publisher.eof();
  await subscriber.expect(/^MESSAGE c \d{16} last$/);
});

test("a certificate is renewed under 100 live connections", async () => {
  await using authority = await Authority.create();
  const one = await authority.issue("one");
  const two = await authority.issue("two");
  const live = await authority.issue("live");
  await Deno.copyFile(one.cert, live.cert);
  await Deno.copyFile(one.key, live.key);
  const { pushd, tlsPort } = await startTls(live);
  await using _ = pushd;
  const subscribers = await Promise.all(
    Array.from({ length: 100 }, () => connectTls(tlsPort, authority)),
  );
  for (const client of subscribers) await client.ask("sub c", "SUBSCRIBED c");
  using publisher = await Client.connect(pushd.port);
  let isOver = false;
  let sent = 0;
  const publishing = (async () => {
    for (; !isOver; sent++) await publisher.ask(`pub c ${sent}`, PUBLISHED);
  })();
  // Where something else fails first, that is what is told.
  publishing.catch(() => {});
  const served = async () => {
    const { stdout } = await sClient(tlsPort, authority, "quit\n");
    return /subject=CN = (\w+)/.exec(stdout)?.[1];
  };
  assert.equal(await served(), "one");

  await Deno.copyFile(two.cert, live.cert);
  await Deno.copyFile(two.key, live.key);
  pushd.signal("SIGHUP");
  await pushd.waitForLog(/configuration reloaded: the certificate is another one/);
  assert.equal(await served(), "two");

  // Half a file is kept out, by reload and by the watch, and the one before serves on.
  const pem = await Deno.readTextFile(one.cert);
  await Deno.writeTextFile(live.cert, pem.slice(0, pem.length / 2));
  await pushd.waitForLog(/tls_cert: .*PEM[^]*configuration not reloaded/);
  assert.equal(await served(), "two");
  // Whole again, but of another key.
  await Deno.writeTextFile(live.cert, pem);
  await pushd.waitForLog(/tls_key: .*not the key of the certificate/);
  assert.equal(await served(), "two");

  isOver = true;
  await publishing;
  for (const client of subscribers) {
    for (let i = 0; i < sent; i++) await client.expect(new RegExp(`^MESSAGE c \\d+ ${i}$`));
    client.close();
  }
  assert.ok(sent > 100, `only ${sent} messages`);
});

test("files that cannot serve keep the server from starting, and are named", async () => {
  await using authority = await Authority.create();
  const good = await authority.issue("good");
  const other = await authority.issue("other");
  const expired = await authority.issue("expired", -1);
  const half = authority.path("half.key");
  const key = await Deno.readTextFile(good.key);
  await Deno.writeTextFile(half, key.slice(0, key.length / 2));
  const locked = await authority.encrypt(good.key, "locked.key");
  const cases: [cert: string, key: string, error: RegExp][] = [
    [authority.path("none.crt"), good.key, /^pushd: tls_cert: "\S+none\.crt": no such file/],
    [good.cert, authority.folder, /^pushd: tls_key: "\S+": a folder/],
    [good.key, good.cert, /^pushd: tls_cert: "\S+good\.key": no certificate/],
    [good.cert, other.key, /^pushd: tls_key: "\S+other\.key": this is not the key/],
    [good.cert, half, /^pushd: tls_key: "\S+half\.key": no private key/],
    [good.cert, locked, /^pushd: tls_key: "\S+locked\.key": .*passphrase/],
    [expired.cert, expired.key, /^pushd: tls_cert: "\S+expired\.crt": the certificate expired on/],
  ];
  await Promise.all(cases.map(async ([cert, key, error]) => {
    const conf = await Deno.makeTempFile();
    await Deno.writeTextFile(
      conf,
      JSON.stringify({
        tcp_listen_addr: "127.0.0.1:0",
        stats_listen_addr: "",
        msg_storage: "memory",
        tls_listen_addr: "127.0.0.1:0",
        tls_cert: cert,
        tls_key: key,
      }),
    );
    const { code, stderr } = await runPushd(["--conf", conf]);
    await Deno.remove(conf);
    assert.match(stderr, error);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
    assert.equal(code, 1);
  }));
});

test("who sends half a handshake, none or nonsense is closed in time, others are served", async () => {
  await using authority = await Authority.create();
  const { pushd, tlsPort } = await startTls(await authority.issue("one"));
  await using _ = pushd;
  const slow = await Promise.all(
    Array.from({ length: 200 }, () => Deno.connect({ hostname: "127.0.0.1", port: tlsPort })),
  );
  // The head of a handshake record, and the first byte of it.
  const half = Uint8Array.of(0x16, 3, 1, 2, 0, 1);
  for (const conn of slow.slice(100)) await conn.write(half);
  using nonsense = await Client.connect(tlsPort);
  await nonsense.send("sub channel1\n");
  // An alert, or a reset, and the end.
  await nonsense.lineOrEnd().catch(() => null);
  using client = await connectTls(tlsPort, authority);
  const startMs = performance.now();
  await client.ask("ping", "PONG");
  assert.ok(performance.now() - startMs < 1000);
  await Promise.all(slow.map(async (conn) => {
    while (await conn.read(new Uint8Array(100)).catch(() => null) !== null);
    conn.close();
  }));
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 10_000, `it took ${tookMs} ms`);
  await client.ask("ping", "PONG");
  assert.equal((await pushd.stat()).stats.connections, 1);
  assert.doesNotMatch(pushd.log(), /WARN|ERROR/);
});

test("a slow reader gets everything before the end, also at a stop", async () => {
  await using authority = await Authority.create();
  const { pushd, tlsPort } = await startTls(await authority.issue("one"));
  await using _ = pushd;
  using publisher = await Client.connect(pushd.port);
  const text = "m".repeat(60_000);
  for (let i = 0; i < 60; i++) await publisher.ask(`pub c ${text}`, PUBLISHED);
  const caCerts = [await authority.pem()];
  const readSlowly = async (requests: string): Promise<string> => {
    using conn = await Deno.connectTls({ hostname: "localhost", port: tlsPort, caCerts });
    await conn.write(new TextEncoder().encode(requests));
    const buffer = new Uint8Array(64 * 1024);
    const decoder = new TextDecoder();
    let read = "";
    for (let count; (count = await conn.read(buffer)) !== null;) {
      read += decoder.decode(buffer.subarray(0, count), { stream: true });
      // What is under test: about 3 MB/s, longer than a closed connection lingers.
      await new Promise((resolve) => setTimeout(resolve, 15));
      if (read.length > 100_000 && requests.startsWith("sub") && !isStopping) {
        isStopping = true;
        pushd.signal("SIGTERM");
      }
    }
    return read;
  };
  let isStopping = false;
  const quit = await readSlowly("his c 0\nhis c 0\nquit\n");
  assert.match(quit, /\r\nBYE\r\n$/);
  assert.equal(quit.match(/HISTORY c /g)?.length, 2);
  const stopped = await readSlowly("sub c 0\n");
  assert.match(stopped, /\r\nERROR shutting-down .*\r\n$/);
  assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
});

test("who leaves in the middle of the handshake leaves no file behind", async () => {
  await using authority = await Authority.create();
  const { pushd, tlsPort } = await startTls(await authority.issue("one"));
  await using _ = pushd;
  (await connectTls(tlsPort, authority)).close();
  await pushd.untilStat("connections", 0);
  const server = new Process(pushd.pid);
  await server.untilSockets(0, 100);
  const before = server.fileCount("sockets");
  const half = Uint8Array.of(0x16, 3, 1, 2, 0, 1);
  for (let i = 0; i < 300; i++) {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port: tlsPort });
    if (i % 3 > 0) await conn.write(half);
    if (i % 3 === 1) await conn.closeWrite();
  }
  await server.untilSockets(0, before);
}, processReason);

test("need-auth and limits hold there, too", async () => {
  await using authority = await Authority.create();
  const apps = [{ id: "a", secret: "s3cret" }];
  const { pushd, tlsPort } = await startTls(await authority.issue("one"), {
    auth: "on",
    apps,
    max_connections_per_address: 1,
  });
  await using _ = pushd;
  using client = await connectTls(tlsPort, authority);
  await client.ask("sub c", errorLine("need-auth"));
  await client.ask("auth_server a s3cret", "AUTHENTICATED a");
  using refused = await connectTls(tlsPort, authority);
  await refused.expect(errorLine("too-busy"));
  await refused.eof();
});
