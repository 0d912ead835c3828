// Nodes that linked peers tell of: so that all find one another, and nobody's part is missing unnoticed.

import * as z from "zod";
import { FrameBuilder, FrameError, FrameType, type PayloadReader } from "./frame.ts";
import type { Member, Membership, MembershipEvents } from "./membership.ts";
import type { Peer } from "./peer.ts";

/** Nodes in one frame, and nodes that are remembered. */
const MAX_NODES = 1000;

const nodeSchema = z.object({
  id: z.string().min(1).max(255),
  s2s_addr: z.string().max(300),
  client_addr: z.string().max(300),
  version: z.string().max(64),
  incarnation: z.string().max(32),
  /** Whether it is linked to who tells of it. */
  is_linked: z.boolean(),
  keeps_history: z.boolean(),
  /** It has left in order, and this was its last timestamp, microseconds. */
  left_ts: z.int().min(0).optional(),
});
const knownSchema = z.object({ nodes: z.array(nodeSchema).max(MAX_NODES) });

/** A node as a peer tells of it. */
export type HeardNode = z.infer<typeof nodeSchema>;

/** The frame that tells of these peers, and of those that are only known from others. */
export function knownFrame(peers: Iterable<Peer>, heard: Iterable<HeardNode>): Uint8Array {
  const nodes: HeardNode[] = [];
  for (const { hello, link, leftTs } of peers) {
    nodes.push({
      id: hello.id,
      s2s_addr: hello.s2s_addr,
      client_addr: hello.client_addr,
      version: hello.software,
      incarnation: String(hello.incarnation),
      is_linked: link !== null,
      keeps_history: hello.capabilities.includes("history"),
      ...(leftTs === undefined ? {} : { left_ts: leftTs }),
    });
  }
  for (const node of heard) nodes.push({ ...node, is_linked: false });
  return new FrameBuilder(FrameType.known).json({ nodes: nodes.slice(0, MAX_NODES) }).finish();
}

/** Reads it. Throws a {@link FrameError} where it is none. */
export function readKnown(payload: PayloadReader): HeardNode[] {
  const parsed = knownSchema.safeParse(payload.json());
  if (!parsed.success) throw new FrameError("a list of nodes that cannot be read");
  return parsed.data.nodes;
}

/** What peers have told of, as a directory of nodes. */
export class HeardOf implements Membership {
  readonly description = "its peers";
  readonly isUp = true;
  readonly isAuthority = false;
  /** By id, the nodes that were told of by anybody, as they were told of last. */
  readonly nodes: Map<string, HeardNode> = new Map();

  /** By who tells of them, those that are linked there. */
  #linked = new Map<string, HeardNode[]>();
  #events: MembershipEvents | undefined;

  start(_self: unknown, events: MembershipEvents): void {
    this.#events = events;
    // Nobody has told of anything, which is an answer, too.
    queueMicrotask(() => this.#tell());
  }

  /** A peer tells of these; `ownId` is among them. */
  hear(teller: string, nodes: readonly HeardNode[], ownId: string): void {
    const others = nodes.filter(({ id }) => id !== ownId);
    for (const node of others) {
      if (this.nodes.size < MAX_NODES || this.nodes.has(node.id)) this.nodes.set(node.id, node);
    }
    this.#linked.set(teller, others.filter(({ is_linked }) => is_linked));
    this.#tell();
  }

  /** The link to a peer is down: what it has told of links is not known any more. */
  forgetTeller(teller: string): void {
    if (this.#linked.delete(teller)) this.#tell();
  }

  #tell(): void {
    const members = new Map<string, Member>();
    for (const node of [...this.#linked.values()].flat()) {
      const { id, s2s_addr: s2sAddr, client_addr: clientAddr, version, incarnation } = node;
      members.set(id, { s2sAddr, info: { id, incarnation, s2sAddr, clientAddr, version } });
    }
    this.#events?.onMembers([...members.values()]);
  }

  stop(): Promise<void> {
    this.#events = undefined;
    return Promise.resolve();
  }
}
