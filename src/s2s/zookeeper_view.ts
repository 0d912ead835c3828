// The members as the znodes tell of them: read when they change, kept while ZooKeeper does not know better.

import { createHash } from "node:crypto";
import type { Logger } from "../core/logger.ts";
import { LogRate } from "../core/log_rate.ts";
import type { Member, MemberInfo } from "./membership.ts";
import { type ZooKeeperClient, ZooKeeperError } from "./zookeeper_client.ts";
import { readZnode, ZnodeFault } from "./zookeeper_znode.ts";

/** Of a client, what reads. */
export type ZnodeReader = Pick<ZooKeeperClient, "exists" | "children" | "data">;

/** How many znodes are read at the same time. */
const MAX_READS = 16;
/** How many complaints are remembered, so that none is made twice. */
const MAX_COMPLAINTS = 1000;

interface Entry {
  /** Undefined where it was not read yet, or is no member. */
  info: MemberInfo | undefined;
  /** It is not in the list any more, and is kept for a while. */
  isMissing: boolean;
}

export interface ViewOptions {
  /** The znode whose children are the members. */
  readonly path: string;
  /** The child that is ours; never left out where there are too many. */
  readonly ownName: string;
  /** How many members are taken; the others are not looked at. */
  readonly maxMembers: number;
  readonly logger: Logger;
}

/** What is below one znode. */
export class MemberView {
  readonly #options: ViewOptions;
  readonly #entries = new Map<string, Entry>();
  /** Names to be read, again or for the first time. */
  readonly #unread = new Set<string>();
  readonly #complaints = new Set<string>();
  readonly #crowded = new LogRate(60_000);
  #isListed = false;
  #childrenAt = "";
  #graceEndMs = -Infinity;

  constructor(options: ViewOptions) {
    this.#options = options;
  }

  /**
   * On a new connection: no watch is left, so everything is read again. Who is not found stays a member for
   * `graceMs`: after ZooKeeper was away, the sessions of all may be over, and each registers again when it
   * gets to it.
   */
  renew(graceMs: number): void {
    this.#isListed = false;
    for (const name of this.#entries.keys()) this.#unread.add(name);
    this.waitForMissing(graceMs);
  }

  /** Who vanishes in the next `graceMs` stays a member until then. */
  waitForMissing(graceMs: number): void {
    this.#graceEndMs = Math.max(this.#graceEndMs, performance.now() + graceMs);
  }

  /** A watch has fired for this path. */
  change(path: string): void {
    const { path: parent } = this.#options;
    if (path === parent) this.#isListed = false;
    else if (path.startsWith(`${parent}/`)) {
      const name = path.slice(parent.length + 1);
      if (this.#entries.has(name)) this.#unread.add(name);
    }
  }

  /** When {@link refresh} has to be called again although nothing changed, in ms from now. */
  get dueMs(): number {
    const waits = [...this.#entries.values()].some(({ isMissing }) => isMissing);
    return waits ? Math.max(this.#graceEndMs - performance.now(), 0) : Infinity;
  }

  /**
   * Reads what has changed. Rejects with a ZooKeeperError where that fails; what was not read is then read the
   * next time, and {@link members} may be half of one state and half of another until then.
   */
  async refresh(client: ZnodeReader): Promise<void> {
    const { path } = this.#options;
    // A watch may have got lost; the number that changes with the list is cheap to ask for.
    const stat = this.#isListed ? await client.exists(path, false) : null;
    if (stat === null || stat.childrenAt !== this.#childrenAt) {
      const { names, stat } = await client.children(path);
      this.#isListed = true;
      this.#childrenAt = stat.childrenAt;
      this.#take(names);
    } else {
      this.#forgetMissing();
    }
    await this.#readAll(client);
  }

  /** What is known of a znode. */
  info(name: string): MemberInfo | undefined {
    const entry = this.#entries.get(name);
    return entry?.isMissing === false ? entry.info : undefined;
  }

  /** All that are known, in the order of their names. */
  members(): Member[] {
    return [...this.#entries]
      .sort(([a], [b]) => a < b ? -1 : 1)
      .flatMap(([, { info }]) => info === undefined ? [] : [{ s2sAddr: info.s2sAddr, info }]);
  }

  /** Takes a list of names as the present one. */
  #take(listed: readonly string[]): void {
    const names = new Set(this.#choose(listed));
    for (const [name, entry] of this.#entries) {
      if (!names.has(name)) {
        entry.isMissing = true;
        this.#unread.delete(name);
      }
    }
    for (const name of names) {
      const entry = this.#entries.get(name);
      if (entry?.isMissing === false) continue;
      this.#entries.set(name, { info: entry?.info, isMissing: false });
      this.#unread.add(name);
    }
    this.#forgetMissing();
  }

  #forgetMissing(): void {
    const isGrace = performance.now() < this.#graceEndMs;
    for (const [name, { info, isMissing }] of this.#entries) {
      if (isMissing && (!isGrace || info === undefined)) this.#entries.delete(name);
    }
  }

  /** As many names as are taken: ours, then those that are known, then the others by the alphabet. */
  #choose(names: readonly string[]): readonly string[] {
    const { maxMembers, ownName, path, logger } = this.#options;
    if (names.length <= maxMembers) return names;
    const line = this.#crowded.next();
    if (line !== null) {
      logger.warn("too many znodes for one cluster; not all are looked at", {
        path,
        znodes: names.length,
        limit: maxMembers,
      });
    }
    const rank = (name: string) => name === ownName ? 0 : this.#entries.has(name) ? 1 : 2;
    return names.toSorted((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1)).slice(0, maxMembers);
  }

  async #readAll(client: ZnodeReader): Promise<void> {
    let failure: unknown;
    const read = async () => {
      for (const name of this.#unread) {
        if (failure !== undefined) return;
        // First, so that a change that is told while it is read is not missed.
        this.#unread.delete(name);
        try {
          await this.#read(client, name);
        } catch (error) {
          this.#unread.add(name);
          failure = error;
        }
      }
    };
    await Promise.all(Array.from({ length: MAX_READS }, read));
    if (failure !== undefined) throw failure;
  }

  async #read(client: ZnodeReader, name: string): Promise<void> {
    const path = `${this.#options.path}/${name}`;
    let data: Uint8Array;
    try {
      ({ data } = await client.data(path));
    } catch (error) {
      if (!(error instanceof ZooKeeperError && error.code === "no-node")) throw error;
      // Gone since it was listed; the list will say so.
      this.#isListed = false;
      return;
    }
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    try {
      entry.info = readZnode(name, data);
    } catch (error) {
      if (!(error instanceof ZnodeFault)) throw error;
      entry.info = undefined;
      this.#complain(path, data, error.message);
    }
  }

  /** Says what is wrong with a znode, once for the same content. */
  #complain(path: string, data: Uint8Array, reason: string): void {
    const key = `${createHash("sha256").update(data).digest("base64")} ${path}`;
    if (this.#complaints.has(key)) return;
    const [oldest] = this.#complaints;
    if (this.#complaints.size >= MAX_COMPLAINTS) this.#complaints.delete(oldest);
    this.#complaints.add(key);
    this.#options.logger.warn("a znode is skipped: it is not what a node writes", { path, reason });
  }
}
