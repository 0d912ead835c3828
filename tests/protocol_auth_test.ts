// Who may do what by the wire protocol: tokens, applications and their servers, and the price of guessing.

import assert from "node:assert/strict";
import { Client, errorLine, type Pushd, startPushd } from "./harness.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const APPS = [
  { id: "chat", secret: "s3cret" },
  { id: "a", secret: "one" },
  { id: "a:b", secret: "two" },
];

/** A token for `user` of the application `chat`. */
async function tokenFor(pushd: Pushd, user: string): Promise<string> {
  using server = await Client.connect(pushd.port);
  await server.ask("auth_server chat s3cret", "AUTHENTICATED chat");
  const [, token] = await server.ask(`gettoken ${user}`, tokenLine(user));
  return token;
}

/** At least 128 bits in base64url. */
function tokenLine(user: string): RegExp {
  return new RegExp(`^TOKEN ${user} ([A-Za-z0-9_-]{22,})$`);
}

Deno.test('auth "off": every command works, and auth names the connection', async () => {
  await using pushd = await startPushd({ config: { node_id: "n1" } });
  using client = await Client.connect(pushd.port);
  using follower = await Client.connect(pushd.port);
  await follower.ask("hello 1 json", /^HELLO 1 /);
  await follower.ask("sub c", "SUBSCRIBED c");

  const [, anonymous] = await client.ask("pub c x", PUBLISHED);
  await expectEvent(follower, { channel: "c", ts: Number(anonymous), node: "n1", msg: "x" });
  const [, token] = await client.ask("gettoken bob", tokenLine("bob"));
  await client.ask("auth alice x", errorLine("auth-failed"));
  await client.ask(`auth alice ${token}`, errorLine("auth-failed"));
  await client.ask(`auth bob ${token}`, "AUTHENTICATED bob");
  await client.ask(`auth bob ${token}`, errorLine("auth-failed"));
  await client.ask("auth_server chat s3cret", errorLine("not-permitted"));

  const [, named] = await client.ask("pub c y", PUBLISHED);
  const from = { channel: "c", ts: Number(named), node: "n1", from: "bob", msg: "y" };
  await expectEvent(follower, from);
  // In kept messages, too.
  const [, json] = await client.ask("his c 0", /^HISTORY c (.*)$/);
  assert.deepEqual(JSON.parse(json), [
    { channel: "c", msg: "x", ts: Number(anonymous), node: "n1" },
    { channel: "c", msg: "y", ts: Number(named), from: "bob", node: "n1" },
  ]);
  await follower.ask("unsub c", "UNSUBSCRIBED c");
  await follower.ask(`sub c ${anonymous}`, "SUBSCRIBED c 1");
  await expectEvent(follower, from);
});

/** The next line must be an `EVENT` of exactly this. */
async function expectEvent(client: Client, keys: Record<string, unknown>): Promise<void> {
  const [, json] = await client.expect(/^EVENT (.*)$/);
  assert.deepEqual(JSON.parse(json), { op: "msg", ...keys });
}

Deno.test('auth "off" with applications: auth_server moves the connection into one', async () => {
  await using pushd = await startPushd({ config: { apps: APPS } });
  using server = await Client.connect(pushd.port);
  using client = await Client.connect(pushd.port);
  await server.ask("sub c", "SUBSCRIBED c");
  // What it follows is of another application.
  await server.ask("auth_server chat s3cret", errorLine("not-permitted"));
  await server.ask("unsub c", "UNSUBSCRIBED c");
  await server.ask("auth_server chat s3cret", "AUTHENTICATED chat");
  await server.ask("sub c", "SUBSCRIBED c");
  await client.ask("pub c default", PUBLISHED);
  await client.ask("his c 0", /"msg":"default"/);
  await server.ask("his c 0", "HISTORY c []");
  const [, token] = await server.ask("gettoken bob", tokenLine("bob"));
  await client.ask(`auth bob ${token}`, "AUTHENTICATED bob");
  const [, ts] = await client.ask("pub c chat", PUBLISHED);
  await server.expect(`MESSAGE c ${ts} chat`);
});

Deno.test('auth "on": what is served before authentication, and after it', async () => {
  await using pushd = await startPushd({ config: { auth: "on", apps: APPS } });
  using client = await Client.connect(pushd.port);
  const [, json] = await client.ask("hello 1", /^HELLO 1 (.*)$/);
  assert.ok(JSON.parse(json).features.includes("auth"));
  await client.ask("ping", "PONG");
  await client.ask("help", /^HELP /);
  for (const request of ["sub c", "sub c 0", "unsub c", "pub c x", "his c 0", "gettoken bob"]) {
    await client.ask(request, errorLine("need-auth"));
  }
  // Lines are short until then.
  await client.ask(`auth u ${"t".repeat(4096 - 7)}`, errorLine("auth-failed"));
  await client.ask(`auth u ${"t".repeat(4096 - 6)}`, errorLine("line-too-long"));
  await client.ask(`pub c ${"m".repeat(5000)}`, errorLine("line-too-long"));
  await client.send("auth u wrong\npub c x\nsub c\nping\n");
  await client.expect(errorLine("auth-failed"));
  await client.expect(errorLine("need-auth"));
  await client.expect(errorLine("need-auth"));
  await client.expect("PONG");

  const token = await tokenFor(pushd, "bob");
  await client.send(`auth bob ${token}\nsub c\nhis c 0\n`);
  assert.deepEqual(await client.lines(3), ["AUTHENTICATED bob", "SUBSCRIBED c", "HISTORY c []"]);
  await client.ask("gettoken eve", errorLine("not-permitted"));
  await client.ask("unsub c", "UNSUBSCRIBED c");
  await client.ask(`pub c ${"m".repeat(60_000)}`, PUBLISHED);

  using other = await Client.connect(pushd.port);
  await other.ask("quit", "BYE");
  await other.eof();
  assert.doesNotMatch(pushd.log(), /s3cret/);
  assert.ok(!pushd.log().includes(token));
});

Deno.test("a token is good for one auth, of one user, and wrong tries use up nothing", async () => {
  await using pushd = await startPushd({ config: { auth: "on", apps: APPS } });
  const token = await tokenFor(pushd, "bob");
  const clients = await Promise.all([1, 2, 3, 4].map(() => Client.connect(pushd.port)));
  await clients[0].ask(`auth alice ${token}`, errorLine("auth-failed"));
  await clients[0].ask(`auth bob ${token.slice(0, -1)}`, errorLine("auth-failed"));
  const replies = await Promise.all(clients.map((client) => client.reply(`auth bob ${token}`)));
  assert.deepEqual(replies.filter((line) => line === "AUTHENTICATED bob").length, 1);
  for (const line of replies) assert.match(line, /^(AUTHENTICATED bob$|ERROR auth-failed )/);
  for (const client of clients) client.close();
});

Deno.test("applications never meet", async () => {
  await using pushd = await startPushd({ config: { auth: "on", apps: APPS } });
  const connect = async (id: string, secret: string) => {
    const client = await Client.connect(pushd.port);
    await client.ask(`auth_server ${id} ${secret}`, `AUTHENTICATED ${id}`);
    return client;
  };
  using one = await connect("a", "one");
  using two = await connect("a:b", "two");
  using user = await Client.connect(pushd.port);
  await one.ask("sub b:c", "SUBSCRIBED b:c");
  await two.ask("sub c", "SUBSCRIBED c");
  await two.ask("sub b:c", "SUBSCRIBED b:c");
  await one.ask("hello 1 json", /^HELLO /);

  const [, token] = await one.ask("gettoken u", tokenLine("u"));
  await user.ask(`auth u ${token}`, "AUTHENTICATED u");
  await user.ask("sub b:c", "SUBSCRIBED b:c");
  const [, ts] = await one.ask("pub c to nobody", PUBLISHED);
  await one.ask("his c 0", /to nobody/);
  await two.ask("his c 0", "HISTORY c []");
  await user.ask("his c 0", new RegExp(`"ts":${ts}`));
  await two.send("pub b:c hers\n");
  const lines = (await two.lines(2)).sort();
  assert.match(lines.join("\n"), /^MESSAGE b:c \d+ hers\nPUBLISHED \d+$/);
  await user.ask("ping", "PONG");

  // Into another application only without a subscription; within one's own at any time.
  const [, foreign] = await two.ask("gettoken u", tokenLine("u"));
  await user.ask(`auth u ${foreign}`, errorLine("not-permitted"));
  const [, again] = await one.ask("gettoken v", tokenLine("v"));
  await user.ask(`auth v ${again}`, "AUTHENTICATED v");
  await user.send("pub b:c mine\n");
  const hers = (await user.lines(2)).sort();
  assert.match(hers.join("\n"), /^MESSAGE b:c \d+ mine\nPUBLISHED \d+$/);
  await one.expect(/"from":"v"/);
  await user.ask("unsub b:c", "UNSUBSCRIBED b:c");
  // The refused try has not used it up.
  await user.ask(`auth u ${foreign}`, "AUTHENTICATED u");
  await user.ask("his c 0", "HISTORY c []");

  // An application's server has no name.
  await one.send("pub b:c mine\n");
  const own = await one.lines(2);
  assert.ok(own.some((line) => line.startsWith("EVENT ") && !line.includes('"from"')));
});

Deno.test("tokens expire, and so many may wait unused", async () => {
  await using pushd = await startPushd({
    config: { token_ttl: "300ms", max_unused_tokens: 2, apps: APPS },
  });
  using client = await Client.connect(pushd.port);
  using server = await Client.connect(pushd.port);
  await server.ask("auth_server chat s3cret", "AUTHENTICATED chat");
  const [, first] = await client.ask("gettoken bob", tokenLine("bob"));
  await client.ask("gettoken bob", tokenLine("bob"));
  await client.ask("gettoken bob", errorLine("too-busy"));
  await server.ask("gettoken bob", tokenLine("bob"));
  // When one is given out again, the first has expired.
  while (!(await client.reply("gettoken eve")).startsWith("TOKEN "));
  await client.ask(`auth bob ${first}`, errorLine("auth-failed"));
});

Deno.test("guessing becomes slow, and a success is never delayed", async () => {
  await using pushd = await startPushd({ config: { auth: "on", apps: APPS } });
  const token = await tokenFor(pushd, "bob");
  using client = await Client.connect(pushd.port);
  using other = await Client.connect(pushd.port);
  const timed = async (request: string, expected: string | RegExp) => {
    const startMs = performance.now();
    await client.ask(request, expected);
    return performance.now() - startMs;
  };
  let firstMs = 0;
  for (let i = 0; i < 5; i++) firstMs += await timed(`auth bob w${i}`, errorLine("auth-failed"));
  assert.ok(firstMs < 1500, `the first five took ${Math.round(firstMs)} ms`);
  assert.ok(await timed("auth_server chat wrong", errorLine("auth-failed")) >= 95);
  // What comes behind it waits for it; others do not.
  const startMs = performance.now();
  await client.send("auth bob wrong\nping\n");
  await other.ask("ping", "PONG");
  assert.ok(performance.now() - startMs < 190);
  await client.expect(errorLine("auth-failed"));
  assert.ok(performance.now() - startMs >= 190);
  await client.expect("PONG");
  assert.ok(await timed(`auth bob ${token}`, "AUTHENTICATED bob") < 390);
});

Deno.test("the time to authenticate is limited", async () => {
  await using pushd = await startPushd({
    config: { auth: "on", apps: APPS, auth_timeout: "500ms" },
  });
  using server = await Client.connect(pushd.port);
  await server.ask("auth_server chat s3cret", "AUTHENTICATED chat");
  using client = await Client.connect(pushd.port);
  const startMs = performance.now();
  await client.ask("ping", "PONG");
  await client.expect(errorLine("need-auth"));
  assert.ok(performance.now() - startMs >= 450);
  await client.eof();
  await server.ask("ping", "PONG");
});
