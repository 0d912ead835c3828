// The catching-up reader: kept messages for one subscription, until it turns live.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { eventLine } from "../proto/encoder.ts";
import type { Channel, Subscription } from "./channel.ts";
import type { ChannelHistory, Cursor } from "./channel_history.ts";

/** Kept messages go out in pieces of about this size. */
const PIECE_BYTES = 64 * 1024;

/** What a replay asks of the engine. */
export interface ReplayHost {
  readonly node: string;
  /** Closes the channel's open batch, so that its messages are among the kept ones. */
  closeBatch(channel: Channel): void;
  /** Counts deliveries. */
  countDelivered(messages: number): void;
}

/**
 * Reads a channel's kept messages for one subscriber, under the same flow control as any other
 * output, and makes the subscription live once it has reached the newest (docs/protocol.md, "The
 * seam between history and live"). Nothing is buffered for it meanwhile: its place is a cursor.
 */
export class Replay {
  constructor(
    readonly host: ReplayHost,
    readonly subscription: Subscription,
    readonly cursor: Cursor,
    /** The replays of the same connection; this one is among them while it lasts. */
    readonly siblings: Set<Replay>,
  ) {
    subscription.channel.catchingUp++;
    siblings.add(this);
  }

  /** Delivers as much as the subscriber has room for. Called at first, and when it has drained. */
  pump(): void {
    const { follower: { subscriber }, channel } = this.subscription;
    while (this.siblings.has(this)) {
      const history = channel.history;
      if (history?.isLost(this.cursor)) {
        // What it still had to get is gone: better to say so than to leave a hole.
        subscriber.cutOff();
        return;
      }
      const room = subscriber.replayRoom();
      if (room <= 0) return;
      if (history !== null && this.#deliverPiece(history, Math.min(room, PIECE_BYTES))) continue;
      if (channel.isOpen) {
        this.host.closeBatch(channel);
        continue;
      }
      this.stop();
      channel.join(this.subscription);
      return;
    }
  }

  /** Ends the replay without turning live. */
  stop(): void {
    if (!this.siblings.delete(this)) return;
    this.subscription.channel.catchingUp--;
  }

  #deliverPiece(history: ChannelHistory, maxBytes: number): boolean {
    const { follower, channel } = this.subscription;
    const before = this.cursor.seq;
    let lines: PooledBuffer;
    if (follower.form === "text") {
      const piece = history.next(this.cursor, maxBytes);
      if (piece === undefined) return false;
      lines = copyOf(piece.lines);
    } else {
      const { name } = channel;
      let text = "";
      while (text.length < maxBytes) {
        const message = history.nextMessage(this.cursor, name);
        if (message === undefined) break;
        text += eventLine(message, this.host.node);
      }
      if (text === "") return false;
      lines = copyOf(encodeUtf8(text));
    }
    this.host.countDelivered(this.cursor.seq - before);
    follower.subscriber.deliver(lines);
    return true;
  }
}

function copyOf(bytes: Uint8Array): PooledBuffer {
  const copy = buffers.acquire(bytes.length);
  copy.bytes.set(bytes);
  copy.length = bytes.length;
  return copy.seal();
}
