// This node among the others: its door for them, who is to be linked, and who is.

import { Acceptor } from "../core/acceptor.ts";
import { closeQuietly } from "../core/close_quietly.ts";
import { isLoopback } from "../core/host_check.ts";
import { splitHostPort } from "../core/host_port.ts";
import { getLogger } from "../core/logger.ts";
import { spawn } from "../core/spawn.ts";
import { dial, type WireTls } from "./dial.ts";
import { Dialer, type DialerHost } from "./dialer.ts";
import { answer, greet, type Greeted, HANDSHAKE_MS, probe } from "./handshake.ts";
import { type Hello, type NodeIdentity, Refusal } from "./hello.ts";
import { LinkFailures } from "./link_failures.ts";
import type { Member, MemberInfo, Membership } from "./membership.ts";
import { type NodeView, viewOfAddress, viewOfHeard, viewOfPeer, viewOfSelf } from "./node_view.ts";
import type { Peer } from "./peer.ts";
import type { ClusterRouter } from "./router.ts";

/** Connections that may be under way to a handshake's end; more are closed at once. */
const MAX_GREETING = 64;
/** Nodes that are linked at most. */
const MAX_PEERS = 1000;
/** How long a start waits to see whether another node alive has our id, ms. */
const START_CHECK_MS = 3000;
/** How long a directory that is not used any more may take for its end, ms. */
const LEAVE_MS = 1000;

/** Another node alive has our id. */
export class DuplicateNodeError extends Error {
  override readonly name = "DuplicateNodeError";
}

/** Settings of a {@link Cluster}. */
export interface ClusterSettings {
  readonly self: NodeIdentity;
  readonly secret: string;
  readonly router: ClusterRouter;
  readonly listener: Deno.TcpListener;
  readonly tls: WireTls | null;
  /** Who tells which nodes there are. */
  readonly memberships: readonly Membership[];
}

const log = getLogger("s2s");

/** The links of a node, and how they come about. */
export class Cluster implements DialerHost {
  /** Links that ended because the peer sent what no node sends. */
  nonsense = 0;

  #options: ClusterSettings;
  #memberships: Set<Membership>;
  /** Those that have never said who there is. */
  #untold: Set<Membership> = new Set();
  #acceptor: Acceptor<Deno.TcpConn>;
  #dialers = new Map<string, Dialer>();
  #members = new Map<Membership, readonly Member[]>();
  #greeting = 0;
  /** Whether it is known that nobody else has our id, so that links are made. */
  #isLinking = false;
  #startLinking: () => void = () => {};
  readonly #linking: Promise<void> = new Promise((resolve) => this.#startLinking = resolve);
  #isStopping = false;
  readonly #startedMs = Date.now();
  #failures = new LinkFailures();

  constructor(options: ClusterSettings) {
    this.#options = options;
    this.#memberships = new Set(options.memberships);
    this.#acceptor = new Acceptor(options.listener, log);
  }

  /** Connections that were no node's of this cluster. */
  get refused(): number {
    return this.#failures.refused;
  }

  get self(): NodeIdentity {
    return this.#options.self;
  }

  /**
   * Looks for the others, opens the door and links. Resolves when those that are known have been tried
   * once, or after a few seconds. Rejects with a {@link DuplicateNodeError}.
   */
  async start(): Promise<void> {
    // Who asks who is here gets an answer from the start on, and a link later.
    spawn("s2s.accept", () => this.#acceptor.run((conn) => this.#accept(conn)));
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, START_CHECK_MS));
    const told = [...this.#memberships].map((membership) => this.#look(membership));
    await Promise.race([Promise.all(told), late]);
    // Before there is a link: one to a double would end that of the node whose name it has.
    await Promise.race([this.#checkUnique(), late]);
    this.#isLinking = true;
    this.#startLinking();
    this.#fitDialers();
    const firsts = [...this.#dialers.values()].map(({ first }) => first);
    await Promise.race([Promise.all(firsts), late]);
    clearTimeout(timer);
  }

  /** Asks at every address that is known who is there. */
  async #checkUnique(): Promise<void> {
    const members = [...this.#members.values()].flat();
    const addrs = new Set(
      members.filter(({ info }) => info === undefined || !isSame(info, this.self))
        .map(({ s2sAddr }) => s2sAddr),
    );
    await Promise.all([...addrs].map(async (addr) => {
      const hello = await this.#probe(addr).catch(() => null);
      const { id, cluster, incarnation } = this.self;
      if (hello === null || hello.id !== id || hello.cluster !== cluster) return;
      if (hello.incarnation === incarnation) return;
      throw new DuplicateNodeError(
        `a node with the same node_id "${id}" is alive at ${addr} (its clients come in at ` +
          `${hello.client_addr}); give each node its own`,
      );
    }));
  }

  async #probe(addr: string): Promise<Hello> {
    const wire = await dial(addr, this.#options.tls);
    const deadline = setTimeout(() => closeQuietly(wire), HANDSHAKE_MS);
    try {
      return await probe(wire, { self: this.self });
    } finally {
      clearTimeout(deadline);
      closeQuietly(wire);
    }
  }

  /** Leaves: no new links, the present ones end behind what is on its way; at most about `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    for (const dialer of this.#dialers.values()) dialer.stop();
    this.#acceptor.close();
    await Promise.all([
      this.#options.router.leave(timeoutMs),
      ...[...this.#memberships].map((membership) => membership.stop(Math.min(timeoutMs, LEAVE_MS))),
    ]);
  }

  /** For the log: who tells which nodes there are. */
  get directories(): string[] {
    return [...this.#memberships].map(({ description }) => description);
  }

  /** Another directory, after a reload. */
  add(membership: Membership): void {
    this.#memberships.add(membership);
    spawn("s2s.look", () => this.#look(membership));
  }

  /** A directory is not to be used any more: who is linked stays linked. */
  remove(membership: Membership): void {
    this.#memberships.delete(membership);
    this.#untold.delete(membership);
    this.#onMembers(membership, []);
    spawn("s2s.leave", () => membership.stop(LEAVE_MS));
  }

  /** Begins to look into a directory; resolves when it has told who there is. */
  #look(membership: Membership): Promise<void> {
    this.#untold.add(membership);
    return new Promise((resolve) =>
      membership.start(infoOf(this.self), {
        onMembers: (members) => {
          this.#untold.delete(membership);
          if (this.#memberships.has(membership)) this.#onMembers(membership, members);
          resolve();
        },
      })
    );
  }

  // ---- who there is ----------------------------------------------------------------------------

  #onMembers(membership: Membership, members: readonly Member[]): void {
    if (this.#isStopping) return;
    const before = this.#namesOf(membership);
    this.#members.set(membership, members);
    const now = this.#namesOf(membership);
    const joined = [...now].filter((name) => !before.has(name));
    const left = [...before].filter((name) => !now.has(name));
    // What peers tell changes with each link of theirs.
    const isNews = membership !== this.#options.router.heardOf;
    if (isNews && joined.length > 0) {
      log.info("nodes are named", { by: membership.description, nodes: joined });
    }
    if (isNews && left.length > 0) {
      log.info("nodes are named no more", { by: membership.description, nodes: left });
    }
    this.#fitDialers();
  }

  #namesOf(membership: Membership): Set<string> {
    return new Set(
      (this.#members.get(membership) ?? []).map(({ s2sAddr, info }) => info?.id ?? s2sAddr),
    );
  }

  /** One dialer for each address; who is listed by address is not dialled at another one, too. */
  #fitDialers(): void {
    if (!this.#isLinking) return;
    const wanted = new Map<string, string | undefined>();
    const all = [...this.#members.values()].flat();
    for (const { s2sAddr, info } of all) if (info === undefined) wanted.set(s2sAddr, undefined);
    const listedIds = new Set(
      [...wanted.keys()].map((addr) => this.#dialers.get(addr)?.id),
    );
    for (const { s2sAddr, info } of all) {
      if (info === undefined || isSame(info, this.self)) continue;
      if (wanted.has(s2sAddr) || listedIds.has(info.id)) continue;
      wanted.set(s2sAddr, info.id);
    }
    for (const [addr, dialer] of this.#dialers) {
      if (wanted.has(addr)) continue;
      dialer.stop();
      this.#dialers.delete(addr);
      this.#failures.forget(addr);
    }
    for (const [addr, id] of wanted) {
      if (!this.#dialers.has(addr)) this.#dialers.set(addr, new Dialer(addr, id, this));
    }
  }

  /** Names of members that were never linked since the start, and are not ourselves. */
  neverLinked(): string[] {
    return [...this.#dialers.values()]
      .filter((dialer) => !this.#isOwn(dialer) && this.#peerAt(dialer) === undefined)
      .map(({ id, addr }) => id ?? addr)
      .concat([...this.#untold].map(({ description }) => `the nodes in ${description}`));
  }

  #isOwn({ isSelf, addr, id }: Dialer): boolean {
    return isSelf || addr === this.self.s2sAddr || id === this.self.id;
  }

  /** Who is known to live at a dialer's address; it may have dialled us. */
  #peerAt({ id, addr }: Dialer): Peer | undefined {
    const { peers } = this.#options.router;
    if (id !== undefined) return peers.get(id);
    return [...peers.values()].find(({ hello }) => hello.s2s_addr === addr);
  }

  // ---- coming in ---------------------------------------------------------------------------------

  #accept(conn: Deno.TcpConn): void {
    const { hostname, port } = conn.remoteAddr;
    if (this.#greeting >= MAX_GREETING || this.#isStopping) {
      closeQuietly(conn);
      this.#failures.onRefused(
        `${hostname}:${port}`,
        new Error(`${MAX_GREETING} others are being greeted`),
      );
      return;
    }
    spawn("s2s.answer", async () => {
      this.#greeting++;
      const deadline = setTimeout(() => closeQuietly(conn), HANDSHAKE_MS);
      try {
        conn.setNoDelay(true);
        const { self, secret, tls } = this.#options;
        const wire = tls === null ? conn : await tls.accept(conn);
        const greeted = await answer(wire, { self, secret }, (hello) => this.#checkCaller(hello));
        this.#up(greeted, `${hostname}:${port}`);
      } catch (error) {
        closeQuietly(conn);
        this.#failures.onRefused(`${hostname}:${port}`, error);
      } finally {
        clearTimeout(deadline);
        this.#greeting--;
        this.#acceptor.roomAgain();
      }
    });
  }

  /** Whether somebody who has proved itself is taken. Rejects with a {@link Refusal} where not. */
  async #checkCaller(hello: Hello): Promise<void> {
    await this.#linking;
    if (this.#isStopping) throw new Refusal("draining", "this node is stopping", hello);
    this.#checkIncarnation(hello);
    const { peers } = this.#options.router;
    if (!peers.has(hello.id) && peers.size >= MAX_PEERS) {
      throw new Refusal("draining", `${MAX_PEERS} nodes are known here; no more are taken`, hello);
    }
    // Both have dialled at once: the one of the smaller id goes on.
    if (this.self.id < hello.id && this.#isGreeting(hello)) {
      throw new Refusal("linked", "this node is connecting to it already", hello);
    }
  }

  #isGreeting({ id, s2s_addr }: Hello): boolean {
    return [...this.#dialers.values()].some((dialer) =>
      dialer.isGreeting && (dialer.id === id || dialer.addr === s2s_addr)
    );
  }

  #checkIncarnation(hello: Hello): void {
    const link = this.#options.router.peers.get(hello.id)?.link ?? null;
    if (link === null || link.hello.incarnation <= hello.incarnation) return;
    throw new Refusal(
      "node-id",
      `a node with its id "${hello.id}" that was started later is linked already ` +
        `(${link.hello.s2s_addr}); give each node its own`,
      hello,
    );
  }

  // ---- going out ---------------------------------------------------------------------------------

  isLinked(id: string): boolean {
    return this.#options.router.peers.get(id)?.link?.isOpen ?? false;
  }

  async connect(dialer: Dialer): Promise<void> {
    const { self, secret } = this.#options;
    // A directory may name any address, and an empty secret is known to everybody.
    if (secret === "" && !isLoopback(splitHostPort(dialer.addr).hostname)) {
      throw new Error("s2s_secret is empty, and this address is not on loopback");
    }
    const wire = await dial(dialer.addr, this.#options.tls);
    const deadline = setTimeout(() => closeQuietly(wire), HANDSHAKE_MS);
    dialer.isGreeting = true;
    try {
      // A name is not expected: another node may have moved to the address.
      const greeted = await greet(wire, { self, secret }, "", (hello) => {
        dialer.id = hello.id;
        this.#checkIncarnation(hello);
        // Where a node is named twice, one of the two dialers is enough.
        if (this.isLinked(hello.id) || this.#isProving(hello.id)) {
          throw new Refusal("linked", "it is linked already", hello);
        }
        dialer.isProving = true;
      });
      if (this.#isStopping) throw new Error("this node is stopping");
      this.#up(greeted, dialer.addr);
    } catch (error) {
      closeQuietly(wire);
      if (error instanceof Refusal && error.code === "self") {
        dialer.isSelf = true;
        return;
      }
      throw error;
    } finally {
      clearTimeout(deadline);
      dialer.isGreeting = dialer.isProving = false;
    }
  }

  #isProving(id: string): boolean {
    return [...this.#dialers.values()].some((dialer) => dialer.isProving && dialer.id === id);
  }

  onFailed(dialer: Dialer, error: unknown, isNew: boolean): void {
    this.#failures.onNotLinked(dialer, error, isNew);
  }

  // ---- links -------------------------------------------------------------------------------------

  #up(greeted: Greeted, remote: string): void {
    const { hello, isDialer } = greeted;
    const { router } = this.#options;
    const before = router.peers.get(hello.id);
    const isAnother = before !== undefined && before.hello.incarnation !== hello.incarnation;
    const waiting = before?.outbox.waitingBytes ?? 0;
    router.linkUp(greeted);
    log.info("linked", {
      peer: hello.id,
      addr: remote,
      by: isDialer ? "this node has dialled" : "it has dialled",
      version: hello.software,
      ...(isAnother ? { restarted: true } : {}),
      ...(waiting > 0 && !isAnother ? { replay_bytes: waiting } : {}),
    });
    if (this.#keepsApart(hello)) {
      log.error(
        "of this node and the peer one keeps history and tokens in MongoDB, the other by itself: each " +
          "answers without the other's, and does not say PARTIAL; give all nodes the same msg_storage",
        { peer: hello.id },
      );
    }
    for (const dialer of this.#dialers.values()) dialer.wake();
  }

  /** Whether one of the two has the store of all, and the other its own: who shares one asks for no tokens. */
  #keepsApart({ capabilities }: Hello): boolean {
    const own = this.self.capabilities;
    return own.includes("history") && capabilities.includes("history") &&
      own.includes("tokens") !== capabilities.includes("tokens");
  }

  /** A link has ended. */
  onLinkDown(peer: Peer, reason: string, sentNonsense: boolean): void {
    const fields = { peer: peer.id, reason };
    if (this.#isStopping) return;
    if (sentNonsense) {
      this.nonsense++;
      for (const dialer of this.#dialers.values()) {
        if (this.#peerAt(dialer) === peer) dialer.onNonsense();
      }
    }
    if (peer.leftTs !== undefined) log.info("a node has left", fields);
    else log.warn("a link is down; what is for it is kept for a while", fields);
    for (const dialer of this.#dialers.values()) dialer.wake();
  }

  /** Number of links. */
  get links(): number {
    let count = 0;
    for (const { link } of this.#options.router.peers.values()) if (link !== null) count++;
    return count;
  }

  /** Whether a node that is named is not linked. */
  get isShort(): boolean {
    return this.nodes().some(({ state }) => state !== "up");
  }

  /** Whether every directory works. */
  get isDirectoryUp(): boolean {
    return [...this.#memberships].every(({ isUp }) => isUp);
  }

  /** Ourselves, who is linked, and who is named and is not. */
  nodes(): NodeView[] {
    const { self } = this;
    const { router } = this.#options;
    const { peers } = router;
    const views = [viewOfSelf(self, this.#startedMs)];
    const dialers = [...this.#dialers.values()];
    for (const peer of peers.values()) {
      const dialer = dialers.find((other) => this.#peerAt(other) === peer);
      if (peer.link === null && dialer === undefined && !this.#isMissed(peer)) continue;
      views.push(viewOfPeer(peer, dialer));
    }
    for (const dialer of dialers) {
      if (this.#isOwn(dialer) || this.#peerAt(dialer) !== undefined) continue;
      views.push(viewOfAddress(dialer));
    }
    for (const node of router.heardOf.nodes.values()) {
      const isKnown = peers.has(node.id) || dialers.some(({ id }) => id === node.id);
      if (!isKnown && node.left_ts === undefined && !this.#hasDirectory) {
        views.push(viewOfHeard(node));
      }
    }
    return views;
  }

  /** Whether a node that is down and not named is to be shown: where nothing says that it is gone. */
  #isMissed(peer: Peer): boolean {
    return peer.leftTs === undefined && !this.#hasDirectory;
  }

  /** Whether something beside lists and hearsay says which nodes there are. */
  get #hasDirectory(): boolean {
    return [...this.#memberships].some((membership) => membership.isAuthority);
  }
}

function infoOf(self: NodeIdentity): MemberInfo {
  return {
    id: self.id,
    incarnation: String(self.incarnation),
    s2sAddr: self.s2sAddr,
    clientAddr: self.clientAddr,
    version: self.software,
  };
}

function isSame(info: MemberInfo, self: NodeIdentity): boolean {
  return info.id === self.id && info.incarnation === String(self.incarnation);
}
