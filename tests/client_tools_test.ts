// pushd sub, pub and his against a real server.

import assert from "node:assert/strict";
import { getAvailablePort } from "@std/net";
import { Authority, opensslRequirement } from "./certificates.ts";
import { Client, type Pushd, pushdCommand, runPushd, startPushd } from "./harness.ts";
import { Publisher } from "./publisher.ts";
import { ToolProcess } from "./tool_process.ts";

/** How often the server is killed under a follower; 20 where there is time. */
const KILLS = Number(Deno.env.get("PUSHD_TEST_KILLS") ?? 4);

function at(pushd: Pushd): string[] {
  return ["--server", `127.0.0.1:${pushd.port}`];
}

async function subscribers(pushd: Pushd, count: number): Promise<void> {
  await pushd.untilStat("subscriptions", count);
}

Deno.test("client tools: what one publishes another prints, and the history has it", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  await using follower = new ToolProcess(["sub", "a", "b", ...at(pushd)]);
  await subscribers(pushd, 2);

  const one = await runPushd(["pub", "a", " hello  world ", ...at(pushd)]);
  assert.match(one.stdout, /^\d{16}\n$/);
  assert.equal(one.code, 0, one.stderr);
  const ts = one.stdout.trim();

  const lines = "first\r\n\nthird\nwithout an end";
  const many = await runPushd(["pub", "b", "--json", ...at(pushd)], { stdin: lines });
  assert.equal(many.code, 1, "an empty line is no message");
  assert.match(many.stderr, /^pushd: line 2: an empty message cannot be published\n$/);
  const published = many.stdout.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(published.map(({ channel }) => channel), ["b", "b", "b"]);

  const expected = [`a ${ts}  hello  world `].concat(
    ["first", "third", "without an end"].map((msg, i) => `b ${published[i].ts} ${msg}`),
  );
  await follower.until("four lines", () => follower.lines().length >= 4);
  assert.deepEqual(follower.lines(), expected);
  assert.equal(await follower.end(), 0);
  assert.equal(follower.stderr, "");

  const his = await runPushd(["his", "b", ...at(pushd)]);
  assert.equal(his.stdout, expected.slice(1).map((line) => `${line.slice(2)}\n`).join(""));
  const json = await runPushd(["his", "b", "--json", "--limit", "1", ...at(pushd)]);
  const { node, ...message } = JSON.parse(json.stdout);
  assert.deepEqual(message, { channel: "b", msg: "first", ts: published[0].ts });
  assert.match(node, /:/);
  const later = await runPushd(["his", "b", "--from", `${published[2].ts}`, ...at(pushd)]);
  assert.equal(later.stdout, `${published[2].ts} without an end\n`);
});

Deno.test("client tools: ping says whether a server is there, also without who one is", async () => {
  {
    await using pushd = await startPushd({ config: { auth: "on", msg_storage: "memory" } });
    const there = await runPushd(["ping", ...at(pushd)]);
    assert.equal(there.code, 0, there.stderr);
    assert.match(there.stdout, /^\S+ at 127\.0\.0\.1:\d+ answers within [\d.]+ ms\n$/);
    const json = await runPushd(["ping", "--json", ...at(pushd)]);
    assert.equal(JSON.parse(json.stdout).server, `127.0.0.1:${pushd.port}`);
  }
  const away = await runPushd(["ping", "--server", "127.0.0.1:1"]);
  assert.equal(away.code, 1);
  assert.match(away.stderr, /^pushd: cannot connect to 127\.0\.0\.1:1: .*\n$/);
});

Deno.test("client tools: sub --from begins with what was kept, and history has many pages", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  const input = Array.from({ length: 2500 }, (_, i) => `m${i}\n`).join("");
  assert.equal((await runPushd(["pub", "c", ...at(pushd)], { stdin: input })).code, 0);
  const his = await runPushd(["his", "c", ...at(pushd)]);
  assert.equal(his.stdout.replace(/^\d{16} /gm, ""), input);
  await using follower = new ToolProcess(["sub", "c", "--from", "0", "--json", ...at(pushd)]);
  await follower.until("all of it", () => follower.lines().length >= 2500);
  const messages = follower.lines().map((line) => JSON.parse(line).msg);
  assert.equal(messages.join("\n") + "\n", input);
});

Deno.test("client tools: a closed output ends them quietly", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  const input = "a line that is not short\n".repeat(20_000);
  assert.equal((await runPushd(["pub", "c", ...at(pushd)], { stdin: input })).code, 0);
  // The shell's own status tells of the last command, so the first one's goes to standard error.
  const command = [...pushdCommand(), "his", "c", ...at(pushd)];
  const { stdout, stderr } = await new Deno.Command("bash", {
    args: ["-c", '"$@" | head -n 1; echo "${PIPESTATUS[0]}" >&2', "bash", ...command],
  }).output();
  assert.match(new TextDecoder().decode(stdout), /^\d{16} a line that is not short\n$/);
  assert.equal(new TextDecoder().decode(stderr), "0\n");
});

Deno.test("client tools: what is no UTF-8 is refused, and every other byte arrives", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  const lines = [[0x61, 0xc3, 0x28], [0xef, 0xbb, 0xbf, 0x62], [0x63, 0, 0x64]];
  const stdin = new Uint8Array(lines.flatMap((line) => [...line, 0x0a]));
  const { code, stderr } = await runPushd(["pub", "c", ...at(pushd)], { stdin });
  assert.deepEqual([code, stderr], [1, "pushd: line 1: it is not valid UTF-8\n"]);
  const his = await runPushd(["his", "c", ...at(pushd)]);
  assert.equal(his.stdout.replace(/^\d{16} /gm, ""), "\ufeffb\nc\0d\n");
  const argument = await runPushd(["pub", "c", "\ufffd", ...at(pushd)]);
  assert.equal(argument.code, 2);
});

Deno.test("client tools: an output that cannot be written is no lost connection", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  assert.equal((await runPushd(["pub", "c", "x", ...at(pushd)])).code, 0);
  for (const call of [["his", "c"], ["sub", "c", "--from", "0"]]) {
    const { code, stderr } = await new Deno.Command("bash", {
      args: ["-c", '"$@" > /dev/full', "bash", ...pushdCommand(), ...call, ...at(pushd)],
    }).output();
    const said = new TextDecoder().decode(stderr);
    assert.match(said, /^pushd: standard output: No space left on device/);
    assert.deepEqual([code, said.split("\n").length], [1, 2]);
  }
});

Deno.test("client tools: Ctrl-C is not kept waiting by a server that says nothing", async () => {
  const mute = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const server = ["--server", `127.0.0.1:${mute.addr.port}`];
  for (const [command, expected] of [["sub", 0], ["bench", 1]] as const) {
    const call = command === "sub" ? ["sub", "c"] : ["bench"];
    await using tool = new ToolProcess([...call, ...server]);
    using _conn = await mute.accept();
    const startMs = performance.now();
    assert.equal(await tool.end(), expected);
    assert.ok(performance.now() - startMs < 8000, "as long as a greeting takes");
  }
  mute.close();
});

Deno.test("client tools: who they are", async () => {
  const apps = [{ id: "shop", secret: "s3cret" }];
  await using pushd = await startPushd({
    config: { auth: "on", apps, msg_storage: "memory" },
  });
  const secret = `${pushd.folder}/secret`;
  await Deno.writeTextFile(secret, "s3cret\n");
  const asApp = ["--app", "shop", "--secret-file", secret, ...at(pushd)];

  const nobody = await runPushd(["pub", "c", "x", ...at(pushd)]);
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /^pushd: ERROR need-auth .+\n$/);
  assert.equal((await runPushd(["pub", "c", "by the app", ...asApp])).code, 0);

  using server = await Client.connect(pushd.port);
  await server.ask("auth_server shop s3cret", "AUTHENTICATED shop");
  const [, token] = await server.ask("gettoken bob", /^TOKEN bob (\S+)$/);
  const asBob = ["--user", "bob", "--token", token, ...at(pushd)];
  assert.equal((await runPushd(["pub", "c", "by bob", ...asBob])).code, 0);
  const again = await runPushd(["pub", "c", "by bob", ...asBob]);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /^pushd: 127\.0\.0\.1:\d+: ERROR auth-failed .+\n$/);

  const [, next] = await server.ask("gettoken ann", /^TOKEN ann (\S+)$/);
  const byCommand = ["--user", "ann", "--token-command", `echo ${next}`, ...at(pushd)];
  const his = await runPushd(["his", "c", "--json", ...byCommand]);
  const messages = his.stdout.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(messages.map(({ msg, from }) => [msg, from]), [
    ["by the app", undefined],
    ["by bob", "bob"],
  ]);
  const failing = ["--user", "ann", "--token-command", "exit 3", ...at(pushd)];
  const failed = await runPushd(["his", "c", ...failing]);
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /^pushd: --token-command "exit 3": it ended with 3\n$/);
});

Deno.test({
  name: `client tools: over TLS, by an authority of one's own${opensslRequirement.reason}`,
  ignore: opensslRequirement.ignore,
  async fn() {
    await using authority = await Authority.create();
    const { cert, key } = await authority.issue("server");
    const config = { tls_listen_addr: "127.0.0.1:0", tls_cert: cert, tls_key: key };
    await using pushd = await startPushd({ config: { ...config, msg_storage: "memory" } });
    const [, port] = await pushd.waitForLog(/clients over TLS: .*?:(\d+),/);
    const call = ["pub", "c", "x", "--server", `localhost:${port}`, "--tls"];
    const known = await runPushd([...call, "--tls-ca", authority.path("ca.crt")]);
    assert.equal(known.code, 0, known.stderr);
    const stranger = await runPushd(call);
    assert.equal(stranger.code, 1);
    assert.match(stranger.stderr, /^pushd: cannot connect to localhost:\d+: .*certificate.*\n$/i);
  },
});

Deno.test("client tools: servers are tried in turn, and what is wrong with each is said", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  const closed = ["--server", "127.0.0.1:1"];
  assert.equal((await runPushd(["pub", "c", "x", ...closed, ...at(pushd)])).code, 0);
  const none = await runPushd(["sub", "c", ...closed, "--server", "[::1]:1"]);
  assert.equal(none.code, 1);
  assert.match(
    none.stderr,
    /^pushd: cannot connect to 127\.0\.0\.1:1: .+; cannot connect to \[::1\]:1: .+\n$/,
  );
});

Deno.test(`client tools: a follower has each message once over ${KILLS} kills of the server`, async () => {
  const port = getAvailablePort();
  const config = { tcp_listen_addr: `127.0.0.1:${port}`, sqlite: { path: "pushd.db" } };
  const folder = await Deno.makeTempDir({ prefix: "pushd-kills-" });
  const start = () => startPushd({ config, cwd: folder });
  const acked = new Map<string, number>();
  try {
    let pushd = await start();
    try {
      await using follower = new ToolProcess(["sub", "c", "--server", `127.0.0.1:${port}`]);
      await subscribers(pushd, 1);
      for (let life = 0; life <= KILLS; life++) {
        const publisher = await Publisher.start(port, "c", `p${life}`);
        const enough = 2000 * (life + 1);
        await follower.until(`${enough} lines`, () => follower.lines().length >= enough);
        if (life < KILLS) await pushd.kill();
        else publisher.stop();
        await publisher.done.catch(() => {});
        for (const { n, ts } of publisher.acked) acked.set(`p${life}-${n}`, ts);
        if (life < KILLS) {
          await pushd[Symbol.asyncDispose]();
          pushd = await start();
        }
      }
      const missing = () => {
        const had = new Set(follower.lines().map((line) => line.split(" ")[2]));
        return [...acked.keys()].filter((message) => !had.has(message));
      };
      await follower.until("every message that was acknowledged", () => missing().length === 0);
      const lines = follower.lines();
      assert.equal(new Set(lines).size, lines.length, "a message came twice");
      const his = await runPushd(["his", "c", "--server", `127.0.0.1:${port}`]);
      const kept = his.stdout.trim().split("\n").map((line) => `c ${line}`);
      const printed = new Set(lines);
      assert.deepEqual(kept.filter((line) => !printed.has(line)), [], "kept and not printed");
      for (const [message, ts] of acked) assert.ok(printed.has(`c ${ts} ${message}`), message);
      assert.equal(await follower.end(), 0);
    } finally {
      await pushd[Symbol.asyncDispose]();
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("client tools: a follower goes where a leaving server's word or the list sends it", async () => {
  await using first = await startPushd({
    config: { msg_storage: "memory", drain_timeout: "300ms" },
  });
  await using second = await startPushd({ config: { msg_storage: "memory" } });
  await using follower = new ToolProcess(["sub", "c", ...at(first), ...at(second)]);
  await subscribers(first, 1);
  first.signal("SIGUSR2");
  await subscribers(second, 1);
  assert.equal((await runPushd(["pub", "c", "there", ...at(second)])).code, 0);
  await follower.until("the message", () => follower.lines().length === 1);
  assert.match(follower.stderr, /the server leaves; going elsewhere in \d+ ms/);
  await first.ended();
});
