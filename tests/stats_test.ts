// The stats door of a running server, by HTTP.

import assert from "node:assert/strict";
import { Client, type Pushd, startPushd, within } from "./harness.ts";

/** What a server answers to a request that is sent as it stands: status, headers, body. */
async function raw(pushd: Pushd, request: string): Promise<{ status: number; text: string }> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port: pushd.statsPort });
  await conn.write(new TextEncoder().encode(request));
  const reading = new Response(conn.readable).text();
  const text = await within(() => "an answer", reading, { onLate: () => conn.close() });
  return { status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1]), text };
}

function getWithHost(pushd: Pushd, host: string): Promise<{ status: number; text: string }> {
  return raw(pushd, `GET /s/ping HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
}

async function errorOf(response: Response): Promise<{ code: string; message: string }> {
  assert.equal(response.headers.get("content-type"), "application/json; charset=utf-8");
  const { error } = await response.json();
  return error;
}

Deno.test("what the stats door answers", async (t) => {
  await using pushd = await startPushd();

  await t.step("/s/ping and /healthz", async () => {
    const ping = await pushd.get("/s/ping");
    assert.equal(ping.status, 200);
    assert.equal(ping.headers.get("content-type"), "application/json; charset=utf-8");
    assert.equal((await ping.text()).trimEnd(), '{"status":"ok"}');
    const health = await pushd.get("/healthz");
    assert.equal(health.status, 200);
    await health.body?.cancel();
  });

  await t.step("/readyz", async () => {
    const response = await pushd.get("/readyz");
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), { ready: true, failing: [] });
  });

  await t.step("/ as text, which names the paths", async () => {
    const response = await pushd.get("/");
    assert.match(response.headers.get("content-type") ?? "", /^text\/plain/);
    const text = await response.text();
    for (const path of ["/s/ping", "/s/stat", "/healthz", "/readyz"]) {
      assert.ok(text.includes(path), text);
    }
  });

  await t.step("an unknown path is 404", async () => {
    for (const path of ["/nothing", "/s", "/s/stat/more", "/s/ping%2f", "//s/ping"]) {
      const response = await pushd.get(path);
      assert.equal(response.status, 404, path);
      assert.equal((await errorOf(response)).code, "not-found");
    }
  });

  await t.step("another method is 405", async () => {
    for (const path of ["/", "/s/ping", "/s/stat", "/healthz", "/readyz"]) {
      for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
        const response = await pushd.get(path, { method });
        assert.equal(response.status, 405);
        assert.match(response.headers.get("allow") ?? "", /\bGET\b/);
        assert.equal((await errorOf(response)).code, "method-not-allowed");
      }
    }
  });

  await t.step("HEAD and OPTIONS", async () => {
    for (const path of ["/", "/s/ping", "/s/stat", "/healthz", "/readyz"]) {
      const head = await pushd.get(path, { method: "HEAD" });
      assert.equal(head.status, 200);
      assert.equal(await head.text(), "");
      const options = await pushd.get(path, { method: "OPTIONS" });
      assert.equal(options.status, 204);
      assert.match(options.headers.get("allow") ?? "", /\bGET\b/);
      assert.equal(await options.text(), "");
    }
  });

  await t.step("what is no HTTP is 400", async () => {
    const { status, text } = await raw(pushd, "sub c\r\n\r\n");
    assert.equal(status, 400);
    assert.match(text, /"code":"bad-argument"/);
  });
});

Deno.test("/s/stat counts what happened", async () => {
  await using pushd = await startPushd({ config: { node_id: "n1" } });
  const before = await pushd.stat();
  assert.equal(before.node, "n1");
  assert.match(before.ver, /^\d+\.\d+\.\d+/);
  assert.equal(typeof before.build, "string");
  assert.ok(before.uptime_s >= 0 && before.uptime_s < 60);
  for (const name of ["connections", "subscriptions", "published", "delivered", "bytes_in"]) {
    assert.equal(before.stats[name], 0, name);
  }

  const clients = await Promise.all([0, 1, 2].map(() => Client.connect(pushd.port)));
  const [first, second, publisher] = clients;
  let bytesOut = 0;
  const ask = async (client: Client, request: string, pattern: RegExp) => {
    await client.send(`${request}\n`);
    const [line] = await client.expect(pattern);
    bytesOut += line.length + 2;
  };
  await ask(first, "sub c", /^SUBSCRIBED c$/);
  await ask(first, "sub d", /^SUBSCRIBED d$/);
  await ask(second, "sub c", /^SUBSCRIBED c$/);
  await ask(publisher, "ping", /^PONG$/);
  for (const channel of ["c", "c", "d", "e"]) {
    await ask(publisher, `pub ${channel} x`, /^PUBLISHED \d{16}$/);
  }
  const lines = [...await first.lines(3), ...await second.lines(2)];
  bytesOut += lines.map((line) => line.length + 2).reduce((sum, length) => sum + length);

  const { stats } = await pushd.stat();
  const expected = {
    connections: 3,
    connections_total: 3,
    subscriptions: 3,
    pubsub_channel_count: 3,
    s2s_channel_count: 0,
    published: 4,
    delivered: 5,
    slow_consumers: 0,
    bytes_in: 3 * "sub c\n".length + "ping\n".length + 4 * "pub c x\n".length,
    bytes_out: bytesOut,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(stats[name], value, name);

  await second.ask("unsub c", "UNSUBSCRIBED c");
  assert.equal((await pushd.stat()).stats.subscriptions, 2);
  for (const client of clients) client.close();
  await pushd.untilStat("connections", 0);
  const after = await pushd.stat();
  assert.equal(after.stats.subscriptions, 0);
  assert.equal(after.stats.connections_total, 3);
  assert.ok(after.stats.bytes_out >= bytesOut);
});

Deno.test("/s/stat shows the configuration, defaults filled in and without secrets", async () => {
  const config = {
    session_timeout: "1h30m",
    max_pending_bytes: "1MiB",
    apps: [{ id: "chat", secret: "hidden1" }],
    stats_token: "hidden2",
    s2s_secret: "hidden3",
    mongodb: { password: "hidden4", url: "mongodb://user:hidden5@host/" },
  };
  await using pushd = await startPushd({ config, env: { PUSHD_MAX_LINE_BYTES: "32KiB" } });
  const headers = { Authorization: "Bearer hidden2" };
  const text = await (await pushd.get("/s/stat", { headers })).text();
  assert.doesNotMatch(text, /hidden/);
  assert.doesNotMatch(pushd.log() + pushd.stderr, /hidden/);
  const { conf } = JSON.parse(text);
  assert.equal(conf.session_timeout, "1h30m");
  assert.equal(conf.max_pending_bytes, "1MiB");
  assert.equal(conf.max_line_bytes, "32KiB");
  assert.equal(conf.stats_listen_addr, "127.0.0.1:0");
  assert.deepEqual(conf.apps, [{ id: "chat", secret: "***" }]);
  assert.equal(conf.stats_token, "***");
  assert.equal(conf.s2s_secret, "***");
  assert.equal(conf.mongodb.password, "***");
  assert.match(conf.mongodb.url, /\*\*\*/);
  // Defaults.
  assert.equal(conf.write_timeout, "10s");
  assert.equal(conf.max_channels_per_connection, 10000);
  assert.equal(conf.auth, "off");
  assert.equal(conf.drain_timeout, "10s");
  assert.deepEqual(conf.allowed_hosts, []);
});

Deno.test("/readyz says that the server is being stopped, and the door stays open for that", async () => {
  await using pushd = await startPushd({ config: { drain_timeout: "1m", write_timeout: "1m" } });
  const client = await Client.connect(pushd.port);
  await client.ask("ping", "PONG");
  // So much that it does not fit into the sockets' buffers.
  await client.ask("sub c", "SUBSCRIBED c");
  using publisher = await Client.connect(pushd.port);
  const text = "m".repeat(60_000);
  for (let i = 0; i < 120; i++) await publisher.ask(`pub c ${text}`, /^PUBLISHED /);
  pushd.signal("SIGTERM");
  await pushd.waitForLog(/ stopping /);
  const response = await pushd.get("/readyz");
  assert.equal(response.status, 503);
  assert.match(response.headers.get("retry-after") ?? "", /^\d+$/);
  assert.deepEqual(await response.json(), { ready: false, failing: ["draining"] });
  const health = await pushd.get("/healthz");
  assert.equal(health.status, 200);
  await health.body?.cancel();
  client.close();
  assert.equal((await pushd.ended()).code, 0);
});

Deno.test("on loopback the stats door answers to known hosts only", async () => {
  await using pushd = await startPushd({
    config: { allowed_hosts: ["push.example.org"], web_origins: ["https://chat.example.org"] },
  });
  const port = pushd.statsPort;
  for (
    const host of [
      ...["localhost", `localhost:${port}`, "LOCALHOST", `127.0.0.1:${port}`, "127.0.0.1"],
      ...[`[::1]:${port}`, "10.1.2.3", "push.example.org", "PUSH.example.org:80"],
      ...["chat.example.org"],
    ]
  ) {
    assert.equal((await getWithHost(pushd, host)).status, 200, host);
  }
  for (
    const host of [
      ...["evil.io", `evil.io:${port}`, "localhost.evil.io", "example.org", "127.0.0.1.evil.io"],
      ...["push.example.org.evil.io", "xlocalhost", "localhost@evil.io"],
    ]
  ) {
    const { status, text } = await getWithHost(pushd, host);
    assert.ok(status === 403 || (status === 400 && host.includes("@")), `${host}: ${status}`);
    if (status === 403) assert.match(text, /"code":"not-permitted".*allowed_hosts/);
  }
  // One in the request's target counts, too.
  const absolute = await raw(
    pushd,
    "GET http://evil.io/s/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
  );
  assert.equal(absolute.status, 403);
});

Deno.test("stats_token is asked for, except on /healthz and /readyz", async () => {
  await using pushd = await startPushd({ config: { stats_token: "t\u00f6ken" } });
  const status = async (path: string, authorization?: string) => {
    const headers: Record<string, string> = {};
    if (authorization !== undefined) headers.Authorization = authorization;
    const response = await pushd.get(path, { headers });
    await response.body?.cancel();
    return response.status;
  };
  /** Header values are bytes. */
  const token = String.fromCharCode(...new TextEncoder().encode("t\u00f6ken"));
  const basic = (user: string, password: string) => `Basic ${btoa(`${user}:${password}`)}`;
  for (const path of ["/", "/s/ping", "/s/stat", "/nothing"]) {
    const response = await pushd.get(path);
    assert.equal(response.status, 401);
    assert.match(response.headers.get("www-authenticate") ?? "", /^Basic /);
    assert.equal((await errorOf(response)).code, "need-auth");
    const good = path === "/nothing" ? 404 : 200;
    assert.equal(await status(path, `Bearer ${token}`), good);
    assert.equal(await status(path, `bearer ${token}`), good);
    assert.equal(await status(path, basic("", token)), good);
    assert.equal(await status(path, basic("anybody", token)), good);
    for (
      const wrong of [
        ...["Bearer wrong", "Bearer", "Bearer ***", `Digest ${token}`, token, "Basic !"],
        ...[basic(token, ""), basic("", "wrong"), `Bearer ${token}x`, `Bearer x${token}`],
      ]
    ) {
      assert.equal(await status(path, wrong), 401, wrong);
    }
  }
  const wrong = await pushd.get("/s/stat", { headers: { Authorization: "Bearer wrong" } });
  assert.equal((await errorOf(wrong)).code, "auth-failed");
  assert.equal(await status("/healthz"), 200);
  assert.equal(await status("/readyz"), 200);
});

Deno.test('stats_listen_addr: "" opens no stats door', async () => {
  await using pushd = await startPushd({ config: { stats_listen_addr: "" } });
  assert.equal(pushd.statsPort, 0);
  assert.doesNotMatch(pushd.log(), /stats:/);
  using client = await Client.connect(pushd.port);
  await client.ask("ping", "PONG");
});
