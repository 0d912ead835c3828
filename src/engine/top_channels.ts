// The channels with the most subscribers, out of any number of them, without keeping others waiting.

import { Slices } from "../core/slices.ts";
import { Top } from "../core/top.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import type { Channel } from "./channel.ts";

/** A channel as operators see it. */
export interface ChannelView {
  readonly channel: string;
  readonly app: string;
  readonly subscribers: number;
  /** Messages accepted here. */
  readonly published: number;
  /** Timestamp of the newest one, microseconds; 0 before the first. */
  readonly last_ts: number;
}

/** A channel with what it is sorted by, as that was when it was looked at. */
interface Entry {
  readonly channel: Channel;
  readonly subscribers: number;
  readonly published: number;
}

/** Channels that are made presentable before a look at the clock. */
const VIEWS_AT_ONCE = 200;

/**
 * At most `limit` channels whose name begins with `prefix`, those with the most subscribers first, then
 * those with the most messages. `chunks` is walked over many turns, and may change meanwhile; a chunk is
 * looked through in one go.
 */
export async function topChannels(
  chunks: Iterable<readonly Channel[]>,
  limit: number,
  prefix: string,
): Promise<ChannelView[]> {
  const top = new Top<Entry>(limit, isBefore);
  const wanted = encodeUtf8(prefix);
  const slices = new Slices();
  for (const chunk of chunks) {
    for (const channel of chunk) {
      const subscribers = channel.subscriberCount + channel.catchingUp;
      const { last } = top;
      // Most are not among the first, and nothing more is looked at of them.
      if (last !== undefined && subscribers < last.subscribers) continue;
      const { published } = channel;
      if (last !== undefined && subscribers === last.subscribers && published <= last.published) {
        continue;
      }
      if (wanted.length > 0 && !channel.isNameBegunBy(wanted)) continue;
      top.add({ channel, subscribers, published });
    }
    if (slices.isOver) await slices.turn();
  }
  const views: ChannelView[] = [];
  for (const entry of await top.take(slices)) {
    views.push(viewOf(entry));
    if (views.length % VIEWS_AT_ONCE === 0 && slices.isOver) await slices.turn();
  }
  return views;
}

function viewOf({ channel, subscribers, published }: Entry): ChannelView {
  const { name, app, lastTs } = channel;
  return { channel: name, app: app.id, subscribers, published, last_ts: lastTs };
}

function isBefore(a: Entry, b: Entry): boolean {
  const difference = a.subscribers - b.subscribers;
  return difference !== 0 ? difference > 0 : a.published > b.published;
}
