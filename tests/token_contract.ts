// What every store for tokens has to keep to, as one suite.

import assert from "node:assert/strict";
import type { TokenStore } from "../src/engine/ports/token_store.ts";
import type { Opened } from "./store_model.ts";

const HOUR_MS = 3_600_000;

/**
 * Registers the suite for one driver. `open` makes a new, empty store, ready for use; so does
 * `reopen` of one that lasts, over what it has kept.
 */
export function tokenStoreContract(name: string, open: () => Promise<Opened<TokenStore>>): void {
  const test = (title: string, run: (store: TokenStore, opened: Opened<TokenStore>) => unknown) =>
    Deno.test(`${name}: tokens: ${title}`, async () => {
      const opened = await open();
      try {
        await run(opened.store, opened);
      } finally {
        await opened.close();
      }
    });

  const token = (hash: string, app = "app", user = "ann", ttlMs = HOUR_MS) => ({
    hash,
    app,
    user,
    ttlMs,
  });

  test("put, find, take", async (store, { reopen }) => {
    assert.equal(await store.find("h1"), undefined);
    assert.equal(await store.take("h1"), false);
    assert.equal(await store.put(token("h1"), 10), true);
    assert.equal(await store.put(token("h2", "app2", "bob"), 10), true);
    assert.equal(await store.put(token("h3"), 10), true);
    assert.deepEqual(await store.find("h1"), { app: "app", user: "ann" });
    assert.deepEqual(await store.find("h1"), { app: "app", user: "ann" });
    assert.deepEqual(await store.find("h2"), { app: "app2", user: "bob" });
    assert.equal(await store.take("h1"), true);
    assert.equal(await store.take("h1"), false);
    assert.equal(await store.find("h1"), undefined);
    assert.deepEqual(await store.find("h2"), { app: "app2", user: "bob" });
    if (reopen === undefined) return;
    const again = await reopen();
    assert.equal(await again.find("h1"), undefined);
    assert.equal(await again.take("h1"), false);
    assert.deepEqual(await again.find("h2"), { app: "app2", user: "bob" });
    assert.equal(await again.take("h3"), true);
  });

  test("of many that take at once, one gets it", async (store) => {
    for (let round = 0; round < 10; round++) {
      await store.put(token(`h${round}`), 1000);
      const taken = await Promise.all(Array.from({ length: 20 }, () => store.take(`h${round}`)));
      assert.equal(taken.filter((one) => one).length, 1);
    }
  });

  test("many at once", async (store) => {
    const hashes = Array.from({ length: 200 }, (_, i) => `h${i}`);
    const kept = await Promise.all(hashes.map((hash) => store.put(token(hash, "app", hash), 1000)));
    assert.ok(kept.every((one) => one));
    const found = await Promise.all(hashes.map((hash) => store.find(hash)));
    assert.deepEqual(found, hashes.map((user) => ({ app: "app", user })));
    assert.ok((await Promise.all(hashes.map((hash) => store.take(hash)))).every((one) => one));
  });

  test("an expired token is not good any more", async (store) => {
    await store.put(token("long"), 10);
    await store.put(token("short", "app", "ann", 150), 10);
    const start = performance.now();
    await until(async () => await store.find("short") === undefined);
    assert.ok(performance.now() - start > 100, "not before its time");
    assert.equal(await store.take("short"), false);
    assert.deepEqual(await store.find("long"), { app: "app", user: "ann" });
    await store.put(token("gone", "app", "ann", 1), 10);
    await until(async () => !await store.take("gone"));
  });

  test("an application holds so many unused tokens and no more", async (store) => {
    for (const hash of ["a", "b", "c"]) assert.equal(await store.put(token(hash), 3), true);
    await until(async () => !await store.put(token("d", "app", "ann", 1), 3));
    assert.equal(
      await store.put(token("e", "other"), 3),
      true,
      "another application is not touched",
    );
    assert.deepEqual(await store.find("a"), { app: "app", user: "ann" });
    assert.equal(await store.take("a"), true);
    await until(() => store.put(token("f"), 3));
    assert.deepEqual(await store.find("f"), { app: "app", user: "ann" });
  });

  test("an expired token makes room", async (store) => {
    assert.equal(await store.put(token("a", "app", "ann", 50), 2), true);
    assert.equal(await store.put(token("b"), 2), true);
    await until(() => store.put(token("c"), 2));
    assert.equal(await store.find("a"), undefined);
    assert.deepEqual(await store.find("b"), { app: "app", user: "ann" });
  });

  test("a refused token is not kept", async (store) => {
    await store.put(token("a"), 1);
    await until(async () => {
      const hash = crypto.randomUUID();
      if (await store.put(token(hash, "app", "ann", 1), 1)) return false;
      assert.equal(await store.find(hash), undefined);
      assert.equal(await store.take(hash), false);
      return true;
    });
  });

  test("any name is an ordinary one", async (store) => {
    const names = ["__proto__", "constructor", "a:b", "a", "é😀\u2028'\""];
    for (const [i, name] of names.entries()) {
      assert.equal(await store.put(token(`h${i}`, name, name), 1), true);
    }
    for (const [i, name] of names.entries()) {
      assert.deepEqual(await store.find(`h${i}`), { app: name, user: name });
      assert.equal(await store.take(`h${i}`), true);
    }
  });
}

/** Waits until `check` holds, for at most ten seconds. */
async function until(check: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!await check()) {
    assert.ok(performance.now() < deadline, "it did not come to that within ten seconds");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
