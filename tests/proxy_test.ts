// Behind a load balancer: the PROXY protocol on the doors of clients, plain and TLS.

import assert from "node:assert/strict";
import { Authority, opensslRequirement } from "./certificates.ts";
import { Client, errorLine, startPushd } from "./harness.ts";

const APPS = [{ id: "a", secret: "s3cret" }];
const BEHIND_PROXY = {
  msg_storage: "memory",
  proxy_protocol: true,
  trusted_proxies: ["127.0.0.1"],
};

/** A header of version 2 for a TCP connection over IPv4 from `address`. */
function binaryHeader(address: string, command = 0x21, tlvs = new Uint8Array(0)): Uint8Array {
  const addresses = [...address.split(".").map(Number), 127, 0, 0, 1, 0x30, 0x39, 0x08, 0xae];
  const length = addresses.length + tlvs.length;
  return Uint8Array.from([
    ...new TextEncoder().encode("\r\n\r\n\0\r\nQUIT\n"),
    command,
    0x11,
    length >> 8,
    length & 255,
    ...addresses,
    ...tlvs,
  ]);
}

function joined(...parts: (Uint8Array | string)[]): Uint8Array {
  return Uint8Array.from(
    parts.flatMap((part) => [...typeof part === "string" ? new TextEncoder().encode(part) : part]),
  );
}

Deno.test("proxy: limits and the log see the client's own address", async () => {
  await using pushd = await startPushd({
    config: { ...BEHIND_PROXY, auth: "on", apps: APPS, max_connections_per_address: 1 },
  });
  using one = await Client.connect(pushd.port);
  await one.send("PROXY TCP4 192.0.2.1 127.0.0.1 50000 2222\r\nauth_server a wrong\n");
  await one.expect(errorLine("auth-failed"));
  await pushd.waitForLog(/refused.*192\.0\.2\.1/);
  using same = await Client.connect(pushd.port);
  await same.send(joined(binaryHeader("192.0.2.1"), "ping\n"));
  await same.expect(errorLine("too-busy"));
  await same.eof();
  using other = await Client.connect(pushd.port);
  // Extensions are skipped.
  await other.send(joined(binaryHeader("192.0.2.2", 0x21, Uint8Array.of(4, 0, 1, 0)), "ping\n"));
  await other.expect("PONG");
  using six = await Client.connect(pushd.port);
  await six.send("PROXY TCP6 2001:db8::1 ::1 50000 2222\r\nauth_server a s3cret\nsub c\n");
  await six.expect("AUTHENTICATED a");
  await six.expect("SUBSCRIBED c");
  // In pieces, as a slow network brings it.
  using pieces = await Client.connect(pushd.port);
  for (const byte of "PROXY TCP4 192.0.2.9 127.0.0.1 50000 2222\r\nping\n") await pieces.send(byte);
  await pieces.expect("PONG");
});

Deno.test("proxy: its own health checks are let in, and no news", async () => {
  await using pushd = await startPushd({ config: BEHIND_PROXY });
  for (let i = 0; i < 20; i++) (await Client.connect(pushd.port)).close();
  for (const header of [binaryHeader("0.0.0.0", 0x20), "PROXY UNKNOWN\r\n"]) {
    using check = await Client.connect(pushd.port);
    await check.send(joined(header, "ping\nquit\n"));
    await check.expect("PONG");
    await check.expect("BYE");
    await check.eof();
  }
  await pushd.untilStat("connections", 0);
  assert.doesNotMatch(pushd.log(), /WARN|ERROR/);
});

Deno.test("proxy: no header, half a header, one too long: closed in time", async () => {
  await using pushd = await startPushd({ config: BEHIND_PROXY });
  const long = binaryHeader("192.0.2.1", 0x21, new Uint8Array(65_000));
  for (const nonsense of ["sub c\n", "GET / HTTP/1.1\r\n\r\n", long.subarray(0, 2000)]) {
    using client = await Client.connect(pushd.port);
    await client.send(nonsense);
    assert.equal(await client.lineOrEnd().catch(() => null), null);
  }
  await pushd.waitForLog(/closed a connection of a proxy.*no PROXY header.*127\.0\.0\.1/);
  const startMs = performance.now();
  const slow = await Promise.all(Array.from({ length: 50 }, () => Client.connect(pushd.port)));
  for (const client of slow) await client.send("PROXY TCP4 192.0.2.1");
  using prompt = await Client.connect(pushd.port);
  await prompt.send("PROXY UNKNOWN\r\nping\n");
  await prompt.expect("PONG");
  for (const client of slow) {
    await client.eof();
    client.close();
  }
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 10_000, `it took ${tookMs} ms`);
});

Deno.test("proxy: nobody else is believed, and a reload says who is", async () => {
  await using pushd = await startPushd({
    config: { ...BEHIND_PROXY, trusted_proxies: ["192.0.2.0/24"] },
  });
  using stranger = await Client.connect(pushd.port);
  assert.equal(await stranger.lineOrEnd().catch(() => null), null);
  await pushd.waitForLog(/refused.*trusted_proxies.*127\.0\.0\.1/);
  const conf = `${pushd.folder}/pushd.cf`;
  await Deno.writeTextFile(
    conf,
    (await Deno.readTextFile(conf)).replace("192.0.2.0/24", "127.0.0.0/8"),
  );
  pushd.signal("SIGHUP");
  await pushd.waitForLog(/configuration reloaded: trusted_proxies/);
  using client = await Client.connect(pushd.port);
  await client.send("PROXY UNKNOWN\r\nping\n");
  await client.expect("PONG");
});

Deno.test({
  name: `proxy: TLS behind it${opensslRequirement.reason}`,
  ignore: opensslRequirement.ignore,
  fn: async () => {
    await using authority = await Authority.create();
    const { cert, key } = await authority.issue("one");
    await using pushd = await startPushd({
      config: {
        ...BEHIND_PROXY,
        auth: "on",
        apps: APPS,
        tls_listen_addr: "127.0.0.1:0",
        tls_cert: cert,
        tls_key: key,
      },
    });
    const [, port] = await pushd.waitForLog(/clients over TLS: 127\.0\.0\.1:(\d+)/);
    const connect = async (address: string): Promise<Client> => {
      const conn = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
      await conn.write(binaryHeader(address));
      const caCerts = [await authority.pem()];
      const tls = await Deno.startTls(conn, { hostname: "localhost", caCerts });
      await tls.handshake();
      return Client.over(tls);
    };
    using client = await connect("192.0.2.77");
    await client.ask("auth_server a wrong", errorLine("auth-failed"));
    await pushd.waitForLog(/refused.*192\.0\.2\.77/);
    await client.ask("auth_server a s3cret", "AUTHENTICATED a");
    await client.ask("sub c", "SUBSCRIBED c");
    using publisher = await connect("192.0.2.78");
    await publisher.ask("auth_server a s3cret", "AUTHENTICATED a");
    const text = "m".repeat(60_000);
    const sending = publisher.send(`pub c ${text}\n`.repeat(100));
    for (let i = 0; i < 100; i++) await client.expect(/^MESSAGE c \d+ m{60000}$/);
    await sending;
    for (let i = 0; i < 100; i++) await publisher.expect(/^PUBLISHED/);
    await publisher.send("ping\nquit\n");
    await publisher.expect("PONG");
    await publisher.expect("BYE");
    await publisher.eof();

    const two = await authority.issue("two");
    await Deno.copyFile(two.cert, cert);
    await Deno.copyFile(two.key, key);
    pushd.signal("SIGHUP");
    await pushd.waitForLog(/configuration reloaded: the certificate is another one/);
    using late = await connect("192.0.2.79");
    await late.ask("ping", "PONG");
    await client.ask("ping", "PONG");
    // Who leaves without a word, before and after the handshake.
    for (let i = 0; i < 5; i++) {
      const conn = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
      await conn.write(binaryHeader("192.0.2.80"));
      conn.close();
      (await connect("192.0.2.81")).close();
    }
    publisher.close();
    await pushd.untilStat("connections", 2);
  },
});
