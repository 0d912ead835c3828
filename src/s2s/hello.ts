// What two nodes say of themselves before they trust each other, and how they prove that they may.

import { Buffer } from "node:buffer";
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import * as z from "zod";
import { FrameBuilder, FrameError, FrameType, type PayloadReader } from "./frame.ts";

/** The version of the frames that this node speaks. */
export const S2S_VERSION = 1;
/** The oldest one that it still understands. */
const MIN_S2S_VERSION = 1;

/** What a node can do beyond the plain delivery of messages; both sides must have it for its use. */
export const CAPABILITIES = ["bloom", "history", "tokens"] as const;

const NONCE_BYTES = 32;

const helloSchema = z.object({
  protocol: z.literal("pushd-s2s"),
  version: z.int().min(1),
  min_version: z.int().min(1),
  cluster: z.string().max(255),
  id: z.string().min(1).max(255),
  /** Microseconds since the epoch at the node's start, and never less than that of an earlier start. */
  incarnation: z.int().min(0),
  nonce: z.base64().length(44),
  capabilities: z.array(z.string().max(64)).max(64),
  s2s_addr: z.string().max(300),
  client_addr: z.string().max(300),
  software: z.string().max(64),
  /** Who the sender believes to speak to; empty when it knows an address only. */
  to: z.string().max(255).default(""),
});

/** What a node says of itself. Further keys are ignored: that is how a later version grows. */
export type Hello = z.infer<typeof helloSchema>;

/** What a node is, for its hellos. */
export interface NodeIdentity {
  readonly cluster: string;
  readonly id: string;
  readonly incarnation: number;
  readonly s2sAddr: string;
  readonly clientAddr: string;
  readonly software: string;
  readonly capabilities: readonly string[];
}

/** Why a peer is not taken. */
export type RefusalCode =
  | "version"
  | "cluster"
  | "node-id"
  | "self"
  | "address"
  | "proof"
  | "linked"
  | "draining"
  | "protocol";

/** A peer is not taken, or does not take us; the message is for a person. */
export class Refusal extends Error {
  override readonly name = "Refusal";

  constructor(readonly code: RefusalCode, message: string, readonly hello?: Hello) {
    super(message);
  }
}

/** A hello with a fresh nonce. */
export function createHello(self: NodeIdentity, to = ""): Hello {
  return {
    protocol: "pushd-s2s",
    version: S2S_VERSION,
    min_version: MIN_S2S_VERSION,
    cluster: self.cluster,
    id: self.id,
    incarnation: self.incarnation,
    nonce: randomBytes(NONCE_BYTES).toString("base64"),
    capabilities: [...self.capabilities],
    s2s_addr: self.s2sAddr,
    client_addr: self.clientAddr,
    software: self.software,
    to,
  };
}

/** Reads a hello. Throws a {@link FrameError} where it is none. */
export function readHello(payload: PayloadReader): Hello {
  const parsed = helloSchema.safeParse(payload.json());
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new FrameError(`not the hello of a node (${issue.path.join(".")}: ${issue.message})`);
}

/** Throws a {@link Refusal} that names what keeps the two nodes from being linked. */
export function checkHello(self: NodeIdentity, other: Hello): void {
  if (other.min_version > S2S_VERSION || other.version < MIN_S2S_VERSION) {
    throw new Refusal(
      "version",
      `it speaks s2s version ${other.min_version} to ${other.version}, ` +
        `this node ${MIN_S2S_VERSION} to ${S2S_VERSION}`,
      other,
    );
  }
  if (other.cluster !== self.cluster) {
    throw new Refusal(
      "cluster",
      `it is a node of the cluster "${other.cluster}", this one of "${self.cluster}"`,
      other,
    );
  }
  if (other.id === self.id) {
    if (other.incarnation === self.incarnation) {
      throw new Refusal("self", "this is the node itself", other);
    }
    throw new Refusal(
      "node-id",
      `another node alive has the same node_id "${self.id}" (its clients come in at ` +
        `${other.client_addr}); give each node its own`,
      other,
    );
  }
  if (other.to !== "" && other.to !== self.id) {
    throw new Refusal("address", `it looks for "${other.to}" here, this is "${self.id}"`, other);
  }
}

/** What both sides have said, as the bytes of the two frames. */
export interface Transcript {
  readonly dialer: Uint8Array;
  readonly acceptor: Uint8Array;
}

/**
 * Proof that one knows the secret and takes part in this very handshake: HMAC-SHA256 over the side
 * one is on and both hellos, each of which holds a nonce. What was recorded, sent back, or meant for
 * somebody else proves nothing.
 */
export function prove(secret: string, side: "dialer" | "acceptor", said: Transcript): Uint8Array {
  return createHmac("sha256", `pushd s2s\0${secret}`)
    .update(`${side}\0`)
    .update(createHash("sha256").update(said.dialer).digest())
    .update(createHash("sha256").update(said.acceptor).digest())
    .digest();
}

/** Whether `proof` is what {@link prove} gives; takes the same time for any wrong one. */
export function isProof(
  proof: Uint8Array,
  secret: string,
  side: "dialer" | "acceptor",
  said: Transcript,
): boolean {
  const right = prove(secret, side, said);
  return proof.length === right.length && timingSafeEqual(Buffer.from(proof), Buffer.from(right));
}

/** A hello as a frame. */
export function helloFrame(
  type: typeof FrameType.hello | typeof FrameType.challenge,
  hello: Hello,
) {
  return new FrameBuilder(type).json(hello).finish();
}
