// The first frames of a link: who is there, whether both know the secret, whether they want each other.

import { writeAll } from "../core/write_all.ts";
import {
  FrameBuilder,
  FrameError,
  FrameReader,
  FrameType,
  MAX_FRAME_BYTES,
  PayloadReader,
} from "./frame.ts";
import {
  checkHello,
  createHello,
  type Hello,
  helloFrame,
  isProof,
  type NodeIdentity,
  prove,
  readHello,
  Refusal,
  type RefusalCode,
  S2S_VERSION,
} from "./hello.ts";

/** A handshake takes no longer, ms. */
export const HANDSHAKE_MS = 5000;

/** A connection to a node; TCP, or TLS over it. */
export interface Wire {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
}

/** A connection whose two ends have proved themselves. */
export interface Greeted {
  readonly wire: Wire;
  /** What was read behind the handshake. */
  readonly reader: FrameReader;
  readonly hello: Hello;
  /** The version that both speak. */
  readonly version: number;
  /** Whether this node has dialled. */
  readonly isDialer: boolean;
}

/** What both sides of a handshake know. */
export interface HandshakeOptions {
  readonly self: NodeIdentity;
  readonly secret: string;
}

/**
 * Dials: hello →, ← challenge, proof →, ← proof. Rejects with a {@link Refusal} from either side, a
 * {@link FrameError}, or what the connection rejects with; the caller closes it.
 *
 * `onChallenge` sees who is there before anything is proved, and may throw a Refusal.
 */
export async function greet(
  wire: Wire,
  { self, secret }: HandshakeOptions,
  to: string,
  onChallenge: (hello: Hello) => void,
): Promise<Greeted> {
  const reader = new FrameReader();
  const dialer = helloFrame(FrameType.hello, createHello(self, to));
  await writeAll(wire, dialer);
  const challenge = await expect(wire, reader, FrameType.challenge);
  const hello = readHello(challenge.payload);
  try {
    checkHello(self, hello);
    onChallenge(hello);
  } catch (error) {
    throw await refuse(wire, error);
  }
  const said = { dialer, acceptor: challenge.bytes };
  await writeAll(
    wire,
    new FrameBuilder(FrameType.auth).bytes(prove(secret, "dialer", said)).finish(),
  );
  const welcome = await expect(wire, reader, FrameType.welcome);
  if (!isProof(welcome.payload.rest(), secret, "acceptor", said)) {
    throw new Refusal("proof", "the two nodes do not have the same s2s_secret", hello);
  }
  reader.maxBytes = MAX_FRAME_BYTES;
  return { wire, reader, hello, version: Math.min(S2S_VERSION, hello.version), isDialer: true };
}

/**
 * Answers a dialer. `onProved` has the last word, and may throw a {@link Refusal}; the dialer is told
 * of every refusal. Rejects as {@link greet} does.
 */
export async function answer(
  wire: Wire,
  { self, secret }: HandshakeOptions,
  onProved: (hello: Hello) => void | Promise<void>,
): Promise<Greeted> {
  const reader = new FrameReader();
  const first = await expect(wire, reader, FrameType.hello);
  const hello = readHello(first.payload);
  try {
    checkHello(self, hello);
  } catch (error) {
    // Who speaks to itself, or to its double, has to learn whom it has reached.
    if (error instanceof Refusal && (error.code === "self" || error.code === "node-id")) {
      await writeAll(wire, helloFrame(FrameType.challenge, createHello(self, "")));
    }
    throw await refuse(wire, error);
  }
  const acceptor = helloFrame(FrameType.challenge, createHello(self, hello.id));
  await writeAll(wire, acceptor);
  const said = { dialer: first.bytes, acceptor };
  const auth = await expect(wire, reader, FrameType.auth);
  try {
    if (!isProof(auth.payload.rest(), secret, "dialer", said)) {
      throw new Refusal("proof", "the two nodes do not have the same s2s_secret", hello);
    }
    await onProved(hello);
  } catch (error) {
    throw await refuse(wire, error);
  }
  await writeAll(
    wire,
    new FrameBuilder(FrameType.welcome).bytes(prove(secret, "acceptor", said)).finish(),
  );
  reader.maxBytes = MAX_FRAME_BYTES;
  return { wire, reader, hello, version: Math.min(S2S_VERSION, hello.version), isDialer: false };
}

/** Tells the other side, if it still listens; returns the error. */
async function refuse(wire: Wire, error: unknown): Promise<unknown> {
  if (error instanceof Refusal) {
    const { code, message } = error;
    const frame = new FrameBuilder(FrameType.refuse).json({ code, message }).finish();
    await writeAll(wire, frame).catch(() => {});
  }
  return error;
}

/**
 * Asks who is at the other end, and hangs up: nothing is proved on either side. Rejects as
 * {@link greet} does; the caller closes the connection.
 */
export async function probe(wire: Wire, { self }: Pick<HandshakeOptions, "self">): Promise<Hello> {
  const reader = new FrameReader();
  await writeAll(wire, helloFrame(FrameType.hello, createHello(self)));
  const challenge = await expect(wire, reader, FrameType.challenge);
  const hello = readHello(challenge.payload);
  await refuse(wire, new Refusal("linked", "it only wanted to know who is there"));
  return hello;
}

interface Received {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly payload: PayloadReader;
}

/** The next frame, which has to be of this type. */
async function expect(wire: Wire, reader: FrameReader, type: number): Promise<Received> {
  while (true) {
    const before = reader.pending;
    const frame = reader.next();
    if (frame === undefined) {
      const count = await wire.read(reader.room(1024));
      if (count === null) throw new FrameError("it hung up");
      reader.filled(count);
      continue;
    }
    const length = before - reader.pending;
    if (frame.type === FrameType.refuse) throw readRefusal(frame.payload);
    if (frame.type !== type) throw new FrameError(`a frame of type ${frame.type} in the handshake`);
    const bytes = frame.payload.rest();
    // As it was sent, header included: both sides prove that they have seen the same bytes.
    const whole = new Uint8Array(length);
    new DataView(whole.buffer).setUint32(0, length - 4);
    whole[4] = type;
    whole.set(bytes, length - bytes.length);
    return { bytes: whole, payload: new PayloadReader(whole, length - bytes.length, length) };
  }
}

function readRefusal(payload: PayloadReader): Refusal {
  const said = payload.json();
  const { code, message } = typeof said === "object" && said !== null
    ? said as Record<string, unknown>
    : {};
  return new Refusal(
    isRefusalCode(code) ? code : "protocol",
    `refused by the other node: ${String(message).slice(0, 300)}`,
  );
}

function isRefusalCode(code: unknown): code is RefusalCode {
  const codes = ["version", "cluster", "node-id", "self", "address", "proof", "linked", "draining"];
  return codes.includes(code as string);
}
