// Tests of where a follower resumes, and of what it has had.

import assert from "node:assert/strict";
import { Followed } from "./followed.ts";

const T = 1_700_000_000_000_000;

function message(ts: number, node = "a") {
  return { channel: "c", msg: `${ts}`, ts, node };
}

Deno.test("Followed: it resumes behind the last message on the same node, a second before on another", () => {
  const followed = new Followed("c", undefined);
  followed.begin("a", T);
  assert.equal(followed.request("a", true), `sub c ${T}`);
  assert.equal(followed.request("a", false), "sub c");
  assert.ok(followed.isNew(message(T + 9), "a"));
  assert.ok(followed.isNew(message(T + 5, "b"), "a"), "another node's may come late");
  assert.equal(followed.request("a", true), `sub c ${T + 5}`, "what it got last there");
  assert.equal(followed.request("b", true), `sub c ${T + 9 - 1_000_000}`, "before the newest");
  followed.begin("b", T + 100);
  assert.equal(followed.request("a", true), `sub c ${T + 5}`, "it begins once");
});

Deno.test("Followed: from what the caller said, until something has come", () => {
  const followed = new Followed("c", "0");
  followed.begin("a", T);
  assert.equal(followed.request("a", true), "sub c 0");
  assert.equal(followed.request("b", true), "sub c 0");
  followed.isNew(message(T), "a");
  assert.equal(followed.request("a", true), `sub c ${T}`);
});

Deno.test("Followed: a server that tells no time is followed from its first message on", () => {
  const followed = new Followed("c", undefined);
  followed.begin("a", undefined);
  assert.equal(followed.request("a", true), "sub c");
  followed.isNew(message(T), "a");
  assert.equal(followed.request("a", true), `sub c ${T}`);
});

Deno.test("Followed: each message is new once, by timestamp and node", () => {
  const followed = new Followed("c", undefined);
  assert.ok(followed.isNew(message(T, "a"), "a"));
  assert.ok(followed.isNew(message(T, "b"), "a"));
  assert.ok(!followed.isNew(message(T, "a"), "b"));
  const nameless = { channel: "c", msg: "x", ts: T };
  assert.ok(followed.isNew(nameless, "a"));
  assert.ok(!followed.isNew(nameless, "a"));
  assert.ok(followed.isNew({ ...nameless, msg: "y" }, "a"));
});

Deno.test("Followed: what is long ago is forgotten, and what another node may repeat is not", () => {
  const followed = new Followed("c", undefined);
  const second = 1_000_000;
  for (let s = 0; s < 200; s++) followed.isNew(message(T + s * second), "a");
  assert.ok(!followed.isNew(message(T + 175 * second), "a"));
  assert.ok(followed.isNew(message(T), "a"), "nobody asks that far back");
});
