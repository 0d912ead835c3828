// A node of the first version of the frames between nodes, by itself: what it says must be understood for ever.

import { Buffer } from "node:buffer";
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { within } from "./harness_within.ts";

/** Frame types of version 1, written down here and not taken from the server. */
const TYPE = {
  hello: 1,
  challenge: 2,
  auth: 3,
  welcome: 4,
  refuse: 5,
  resume: 10,
  pub: 11,
  ack: 12,
  clock: 13,
  heartbeat: 14,
  interestBegin: 15,
  interestAdd: 16,
  interestEnd: 18,
  interestChange: 19,
  interestAck: 20,
} as const;

/** A frame as it came. */
export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

function frame(type: number, ...parts: Uint8Array[]): Buffer {
  const payload = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(payload.length + 1);
  head[4] = type;
  return Buffer.concat([head, payload]);
}

function json(value: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  return Buffer.concat([u32(text.length), text]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function name(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

/** A connection to a node. */
export class OldPeer implements Disposable {
  #conn: Deno.TcpConn;
  #bytes = Buffer.alloc(0);

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
  }

  /** Connects, and goes through the handshake with this hello; fields of it may be others. */
  static async connect(
    hostname: string,
    secret: string,
    hello: Record<string, unknown>,
  ): Promise<OldPeer> {
    const peer = new OldPeer(await Deno.connect({ hostname, port: 2223 }));
    try {
      await peer.#greet(secret, hello);
    } catch (error) {
      peer[Symbol.dispose]();
      throw error;
    }
    return peer;
  }

  async #greet(secret: string, hello: Record<string, unknown>): Promise<void> {
    const dialer = frame(TYPE.hello, json(hello));
    await this.send(dialer);
    const challenge = await this.expect(TYPE.challenge);
    const acceptor = frame(TYPE.challenge, challenge.payload);
    const proof = (side: string) =>
      createHmac("sha256", `pushd s2s\0${secret}`).update(`${side}\0`)
        .update(createHash("sha256").update(dialer).digest())
        .update(createHash("sha256").update(acceptor).digest()).digest();
    await this.send(frame(TYPE.auth, proof("dialer")));
    const welcome = await this.expect(TYPE.welcome);
    if (!timingSafeEqual(welcome.payload, proof("acceptor"))) throw new Error("a wrong proof");
    // It knows nothing of the other's messages, and wants nothing.
    await this.send(frame(TYPE.resume, Buffer.of(0), u64(0)));
    await this.send(frame(TYPE.interestBegin, Buffer.of(0)), frame(TYPE.interestEnd, u64(0)));
  }

  async send(...frames: Uint8Array[]): Promise<void> {
    const bytes = Buffer.concat(frames);
    for (let at = 0; at < bytes.length;) at += await this.#conn.write(bytes.subarray(at));
  }

  /** The next frame of a type; others are passed over. */
  async expect(type: number): Promise<Frame> {
    while (true) {
      const next = await within(() => `a frame of type ${type}`, this.#next(), {
        onLate: () => this.#conn.close(),
      });
      if (next.type === type) return next;
      if (next.type === TYPE.refuse) throw new Error(`refused: ${next.payload.subarray(4)}`);
    }
  }

  async #next(): Promise<Frame> {
    while (this.#bytes.length < 4 || this.#bytes.length < 4 + this.#bytes.readUInt32BE()) {
      const chunk = new Uint8Array(64 * 1024);
      const count = await this.#conn.read(chunk);
      if (count === null) throw new Error("the node hung up");
      this.#bytes = Buffer.concat([this.#bytes, chunk.subarray(0, count)]);
    }
    const end = 4 + this.#bytes.readUInt32BE();
    const found = { type: this.#bytes[4], payload: this.#bytes.subarray(5, end) };
    this.#bytes = this.#bytes.subarray(end);
    return found;
  }

  /** Wants a channel, and waits until the node knows. */
  async want(version: number, app: string, channel: string): Promise<void> {
    await this.send(frame(
      TYPE.interestChange,
      ...[u64(version), Buffer.of(0), u32(0), u32(1), name(app), name(channel)],
    ));
    while ((await this.expect(TYPE.interestAck)).payload.readBigUInt64BE() < BigInt(version));
  }

  /** The channels that the node wants as soon as one of them is `channel`. */
  async untilWanted(channel: string): Promise<void> {
    while (!(await this.expect(TYPE.interestChange)).payload.includes(channel));
  }

  /** Acknowledges what the node wants. */
  async acknowledge(version: number): Promise<void> {
    await this.send(frame(TYPE.interestAck, u64(version), u64(0)));
  }

  /** Sends a message. */
  async publish(
    seq: number,
    channel: string,
    ts: number,
    text: string,
    lineEnd = "\r\n",
  ): Promise<void> {
    const digits = String(ts).padStart(16, "0");
    const line = Buffer.from(`MESSAGE ${channel} ${digits} ${text}${lineEnd}`);
    const fields = [u64(seq), u32(1), u64(ts), u64(ts), u32(0), name("default"), name(channel)];
    await this.send(frame(TYPE.pub, ...fields, line));
  }

  /** Sends a frame of a type that is not known yet. */
  async sendUnknown(type: number): Promise<void> {
    await this.send(frame(type, Buffer.from("of another time")));
  }

  /** Begins an interest that is a bloom filter of so many bits. */
  async beginFilter(bits: number): Promise<void> {
    await this.send(frame(TYPE.interestBegin, Buffer.of(1), u64(bits), u32(7)));
  }

  /** Adds a channel by bytes that may be no name. */
  async addChannel(bytes: Uint8Array): Promise<void> {
    await this.send(frame(TYPE.interestBegin, Buffer.of(0)));
    const channel = Buffer.concat([Buffer.of(bytes.length), bytes]);
    await this.send(frame(TYPE.interestAdd, u32(1), name("default"), channel));
  }

  /** Until the node closes the connection. */
  async untilClosed(): Promise<void> {
    await within(
      () => "the node to hang up",
      (async () => {
        try {
          while (true) await this.#next();
        } catch {
          // Closed, or reset.
        }
      })(),
    );
  }

  /** The lines of the next batch. */
  async batch(): Promise<string> {
    const { payload } = await this.expect(TYPE.pub);
    const froms = payload.readUInt32BE(28);
    const app = payload[32];
    const channel = payload[33 + app];
    return payload.subarray(34 + app + channel + froms).toString();
  }

  [Symbol.dispose](): void {
    this.#conn.close();
  }
}
