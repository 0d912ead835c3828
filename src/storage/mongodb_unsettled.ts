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
      const left = (this.#pending.get(key) ?? [])
        .map((entry) => entry.flatMap((range) => subtract(range, group)))
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
    const byChannel = new Map(groupBy(ranges, channelKey).map((all) => [channelKey(all[0]), all]));
    return this.#inDoubt.filter((message) =>
      (byChannel.get(channelKey(message)) ?? []).some(({ node, firstTs, lastTs }) =>
        node === message.node && firstTs <= message.ts && message.ts <= lastTs
      )
    );
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

/** What is left of a range without others. */
function subtract(range: NodeRange, others: readonly NodeRange[]): NodeRange[] {
  let left = [range];
  for (const { node, firstTs, lastTs } of others) {
    if (node !== range.node) continue;
    left = left.flatMap((part) => {
      if (lastTs < part.firstTs || firstTs > part.lastTs) return [part];
      return [
        { node, firstTs: part.firstTs, lastTs: firstTs - 1 },
        { node, firstTs: lastTs + 1, lastTs: part.lastTs },
      ].filter((rest) => rest.firstTs <= rest.lastTs);
    });
  }
  return left;
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  return [...Map.groupBy(items, keyOf).values()];
}
