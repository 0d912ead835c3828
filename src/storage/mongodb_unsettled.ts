// Messages whose append has not resolved: hidden from readers, and taken back so that they stay away.

import type { MessageRange } from "../engine/ports/history_store.ts";
import { channelKey, type ChannelName } from "./mongodb_channels.ts";

/** A message by its identity. */
export interface MessageKey extends ChannelName {
  readonly ts: number;
  readonly node: string;
}

/** A range of one node's timestamps, both ends included. */
export interface NodeRange {
  readonly node: string;
  readonly firstTs: number;
  readonly lastTs: number;
}

/**
 * What one process knows about its own appends. MongoDB keeps the messages of an append one after the
 * other, so a reader could see half of them; this says which are not to be shown yet. Of an append
 * that was given up it knows which messages may still be under way to the server.
 */
export class Unsettled {
  /** By channel, an entry for each append and node: its blocks, in order. */
  #pending = new Map<string, NodeRange[][]>();
  #inDoubt: MessageKey[] = [];
  /** Of the reads under way, by channel. */
  #watching = new Map<string, Set<NodeRange[]>>();

  /** An append begins; it must not have sent anything yet. */
  begin(ranges: readonly MessageRange[]): void {
    for (
      const group of groupBy(ranges, (range) => JSON.stringify([channelKey(range), range.node]))
    ) {
      const key = channelKey(group[0]);
      const entry = group.map(({ node, firstTs, lastTs }) => ({ node, firstTs, lastTs }));
      const entries = this.#pending.get(key);
      if (entries === undefined) this.#pending.set(key, [entry]);
      else entries.push(entry);
      for (const hidden of this.#watching.get(key) ?? []) hidden.push(rangeOf(entry));
    }
  }

  /** These have been kept, or taken back: from now on the database is right. */
  settle(ranges: readonly MessageRange[]): void {
    for (const group of groupBy(ranges, channelKey)) {
      const key = channelKey(group[0]);
      const gone = byNode(group);
      const left = (this.#pending.get(key) ?? [])
        .map((entry) => subtract(entry, gone.get(entry[0].node) ?? []))
        .filter((entry) => entry.length > 0);
      if (left.length > 0) this.#pending.set(key, left);
      else this.#pending.delete(key);
    }
    if (this.#inDoubt.length > 0) {
      const settled = new Set(this.inDoubt(ranges));
      this.#inDoubt = this.#inDoubt.filter((message) => !settled.has(message));
    }
  }

  /** These were sent, and whether they arrive is not known. */
  doubt(messages: readonly MessageKey[]): void {
    this.#inDoubt = this.#inDoubt.concat(messages);
  }

  /** Those of the messages in these ranges of which it is not known whether they arrive. */
  inDoubt(ranges: readonly MessageRange[]): MessageKey[] {
    if (this.#inDoubt.length === 0) return [];
    const byChannel = new Map(
      groupBy(ranges, channelKey).map((all) => [channelKey(all[0]), byNode(all)]),
    );
    return this.#inDoubt.filter((message) => {
      const disjoint = byChannel.get(channelKey(message))?.get(message.node);
      return disjoint !== undefined && holds(disjoint, message.ts);
    });
  }

  /** What is not to be shown of a channel, for one append and node each. */
  hidden(name: ChannelName): NodeRange[] {
    return (this.#pending.get(channelKey(name)) ?? []).map(rangeOf);
  }

  /**
   * Calls `read` with what is not to be shown of a channel, to which the appends are added that begin
   * meanwhile: a read that showed one of those and hid the one before it would have a hole.
   */
  async whileHidden<T>(
    name: ChannelName,
    read: (hidden: readonly NodeRange[]) => Promise<T>,
  ): Promise<T> {
    const key = channelKey(name);
    const hidden = this.hidden(name);
    const reads = this.#watching.get(key) ?? new Set();
    this.#watching.set(key, reads.add(hidden));
    try {
      return await read(hidden);
    } finally {
      reads.delete(hidden);
      if (reads.size === 0) this.#watching.delete(key);
    }
  }
}

function rangeOf(entry: readonly NodeRange[]): NodeRange {
  const [{ node, firstTs }] = entry;
  return { node, firstTs, lastTs: entry[entry.length - 1].lastTs };
}

/** Whether a message is in one of the ranges. */
export function isWithin(
  ranges: readonly NodeRange[],
  { node, ts }: { node: string; ts: number },
): boolean {
  return ranges.some((range) => range.node === node && range.firstTs <= ts && ts <= range.lastTs);
}

/** The ranges by node, in order, those that overlap put together. */
function byNode(ranges: readonly NodeRange[]): Map<string, NodeRange[]> {
  const nodes = groupBy(ranges, ({ node }) => node).map((all): [string, NodeRange[]] => {
    const disjoint: NodeRange[] = [];
    for (const { node, firstTs, lastTs } of all.toSorted((a, b) => a.firstTs - b.firstTs)) {
      const last = disjoint.at(-1);
      if (last === undefined || last.lastTs < firstTs) disjoint.push({ node, firstTs, lastTs });
      else if (last.lastTs < lastTs) disjoint[disjoint.length - 1] = { ...last, lastTs };
    }
    return [all[0].node, disjoint];
  });
  return new Map(nodes);
}

/** Index of the first of the ranges, which are in order and disjoint, that ends at `ts` or later. */
function indexFrom(disjoint: readonly NodeRange[], ts: number): number {
  let low = 0;
  let high = disjoint.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (disjoint[middle].lastTs < ts) low = middle + 1;
    else high = middle;
  }
  return low;
}

function holds(disjoint: readonly NodeRange[], ts: number): boolean {
  return disjoint[indexFrom(disjoint, ts)]?.firstTs <= ts;
}

/** What is left of ranges of one node without others of it, which are in order and disjoint. */
function subtract(ranges: readonly NodeRange[], disjoint: readonly NodeRange[]): NodeRange[] {
  const left: NodeRange[] = [];
  for (const { node, firstTs, lastTs } of ranges) {
    let from = firstTs;
    for (let i = indexFrom(disjoint, firstTs); disjoint[i]?.firstTs <= lastTs; i++) {
      if (disjoint[i].firstTs > from) {
        left.push({ node, firstTs: from, lastTs: disjoint[i].firstTs - 1 });
      }
      from = disjoint[i].lastTs + 1;
    }
    if (from <= lastTs) left.push({ node, firstTs: from, lastTs });
  }
  return left;
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  return [...Map.groupBy(items, keyOf).values()];
}
