// Keeps messages in memory, for as long as the process lives.

import type {
  Block,
  ChannelBlock,
  HistoryStore,
  MessageRange,
  NewestRequest,
  Page,
  PruneRequest,
  PruneStep,
  ReadRequest,
  StoreInfo,
} from "../engine/ports/history_store.ts";
import {
  compareNames,
  cutBlock,
  joinBlocks,
  mergeBlocks,
  NewestPage,
  nthNewestTs,
  prefixLengthOf,
  takePage,
} from "./blocks.ts";

/** Channels that one step of pruning looks at. */
const PRUNE_STEP_CHANNELS = 256;

/** What is kept of one channel. */
interface Kept {
  readonly app: string;
  readonly channel: string;
  readonly prefixLength: number;
  /** In order, not overlapping. */
  blocks: Block[];
  prunedTs: number;
}

/** Keeps everything in plain maps. Opening it anew loses nothing; the end of the process does. */
export class MemoryStore implements HistoryStore {
  readonly description = "memory";
  readonly appendsAtOnce = 1;
  readonly #apps = new Map<string, Map<string, Kept>>();
  #lastTs = 0;

  open(): Promise<StoreInfo> {
    return Promise.resolve({ lastTs: this.#lastTs });
  }

  append(blocks: readonly ChannelBlock[]): Promise<void> {
    for (const block of blocks) {
      const kept = this.#make(block.app, block.channel);
      const last = kept.blocks[kept.blocks.length - 1];
      const own = joinBlocks([block]);
      if (last === undefined || last.lastTs < block.firstTs) {
        kept.blocks.push(...own);
      } else {
        const [start, end] = touched(kept.blocks, block.firstTs, block.lastTs);
        const among = [...kept.blocks.slice(start, end), ...own];
        kept.blocks.splice(start, end - start, ...mergeBlocks(among, kept.prefixLength));
      }
      this.#lastTs = Math.max(this.#lastTs, block.lastTs);
    }
    return Promise.resolve();
  }

  forget(ranges: readonly MessageRange[]): Promise<void> {
    for (const { app, channel, node, firstTs, lastTs } of ranges) {
      const kept = this.#apps.get(app)?.get(channel);
      if (kept === undefined) continue;
      const { prefixLength } = kept;
      kept.blocks = kept.blocks.flatMap((block) => {
        if (block.node !== node) return [block];
        const left = [
          cutBlock(block, prefixLength, 0, firstTs - 1),
          cutBlock(block, prefixLength, lastTs, Infinity),
        ];
        return left.filter((part) => part !== undefined);
      });
    }
    return Promise.resolve();
  }

  read({ app, channel, afterTs, ...limits }: ReadRequest): Promise<Page> {
    const kept = this.#apps.get(app)?.get(channel);
    if (kept === undefined) return Promise.resolve({ blocks: [], isEnd: true, prunedTs: 0 });
    const { blocks, prefixLength, prunedTs } = kept;
    const start = firstEndingFrom(blocks, afterTs + 1);
    const page = takePage(from(blocks, start), prefixLength, afterTs, limits);
    return Promise.resolve({ ...page, prunedTs });
  }

  readNewest({ app, channel, ...limits }: NewestRequest): Promise<Page> {
    const kept = this.#apps.get(app)?.get(channel);
    if (kept === undefined) return Promise.resolve({ blocks: [], isEnd: true, prunedTs: 0 });
    const page = new NewestPage(limits);
    let at = kept.blocks.length - 1;
    while (at >= 0 && page.add(kept.blocks[at])) at--;
    return Promise.resolve({ blocks: page.blocks(), isEnd: at < 0, prunedTs: kept.prunedTs });
  }

  count(app: string, channel: string, afterTs: number, throughTs: number): Promise<number> {
    const kept = this.#apps.get(app)?.get(channel);
    let count = 0;
    for (const block of kept?.blocks ?? []) {
      count += cutBlock(block, kept?.prefixLength ?? 0, afterTs, throughTs)?.count ?? 0;
    }
    return Promise.resolve(count);
  }

  prune({ beforeTs, keepPerChannel, cursor }: PruneRequest): Promise<PruneStep> {
    const channels = cursor instanceof ChannelCursor ? cursor : new ChannelCursor(this.#all());
    const pruned: { app: string; channel: string; prunedTs: number }[] = [];
    for (let i = 0; i < PRUNE_STEP_CHANNELS; i++) {
      const next = channels.iterator.next();
      if (next.done === true) return Promise.resolve({ pruned, cursor: undefined });
      const kept = next.value;
      const cutTs = Math.max(beforeTs, keepTs(kept, keepPerChannel));
      const end = firstEndingFrom(kept.blocks, cutTs);
      const gone = kept.blocks.splice(0, end);
      let prunedTs = gone[gone.length - 1]?.lastTs ?? 0;
      const first = kept.blocks[0];
      const older = first && cutBlock(first, kept.prefixLength, 0, cutTs - 1);
      const left = older && cutBlock(first, kept.prefixLength, cutTs - 1, Infinity);
      if (older !== undefined && left !== undefined) {
        prunedTs = older.lastTs;
        kept.blocks.splice(0, 1, ...joinBlocks([left]));
      }
      if (prunedTs === 0) continue;
      kept.prunedTs = Math.max(kept.prunedTs, prunedTs);
      pruned.push({ app: kept.app, channel: kept.channel, prunedTs });
    }
    return Promise.resolve({ pruned, cursor: channels });
  }

  async *scan(): AsyncIterable<ChannelBlock> {
    for (const app of [...this.#apps.keys()].sort(compareNames)) {
      const channels = this.#apps.get(app) ?? new Map<string, Kept>();
      for (const channel of [...channels.keys()].sort(compareNames)) {
        for (const block of joinBlocks(channels.get(channel)?.blocks ?? [], { maxBytes: 65_536 })) {
          yield await Promise.resolve({ app, channel, ...block });
        }
      }
    }
  }

  close(): Promise<void> {
    this.#apps.clear();
    return Promise.resolve();
  }

  *#all(): Generator<Kept> {
    for (const channels of this.#apps.values()) yield* channels.values();
  }

  #make(app: string, channel: string): Kept {
    let channels = this.#apps.get(app);
    if (channels === undefined) this.#apps.set(app, channels = new Map());
    let kept = channels.get(channel);
    if (kept === undefined) {
      const prefixLength = prefixLengthOf(channel);
      channels.set(channel, kept = { app, channel, prefixLength, blocks: [], prunedTs: 0 });
    }
    return kept;
  }
}

/** Where a round of pruning is: the maps' own iterators go on over what comes and goes meanwhile. */
class ChannelCursor {
  constructor(readonly iterator: Iterator<Kept>) {}
}

/** Timestamp of the `keep`-th newest message; 0 where there are fewer, or for `keep` 0. */
function keepTs({ blocks, prefixLength }: Kept, keep: number): number {
  if (keep === 0) return 0;
  let left = keep;
  for (let i = blocks.length - 1; i >= 0; i--) {
    if (blocks[i].count >= left) return nthNewestTs(blocks[i], prefixLength, left);
    left -= blocks[i].count;
  }
  return 0;
}

/** Index of the first block that ends at `ts` or later. */
function firstEndingFrom(blocks: readonly Block[], ts: number): number {
  let low = 0;
  let high = blocks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (blocks[middle].lastTs < ts) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The blocks that have anything to do with the time from `firstTs` through `lastTs`: `[start, end)`. */
function touched(blocks: readonly Block[], firstTs: number, lastTs: number): [number, number] {
  const start = firstEndingFrom(blocks, firstTs);
  let end = start;
  while (end < blocks.length && blocks[end].firstTs <= lastTs) end++;
  return [start, end];
}

function* from(blocks: readonly Block[], start: number): Generator<Block> {
  for (let i = start; i < blocks.length; i++) yield blocks[i];
}
