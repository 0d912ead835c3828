// Retention in MongoDB: which messages go, step by step, without looking at all of them each time.

import { Long } from "mongodb";
import type { PruneRequest, PruneStep } from "../engine/ports/history_store.ts";
import {
  channelKey,
  type ChannelName,
  deleteMarked,
  type Doomed,
  nextChannel,
  type Pruned,
} from "./mongodb_channels.ts";
import type { Attempt } from "./mongodb_connection.ts";
import { GONE_TTL_S, messagesOf } from "./mongodb_schema.ts";

/** Messages that one step deletes, but for those of the same timestamp as the last. */
const STEP_MESSAGES = 500;
/** Channels that one step looks at, or that lose messages by it. */
const STEP_CHANNELS = 50;
/** Channels that are remembered as appended to; with more, a round looks at all there are. */
const MAX_TOUCHED = 100_000;

/** Where a step ended: first messages go by age, then by their number in each channel. */
type Cursor =
  | { readonly phase: "age" }
  /** Of all channels, those after `after`. */
  | { readonly phase: "all"; readonly after: ChannelName | undefined }
  /** Of the channels that were appended to, the rest. */
  | { readonly phase: "touched"; readonly rest: readonly ChannelName[] };

const PROJECTION = { _id: 1, app: 1, channel: 1, ts: 1 } as const;
const LIVE = { gone: { $exists: false } } as const;

/**
 * Deletes by age through the index on the timestamp. A channel can only come to hold too many messages
 * by an append, so each node looks at the channels it has appended to since the last round, and at all
 * channels once: at first, and when fewer are to be kept than before.
 */
export class Pruner {
  /** Every channel not in {@link #touched} holds at most so many; 0 when nothing is known. */
  #checkedKeep = 0;
  #touched = new Map<string, ChannelName>();
  /** A round through all channels is under way, and is to be of use. */
  #isChecking = false;

  /** Messages are appended to these channels. */
  touch(channels: readonly ChannelName[]): void {
    if (this.#checkedKeep === 0 && !this.#isChecking) return;
    for (const { app, channel } of channels) {
      this.#touched.set(channelKey({ app, channel }), { app, channel });
    }
    if (this.#touched.size > MAX_TOUCHED) this.#forgetAll();
  }

  /** One step of a round. */
  async step(attempt: Attempt, request: PruneRequest): Promise<PruneStep> {
    const { beforeTs, keepPerChannel } = request;
    const cursor = request.cursor as Cursor | undefined;
    if (cursor?.phase === "all") return await this.#stepAll(attempt, keepPerChannel, cursor.after);
    if (cursor?.phase === "touched") {
      return await this.#stepTouched(attempt, keepPerChannel, cursor.rest);
    }
    if (cursor === undefined) await deleteOldMarks(attempt);
    const doomed = beforeTs === 0
      ? []
      : await findOldest(attempt, { ts: { $lt: Long.fromNumber(beforeTs) } });
    const some = limitChannels(doomed);
    const pruned = await deleteMarked(attempt, some);
    const isMore = some.length < doomed.length || doomed.length >= STEP_MESSAGES;
    return { pruned, cursor: isMore ? { phase: "age" } : this.#firstByNumber(keepPerChannel) };
  }

  #firstByNumber(keepPerChannel: number): Cursor | undefined {
    if (keepPerChannel === 0) {
      this.#forgetAll();
      return undefined;
    }
    if (this.#checkedKeep !== 0 && keepPerChannel >= this.#checkedKeep) {
      // Those that are looked at now may be left with so many.
      this.#checkedKeep = keepPerChannel;
      return { phase: "touched", rest: [...this.#touched.values()] };
    }
    this.#forgetAll();
    this.#isChecking = true;
    return { phase: "all", after: undefined };
  }

  #forgetAll(): void {
    this.#checkedKeep = 0;
    this.#isChecking = false;
    this.#touched.clear();
  }

  async #stepAll(
    attempt: Attempt,
    keep: number,
    start: ChannelName | undefined,
  ): Promise<PruneStep> {
    const pruned: Pruned[] = [];
    let after = start;
    const isMore = await eachChannel(attempt, async () => {
      const channel = await nextChannel(attempt, after);
      if (channel === undefined) return false;
      const doomed = await findTooMany(attempt, channel, keep);
      pruned.push(...await deleteMarked(attempt, doomed));
      // Otherwise it has perhaps more of them: once more in the next step.
      if (doomed.length < STEP_MESSAGES) after = channel;
      return doomed.length === 0 ? true : "enough";
    });
    if (isMore) return { pruned, cursor: { phase: "all", after } satisfies Cursor };
    if (this.#isChecking) this.#checkedKeep = keep;
    this.#isChecking = false;
    return { pruned, cursor: undefined };
  }

  async #stepTouched(
    attempt: Attempt,
    keep: number,
    channels: readonly ChannelName[],
  ): Promise<PruneStep> {
    const pruned: Pruned[] = [];
    let rest = channels;
    const isMore = await eachChannel(attempt, async () => {
      if (rest.length === 0) return false;
      const channel = rest[0];
      const key = channelKey(channel);
      // Before the look, so that an append during it counts for the next round.
      this.#touched.delete(key);
      let isDone = false;
      try {
        const doomed = await findTooMany(attempt, channel, keep);
        pruned.push(...await deleteMarked(attempt, doomed));
        isDone = doomed.length < STEP_MESSAGES;
        if (isDone) rest = rest.slice(1);
        return doomed.length === 0 ? true : "enough";
      } finally {
        if (!isDone) this.#touched.set(key, channel);
      }
    });
    return { pruned, cursor: isMore ? { phase: "touched", rest } satisfies Cursor : undefined };
  }
}

/**
 * Looks at channel after channel by `look` until there is none (false), something was deleted
 * ("enough"), or the step has taken long enough. Returns whether there may be more.
 */
async function eachChannel(
  { leftMs }: Attempt,
  look: () => Promise<boolean | "enough">,
): Promise<boolean> {
  const enoughMs = leftMs() / 2;
  for (let i = 0; i < STEP_CHANNELS && leftMs() > enoughMs; i++) {
    const looked = await look();
    if (looked === false) return false;
    if (looked === "enough") return true;
  }
  return true;
}

/** The oldest messages in `filter`, up to a bound, and all others of the last one's timestamp. */
async function findOldest(
  { db, signal }: Attempt,
  filter: { app?: string; channel?: string; ts: { $lt: Long } },
): Promise<Doomed[]> {
  const find = (only: Record<string, unknown>) =>
    messagesOf(db).find({ ...filter, ...LIVE, ...only }, { projection: PROJECTION, signal });
  const oldest = await find({}).sort({ ts: 1 }).limit(STEP_MESSAGES).toArray();
  if (oldest.length < STEP_MESSAGES) return oldest;
  const lastTs = Number(oldest[oldest.length - 1].ts);
  const same = await find({ ts: Long.fromNumber(lastTs) }).toArray();
  return [...oldest.filter(({ ts }) => Number(ts) < lastTs), ...same];
}

/** The messages of the first channels among them. */
function limitChannels(messages: readonly Doomed[]): Doomed[] {
  const channels = new Set<string>();
  return messages.filter((message) => {
    const key = channelKey(message);
    if (channels.size < STEP_CHANNELS) channels.add(key);
    return channels.has(key);
  });
}

/** The oldest of those messages of a channel that are too many. */
async function findTooMany(
  attempt: Attempt,
  { app, channel }: ChannelName,
  keep: number,
): Promise<Doomed[]> {
  const { db, signal } = attempt;
  const messages = messagesOf(db);
  // Counted apart, so that finding the oldest to be kept needs nothing but the index.
  const gone = await messages.countDocuments(
    { gone: { $exists: true }, app, channel },
    { signal },
  );
  const [oldestKept] = await messages
    .find({ app, channel }, { projection: { _id: 0, ts: 1 }, signal })
    .sort({ ts: -1, node: -1 })
    .skip(keep + gone - 1)
    .limit(1)
    .toArray();
  if (oldestKept === undefined) return [];
  const ts = { $lt: Long.fromNumber(Number(oldestKept.ts)) };
  return await findOldest(attempt, { app, channel, ts });
}

/** Where the server does it by itself, it finds nothing. */
async function deleteOldMarks({ db, signal }: Attempt): Promise<void> {
  const before = new Date(Date.now() - 2 * GONE_TTL_S * 1000);
  await messagesOf(db).deleteMany({ gone: { $lt: before } });
  signal.throwIfAborted();
}
