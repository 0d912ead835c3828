// What /metrics says after a load of every kind is what the clients have counted, to the last byte.

import assert from "node:assert/strict";
import { Authority, opensslRequirement } from "./certificates.ts";
import { Tally } from "./counted_client.ts";
import { Client, errorLine, startPushd } from "./harness.ts";
import { metricSeries } from "./metric_series.ts";

const MAX_LINE_BYTES = 2000;
const MAX_CONNECTIONS = 14;
const PUBLISHERS = 4;
const SUBSCRIBERS = 5;
const CHANNELS = ["a", "b", "c"];
const MESSAGES = 3000;

const CONFIG = {
  tcp_listen_addr: "127.0.0.1:0",
  stats_listen_addr: "127.0.0.1:0",
  auth: "on",
  apps: [{ id: "chat", secret: "s" }, { id: "gone", secret: "g" }],
  max_line_bytes: MAX_LINE_BYTES,
  max_connections: MAX_CONNECTIONS,
  max_pending_bytes: "1MiB",
};

/** Series of one name by its label. */
function byLabel(all: Map<string, number>, name: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [series, value] of all) {
    const [, of, label] = /^(\w+)\{\w+="(.*)"\}$/.exec(series) ?? [];
    if (of === name && value > 0) found[label] = value;
  }
  return found;
}

Deno.test("what clients have counted under a load of every kind is what /metrics says", async () => {
  await using pushd = await startPushd({ config: CONFIG });
  const tally = new Tally();
  /** Why connections have ended. */
  const ends: Record<string, number> = {};
  const ended = (reason: string, count = 1) => ends[reason] = (ends[reason] ?? 0) + count;
  const connect = () => tally.connect(pushd.port, MAX_LINE_BYTES);
  const connectTo = async (app: string, secret: string) => {
    const client = await connect();
    await client.ask(`auth_server ${app} ${secret}`, `AUTHENTICATED ${app}`);
    return client;
  };
  const quit = async (client: Client) => {
    await client.ask("quit", "BYE");
    await client.eof();
    client.close();
    ended("quit");
  };

  // Publishers pipeline, subscribers read it all, in both forms.
  const subscribers = await Promise.all(Array.from({ length: SUBSCRIBERS }, async (_, i) => {
    const client = await connectTo("chat", "s");
    if (i % 2 === 1) await client.ask("hello 1 json", /^HELLO 1 \{/);
    for (const channel of CHANNELS) await client.ask(`sub ${channel}`, `SUBSCRIBED ${channel}`);
    return client;
  }));
  const deliveries = PUBLISHERS * MESSAGES;
  const reading = subscribers.map((client) => client.lines(deliveries));
  const publishers = await Promise.all(
    Array.from({ length: PUBLISHERS }, () => connectTo("chat", "s")),
  );
  await Promise.all(publishers.map(async (client, p) => {
    const lines = Array.from(
      { length: MESSAGES },
      (_, i) =>
        `pub ${CHANNELS[i % CHANNELS.length]} message ${i} of ${p} é${"x".repeat(i % 200)}\n`,
    );
    await Promise.all([client.send(lines.join("")), client.lines(MESSAGES)]);
  }));
  await Promise.all(reading);

  // Every other command, and what is refused.
  const [first, second] = publishers;
  await first.ask("his a 0 3", /^HISTORY a \[/);
  await first.ask("ping", "PONG");
  await first.send("help\nping\n");
  while (await first.line() !== "PONG");
  const token = (await first.reply("gettoken anna")).replace("TOKEN ", "");
  const user = await connect();
  await user.ask("pub a too early", errorLine("need-auth"));
  await user.ask("auth anna wrong", errorLine("auth-failed"));
  await user.ask(`auth ${token}`, "AUTHENTICATED anna");
  // With everything that is kept.
  await user.ask("sub a 0", /^SUBSCRIBED a \d+$/);
  await user.lines(PUBLISHERS * MESSAGES / CHANNELS.length);
  await user.ask("unsub a", "UNSUBSCRIBED a");
  await first.ask("pub a ", errorLine("bad-message"));
  await first.ask("pub $a x", errorLine("reserved-name"));
  await first.ask("sub a b c", errorLine("bad-argument"));
  await first.ask("sub", errorLine("missing-argument"));
  await first.ask("nonsense", errorLine("unknown-command"));
  await first.ask(`pub a ${"x".repeat(MAX_LINE_BYTES)}`, errorLine("line-too-long"));

  // Some leave, each in another way.
  await quit(first);
  await user.end();
  await user.eof();
  user.close();
  ended("client");
  second.close();
  ended("client");
  const visitor = await connect();
  await visitor.send("GET / HTTP/1.1\r\n");
  assert.match((await visitor.rest())[0], errorLine("unknown-command"));
  visitor.close();
  ended("http");
  const stillThere = SUBSCRIBERS + PUBLISHERS - 2;
  await pushd.untilStat("connections", stillThere);

  const { stats } = await pushd.stat();
  assert.equal(stats.published, tally.got.get("PUBLISHED"));
  const delivered = (tally.got.get("MESSAGE") ?? 0) + (tally.got.get("EVENT") ?? 0);
  assert.equal(stats.delivered, delivered);
  assert.equal(delivered, deliveries * SUBSCRIBERS + deliveries / CHANNELS.length);
  assert.equal(stats.subscriptions, SUBSCRIBERS * CHANNELS.length);

  // One who does not read, and is cut off. What was queued for it and dropped counts as delivered.
  const slow = await connectTo("chat", "s");
  await slow.ask("sub slow", "SUBSCRIBED slow");
  const [, , flood] = publishers;
  const lines = `pub slow ${"x".repeat(MAX_LINE_BYTES - 10)}\n`.repeat(100);
  while ((await pushd.stat()).stats.slow_consumers === 0) {
    for (let i = 0; i < 10; i++) await Promise.all([flood.send(lines), flood.lines(100)]);
  }
  const rest = await slow.rest();
  assert.match(rest.at(-1) ?? "", errorLine("slow-consumer"));
  slow.close();
  ended("slow-consumer");

  // More than may come: some are told in order, the others at once.
  await pushd.untilStat("connections", stillThere);
  const inside = await Promise.all(
    Array.from({ length: MAX_CONNECTIONS - stillThere }, () => connectTo("chat", "s")),
  );
  const outside = await Promise.all(Array.from({ length: 12 }, connect));
  for (const client of outside) await client.expect(errorLine("too-busy"));
  for (const client of outside) {
    await client.eof();
    client.close();
  }
  ended("too-busy", outside.length);
  for (const client of [...inside, ...subscribers, ...publishers.slice(2)]) await quit(client);
  await pushd.untilStat("connections", 0);

  // Those whom a reload sends away: an application is taken out, and deadlines become short.
  const gone = await connectTo("gone", "g");
  const idle = await connectTo("chat", "s");
  const late = await connect();
  const changed = {
    ...CONFIG,
    apps: CONFIG.apps.slice(0, 1),
    session_timeout: "1s",
    auth_timeout: "500ms",
  };
  await Deno.writeTextFile(`${pushd.folder}/pushd.cf`, JSON.stringify(changed));
  for (
    const [client, code, reason] of [
      [gone, "auth-failed", "auth-failed"],
      [late, "need-auth", "auth-timeout"],
      [idle, "idle-timeout", "idle-timeout"],
    ] as const
  ) {
    assert.match((await client.rest()).at(-1) ?? "", errorLine(code));
    client.close();
    ended(reason);
  }
  await pushd.untilStat("connections", 0);

  const all = await metricSeries(pushd);
  const totals = (name: string) => all.get(`pushd_${name}_total`);
  assert.deepEqual(byLabel(all, "pushd_disconnects_total"), ends);
  assert.equal(totals("connections"), tally.connections);
  assert.equal(all.get("pushd_connections"), 0);
  assert.equal(totals("connections_refused"), outside.length);
  assert.equal(totals("messages_published"), tally.got.get("PUBLISHED"));
  assert.equal(totals("bytes_in"), tally.bytesIn);
  assert.equal(totals("bytes_out"), tally.bytesOut);
  const commands = Object.keys(byLabel(all, "pushd_commands_total"));
  for (
    const name of "sub unsub pub his gettoken auth auth_server hello ping help quit".split(" ")
  ) {
    assert.ok(commands.includes(name), `${name} was never sent`);
  }
  const requests = [...tally.sent].filter(([word]) => word !== "nonsense" && word !== "get");
  assert.deepEqual(byLabel(all, "pushd_commands_total"), Object.fromEntries(requests));
  const errors = [...tally.got].flatMap(([word, count]) =>
    word.startsWith("ERROR ") ? [[word.slice(6), count]] : []
  );
  assert.deepEqual(byLabel(all, "pushd_errors_total"), Object.fromEntries(errors));
  // Some of it was measured, and no more than there was.
  for (const [name, most] of [["publish", tally.got.get("PUBLISHED")], ["delivery", delivered]]) {
    const count = all.get(`pushd_${name}_duration_seconds_count`) ?? 0;
    assert.ok(count > 0 && count < Number(most), `${name}: ${count} of ${most}`);
  }
  const { stats: last } = await pushd.stat();
  assert.equal(all.get("pushd_storage_commit_duration_seconds_count"), last.storage_commits);
});

Deno.test({
  name:
    `behind a proxy and over TLS it is the lines that count, and every connection ends for a reason` +
    opensslRequirement.reason,
  ignore: opensslRequirement.ignore,
  fn: async () => {
    await using authority = await Authority.create();
    const { cert, key } = await authority.issue("one");
    const config = {
      tcp_listen_addr: "127.0.0.1:0",
      stats_listen_addr: "127.0.0.1:0",
      tls_listen_addr: "127.0.0.1:0",
      tls_cert: cert,
      tls_key: key,
      msg_storage: "memory",
      proxy_protocol: true,
      trusted_proxies: ["127.0.0.1"],
    };
    await using pushd = await startPushd({ config });
    const [, tlsPort] = await pushd.waitForLog(/clients over TLS: 127\.0\.0\.1:(\d+)/);
    const header = new TextEncoder().encode("PROXY TCP4 192.0.2.1 192.0.2.2 1000 2222\r\n");
    let connections = 0;
    const connect = (port: number) => {
      connections++;
      return Deno.connect({ hostname: "127.0.0.1", port });
    };

    const plain = await connect(pushd.port);
    const first = Client.over(plain);
    await first.send(header);
    await first.ask("ping", "PONG");
    await first.ask("quit", "BYE");
    await first.eof();
    first.close();
    const raw = await connect(Number(tlsPort));
    await raw.write(header);
    const caCerts = [await authority.pem()];
    const second = Client.over(await Deno.startTls(raw, { hostname: "localhost", caCerts }));
    await second.ask("ping", "PONG");
    await second.ask("quit", "BYE");
    await second.eof();
    second.close();
    // A proxy that only looks, one that says nothing sensible, and a client that speaks no TLS.
    (await connect(pushd.port)).close();
    for (const [port, bytes] of [[pushd.port, "ping\n"], [Number(tlsPort), "ping\n"]] as const) {
      const conn = await connect(port);
      if (port !== pushd.port) await conn.write(header);
      const client = Client.over(conn);
      await client.send(bytes);
      await client.end().catch(() => {});
      await conn.read(new Uint8Array(100)).catch(() => null);
      client.close();
    }
    const changed = JSON.stringify({ ...config, trusted_proxies: ["192.0.2.7"] });
    await Deno.writeTextFile(`${pushd.folder}/pushd.cf`, changed);
    await pushd.untilStat("config_reloads_ok", 1);
    const stranger = Client.over(await connect(pushd.port));
    await stranger.eof();
    stranger.close();

    await pushd.untilStat("disconnects_tls", 1);
    await pushd.untilStat("disconnects_client", 1);
    await pushd.untilStat("disconnects_quit", 2);
    const all = await metricSeries(pushd);
    const ends = { client: 1, proxy: 2, quit: 2, tls: 1 };
    assert.deepEqual(byLabel(all, "pushd_disconnects_total"), ends);
    assert.equal(all.get("pushd_connections_total"), connections);
    assert.equal(Object.values(ends).reduce((a, b) => a + b), connections);
    assert.equal(all.get("pushd_connections_refused_total"), 1);
    assert.equal(all.get("pushd_bytes_in_total"), 2 * "ping\nquit\n".length);
    assert.equal(all.get("pushd_bytes_out_total"), 2 * "PONG\r\nBYE\r\n".length);
  },
});
