// How a load is spread: which publisher and which subscriber has which channels, and what a message says.

/** What a load is made of. */
export interface LoadShape {
  readonly pubs: number;
  readonly subs: number;
  readonly channels: number;
  /** Bytes of each message. */
  readonly size: number;
}

/** A message of fewer bytes could not say who sent it, when, and as which. */
export const MIN_SIZE = 24;

/** The channels of a load; their names are those of no other run. */
export function channelNames(count: number): string[] {
  const run = crypto.getRandomValues(new Uint32Array(1))[0].toString(36).padStart(7, "0");
  return Array.from({ length: count }, (_, i) => `bench.${run}.${i}`);
}

/**
 * Which of `channels` the member `i` of `members` has: each channel has somebody, and each member has a
 * channel.
 */
export function channelsOf(i: number, members: number, channels: number): number[] {
  if (members >= channels) return [i % channels];
  const own: number[] = [];
  for (let channel = i; channel < channels; channel += members) own.push(channel);
  return own;
}

/** The text of a message: publisher, its number in the channel, microseconds, and padding. */
export function messageText(pub: number, n: number, micros: number, size: number): string {
  return `${pub.toString(36)}.${n.toString(36)}.${micros.toString(36)}.`.padEnd(size, "x");
}

/** What stands in a message. */
export interface Stamp {
  readonly pub: number;
  readonly n: number;
  readonly micros: number;
}

/** What a message says; null where it is none of ours. */
export function readStamp(text: string): Stamp | null {
  const [pub, n, micros] = text.split(".", 3);
  const stamp = { pub: parseInt(pub, 36), n: parseInt(n, 36), micros: parseInt(micros, 36) };
  return Number.isNaN(stamp.pub + stamp.n + stamp.micros) ? null : stamp;
}
