// Tokens, secrets, and the price of guessing, on a clock of the test's own.

import assert from "node:assert/strict";
import { WireError } from "../proto/errors.ts";
import { MemoryTokens } from "../../tests/memory_stores.ts";
import { Auth, type AuthOptions } from "./auth.ts";

const TTL_MS = 600_000;

function bench(options: Partial<AuthOptions> = {}): { auth: Auth; pass(ms: number): void } {
  let nowMs = 5000;
  const auth = new Auth({
    required: true,
    apps: [{ id: "a", secret: "secret of a" }, { id: "a:b", secret: "é" }],
    tokenTtlMs: TTL_MS,
    maxUnusedTokens: 100,
    tokens: new MemoryTokens(() => nowMs),
    now: () => nowMs,
    ...options,
  });
  return { auth, pass: (ms) => nowMs += ms };
}

/** As `auth` does it: the application, if the token is good; it is then used up. */
async function use(auth: Auth, user: string, token: string): Promise<string | undefined> {
  const app = await auth.find(user, token);
  return app !== undefined && await auth.take(token) ? app : undefined;
}

Deno.test("a token is good for its user, once", async () => {
  const { auth } = bench();
  const token = await auth.issue("a", "ann");
  assert.match(token, /^[A-Za-z0-9_-]{43}$/);
  assert.equal(await auth.find("ann", token), "a");
  assert.equal(await auth.find("ann", token), "a", "finding it uses up nothing");
  assert.equal(await use(auth, "ann", token), "a");
  assert.equal(await use(auth, "ann", token), undefined);
  assert.ok(!await auth.take(token));
});

Deno.test("of two who found it at the same time one gets it", async () => {
  const { auth } = bench();
  const token = await auth.issue("a", "ann");
  const found = [await auth.find("ann", token), await auth.find("ann", token)];
  assert.deepEqual(await Promise.all(found.map(() => auth.take(token))), [true, false]);
});

Deno.test("a wrong user does not use it up, nor does another application", async () => {
  const { auth } = bench();
  const token = await auth.issue("a", "ann");
  for (const user of ["bob", "Ann", "ann ", "", "é", "__proto__"]) {
    assert.equal(await use(auth, user, token), undefined);
  }
  assert.equal(await use(auth, "ann", token), "a");
});

Deno.test("the same user in two applications has two tokens", async () => {
  const { auth } = bench();
  const tokens = await Promise.all(["a", "a:b", "default"].map((app) => auth.issue(app, "b:c")));
  assert.equal(new Set(tokens).size, 3);
  assert.deepEqual(await Promise.all(tokens.map((token) => use(auth, "b:c", token))), [
    "a",
    "a:b",
    "default",
  ]);
});

Deno.test("a token expires", async () => {
  const { auth, pass } = bench();
  const token = await auth.issue("a", "ann");
  pass(TTL_MS - 1);
  assert.equal(await auth.find("ann", token), "a");
  pass(1);
  assert.equal(await auth.find("ann", token), undefined);
});

Deno.test("odd tokens are no tokens and throw nothing", async () => {
  const { auth } = bench();
  const token = await auth.issue("a", "ann");
  const odd = ["", "x", "€", "€".repeat(20_000), "a".repeat(65_536), `${token}=`, token.slice(1)];
  for (const word of [...odd, `${token} `, token.toUpperCase(), "\ud800"]) {
    assert.equal(await use(auth, "ann", word), undefined);
  }
  assert.equal(await use(auth, "ann", token), "a");
});

Deno.test("too many unused tokens: too-busy, in that application alone, until some expire or are used", async () => {
  const { auth, pass } = bench({ maxUnusedTokens: 3 });
  const refused = async () => {
    await assert.rejects(
      () => auth.issue("a", "ann"),
      (error) => error instanceof WireError && error.code === "too-busy",
    );
  };
  const first = await auth.issue("a", "ann");
  pass(1000);
  await auth.issue("a", "ann");
  await auth.issue("a", "bob");
  await refused();
  await auth.issue("a:b", "ann");
  assert.equal(await use(auth, "ann", first), "a");
  await auth.issue("a", "ann");
  await refused();
  pass(TTL_MS - 1);
  await refused();
  pass(1);
  for (let i = 0; i < 3; i++) await auth.issue("a", "ann");
  await refused();
});

Deno.test("secrets", () => {
  const { auth } = bench();
  assert.ok(auth.hasApps);
  assert.ok(auth.checkSecret("a", "secret of a"));
  assert.ok(auth.checkSecret("a:b", "é"));
  for (
    const [id, secret] of [
      ["a", "é"],
      ["a", ""],
      ["a", "secret of a "],
      ["a:b", "e\u0301"],
      ["b", "secret of a"],
      ["", ""],
      ["nowhere", ""],
      ["__proto__", ""],
    ]
  ) assert.ok(!auth.checkSecret(id, secret), `${id} ${secret}`);
  assert.ok(!bench({ apps: [] }).auth.hasApps);
});

Deno.test("five wrong tries a minute are answered at once, then ever more slowly, up to 5 s", () => {
  const { auth, pass } = bench();
  const delays = () => Array.from({ length: 15 }, () => auth.failureDelayMs("192.0.2.1"));
  const expected = [0, 0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000];
  assert.deepEqual(delays(), expected);
  for (let i = 0; i < 2000; i++) auth.failureDelayMs("192.0.2.1");
  assert.equal(auth.failureDelayMs("192.0.2.1"), 5000);
  assert.equal(auth.failureDelayMs("192.0.2.2"), 0, "each address on its own");
  pass(60_000);
  assert.equal(auth.failureDelayMs("192.0.2.1"), 5000);
  pass(1);
  assert.deepEqual(delays(), expected);
});

Deno.test("failures are counted for a /64 of IPv6, whatever address of it is used", () => {
  const { auth } = bench();
  for (let i = 0; i < 5; i++) assert.equal(auth.failureDelayMs(`2001:db8:1:2::${i}`), 0);
  assert.equal(auth.failureDelayMs("2001:db8:1:2:9:9:9:9"), 100);
  assert.equal(auth.failureDelayMs("2001:db8:1:3::1"), 0);
});

Deno.test("applications may change: a token of one that is gone is worth nothing", async () => {
  const { auth } = bench();
  const token = await auth.issue("a", "ann");
  assert.equal(await auth.find("ann", token), "a");
  auth.setLimits({ apps: [{ id: "b", secret: "x" }], tokenTtlMs: 1000, maxUnusedTokens: 1 });
  assert.equal(await auth.find("ann", token), undefined);
  assert.ok(!auth.isKnown("a") && auth.isKnown("b") && auth.isKnown("default"));
  assert.ok(auth.checkSecret("b", "x"));
  await auth.issue("b", "bob");
  await assert.rejects(auth.issue("b", "bob"), /1 tokens wait unused/);
});

Deno.test("no more than so many addresses are remembered, the oldest is forgotten first", () => {
  const { auth } = bench();
  const fail = (address: string) => auth.failureDelayMs(address);
  for (let i = 0; i < 6; i++) fail("first");
  assert.equal(fail("first"), 200);
  for (let i = 0; i < 99_999; i++) fail(`other ${i}`);
  assert.equal(fail("first"), 400);
  fail("one more");
  assert.equal(fail("first"), 0);
});
