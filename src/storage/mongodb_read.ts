// Reads pages of a channel from MongoDB.

import { type Filter, Long } from "mongodb";
import type { NewestRequest, Page } from "../engine/ports/history_store.ts";
import { prefixLengthOf } from "./blocks.ts";
import { readMark } from "./mongodb_channels.ts";
import type { Attempt } from "./mongodb_connection.ts";
import { lineBytes, type ReadMessage, readMessage, toBlocks } from "./mongodb_lines.ts";
import { type MessageDoc, messagesOf } from "./mongodb_schema.ts";
import { isWithin, type NodeRange } from "./mongodb_unsettled.ts";

/** Documents that one query asks for: at first, at least, and at most. */
const FIRST_QUERY = 256;
const MIN_QUERY = 16;
const MAX_QUERY = 1000;

/** Which page. */
export interface PageRequest extends NewestRequest {
  /** The oldest after this timestamp; undefined: the newest of all. */
  readonly afterTs: number | undefined;
}

/** A page without the messages in `hidden`. */
export async function readPage(
  attempt: Attempt,
  request: PageRequest,
  hidden: readonly NodeRange[],
): Promise<Page> {
  for (;;) {
    const before = await readMark(attempt, request);
    const afterTs = Math.max(request.afterTs ?? 0, before.deletingTs);
    const found = await findPage(attempt, request, afterTs, hidden);
    const { prunedTs, step } = await readMark(attempt, request);
    let { messages, isEnd } = found;
    if (step !== before.step) {
      // Retention was at work meanwhile, so perhaps only a part of what it deleted was seen.
      messages = messages.filter(({ ts }) => ts > prunedTs);
      const isCut = messages.length < found.messages.length;
      if (messages.length === 0 && !isEnd) continue;
      if (request.afterTs === undefined && isCut) isEnd = true;
    }
    return { blocks: toBlocks(request.channel, messages), isEnd, prunedTs };
  }
}

async function findPage(
  { db, signal }: Attempt,
  { app, channel, afterTs: asked, maxMessages, maxBytes }: PageRequest,
  afterTs: number,
  hidden: readonly NodeRange[],
): Promise<{ messages: ReadMessage[]; isEnd: boolean }> {
  const isNewest = asked === undefined;
  const order = isNewest ? -1 : 1;
  const prefixLength = prefixLengthOf(channel);
  const page = new PageBuilder(maxMessages, maxBytes);
  const finish = (isEnd: boolean) => ({
    messages: isNewest ? page.messages.reverse() : page.messages,
    isEnd,
  });
  let limit = Math.min(FIRST_QUERY, maxMessages + 1);
  let last: MessageDoc | undefined;
  for (;;) {
    const docs = await messagesOf(db)
      .find({ app, channel, ...beyond(afterTs, last, isNewest) }, { signal })
      .sort({ ts: order, node: order })
      .limit(limit)
      .toArray();
    for (const doc of docs) {
      const message = readMessage(doc);
      if (message === undefined || isWithin(hidden, message)) continue;
      if (!page.add(message, lineBytes(message, prefixLength))) return finish(false);
    }
    if (docs.length < limit) return finish(page.end());
    last = docs[docs.length - 1];
    limit = Math.max(MIN_QUERY, Math.min(MAX_QUERY, page.wanted() + 1));
  }
}

/** What is later than a timestamp, and beyond the last document that was seen. */
function beyond(
  afterTs: number,
  last: MessageDoc | undefined,
  isNewest: boolean,
): Filter<MessageDoc> {
  const after = { $gt: Long.fromNumber(afterTs) };
  if (last === undefined) return { ts: after };
  const { node } = last;
  const ts = Long.fromNumber(Number(last.ts));
  return isNewest
    ? { ts: { ...after, $lte: ts }, $or: [{ ts: { $lt: ts } }, { node: { $lt: node } }] }
    : { ts: { $gte: ts }, $or: [{ ts: { $gt: ts } }, { node: { $gt: node } }] };
}

/** Collects messages up to the limits; those of one timestamp go in together or not at all. */
class PageBuilder {
  readonly messages: ReadMessage[] = [];
  #bytes = 0;
  /** Messages of one timestamp, to which more may come. */
  #group: ReadMessage[] = [];
  #groupBytes = 0;

  constructor(readonly maxMessages: number, readonly maxBytes: number) {}

  /** Adds the next message; false when the page was full before it. */
  add(message: ReadMessage, bytes: number): boolean {
    if (this.#group.length > 0 && this.#group[0].ts !== message.ts && !this.#takeGroup()) {
      return false;
    }
    if (this.#isFull()) return false;
    this.#group.push(message);
    this.#groupBytes += bytes;
    return true;
  }

  /** No message follows. Returns whether all have found room. */
  end(): boolean {
    return this.#group.length === 0 || this.#takeGroup();
  }

  /** How many more messages may have room, going by the size of those that are there. */
  wanted(): number {
    const count = this.messages.length + this.#group.length;
    if (count === 0) return this.maxMessages;
    const average = (this.#bytes + this.#groupBytes) / count;
    const room = Math.max(0, this.maxBytes - this.#bytes) / average;
    return Math.ceil(Math.min(this.maxMessages - this.messages.length, room));
  }

  #isFull(): boolean {
    return this.messages.length >= this.maxMessages;
  }

  #takeGroup(): boolean {
    const fits = this.messages.length === 0 ||
      (!this.#isFull() && this.#bytes + this.#groupBytes <= this.maxBytes);
    if (!fits) return false;
    this.messages.push(...this.#group);
    this.#bytes += this.#groupBytes;
    this.#group = [];
    this.#groupBytes = 0;
    return true;
  }
}
