import assert from "node:assert/strict";
import type { Member } from "./membership.ts";
import { StaticMembership } from "./static_membership.ts";

const SELF = { id: "a", incarnation: "1", s2sAddr: "h:1", clientAddr: "h:2", version: "0" };

function watch(peers: string[]) {
  const told: (readonly Member[])[] = [];
  const membership = new StaticMembership(peers);
  const start = () => membership.start(SELF, { onMembers: (members) => told.push(members) });
  return { membership, told, start };
}

Deno.test("static membership: the list is told once, after the start", async () => {
  const { membership, told, start } = watch(["b:1", "c:1", "b:1"]);
  assert.equal(membership.isUp, true);
  start();
  start();
  assert.deepEqual(told, []);
  await Promise.resolve();
  assert.deepEqual(told, [[{ s2sAddr: "b:1" }, { s2sAddr: "c:1" }]]);
  assert.equal(membership.description, "s2s_peers b:1,c:1");
});

Deno.test("static membership: a reload tells what is new, also that nobody is left", async () => {
  const { membership, told, start } = watch(["b:1", "c:1"]);
  membership.setPeers(["b:1"]);
  await Promise.resolve();
  assert.deepEqual(told, [], "nothing before the start");
  start();
  await Promise.resolve();
  assert.deepEqual(told, [[{ s2sAddr: "b:1" }]]);
  membership.setPeers(["b:1", "b:1"]);
  await Promise.resolve();
  assert.equal(told.length, 1, "the same list is not told again");
  membership.setPeers(["d:1"]);
  membership.setPeers([]);
  await Promise.resolve();
  assert.deepEqual(told.slice(1), [[]], "once a turn, as it is in the end");
});

Deno.test("static membership: nothing is told after the stop", async () => {
  const { membership, told, start } = watch(["b:1"]);
  start();
  await membership.stop(0);
  await membership.stop(0);
  membership.setPeers(["c:1"]);
  await Promise.resolve();
  assert.deepEqual(told, []);
});
