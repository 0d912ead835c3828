// Membership by a real ZooKeeper, through what happens to it and to those who register in it.

import assert from "node:assert/strict";
import { getAvailablePort } from "@std/net";
import { pathElement, writeZnode } from "../src/s2s/zookeeper_znode.ts";
import { processReason } from "./process.ts";
import { requireZooKeeper, startEnsemble, startZooKeeper } from "./zookeeper.ts";
import { Admin, infoOf, MemberProcess, NODES, until, Watched } from "./zookeeper_world.ts";

const zookeeper = requireZooKeeper();
/** Beside ZooKeeper itself, /proc is needed to see that a process has stopped. */
const reason = zookeeper.reason || processReason;

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `zookeeper: ${name}${reason}`, ignore: reason !== "", fn });
}

/** The incarnation in a znode, and its session. */
async function lookAt(admin: Admin, id: string): Promise<{ incarnation: string; owner: string }> {
  const found = await admin.get(`${NODES}/${id}`);
  if (found === null) return { incarnation: "", owner: "" };
  return { incarnation: JSON.parse(found.text).incarnation, owner: found.owner };
}

test("nodes find one another, and see who comes, changes and goes", async () => {
  await using server = await startZooKeeper();
  const strange = "ü/%20 .. \u{1f600}";
  await using a = new Watched(infoOf("a"), [server.addr]);
  await using b = new Watched(infoOf("."), [server.addr]);
  await a.untilIds("a .");
  await using c = new Watched(infoOf("c:2222"), [server.addr]);
  for (const watched of [a, b, c]) {
    await watched.untilIds("a . c:2222");
    await watched.untilUp(true);
  }
  const [, , member] = a.told.at(-1) ?? [];
  assert.deepEqual(member, { s2sAddr: c.info.s2sAddr, info: c.info });

  await using admin = await Admin.connect(server.addr);
  const path = `${NODES}/${pathElement(strange)}`;
  const bytes = writeZnode(infoOf(strange));
  await admin.create(path, bytes);
  await until("a to see a strange name", () => a.ids.includes(strange));
  await admin.set(path, new TextDecoder().decode(bytes).replace(":2223", ":9999"));
  await until(
    "b to see the change",
    () => b.told.at(-1)?.some(({ s2sAddr }) => s2sAddr === "127.0.0.1:9999") === true,
  );
  await admin.remove(path);
  await a.untilIds("a . c:2222");

  // What somebody writes over ours is written over.
  await admin.set(`${NODES}/a`, "{}");
  await until(
    "a to restore what it says",
    async () => (await lookAt(admin, "a")).incarnation === "1",
  );

  await c.membership.stop(1000);
  assert.equal(await admin.get(`${NODES}/c:2222`), null, "it takes its znode out");
  await a.untilIds("a .");
  const told = c.told.length;
  await b.membership.stop(1000);
  await a.untilIds("a");
  assert.equal(c.told.length, told, "nothing is told after the stop");
  assert.equal(c.membership.isUp, false);
});

test("an ensemble loses a server, then all of them", async () => {
  await using ensemble = await startEnsemble();
  const { servers, addrs } = ensemble;
  await using a = new Watched(infoOf("a"), addrs);
  await using b = new Watched(infoOf("b"), addrs);
  await using c = new Watched(infoOf("c"), addrs);
  const all = [a, b, c];
  for (const watched of all) await watched.untilIds("a b c");
  const told = all.map((watched) => watched.told.length);

  // One after the other: whoever is connected to it goes over to another.
  for (const server of servers) {
    await server.kill();
    const other = servers[(servers.indexOf(server) + 1) % 3];
    await using admin = await Admin.connect(other.addr);
    await until("all to be up and registered without it", async () => {
      const owners = await Promise.all(all.map(({ info }) => lookAt(admin, info.id)));
      return all.every(({ membership }) => membership.isUp) &&
        owners.every(({ owner }) => owner !== "");
    });
    await server.restart();
  }

  await Promise.all(servers.map((server) => server.kill()));
  for (const watched of all) await watched.untilUp(false);
  await Promise.all(servers.map((server) => server.restart()));
  for (const watched of all) await watched.untilUp(true);
  // Longer than any session of before: what is there then is of a living one.
  const upMs = performance.now();
  await using admin = await Admin.connect(addrs[0]);
  await until("sessions of before to be over", () => performance.now() - upMs > 2500);
  for (const { info } of all) assert.equal((await lookAt(admin, info.id)).incarnation, "1");
  assert.deepEqual(all.map((watched) => watched.told.length), told, "nobody was ever missed");
});

test("it is stopped, and goes on", async () => {
  await using server = await startZooKeeper();
  const options = { sessionTimeoutMs: 1000 };
  await using a = new Watched(infoOf("a"), [server.addr], options);
  await using b = new Watched(infoOf("b"), [server.addr], options);
  await a.untilIds("a b");
  await b.untilIds("a b");
  server.pause();
  const startMs = performance.now();
  await a.untilUp(false);
  await b.untilUp(false);
  const noticedMs = performance.now() - startMs;
  assert.ok(noticedMs < 2500, `noticed after ${noticedMs} ms of 1000`);
  await until("every session to be over", () => performance.now() - startMs > 2500);
  assert.equal(a.logged(/cannot be used/, "warning").length, 1, "one line");
  server.resume();
  await a.untilUp(true);
  await b.untilUp(true);
  const [back] = a.logged(/is back/);
  const awayMs = Number(back.properties.awayMs);
  assert.ok(awayMs > 2000 && awayMs < 2500 + 15_000, `away for ${awayMs} ms`);
  await using admin = await Admin.connect(server.addr);
  await until(
    "both to be registered again",
    async () => (await lookAt(admin, "a")).owner !== "" && (await lookAt(admin, "b")).owner !== "",
  );
  assert.equal(a.ids, "a b");
  assert.deepEqual([a.told.length, b.told.length].map((told) => told <= 2), [true, true]);
});

test("a stop is bounded while it is stopped", async () => {
  await using server = await startZooKeeper();
  await using a = new Watched(infoOf("a"), [server.addr]);
  await a.untilIds("a");
  server.pause();
  const startMs = performance.now();
  await Promise.all([a.membership.stop(300), a.membership.stop(300)]);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 1500, `${tookMs} ms for 300`);
});

test("a node that was frozen longer than its session comes back", async () => {
  await using server = await startZooKeeper();
  await using a = new Watched(infoOf("a"), [server.addr]);
  await using admin = await Admin.connect(server.addr);
  const member = { id: "b", incarnation: "1", servers: [server.addr], sessionTimeoutMs: 1000 };
  await using child = await MemberProcess.start([member]);
  await a.untilIds("a b");
  const before = await lookAt(admin, "b");
  child.kill("SIGSTOP");
  await a.untilIds("a");
  child.kill("SIGCONT");
  await a.untilIds("a b");
  const after = await lookAt(admin, "b");
  assert.notEqual(after.owner, before.owner);
  const { code, errors } = await child.end("SIGTERM");
  assert.deepEqual({ code, errors }, { code: 0, errors: "" });
  await a.untilIds("a");
});

test("a node that was killed is started at once", async () => {
  await using server = await startZooKeeper();
  await using a = new Watched(infoOf("a"), [server.addr]);
  await using admin = await Admin.connect(server.addr);
  const member = { id: "b", incarnation: "1", servers: [server.addr], sessionTimeoutMs: 2500 };
  {
    await using child = await MemberProcess.start([member]);
    await a.untilIds("a b");
    await child.end("SIGKILL");
  }
  const before = await lookAt(admin, "b");
  assert.equal(before.incarnation, "1");
  await using child = await MemberProcess.start([{ ...member, incarnation: "2" }]);
  // It sees what is left of its run before, and reports it like any other.
  await child.untilLine("a@1 b@1");
  await child.untilLine("a@1 b@2");
  const after = await lookAt(admin, "b");
  assert.equal(after.incarnation, "2");
  assert.notEqual(after.owner, before.owner);
  await until("a to see who it is", () => a.told.at(-1)?.[1]?.info?.incarnation === "2");
  await child.end("SIGTERM");
});

test("two nodes with one id: the second waits, and sees the first", async () => {
  await using server = await startZooKeeper();
  const options = { sessionTimeoutMs: 500 };
  await using first = new Watched(infoOf("a", "1"), [server.addr], options);
  await first.untilIds("a");
  await using second = new Watched(infoOf("a", "2"), [server.addr], options);
  await second.untilIds("a");
  assert.equal(second.told.at(-1)?.[0].info?.incarnation, "1");
  await until(
    "the second to complain",
    () => second.logged(/another session keeps the znode/, "warning").length === 1,
  );
  await first.membership.stop(1000);
  await until(
    "the second to register",
    () => second.told.at(-1)?.[0]?.info?.incarnation === "2",
  );
});

test("znodes deleted by hand, and a ZooKeeper that comes back empty", async () => {
  await using server = await startZooKeeper();
  await using a = new Watched(infoOf("a"), [server.addr]);
  await using b = new Watched(infoOf("b"), [server.addr]);
  await a.untilIds("a b");
  await b.untilIds("a b");
  {
    await using admin = await Admin.connect(server.addr);
    const startMs = performance.now();
    await admin.remove(`${NODES}/a`);
    await until("a to register again", async () => (await lookAt(admin, "a")).owner !== "");
    assert.ok(performance.now() - startMs < 10_000);
    await until("a to say so", () => a.logged(/was gone/, "warning").length === 1);
    await b.untilIds("a b");
  }
  const told = [a, b].map((watched) => watched.told.length);
  await server.kill();
  await server.wipe();
  await a.untilUp(false);
  await server.restart();
  const startMs = performance.now();
  await a.untilUp(true);
  await b.untilUp(true);
  await using admin = await Admin.connect(server.addr);
  for (const id of ["a", "b"]) assert.notEqual((await lookAt(admin, id)).owner, "");
  assert.ok(performance.now() - startMs < 10_000);
  assert.deepEqual([a, b].map((watched) => watched.told.length), told, "nobody was missed");
});

test("who does not come back after it came back empty is gone after a while", async () => {
  await using server = await startZooKeeper();
  await using a = new Watched(infoOf("a"), [server.addr], { sessionTimeoutMs: 1000 });
  const b = new Watched(infoOf("b"), [server.addr]);
  await a.untilIds("a b");
  await server.kill();
  await b.membership.stop(0);
  await server.wipe();
  await server.restart();
  await a.untilUp(true);
  const upMs = performance.now();
  assert.equal(a.ids, "a b");
  await a.untilIds("a");
  const waitedMs = performance.now() - upMs;
  assert.ok(waitedMs > 500, `${waitedMs} ms of 1000`);
});

test("it is not there at the start", async () => {
  await using server = await startZooKeeper();
  await server.kill();
  await using a = new Watched(infoOf("a"), [server.addr]);
  await until("a to say so", () => a.logged(/cannot be used/, "warning").length === 1);
  assert.equal(a.membership.isUp, false);
  assert.equal(a.told.length, 0);
  await server.restart();
  await a.untilUp(true);
  assert.equal(a.ids, "a");
});

test("other servers are named in a reload", async () => {
  await using one = await startZooKeeper();
  await using two = await startZooKeeper();
  await using a = new Watched(infoOf("a"), [one.addr]);
  await using b = new Watched(infoOf("b"), [one.addr]);
  await a.untilIds("a b");
  await using adminOne = await Admin.connect(one.addr);
  await using adminTwo = await Admin.connect(two.addr);
  const before = await lookAt(adminOne, "a");
  a.membership.setServers([one.addr]);
  assert.throws(() => a.membership.setServers([]), /no ZooKeeper server/);
  assert.throws(() => a.membership.setServers(["nonsense"]), /is no host:port/);
  assert.equal(a.membership.description, `ZooKeeper ${one.addr}`);

  // The same ZooKeeper by another name as well: the znode is taken over, nobody sees it gone.
  const told = b.told.length;
  a.membership.setServers([one.addr, `localhost:${one.addr.split(":")[1]}`]);
  await until(
    "a to have another session",
    async () => ![before.owner, ""].includes((await lookAt(adminOne, "a")).owner),
  );
  assert.equal(b.told.length, told);

  // Another timeout needs another session as well.
  const second = await lookAt(adminOne, "a");
  a.membership.setSessionTimeout(3000);
  await until(
    "a to have a third session",
    async () => ![before.owner, second.owner, ""].includes((await lookAt(adminOne, "a")).owner),
  );
  assert.equal(b.told.length, told);

  // Another one, where b is not.
  a.membership.setServers([two.addr]);
  await until("a to be there", async () => (await lookAt(adminTwo, "a")).owner !== "");
  assert.equal(a.ids, "a b", "b has time to follow");
  await b.untilIds("b");
  b.membership.setServers([two.addr]);
  await until("b to be there, too", async () => (await lookAt(adminTwo, "b")).owner !== "");
  await b.untilIds("a b");
  assert.ok(a.told.every((members) => members.length === 2), "b was never missed");

  // One that is not there: who is known stays known.
  a.membership.setServers([`127.0.0.1:${getAvailablePort()}`]);
  await a.untilUp(false);
  // Nor does this one, and what is looked up is let go.
  a.membership.setServers(["no-such-host.invalid:2181"]);
  await a.membership.stop(1000);
  assert.equal(a.ids, "a b");
});

test("znodes that are none of ours are skipped, and each is named once", async () => {
  await using server = await startZooKeeper();
  await using a = new Watched(infoOf("a"), [server.addr]);
  await a.untilIds("a");
  await using admin = await Admin.connect(server.addr);
  const good = JSON.parse(new TextDecoder().decode(writeZnode(infoOf("x"))));
  const bad: Record<string, string | Uint8Array> = {
    "empty": "",
    "text": "hello",
    "bytes": Uint8Array.of(0xff, 0xfe, 0),
    "null": "null",
    "list": "[]",
    "lacks": JSON.stringify({ id: "lacks" }),
    "number": JSON.stringify({ ...good, id: 5 }),
    "other": JSON.stringify(good),
    "no-port": JSON.stringify({ ...good, id: "no-port", s2s_addr: "10.0.0.1" }),
    "everywhere": JSON.stringify({ ...good, id: "everywhere", s2s_addr: "0.0.0.0:2223" }),
    "url": JSON.stringify({ ...good, id: "url", s2s_addr: "http://10.0.0.1:2223" }),
    "large": JSON.stringify({ ...good, id: "large", more: "x".repeat(70_000) }),
  };
  for (const [name, data] of Object.entries(bad)) await admin.create(`${NODES}/${name}`, data);
  // Further keys are a later version's.
  await admin.create(`${NODES}/x`, JSON.stringify({ ...good, zone: "eu" }));
  await a.untilIds("a x");
  await until(
    "each to be named",
    () => a.logged(/is skipped/, "warning").length === Object.keys(bad).length,
  );
  // A new connection reads all of it again.
  await server.kill();
  await a.untilUp(false);
  await server.restart();
  await a.untilUp(true);
  assert.equal(a.logged(/is skipped/, "warning").length, Object.keys(bad).length);
  const paths = a.logged(/is skipped/).map(({ properties }) => properties.path).sort();
  assert.deepEqual(paths, Object.keys(bad).map((name) => `${NODES}/${name}`).sort());
  // What is bad in another way is worth another line.
  const admin2 = await Admin.connect(server.addr);
  await admin2.set(`${NODES}/text`, "good bye");
  await until(
    "it to be named again",
    () => a.logged(/is skipped/, "warning").length === Object.keys(bad).length + 1,
  );
  await admin2[Symbol.asyncDispose]();
  assert.equal(a.ids, "a x");
});
