import assert from "node:assert/strict";
import { getLogger } from "../core/logger.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import type { Stat } from "./zookeeper_client.ts";
import { ZooKeeperError } from "./zookeeper_client.ts";
import { MemberView } from "./zookeeper_view.ts";
import { writeZnode } from "./zookeeper_znode.ts";

const PATH = "/pushd/x/nodes";

/** Znodes in memory, which can fail. */
class Tree {
  readonly nodes = new Map<string, Uint8Array>();
  readonly reads: string[] = [];
  lists = 0;
  version = 0;
  parallel = 0;
  maxParallel = 0;
  /** Reads from now on that succeed; the others fail. */
  left = Infinity;

  put(id: string, s2sAddr = "10.0.0.1:2223"): void {
    this.nodes.set(
      id,
      writeZnode({ id, incarnation: "1", s2sAddr, clientAddr: "", version: "" }),
    );
    this.version++;
  }

  remove(id: string): void {
    this.nodes.delete(id);
    this.version++;
  }

  exists(): Promise<Stat> {
    return Promise.resolve(this.#stat());
  }

  children() {
    this.lists++;
    return Promise.resolve({ names: [...this.nodes.keys()], stat: this.#stat() });
  }

  async data(path: string) {
    const name = path.slice(PATH.length + 1);
    this.reads.push(name);
    this.maxParallel = Math.max(this.maxParallel, ++this.parallel);
    await Promise.resolve();
    this.parallel--;
    if (this.left-- <= 0) throw new ZooKeeperError("connection", "lost for a test");
    const data = this.nodes.get(name);
    if (data === undefined) throw new ZooKeeperError("no-node", "not there");
    return { data, stat: this.#stat() };
  }

  #stat(): Stat {
    return { owner: "0", childrenAt: `${this.version}` };
  }
}

function viewOf(maxMembers = 1000): MemberView {
  const logger = getLogger("s2s.test");
  return new MemberView({ path: PATH, ownName: "own", maxMembers, logger });
}

function ids(view: MemberView): string {
  return view.members().map(({ info }) => info?.id).join(" ");
}

Deno.test("zookeeper view: reads what is new or changed, and nothing else", async () => {
  const [tree, view] = [new Tree(), viewOf()];
  tree.put("b");
  tree.put("a");
  await view.refresh(tree);
  assert.equal(ids(view), "a b");
  assert.deepEqual(view.members()[0].s2sAddr, "10.0.0.1:2223");
  await view.refresh(tree);
  assert.deepEqual([tree.lists, tree.reads.length], [1, 2]);
  // No watch has told of it: the number of the list does.
  tree.put("c");
  await view.refresh(tree);
  assert.deepEqual([tree.lists, tree.reads.length, ids(view)], [2, 3, "a b c"]);
  tree.put("a", "10.0.0.9:1");
  view.change(`${PATH}/a`);
  view.change("/elsewhere");
  view.change(`${PATH}/nobody`);
  await view.refresh(tree);
  assert.deepEqual([tree.reads.at(-1), tree.reads.length], ["a", 4]);
  assert.equal(view.members()[0].s2sAddr, "10.0.0.9:1");
  tree.remove("b");
  await view.refresh(tree);
  assert.equal(ids(view), "a c");
});

Deno.test("zookeeper view: who is gone is kept while it may come back", async () => {
  const [tree, view] = [new Tree(), viewOf()];
  tree.put("a");
  tree.put("b");
  await view.refresh(tree);
  view.renew(60_000);
  tree.remove("a");
  tree.remove("b");
  await view.refresh(tree);
  assert.equal(ids(view), "a b");
  assert.equal(view.info("a"), undefined, "it is known not to be there");
  assert.ok(view.dueMs > 50_000 && view.dueMs <= 60_000);
  tree.put("a", "10.0.0.2:1");
  await view.refresh(tree);
  assert.deepEqual(view.members().map(({ s2sAddr }) => s2sAddr), ["10.0.0.2:1", "10.0.0.1:2223"]);
});

Deno.test("zookeeper view: who does not come back is gone when the time is over", async () => {
  const [tree, view] = [new Tree(), viewOf()];
  tree.put("a");
  tree.put("b");
  await view.refresh(tree);
  view.renew(0);
  tree.remove("a");
  await view.refresh(tree);
  assert.equal(ids(view), "b");
  assert.equal(view.dueMs, Infinity);
});

Deno.test("zookeeper view: what a failure left unread is read the next time", async () => {
  const [tree, view] = [new Tree(), viewOf()];
  for (let i = 0; i < 100; i++) tree.put(`n${i}`);
  tree.left = 40;
  await assert.rejects(view.refresh(tree), ZooKeeperError);
  tree.left = Infinity;
  tree.reads.length = 0;
  await view.refresh(tree);
  assert.equal(view.members().length, 100);
  assert.equal(tree.reads.length, 60);
  assert.ok(tree.maxParallel <= 16, `${tree.maxParallel} at the same time`);
});

Deno.test("zookeeper view: a znode that goes while it is read", async () => {
  const [tree, view] = [new Tree(), viewOf()];
  tree.put("a");
  tree.put("b");
  const children = tree.children.bind(tree);
  tree.children = async () => {
    const list = await children();
    tree.remove("b");
    return list;
  };
  await view.refresh(tree);
  assert.equal(ids(view), "a");
  tree.children = children;
  await view.refresh(tree);
  assert.equal(ids(view), "a");
  assert.equal(tree.lists, 2);
});

Deno.test("zookeeper view: no more than the limit, ours and the known ones first", async () => {
  const [tree, view] = [new Tree(), viewOf(3)];
  for (const id of ["x", "y"]) tree.put(id);
  await view.refresh(tree);
  for (const id of ["b", "a", "own"]) tree.put(id);
  await view.refresh(tree);
  assert.equal(ids(view), "own x y");
  tree.remove("x");
  await view.refresh(tree);
  assert.equal(ids(view), "a own y");
});

Deno.test("zookeeper view: a znode that is none of ours is no member, and may become one", async () => {
  const [tree, view] = [new Tree(), viewOf()];
  tree.put("a");
  tree.nodes.set("bad", encodeUtf8("{}"));
  await view.refresh(tree);
  assert.equal(ids(view), "a");
  tree.put("bad");
  view.change(`${PATH}/bad`);
  await view.refresh(tree);
  assert.equal(ids(view), "a bad");
});
