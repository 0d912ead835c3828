// pushd bench: a load of publishers and subscribers, what it comes to, and whether all of it arrived.

import { pause } from "../../core/pause.ts";
import { channelNames, channelsOf, type LoadShape, messageText, readStamp } from "./bench_plan.ts";
import { ClientError } from "./client_error.ts";
import type { Conversation } from "./conversation.ts";
import { Latencies } from "./latencies.ts";
import { type ClientOptions, Servers } from "./servers.ts";

/** What it is called with. */
export interface BenchOptions extends ClientOptions, LoadShape {
  readonly seconds: number;
  /** Messages a second of all publishers together; 0 for as many as go. */
  readonly rate: number;
  /** Says something to the person, on standard error. */
  readonly tell: (text: string) => void;
}

/** Percentiles, milliseconds. */
export interface Percentiles {
  mean: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

/** What came of it. */
export interface BenchResult extends LoadShape {
  server: string;
  seconds: number;
  rate: number;
  published: number;
  published_per_s: number;
  refused: number;
  delivered: number;
  delivered_per_s: number;
  /** Deliveries that never came. */
  lost: number;
  /** Deliveries that came twice, or before an earlier one of their publisher and channel. */
  out_of_order: number;
  /** From a message's sending to its arrival at a subscriber. */
  delivery_ms: Percentiles;
  /** From a message's sending to the publisher's PUBLISHED. */
  publish_ms: Percentiles;
}

/** Messages of one publisher that wait for their reply. */
const WINDOW = 256;
/** Connections that are opened at one time. */
const OPENED_AT_ONCE = 64;
/** How often a paced publisher looks at the clock, ms. */
const PACE_MS = 5;
const PROGRESS_MS = 1000;
/** When nothing has arrived for so long, what is missing is lost, ms. */
const PATIENCE_MS = 5000;

/** Runs the load. Rejects with a {@link ClientError} when a connection fails. */
export async function bench(options: BenchOptions, signal: AbortSignal): Promise<BenchResult> {
  const load = new Load(options);
  try {
    await Promise.race([load.open(), untilAborted(signal)]);
    const seconds = await load.run(signal);
    await load.drain();
    return load.result(seconds);
  } finally {
    load.close();
  }
}

class Load {
  #options: BenchOptions;
  #names: string[];
  #conversations: Conversation[] = [];
  #publishers: Publisher[] = [];
  #delivery = new Latencies();
  #publish = new Latencies();
  #published = 0;
  #refused = 0;
  #firstRefusal = "";
  #expected = 0;
  #delivered = 0;
  #outOfOrder = 0;

  constructor(options: BenchOptions) {
    this.#options = options;
    this.#names = channelNames(options.channels);
  }

  /** Connects everybody; subscribers first. */
  async open(): Promise<void> {
    const { subs, pubs } = this.#options;
    await inGroups(subs, (i) => this.#openSubscriber(i));
    await inGroups(pubs, async (i) => {
      const conversation = await this.#connect({ onUnasked() {} });
      this.#publishers.push(new Publisher(i, this.#options, this.#names, conversation, this));
    });
  }

  async #connect(listener: { onUnasked(line: string): void; onRead?(): Promise<void> }) {
    const servers = new Servers({ ...this.#options, form: "text" });
    const { conversation } = await servers.reach(() => listener);
    this.#conversations.push(conversation);
    return conversation;
  }

  async #openSubscriber(i: number): Promise<void> {
    const { subs, channels, pubs } = this.#options;
    // By channel and publisher the number that comes next.
    const next = new Map<string, Float64Array>();
    let readMicros = 0;
    const conversation = await this.#connect({
      onUnasked: (line) => {
        if (!line.startsWith("MESSAGE ")) return;
        readMicros ||= nowMicros();
        const channelEnd = line.indexOf(" ", 8);
        const numbers = next.get(line.slice(8, channelEnd));
        const stamp = readStamp(line.slice(line.indexOf(" ", channelEnd + 1) + 1));
        if (numbers === undefined || stamp === null || stamp.pub >= pubs) return;
        this.#delivered++;
        // A hole is a loss, and counted as that at the end; what fills it later is out of order.
        if (stamp.n < numbers[stamp.pub]) this.#outOfOrder++;
        else numbers[stamp.pub] = stamp.n + 1;
        this.#delivery.add(readMicros - stamp.micros);
      },
      onRead: () => {
        readMicros = 0;
        return Promise.resolve();
      },
    });
    await Promise.all(
      channelsOf(i, subs, channels).map(async (channel) => {
        const name = this.#names[channel];
        next.set(name, new Float64Array(pubs));
        const reply = await conversation.ask(`sub ${name}`);
        if (!reply.startsWith("SUBSCRIBED ")) throw new ClientError(`sub ${name}: ${reply}`);
      }),
    );
  }

  /** Publishes until the time is over, or `signal` is aborted; resolves to how long that was, s. */
  async run(signal: AbortSignal): Promise<number> {
    const startMs = performance.now();
    const { seconds } = this.#options;
    const timer = setInterval(() => this.#tellProgress(startMs), PROGRESS_MS);
    const ended = Promise.race(this.#conversations.map(({ ended }) => ended));
    const publishing = this.#publishers.map((publisher) => publisher.run());
    try {
      await Promise.race([ended, pause(seconds * 1000, signal)]);
      for (const publisher of this.#publishers) publisher.stop();
      await Promise.race([ended, Promise.all(publishing)]);
    } finally {
      clearInterval(timer);
    }
    return (performance.now() - startMs) / 1000;
  }

  #tellProgress(startMs: number): void {
    const seconds = (performance.now() - startMs) / 1000;
    this.#options.tell(
      `${seconds.toFixed(0)} s: ${perSecond(this.#published, seconds)} published/s, ` +
        `${perSecond(this.#delivered, seconds)} delivered/s`,
    );
  }

  /** Waits for what is on its way. */
  async drain(): Promise<void> {
    const never = new AbortController().signal;
    for (
      let before = -1, sinceMs = performance.now();
      this.#delivered < this.#expected && performance.now() - sinceMs < PATIENCE_MS;
    ) {
      if (this.#delivered !== before) sinceMs = performance.now();
      before = this.#delivered;
      await pause(PACE_MS, never);
    }
  }

  close(): void {
    for (const conversation of this.#conversations) conversation.close();
  }

  /** A publisher has got its reply, after so many microseconds. */
  onReply(reply: string, micros: number, subscribers: number): void {
    if (!reply.startsWith("PUBLISHED ")) {
      this.#refused++;
      this.#firstRefusal ||= reply;
      return;
    }
    this.#published++;
    this.#expected += subscribers;
    this.#publish.add(micros);
  }

  result(tookS: number): BenchResult {
    const { servers, pubs, subs, channels, size, rate, tell } = this.#options;
    if (this.#refused > 0) tell(`${this.#refused} messages were refused: ${this.#firstRefusal}`);
    return {
      server: this.#conversations[0]?.where ?? `${servers[0].hostname}:${servers[0].port}`,
      pubs,
      subs,
      channels,
      size,
      rate,
      seconds: Math.round(tookS * 1000) / 1000,
      published: this.#published,
      published_per_s: Math.round(this.#published / tookS),
      refused: this.#refused,
      delivered: this.#delivered,
      delivered_per_s: Math.round(this.#delivered / tookS),
      lost: Math.max(0, this.#expected - this.#delivered),
      out_of_order: this.#outOfOrder,
      delivery_ms: percentiles(this.#delivery),
      publish_ms: percentiles(this.#publish),
    };
  }
}

/** One publisher, and its numbers in each of its channels. */
class Publisher {
  #number: number;
  #options: BenchOptions;
  #names: string[];
  #conversation: Conversation;
  #load: Load;
  #channels: number[];
  #subscribers: number[];
  #sent: number[];
  #at = 0;
  /** When each message was sent that waits for its reply, and to which of the channels. */
  #underWay: { micros: number; at: number }[] = [];
  #firstUnderWay = 0;
  #isStopped = false;
  #wake: (() => void) | null = null;

  constructor(
    number: number,
    options: BenchOptions,
    names: string[],
    conversation: Conversation,
    load: Load,
  ) {
    const { pubs, subs, channels } = options;
    this.#number = number;
    this.#options = options;
    this.#names = names;
    this.#conversation = conversation;
    this.#load = load;
    this.#channels = channelsOf(number, pubs, channels);
    this.#subscribers = this.#channels.map((channel) => subscribersOf(channel, subs, channels));
    this.#sent = this.#channels.map(() => 0);
  }

  /** Sends no more. */
  stop(): void {
    this.#isStopped = true;
    this.#wake?.();
  }

  /** Publishes until it is stopped and everything has been answered. */
  async run(): Promise<void> {
    const { rate, pubs } = this.#options;
    const startMs = performance.now();
    let sent = 0;
    while (!this.#isStopped) {
      const due = rate === 0 ? Infinity : ((performance.now() - startMs) / 1000) * (rate / pubs);
      while (this.#conversation.outstanding < WINDOW && sent < due) {
        this.#publishOne();
        sent++;
      }
      await this.#change(rate === 0 ? undefined : PACE_MS);
    }
    while (this.#conversation.outstanding > 0) await this.#change();
  }

  #publishOne(): void {
    const at = this.#at;
    this.#at = (at + 1) % this.#channels.length;
    const micros = nowMicros();
    const text = messageText(this.#number, this.#sent[at]++, micros, this.#options.size);
    this.#underWay.push({ micros, at });
    this.#conversation.send(`pub ${this.#names[this.#channels[at]]} ${text}`, this.#onReply);
  }

  #onReply = (reply: string | null): void => {
    const { micros, at } = this.#underWay[this.#firstUnderWay++];
    if (this.#firstUnderWay === WINDOW) {
      this.#underWay.splice(0, WINDOW);
      this.#firstUnderWay = 0;
    }
    if (reply !== null) this.#load.onReply(reply, nowMicros() - micros, this.#subscribers[at]);
    this.#wake?.();
  };

  /** Until a reply has come, or for so long. */
  #change(ms?: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** How many of the subscribers have the channel. */
function subscribersOf(channel: number, subs: number, channels: number): number {
  if (subs === 0) return 0;
  if (subs < channels) return 1;
  return Math.floor((subs - 1 - channel) / channels) + 1;
}

function nowMicros(): number {
  return Math.round(performance.now() * 1000);
}

/** Rejects when it is aborted. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(new ClientError("stopped before it began")));
  });
}

/** Does `work` for 0 … `count` − 1, some of them at one time. */
async function inGroups(count: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(count, OPENED_AT_ONCE) }, worker));
}

function percentiles(latencies: Latencies): Percentiles {
  const ms = (micros: number) => Math.round(micros) / 1000;
  return {
    mean: ms(latencies.mean),
    p50: ms(latencies.quantile(0.5)),
    p90: ms(latencies.quantile(0.9)),
    p99: ms(latencies.quantile(0.99)),
    p999: ms(latencies.quantile(0.999)),
    max: ms(latencies.max),
  };
}

function perSecond(count: number, seconds: number): string {
  return Math.round(count / seconds).toLocaleString("en");
}

/** The result for a person. */
export function benchText(result: BenchResult): string {
  const { pubs, subs, channels, size, rate, seconds, server } = result;
  const number = (n: number) => n.toLocaleString("en");
  const row = (what: string, { mean, p50, p90, p99, p999, max }: Percentiles) =>
    `${what.padEnd(10)} ${
      [mean, p50, p90, p99, p999, max].map((ms) => ms.toFixed(3).padStart(10)).join("")
    }`;
  const pace = rate === 0 ? "as fast as it goes" : `${number(rate)} messages/s`;
  return [
    `${server}: ${pubs} publishers, ${subs} subscribers, ${channels} channels, ${size} bytes, ${pace}, ${seconds} s`,
    "",
    `published  ${number(result.published).padStart(12)} ${
      number(result.published_per_s).padStart(12)
    }/s`,
    `delivered  ${number(result.delivered).padStart(12)} ${
      number(result.delivered_per_s).padStart(12)
    }/s`,
    `refused    ${number(result.refused).padStart(12)}`,
    `lost       ${number(result.lost).padStart(12)}`,
    `disordered ${number(result.out_of_order).padStart(12)}`,
    "",
    `ms         ${
      ["mean", "p50", "p90", "p99", "p99.9", "max"].map((name) => name.padStart(10)).join("")
    }`,
    row("delivery", result.delivery_ms),
    row("publish", result.publish_ms),
  ].join("\n");
}
