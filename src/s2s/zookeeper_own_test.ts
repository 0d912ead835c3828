import assert from "node:assert/strict";
import { getLogger } from "../core/logger.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { type Stat, ZooKeeperError } from "./zookeeper_client.ts";
import { OwnZnode, type Registrar } from "./zookeeper_own.ts";

const PATH = "/pushd/x/nodes/a";

/** A tree of znodes that several sessions see; only what is needed to register. */
class Tree {
  readonly owners = new Map<string, string>();
  readonly done: string[] = [];
  /** Runs before each change, once. */
  before: (() => void) | undefined;

  as(sessionId: string): Registrar {
    return {
      sessionId,
      sessionTimeoutMs: 0,
      exists: (path: string) => Promise.resolve(this.#stat(path)),
      create: (path: string, _data: Uint8Array, kind: "persistent" | "ephemeral") =>
        this.#change(() => {
          const parent = path.slice(0, path.lastIndexOf("/"));
          if (parent !== "" && !this.owners.has(parent)) throw new ZooKeeperError("no-node", path);
          if (this.owners.has(path)) throw new ZooKeeperError("node-exists", path);
          this.owners.set(path, kind === "ephemeral" ? sessionId : "0");
          this.done.push(`create ${path}`);
        }),
      replace: (path: string) =>
        this.#change(() => {
          if (!this.owners.has(path)) throw new ZooKeeperError("no-node", path);
          this.owners.set(path, sessionId);
          this.done.push(`replace ${path}`);
        }),
    };
  }

  #stat(path: string): Stat | null {
    const owner = this.owners.get(path);
    return owner === undefined ? null : { owner, childrenAt: "" };
  }

  async #change(work: () => void): Promise<void> {
    await Promise.resolve();
    const { before } = this;
    this.before = undefined;
    before?.();
    work();
  }
}

function ownZnode(): OwnZnode {
  return new OwnZnode(PATH, encodeUtf8("{}"), getLogger("s2s.test"));
}

Deno.test("own znode: made with what is above it, and held", async () => {
  const [tree, own] = [new Tree(), ownZnode()];
  assert.equal(await own.ensure(tree.as("s1")), "held");
  assert.deepEqual([...tree.owners], [
    ["/pushd", "0"],
    ["/pushd/x", "0"],
    ["/pushd/x/nodes", "0"],
    [PATH, "s1"],
  ]);
  assert.equal(await own.ensure(tree.as("s1")), "held");
  assert.equal(tree.done.length, 4);
});

Deno.test("own znode: restored when it was removed, and the others with it", async () => {
  const [tree, own] = [new Tree(), ownZnode()];
  await own.ensure(tree.as("s1"));
  tree.owners.delete(PATH);
  assert.equal(await own.ensure(tree.as("s1")), "restored");
  tree.owners.clear();
  assert.equal(await own.ensure(tree.as("s1")), "restored");
  assert.equal(tree.owners.get(PATH), "s1");
});

Deno.test("own znode: one of another session is waited for", async () => {
  const [tree, own] = [new Tree(), ownZnode()];
  await ownZnode().ensure(tree.as("stale"));
  assert.equal(await own.ensure(tree.as("s1")), "waiting");
  assert.equal(await own.ensure(tree.as("s1")), "waiting");
  assert.equal(tree.owners.get(PATH), "stale", "it may be a node that lives");
  tree.owners.delete(PATH);
  assert.equal(await own.ensure(tree.as("s1")), "held");
  // A persistent one, made by hand, too.
  tree.owners.set(PATH, "0");
  assert.equal(await own.ensure(tree.as("s1")), "waiting");
});

Deno.test("own znode: what is left of a session of this process is replaced at once", async () => {
  const [tree, own] = [new Tree(), ownZnode()];
  await own.ensure(tree.as("s1"));
  assert.equal(await own.ensure(tree.as("s2")), "held");
  assert.equal(tree.owners.get(PATH), "s2");
  assert.equal(tree.done.at(-1), `replace ${PATH}`);
});

Deno.test("own znode: what comes and goes meanwhile", async () => {
  const [tree, own] = [new Tree(), ownZnode()];
  await own.ensure(tree.as("s1"));
  // The old session ends just before its znode is replaced.
  tree.before = () => tree.owners.delete(PATH);
  assert.equal(await own.ensure(tree.as("s2")), "held");
  assert.equal(tree.owners.get(PATH), "s2");
  // Another one is faster.
  tree.owners.delete(PATH);
  tree.before = () => tree.owners.set(PATH, "other");
  assert.equal(await own.ensure(tree.as("s2")), "waiting");
  // What is above goes, too.
  tree.owners.clear();
  tree.owners.set("/pushd", "0");
  assert.equal(await own.ensure(tree.as("s3")), "held");
});

Deno.test("own znode: other failures are the caller's", async () => {
  const [tree, own] = [new Tree(), ownZnode()];
  tree.before = () => {
    throw new ZooKeeperError("other", "NO_AUTH");
  };
  await assert.rejects(own.ensure(tree.as("s1")), /NO_AUTH/);
});
