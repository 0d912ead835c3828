// What the suite for stores works with: blocks made from lines, pages taken apart, and a store that is a list.

import assert from "node:assert/strict";
import type {
  ChannelBlock,
  HistoryStore,
  MessageRange,
  Page,
  PruneRequest,
} from "../src/engine/ports/history_store.ts";
import { encodeUtf8, LF } from "../src/proto/bytes.ts";
import { lineText, lineTimestamp, messagePrefix } from "../src/proto/encoder.ts";

/** A store under test, and how to get at it again. */
export interface Opened<Store> {
  readonly store: Store;
  /** Of a store that lasts: closes it and makes another over the same data, not opened yet. */
  readonly reopen?: () => Promise<Store>;
  /** Closes what is open and removes what was kept. */
  close(): Promise<void>;
}

/** A message that is to be kept. */
export interface Line {
  readonly ts: number;
  readonly text: string;
  readonly from?: string;
}

/** A message that was kept. */
export interface Kept extends Line {
  readonly node: string;
}

/** Near this all timestamps of the suite are, microseconds. */
export const BASE_TS = 1_700_000_000_000_000;

/** A block as the server makes it. */
export function block(
  app: string,
  channel: string,
  node: string,
  messages: readonly Line[],
): ChannelBlock {
  const prefix = `MESSAGE ${channel} `;
  const lines = encodeUtf8(messages.map(({ ts, text }) => `${prefix}${ts} ${text}\r\n`).join(""));
  const froms = messages.map(({ from }) => from);
  return {
    app,
    channel,
    node,
    lines,
    count: messages.length,
    firstTs: messages[0].ts,
    lastTs: messages[messages.length - 1].ts,
    froms: froms.every((from) => from === undefined) ? null : froms,
  };
}

/** The messages of a page, after checking that its blocks are what the port says. */
export function flatten(page: Page, channel: string): Kept[] {
  const prefixLength = messagePrefix(encodeUtf8(channel)).length;
  const messages: Kept[] = [];
  let endTs = 0;
  for (const { lines, count, node, firstTs, lastTs, froms } of page.blocks) {
    const first = messages.length;
    assert.ok(firstTs >= endTs, "a block begins where the one before it has ended");
    assert.equal(lines[lines.length - 1], LF);
    if (froms !== null) assert.equal(froms.length, count);
    for (let at = 0; at < lines.length;) {
      const lf = lines.indexOf(LF, at);
      const ts = lineTimestamp(lines, at, prefixLength);
      if (messages.length > first) assert.ok(ts > messages[messages.length - 1].ts);
      const text = lineText(lines, at, lf, prefixLength);
      messages.push({ ts, node, text, from: froms?.[messages.length - first] });
      at = lf + 1;
    }
    assert.equal(messages.length - first, count);
    assert.deepEqual([firstTs, lastTs], [messages[first].ts, messages[messages.length - 1].ts]);
    endTs = lastTs;
  }
  for (let i = 1; i < messages.length; i++) {
    const [a, b] = [messages[i - 1], messages[i]];
    assert.ok(a.ts < b.ts || (a.ts === b.ts && a.node < b.node), "by timestamp, then by node");
  }
  return messages;
}

/** Every message of a channel after `afterTs`, page by page; each page is checked against its limits. */
export async function readAll(
  store: HistoryStore,
  app: string,
  channel: string,
  { afterTs = 0, maxMessages = 1000, maxBytes = 1024 * 1024 } = {},
): Promise<Kept[]> {
  const all: Kept[] = [];
  for (;;) {
    const page = await store.read({ app, channel, afterTs, maxMessages, maxBytes });
    const messages = flatten(page, channel);
    if (messages.length === 0) {
      assert.ok(page.isEnd, "an empty page is the last");
      return all;
    }
    assert.ok(messages[0].ts > afterTs, "later than asked for");
    // Beyond a limit only with the messages of one timestamp that stay together.
    const lastTs = messages[messages.length - 1].ts;
    const before = messages.filter(({ ts }) => ts < lastTs).length;
    assert.ok(before < maxMessages, `${messages.length} messages, at most ${maxMessages}`);
    const bytes = page.blocks.reduce((sum, { lines }) => sum + lines.length, 0);
    assert.ok(bytes <= maxBytes || before === 0, `${bytes} bytes, at most ${maxBytes}`);
    all.push(...messages);
    if (page.isEnd) return all;
    afterTs = lastTs;
  }
}

/** A whole round of pruning: the newest timestamp that is gone, by {@link key}. */
export async function pruneAll(
  store: HistoryStore,
  request: PruneRequest,
): Promise<Map<string, number>> {
  const gone = new Map<string, number>();
  let cursor: unknown;
  for (let steps = 0;; steps++) {
    assert.ok(steps < 100_000, "a round comes to an end");
    const done = await store.prune({ ...request, cursor });
    for (const { app, channel, prunedTs } of done.pruned) {
      const before = gone.get(key(app, channel)) ?? 0;
      assert.ok(prunedTs > before, "oldest first");
      gone.set(key(app, channel), prunedTs);
    }
    if (done.cursor === undefined) return gone;
    cursor = done.cursor;
  }
}

/** One string for an application and a channel. */
export function key(app: string, channel: string): string {
  return JSON.stringify([app, channel]);
}

/** A store of app "app" as a plain list; each message's text and publisher follow from what it is. */
export class Model {
  #messages: (Kept & { channel: string })[] = [];
  readonly #prunedTs = new Map<string, number>();

  /** Keeps the messages and returns them as blocks of at most `size`, as one append takes them. */
  append(
    messages: readonly [channel: string, node: string, ts: number][],
    size: number,
  ): ChannelBlock[] {
    const groups = new Map<string, (Kept & { channel: string })[]>();
    for (const [channel, node, ts] of messages) {
      const from = ts % 3 === 0 ? undefined : `user ${ts % 3}`;
      const message = { channel, node, ts, text: `${node}${ts}`.repeat(1 + ts % 3), from };
      const same = (other: Kept & { channel: string }) =>
        other.ts === ts && other.node === node && other.channel === channel;
      if (!this.#messages.some(same)) this.#messages.push(message);
      const group = groups.get(key(channel, node)) ?? [];
      groups.set(key(channel, node), group);
      if (!group.some(same)) group.push(message);
    }
    const blocks: ChannelBlock[] = [];
    for (const group of groups.values()) {
      group.sort((a, b) => a.ts - b.ts);
      for (let i = 0; i < group.length; i += size) {
        blocks.push(block("app", group[0].channel, group[0].node, group.slice(i, i + size)));
      }
    }
    return blocks;
  }

  forget({ channel, node, firstTs, lastTs }: MessageRange): void {
    this.#messages = this.#messages.filter((m) =>
      m.channel !== channel || m.node !== node || m.ts < firstTs || m.ts > lastTs
    );
  }

  prune({ beforeTs, keepPerChannel }: PruneRequest): Map<string, number> {
    const gone = new Map<string, number>();
    for (const channel of ["x", "y"]) {
      const messages = this.#of(channel);
      const kept = keepPerChannel === 0 ? undefined : messages.at(-keepPerChannel);
      const cut = Math.max(beforeTs, kept?.ts ?? 0);
      const last = messages.findLast(({ ts }) => ts < cut);
      if (last === undefined) continue;
      gone.set(key("app", channel), last.ts);
      this.#prunedTs.set(channel, Math.max(last.ts, this.#prunedTs.get(channel) ?? 0));
      this.#messages = this.#messages.filter((m) => m.channel !== channel || m.ts >= cut);
    }
    return gone;
  }

  count(channel: string, afterTs: number, throughTs: number): number {
    return this.#of(channel).filter(({ ts }) => ts > afterTs && ts <= throughTs).length;
  }

  /** Asserts that `store` has what this has. */
  async check(store: HistoryStore, maxMessages: number): Promise<void> {
    for (const channel of ["x", "y"]) {
      const expected = this.#of(channel).map(({ ts, node, text, from }) => ({
        ts,
        node,
        text,
        from,
      }));
      assert.deepEqual(await readAll(store, "app", channel, { maxMessages }), expected);
      const newest = await store.readNewest({ app: "app", channel, maxMessages, maxBytes: 9999 });
      const got = flatten(newest, channel);
      assert.deepEqual(got, got.length === 0 ? [] : expected.slice(-got.length));
      assert.equal(newest.isEnd, got.length === expected.length);
      assert.equal(newest.prunedTs, this.#prunedTs.get(channel) ?? 0);
    }
  }

  #of(channel: string): Kept[] {
    return this.#messages.filter((m) => m.channel === channel)
      .sort((a, b) => a.ts - b.ts || (a.node < b.node ? -1 : 1));
  }
}
