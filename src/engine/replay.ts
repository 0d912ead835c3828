// The catching-up reader: kept messages for one subscription, until it turns live.

import type { SmallSet } from "../core/small_set.ts";
import { buffers } from "../core/buffer_pool.ts";
import { spawn } from "../core/spawn.ts";
import { LF } from "../proto/bytes.ts";
import { lineTimestamp } from "../proto/encoder.ts";
import { WireError } from "../proto/errors.ts";
import type { Channel, Subscription } from "./channel.ts";
import type { ChannelHistory, Cursor, Piece } from "./channel_history.ts";
import { PageReader } from "./page_reader.ts";
import type { StoredPage } from "./store_pages.ts";

/** Kept messages go out in pieces of about this size. */
const PIECE_BYTES = 64 * 1024;
/** A store that did not answer is asked again after so long, ms. */
const RETRY_MS = 1000;

/** What a replay asks of the engine. */
export interface ReplayHost {
  /** Closes the channel's open batch, so that its messages are among the kept ones. */
  closeBatch(channel: Channel): void;
  /** Counts deliveries. */
  countDelivered(messages: number): void;
  /** The store's page behind `afterTs`, see `StoredHistory.page`; null where nothing else is kept than what is in memory. */
  readonly readPage:
    | ((app: string, channel: string, afterTs: number) => Promise<StoredPage>)
    | null;
}

/** Somebody who reads for a subscription until it turns live. */
export interface CatchUp {
  readonly subscription: Subscription;
  /** Delivers as much as the subscriber has room for. Called when it has drained. */
  pump(): void;
  /** Ends it without turning live. Idempotent. */
  stop(): void;
}

/**
 * Reads a channel's kept messages for one subscriber, under the same flow control as any other
 * output, and makes the subscription live once it has reached the newest (docs/protocol.md, "The
 * seam between history and live"). Nothing is buffered for it meanwhile: its place is a cursor in the
 * memory's messages, or before them a place in a page of the store.
 */
export class Replay implements CatchUp {
  /** Timestamp behind which the next message is looked for, while the store is read. */
  #afterTs: number;
  /** The place in memory, once its messages reach back to where the replay is. */
  #cursor: Cursor | null = null;
  #page: PageReader | null = null;
  /** Whether the last page was the store's last. */
  #isStoreEnd = false;
  #isReading = false;
  /** Whether the client has been told what it will get; before that nothing may reach it. */
  #isStarted = false;

  constructor(
    readonly host: ReplayHost,
    readonly subscription: Subscription,
    afterTs: number,
    /** The replays of the same connection; this one is among them while it lasts. */
    readonly siblings: SmallSet<CatchUp>,
  ) {
    this.#afterTs = afterTs;
    subscription.channel.catchingUp++;
    siblings.add(this);
  }

  /** Begins in memory, whose messages reach back far enough. */
  beginAt(cursor: Cursor): void {
    this.#cursor = cursor;
  }

  /** Begins with a page of the store that has been read already. */
  beginWith(page: StoredPage): void {
    this.#turnTo(page);
  }

  #turnTo(page: StoredPage): void {
    this.#page = new PageReader(page, this.subscription.channel.prefix.length, this.#afterTs);
    this.#isStoreEnd = page.isEnd;
  }

  /** Lets the messages flow; the reply is queued. */
  start(): void {
    this.#isStarted = true;
    this.pump();
  }

  /** Delivers as much as the subscriber has room for. Called when it has drained. */
  pump(): void {
    // The subscriber may drain while the reply still waits for the store.
    if (!this.#isStarted) return;
    const { follower: { subscriber }, channel } = this.subscription;
    while (this.siblings.has(this) && !this.#isReading) {
      if (this.#cursor === null && this.#page === null && !this.#enterMemory(channel)) {
        if (this.#isStoreEnd && channel.history === null && !channel.isOpen) this.#turnLive();
        else if (channel.isOpen && channel.history === null) this.host.closeBatch(channel);
        else this.#readOn();
        continue;
      }
      const room = subscriber.replayRoom();
      if (room <= 0) return;
      const maxBytes = Math.min(room, PIECE_BYTES);
      if (this.#page !== null) {
        if (this.#deliverFromPage(this.#page, maxBytes)) continue;
        this.#afterTs = this.#page.throughTs;
        this.#page = null;
      } else if (this.#cursor !== null && !this.#pumpMemory(channel, this.#cursor, maxBytes)) {
        return;
      }
    }
  }

  /** One step in memory; false when the replay is over. */
  #pumpMemory(channel: Channel, cursor: Cursor, maxBytes: number): boolean {
    const { history } = channel;
    if (history?.isLost(cursor)) {
      if (this.host.readPage === null) {
        // What it still had to get is gone: better to say so than to leave a hole.
        this.subscription.follower.subscriber.cutOff();
        return false;
      }
      this.#cursor = null;
      this.#isStoreEnd = false;
      return true;
    }
    if (history !== null && this.#deliverFromMemory(history, cursor, maxBytes)) return true;
    if (channel.isOpen) {
      this.host.closeBatch(channel);
      return true;
    }
    this.#turnLive();
    return false;
  }

  /** Goes on in memory where that reaches back to where the replay is. */
  #enterMemory({ history }: Channel): boolean {
    if (history === null || !history.covers(this.#afterTs)) return false;
    this.#cursor = history.seek(this.#afterTs).cursor;
    return true;
  }

  #turnLive(): void {
    const { channel, follower } = this.subscription;
    this.stop();
    channel.join(this.subscription);
    follower.subscriber.caughtUp();
  }

  /** Asks the store for the next page, and goes on with it. */
  #readOn(): void {
    const { readPage } = this.host;
    if (readPage === null) throw new Error("a replay without a store has left the memory");
    this.#isReading = true;
    spawn("engine.replay", async () => {
      const { channel } = this.subscription;
      while (this.siblings.has(this)) {
        try {
          const page = await readPage(channel.app.id, channel.name, this.#afterTs);
          if (this.siblings.has(this)) this.#turnTo(page);
          break;
        } catch (error) {
          if (!(error instanceof WireError)) throw error;
          // The store is down. What it holds can wait; nothing is lost by it.
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
      this.#isReading = false;
      this.pump();
    });
  }

  /** Ends the replay without turning live. */
  stop(): void {
    if (!this.siblings.delete(this)) return;
    this.subscription.channel.catchingUp--;
  }

  #deliverFromMemory(history: ChannelHistory, cursor: Cursor, maxBytes: number): boolean {
    const piece = history.next(cursor, maxBytes);
    if (piece === undefined) return false;
    const { lines } = piece;
    const lastLine = lines.lastIndexOf(LF, lines.length - 2) + 1;
    const { channel: { prefix } } = this.subscription;
    this.#afterTs = lineTimestamp(lines, lastLine, prefix.length);
    this.#deliver(piece);
    return true;
  }

  #deliverFromPage(page: PageReader, maxBytes: number): boolean {
    const piece = page.next(maxBytes);
    if (piece === undefined) return false;
    const { lines, line, count, block: { node, froms } } = piece;
    this.#afterTs = page.lastTs;
    this.#deliver({ lines, line, count, node, froms });
    return true;
  }

  #deliver({ lines, line, count, node, froms }: Piece): void {
    const { follower, channel } = this.subscription;
    this.host.countDelivered(count);
    follower.subscriber.deliver(
      follower.form === "text"
        ? buffers.copyOf(lines)
        : channel.encodeEvents(lines, froms, line, node),
    );
  }
}
