// Membership by ZooKeeper: every node an ephemeral znode below `/pushd/<cluster>/nodes`.

import type { Logger } from "../core/logger.ts";
import { pause } from "../core/pause.ts";
import { spawn, type Task } from "../core/spawn.ts";
import { Wake } from "../core/wake.ts";
import type { MemberInfo, Membership, MembershipEvents } from "./membership.ts";
import { ZooKeeperClient, ZooKeeperError } from "./zookeeper_client.ts";
import { OwnZnode } from "./zookeeper_own.ts";
import { ServerRing } from "./zookeeper_servers.ts";
import { MemberView } from "./zookeeper_view.ts";
import { pathElement, readZnode, writeZnode } from "./zookeeper_znode.ts";

/** What a {@link ZooKeeperMembership} is made of. */
export interface ZooKeeperOptions {
  /** `host:port` each, at least one. */
  readonly servers: readonly string[];
  /** The name in `/pushd/<cluster>/nodes`. */
  readonly cluster: string;
  /**
   * Asked of ZooKeeper for the session, which may decide otherwise; so long a silence is taken for "down".
   * From 100 ms to a day; what is beyond is taken as that.
   */
  readonly sessionTimeoutMs: number;
  readonly logger: Logger;
  /** How many members are taken at most. */
  readonly maxMembers?: number;
}

/** How many nodes a cluster has at most, where nothing else is said. */
const MAX_MEMBERS = 1000;
const MIN_SESSION_MS = 100;
const MAX_SESSION_MS = 24 * 60 * 60 * 1000;
/** Between two looks at the directory, when nothing is told, at most, ms. */
const MAX_CHECK_MS = 5000;
/** The longest pause between two rounds of trying the servers, ms. */
const MAX_PAUSE_MS = 5000;
/** Between two looks when everything keeps changing, ms. */
const MIN_CHECK_MS = 20;
/** The first pause after a request was refused; it doubles, ms. */
const FIRST_RETRY_MS = 200;
/** How long the farewell of a session that another has replaced may take, ms. */
const LEAVE_MS = 1000;

/**
 * The nodes that are registered in ZooKeeper, and ourselves among them.
 *
 * One round looks after everything: our znode, the list, what is in each. It is run on every connection, when a
 * watch fires, and every few seconds, so that nothing depends on an event that may get lost. What fails is
 * tried again in the next round. A session that ZooKeeper has ended is followed by a new one.
 */
export class ZooKeeperMembership implements Membership {
  readonly isAuthority = true;
  readonly #options: ZooKeeperOptions;
  readonly #log: Logger;
  readonly #wake = new Wake();
  #servers: readonly string[];
  #sessionTimeoutMs: number;
  #ring: ServerRing;
  #client: ZooKeeperClient | undefined;
  #task: Task | undefined;
  #state: "new" | "up" | "down" | "stopped" = "new";
  /** When a round went well the last time. */
  #goodMs = 0;
  /** What was told, to tell changes only. */
  #told = "";
  /** Sessions on servers that were in the list before; aborted when they are to end. */
  readonly #leaving = new Map<AbortController, ZooKeeperClient>();
  #stopping: Promise<void> | undefined;

  /** Throws a RangeError where `servers` is empty, or an entry no `host:port`. */
  constructor(options: ZooKeeperOptions) {
    this.#options = options;
    this.#log = options.logger;
    this.#servers = options.servers;
    this.#sessionTimeoutMs = clampTimeout(options.sessionTimeoutMs);
    this.#ring = this.#newRing();
  }

  get description(): string {
    return `ZooKeeper ${this.#servers.join(",")}`;
  }

  get isUp(): boolean {
    return this.#state === "up";
  }

  start(self: MemberInfo, events: MembershipEvents): void {
    if (this.#task !== undefined || this.#stopping !== undefined) return;
    this.#task = spawn("s2s.zookeeper", (signal) => this.#run(self, events, signal));
  }

  /**
   * Goes over to other servers. Who is known stays known; the session with the old ones ends when there is one
   * with the new ones, or after its timeout. Throws a RangeError as the constructor does, and changes nothing then.
   */
  setServers(servers: readonly string[]): void {
    if (servers.toSorted().join() === this.#servers.toSorted().join()) return;
    const before = this.#servers;
    this.#servers = servers;
    try {
      this.#ring = this.#newRing();
    } catch (error) {
      this.#servers = before;
      throw error;
    }
    this.#wake.set();
  }

  /** Takes up another timeout with a new session, which follows the one there is as in {@link setServers}. */
  setSessionTimeout(sessionTimeoutMs: number): void {
    const timeoutMs = clampTimeout(sessionTimeoutMs);
    if (timeoutMs === this.#sessionTimeoutMs) return;
    this.#sessionTimeoutMs = timeoutMs;
    this.#ring = this.#newRing();
    this.#wake.set();
  }

  stop(timeoutMs: number): Promise<void> {
    return this.#stopping ??= this.#stop(timeoutMs);
  }

  async #stop(timeoutMs: number): Promise<void> {
    this.#state = "stopped";
    this.#task?.stop();
    this.#wake.set();
    const clients = [this.#client, ...this.#leaving.values()];
    for (const leaving of this.#leaving.keys()) leaving.abort();
    await Promise.all(clients.map((client) => client?.close(timeoutMs)));
    await this.#task?.done;
  }

  #newRing(): ServerRing {
    return new ServerRing(this.#servers, {
      // Shorter than what the others wait for us to come back.
      maxPauseMs: Math.min(MAX_PAUSE_MS, this.#sessionTimeoutMs / 4),
    });
  }

  async #run(self: MemberInfo, events: MembershipEvents, signal: AbortSignal): Promise<void> {
    const { cluster, maxMembers = MAX_MEMBERS, logger } = this.#options;
    const path = `/pushd/${pathElement(cluster)}/nodes`;
    const ownName = pathElement(self.id);
    const data = writeZnode(self);
    const own = new OwnZnode(`${path}/${ownName}`, data, logger);
    const view = new MemberView({ path, ownName, maxMembers, logger });
    const canBeRead = this.#checkOwn(ownName, data);
    this.#goodMs = performance.now();

    const round = async (client: ZooKeeperClient) => {
      const state = await own.ensure(client);
      // Whoever removed ours may have removed more.
      if (state === "restored") view.waitForMissing(this.#graceMs(client));
      await view.refresh(client);
      if (canBeRead && state !== "waiting" && !isSame(view.info(ownName), self)) {
        await client.setData(own.path, data);
      }
      if (!signal.aborted) this.#tell(view, events);
    };
    while (!signal.aborted) {
      const client = this.#newClient(view);
      await this.#serve(client, round, () => view.dueMs, signal);
      // Where `stop` is called it says farewell.
      if (!signal.aborted && !client.isOver) this.#leave(client);
      else if (this.#stopping === undefined) client.end();
    }
  }

  /** Keeps one client busy: until its session is over, other servers are named, or we stop. */
  async #serve(
    client: ZooKeeperClient,
    round: (client: ZooKeeperClient) => Promise<void>,
    dueMs: () => number,
    signal: AbortSignal,
  ): Promise<void> {
    const sessionTimeoutMs = this.#sessionTimeoutMs;
    const checkMs = Math.min(MAX_CHECK_MS, sessionTimeoutMs / 3);
    const ring = this.#ring;
    let failures = 0;
    client.connect();
    while (!signal.aborted && !client.isOver && ring === this.#ring) {
      let waitMs = checkMs;
      if (client.isConnected) {
        try {
          await round(client);
          failures = 0;
          if (!signal.aborted) this.#up();
        } catch (error) {
          if (!(error instanceof ZooKeeperError)) throw error;
          this.#log.debug("a round in ZooKeeper has failed", { code: error.code, error });
          waitMs = Math.min(checkMs, FIRST_RETRY_MS * 2 ** Math.min(failures++, 20));
          // It answers, and what it says is not that something has changed meanwhile.
          if (client.isConnected && failures > 1) this.#down(error.message);
        }
      }
      if (performance.now() - this.#goodMs > Math.max(sessionTimeoutMs, 2 * checkMs)) {
        this.#down("no answer");
      }
      await this.#wake.wait(Math.min(waitMs, dueMs() + 1));
      await pause(MIN_CHECK_MS, signal);
    }
  }

  #newClient(view: MemberView): ZooKeeperClient {
    const client: ZooKeeperClient = new ZooKeeperClient(
      { servers: this.#ring, sessionTimeoutMs: this.#sessionTimeoutMs },
      {
        onConnected: () => {
          if (client !== this.#client) return;
          view.renew(this.#graceMs(client));
          this.#wake.set();
        },
        onUnreachable: (reason) => {
          if (client === this.#client) this.#down(reason);
        },
        onChange: (path) => {
          if (client !== this.#client) return;
          view.change(path);
          this.#wake.set();
        },
        onOver: () => {
          if (client !== this.#client) return;
          // Not each time where nothing but that is answered.
          if (this.isUp) this.#log.info("the session in ZooKeeper is over; a new one begins");
          this.#wake.set();
        },
      },
    );
    this.#client = client;
    return client;
  }

  /** How long who is not there is given to register again. */
  #graceMs(client: ZooKeeperClient): number {
    return Math.max(this.#sessionTimeoutMs, client.sessionTimeoutMs);
  }

  /** Lets a session go on until ours with the new servers is registered, which takes its znode over. */
  #leave(client: ZooKeeperClient): void {
    const controller = new AbortController();
    this.#leaving.set(controller, client);
    spawn("s2s.zookeeper.leave", async () => {
      await pause(this.#sessionTimeoutMs, controller.signal);
      await client.close(LEAVE_MS);
      this.#leaving.delete(controller);
    });
  }

  #tell(view: MemberView, events: MembershipEvents): void {
    const members = view.members();
    const text = JSON.stringify(members);
    if (text === this.#told) return;
    this.#told = text;
    events.onMembers(members);
  }

  #up(): void {
    for (const leaving of this.#leaving.keys()) leaving.abort();
    const awayMs = Math.round(performance.now() - this.#goodMs);
    this.#goodMs = performance.now();
    if (this.#state === "up") return;
    const servers = this.#servers.join(",");
    if (this.#state === "down") this.#log.info("ZooKeeper is back", { servers, awayMs });
    else this.#log.info("ZooKeeper is there", { servers });
    this.#state = "up";
  }

  #down(reason: string): void {
    if (this.#state !== "new" && this.#state !== "up") return;
    this.#log.warn("ZooKeeper cannot be used; who is known stays known, and it is tried again", {
      servers: this.#servers.join(","),
      reason,
    });
    this.#state = "down";
  }

  /** Whether the others will be able to read our znode. */
  #checkOwn(name: string, data: Uint8Array): boolean {
    try {
      readZnode(name, data);
      return true;
    } catch (error) {
      this.#log.warn("the other nodes will skip our znode", { error });
      return false;
    }
  }
}

function clampTimeout(sessionTimeoutMs: number): number {
  return Math.round(Math.min(Math.max(sessionTimeoutMs, MIN_SESSION_MS), MAX_SESSION_MS));
}

function isSame(a: MemberInfo | undefined, b: MemberInfo): boolean {
  return a !== undefined && a.id === b.id && a.incarnation === b.incarnation &&
    a.s2sAddr === b.s2sAddr && a.clientAddr === b.clientAddr && a.version === b.version;
}
