// Several applications on one server that use the same names: their messages, tokens and rights never meet.

import assert from "node:assert/strict";
import { APPS, Life, PAIRS, type TestApp, wrongWord } from "./apps_life.ts";
import { checkQuiet, type Follower, World } from "./apps_world.ts";
import { errorLine } from "./harness.ts";
import { STORES } from "./stores.ts";

const FAILED = errorLine("auth-failed");
const REFUSED = errorLine("not-permitted");
const PUBLISHED = /^PUBLISHED (\d{16})$/;
const TOKEN = /^TOKEN /;

const RACERS = 200;
/** How long a token is good in a server's first life, and in its second. */
const LONG_TTL_MS = 3_600_000;
const SHORT_TTL_MS = 1000;
/** Timers, and the clocks of two processes, differ by less, ms. */
const TOLERANCE_MS = 50;
/** On a busy machine an answer can be late by itself, but not every time. */
const ATTEMPTS = 8;

for (const store of STORES) {
  const lasts = store.name !== "memory";
  Deno.test({
    name: `applications with the same names never meet, ${store.name}${store.reason}`,
    ignore: store.ignore,
    async fn(t) {
      await using place = await store.open();
      const world = new World();
      let kept: KeptTokens[] = [];
      {
        await using life = await Life.start(place.config, LONG_TTL_MS);
        await firstLife(t, life, world);
        kept = await keepTokens(life);
        await life.stopAndCheckLog();
      }
      if (!lasts) world.forget();
      // So little fits into the cache that most of the history is read from the store.
      const cache = lasts ? { max_cache_msgs_every_channel: 2 } : {};
      await using life = await Life.start({ ...place.config, ...cache }, SHORT_TTL_MS);
      await secondLife(t, life, world);
      const good = lasts ? "are as good as before" : "are gone";
      await t.step(`after a restart, tokens ${good}`, () => checkTokens(life, world, kept, lasts));
      await t.step("after a restart, /s/stat shows no secret", () => life.checkStatistics());
      await life.stopAndCheckLog();
    },
  });
}

async function firstLife(t: Deno.TestContext, life: Life, world: World): Promise<void> {
  const connect = (app: TestApp) => life.user(app, "ann");
  const followers: Follower[] = [];
  await t.step("live delivery", async () => {
    followers.push(...await world.follow(connect));
    const round = await world.publishAsUsers(life, "first");
    await round.checkDelivered(followers);
  });
  await t.step("his", () => world.checkHistories(life));
  await t.step("sub 0, and live behind it", async () => {
    followers.push(...await world.followFromStart(connect));
    const round = await world.publishAsUsers(life, "second");
    await round.checkDelivered(followers);
    await world.checkHistories(life);
  });
  await t.step("a token leads into the application that asked for it", () => landing(life, world));
  await t.step("a secret is good for its own application", () => foreignSecrets(life));
  await t.step("wrong tries use up nothing, a right one uses the token up", () => usingUp(life));
  await t.step(`of ${RACERS} with one token, one gets in`, () => race(life, world));
  await t.step("a user gets no tokens", () => tokensForServersOnly(life));
  await t.step("into another application only without subscriptions", () => moving(life, world));
  await t.step("before authentication", () => beforeAuthentication(life));
  await t.step("guessing becomes slow, a success is never delayed", () => guessing(life));
  await t.step("a refusal does not tell what was wrong", () => {
    const said = life.refusals();
    assert.deepEqual([...said.keys()].sort(), ["auth", "auth_server"]);
    for (const lines of said.values()) assert.equal(lines.size, 1, [...lines].join("\n"));
  });
  await t.step("/s/stat shows no secret", () => life.checkStatistics());
  await t.step("who follows the channels has got none of this", () => checkQuiet(followers));
}

async function secondLife(t: Deno.TestContext, life: Life, world: World): Promise<void> {
  // Tokens expire too soon here for a machine that is busy.
  const connect = (app: TestApp) => life.newServer(app);
  await t.step("after a restart: his and sub 0, and live behind it", async () => {
    // All at once, and before anything has been read into the cache.
    const [followers] = await Promise.all([
      world.followFromStart(connect),
      world.checkHistories(life),
    ]);
    followers.push(...await world.follow(connect));
    const round = await world.publishAsServers(life, "third");
    await round.checkDelivered(followers);
    await world.checkHistories(life);
  });
  await t.step("a token expires, not sooner and not later", () => expiry(life));
}

/** A token of one application does nothing for a user of another, and leads into its own. */
async function landing(life: Life, world: World): Promise<void> {
  for (const [own, other] of PAIRS) {
    const stranger = await life.stranger();
    await stranger.ask(`auth bob ${await life.token(other, "bob")}`, "AUTHENTICATED bob");
    await world.checkHistory(stranger, other);
    const token = await life.token(own, "ann");
    await stranger.ask(`auth bob ${token}`, FAILED);
    await world.checkHistory(stranger, other);
    await stranger.ask(`auth ann ${token}`, "AUTHENTICATED ann");
    await world.checkHistory(stranger, own);
  }
}

async function foreignSecrets(life: Life): Promise<void> {
  for (const [own, other] of PAIRS) {
    const stranger = await life.stranger();
    await stranger.ask(`auth_server ${own.id} ${other.secret}`, FAILED);
    await stranger.ask(`auth_server ${own.id} ${wrongWord()}`, FAILED);
    await stranger.ask(`auth ${own.id} ${own.secret}`, FAILED);
    await stranger.ask("his c 0", errorLine("need-auth"));
    await stranger.ask(`auth_server ${own.id} ${own.secret}`, `AUTHENTICATED ${own.id}`);
  }
  const stranger = await life.stranger();
  for (const id of ["default", "constructor", "A", "b", "a:"]) {
    await stranger.ask(`auth_server ${id} ${APPS[0].secret}`, FAILED);
  }
}

async function usingUp(life: Life): Promise<void> {
  for (const app of APPS) {
    const token = await life.token(app, "ann");
    const stranger = await life.stranger();
    for (const user of ["Ann", "b:ann", "__proto__"]) {
      await stranger.ask(`auth ${user} ${token}`, FAILED);
    }
    await stranger.ask(`auth ann ${token.slice(0, -1)}`, FAILED);
    await stranger.ask(`auth ann ${token}`, "AUTHENTICATED ann");
    const late = await life.stranger();
    await late.ask(`auth ann ${token}`, FAILED);
    await late.ask("his c 0", errorLine("need-auth"));
    // Who is in already stays so, but it is used up for that one, too.
    await stranger.ask(`auth ann ${token}`, FAILED);
    await stranger.ask("his nothing 0", "HISTORY nothing []");
  }
}

async function race(life: Life, world: World): Promise<void> {
  const app = APPS[1];
  const racers = await Promise.all(Array.from({ length: RACERS }, () => life.stranger()));
  const token = await life.token(app, "ann");
  const replies = await Promise.all(racers.map((racer) => racer.reply(`auth ann ${token}`)));
  const winners = racers.filter((_, i) => replies[i] === "AUTHENTICATED ann");
  assert.equal(winners.length, 1);
  for (const line of replies) if (line !== "AUTHENTICATED ann") assert.match(line, FAILED);
  for (const racer of racers) {
    if (racer === winners[0]) await world.checkHistory(racer, app);
    else await racer.ask("his c 0", errorLine("need-auth"));
  }
}

async function tokensForServersOnly(life: Life): Promise<void> {
  const { id, secret } = APPS[0];
  const client = await life.user(APPS[0], "ann");
  for (const user of ["ann", "eve"]) await client.ask(`gettoken ${user}`, REFUSED);
  // One that becomes a server may, and has no name; as a user again it may not.
  await client.ask(`auth_server ${id} ${secret}`, `AUTHENTICATED ${id}`);
  await client.ask("gettoken eve", TOKEN);
  const [, ts] = await client.ask("pub nameless x", PUBLISHED);
  const [, json] = await client.ask("his nameless 0", /^HISTORY nameless (.*)$/);
  const message = { channel: "nameless", msg: "x", ts: Number(ts), node: "n1" };
  assert.deepEqual(JSON.parse(json), [message]);
  await client.ask(`auth eve ${await life.token(APPS[0], "eve")}`, "AUTHENTICATED eve");
  await client.ask("gettoken eve", REFUSED);
}

async function moving(life: Life, world: World): Promise<void> {
  for (const [own, other] of PAIRS) {
    const client = await life.user(own, "ann");
    await client.ask("sub moving", "SUBSCRIBED moving");
    const token = await life.token(other, "ann");
    const enterAsServer = `auth_server ${other.id} ${other.secret}`;
    await client.ask(`auth ann ${token}`, REFUSED);
    await client.ask(enterAsServer, REFUSED);
    // Nothing has changed, and within its own application it may.
    await client.ask(`auth bob ${await life.token(own, "bob")}`, "AUTHENTICATED bob");
    await world.checkHistory(client, own);
    const [server, otherServer] = [await life.server(own), await life.server(other)];
    await otherServer.ask("pub moving theirs", PUBLISHED);
    const [, ts] = await server.ask("pub moving ours", PUBLISHED);
    await client.expect(`MESSAGE moving ${ts} ours`);

    await client.ask("unsub moving", "UNSUBSCRIBED moving");
    // The refused try has not used it up.
    await client.ask(`auth ann ${token}`, "AUTHENTICATED ann");
    await world.checkHistory(client, other);
    await client.ask("sub moving", "SUBSCRIBED moving");
    await server.ask("pub moving ours again", PUBLISHED);
    const [, otherTs] = await otherServer.ask("pub moving theirs again", PUBLISHED);
    await client.expect(`MESSAGE moving ${otherTs} theirs again`);
    await client.ask("ping", "PONG");
    await client.ask(enterAsServer, `AUTHENTICATED ${other.id}`);
  }
}

async function beforeAuthentication(life: Life): Promise<void> {
  const before = await life.published();
  const stranger = await life.stranger();
  const served: [request: string, reply: string | RegExp][] = [
    ["hello 1", /^HELLO 1 \{/],
    ["ping", "PONG"],
    ["help", /^HELP /],
    [`auth ann ${wrongWord()}`, FAILED],
    [`auth_server a ${wrongWord()}`, FAILED],
  ];
  const refused = [
    "sub c",
    "sub c 0",
    "unsub c",
    "pub c intruder",
    "PUB c intruder",
    "his c 0",
    "his c 0 1",
    "gettoken ann",
  ];
  for (const [request, reply] of served) {
    await stranger.ask(request, reply);
    // A try that failed has not opened anything either.
    for (const one of refused) await stranger.ask(one, errorLine("need-auth"));
  }
  assert.equal(await life.published(), before);
  const client = await life.connect();
  await client.ask("quit", "BYE");
  await client.eof();
}

/** How long answers took, ms. */
interface Times {
  /** The slowest of the first five wrong tries. */
  five: number;
  sixth: number;
  seventh: number;
  /** A success from the same address while the seventh was held back. */
  meanwhile: number;
  /** A success right behind it. */
  success: number;
  /** A first wrong try from another address. */
  elsewhere: number;
}

async function guessing(life: Life): Promise<void> {
  // Late by itself is any answer at times; early is none, ever.
  const least: Partial<Times> = { sixth: 100, seventh: 200 };
  const below: Times = {
    five: 100,
    sixth: 200,
    seventh: 400,
    meanwhile: 200,
    success: 400,
    elsewhere: 100,
  };
  const keys = Object.keys(below) as (keyof Times)[];
  const best = { ...below };
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const times = await timeGuesses(life);
    for (const key of keys) {
      assert.ok(times[key] > (least[key] ?? 0) - 5, `${key}: ${times[key]} ms`);
      best[key] = Math.min(best[key], times[key]);
    }
    if (keys.every((key) => best[key] < below[key] - 5)) return;
  }
  assert.fail(
    `ms, at best: ${JSON.stringify(best)}; each was to be below ${JSON.stringify(below)}`,
  );
}

async function timeGuesses(life: Life): Promise<Times> {
  const [app] = APPS;
  const tokens = await life.tokens(app, ["ann", "ann"]);
  // The address counts, not the connection, and every kind of try.
  const one = await life.stranger();
  const two = await life.stranger(one.address);
  const other = await life.stranger();
  const timed = async (asking: Promise<void>) => {
    const startMs = performance.now();
    await asking;
    return performance.now() - startMs;
  };
  const asUser = () => `auth ann ${wrongWord()}`;
  const asServer = () => `auth_server ${app.id} ${wrongWord()}`;
  const five: number[] = [];
  for (let i = 0; i < 5; i++) {
    const guess = i % 2 === 0 ? one.ask(asUser(), FAILED) : two.ask(asServer(), FAILED);
    five.push(await timed(guess));
  }
  const sixth = await timed(two.ask(asUser(), FAILED));
  const [seventh, meanwhile, elsewhere] = await Promise.all([
    timed(one.ask(asServer(), FAILED)),
    timed(two.ask(`auth ann ${tokens[0]}`, "AUTHENTICATED ann")),
    timed(other.ask(asUser(), FAILED)),
  ]);
  const success = await timed(one.ask(`auth ann ${tokens[1]}`, "AUTHENTICATED ann"));
  return { five: Math.max(...five), sixth, seventh, meanwhile, success, elsewhere };
}

async function expiry(life: Life): Promise<void> {
  const [own, other] = PAIRS[0];
  const stranger = await life.stranger();
  await stranger.ask(`auth_server ${other.id} ${other.secret}`, `AUTHENTICATED ${other.id}`);
  // One who may not move for now is told whether the token is good, and does not use it up.
  await stranger.ask("sub elsewhere", "SUBSCRIBED elsewhere");
  const askedMs = performance.now();
  const token = await life.token(own, "ann");
  const givenMs = performance.now();
  while (true) {
    const sentMs = performance.now();
    const line = await stranger.reply(`auth ann ${token}`);
    if (FAILED.test(line)) break;
    assert.match(line, REFUSED);
    const ageMs = sentMs - givenMs;
    assert.ok(ageMs < SHORT_TTL_MS + TOLERANCE_MS, `still good after ${Math.round(ageMs)} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const ageMs = performance.now() - askedMs;
  assert.ok(ageMs > SHORT_TTL_MS - TOLERANCE_MS, `refused after ${Math.round(ageMs)} ms`);
  await (await life.stranger()).ask(`auth ann ${token}`, FAILED);
}

/** Tokens of before a restart. */
interface KeptTokens {
  app: TestApp;
  used: string;
  unused: string;
}

async function keepTokens(life: Life): Promise<KeptTokens[]> {
  const kept: KeptTokens[] = [];
  for (const app of APPS) {
    const [used, unused] = await life.tokens(app, ["ann", "ann"]);
    await (await life.stranger()).ask(`auth ann ${used}`, "AUTHENTICATED ann");
    kept.push({ app, used, unused });
  }
  return kept;
}

async function checkTokens(
  life: Life,
  world: World,
  kept: readonly KeptTokens[],
  lasts: boolean,
): Promise<void> {
  for (const { app, used, unused } of kept) {
    const stranger = await life.stranger();
    await stranger.ask(`auth ann ${used}`, FAILED);
    await stranger.ask(`auth bob ${unused}`, FAILED);
    await stranger.ask(`auth ann ${unused}`, lasts ? "AUTHENTICATED ann" : FAILED);
    if (lasts) await world.checkHistory(stranger, app);
    await (await life.stranger()).ask(`auth ann ${unused}`, FAILED);
  }
}
