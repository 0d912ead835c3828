// What deno.lock must not hold.

import assert from "node:assert/strict";
import { checkLock } from "./lock.ts";

Deno.test("lock: npm packages are fine, a registry's address and other sources are not", () => {
  const good = { version: "5", npm: { "hono@4.0.0": { integrity: "sha512-x==" } } };
  assert.deepEqual(checkLock(JSON.stringify(good)), []);
  const npm = {
    "hono@4.0.0": { integrity: "sha512-x==", tarball: "https://npm.example/hono.tgz" },
  };
  assert.match(
    checkLock(JSON.stringify({ ...good, npm }))[0],
    /https:\/\/npm\.example\/hono\.tgz;/,
  );
  assert.equal(checkLock(JSON.stringify({ ...good, jsr: {} })).length, 1);
});
