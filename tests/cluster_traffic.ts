// Who is there during a fault run: publishers, followers, and those who come and go, at every node.

import { pause } from "../src/core/pause.ts";
import { type Door, LoadPublisher, LoadSubscriber, type PublisherOptions } from "./cluster_load.ts";
import { PublisherLog, SubscriberLog } from "./cluster_log.ts";
import type { Random } from "./cluster_random.ts";

/** Between two tries to connect to a node that does not serve, ms. */
const RETRY_MS = 100;
/** How often it is looked whether anything still comes, ms. */
const QUIET_LOOK_MS = 100;

/** How much there is to do. */
export interface TrafficOptions {
  readonly doors: readonly Door[];
  readonly now: () => number;
  readonly random: Random;
  /** Channels from 0 on that have followers everywhere all the time. */
  readonly busyChannels: number;
  /** Those behind them, which are only followed by visitors. */
  readonly rareChannels: number;
  /** Messages a second, of all together. */
  readonly rate: number;
}

/** Of ten messages so many go to channels that only have visitors. */
const RARE_TENTHS = 1.5;

/** Everybody, and what they log. */
export class ClusterTraffic {
  readonly publishers: PublisherLog[] = [];
  readonly subscribers: SubscriberLog[] = [];

  readonly #options: TrafficOptions;
  readonly #publishing = new AbortController();
  readonly #subscribing = new AbortController();
  /** Publishers and subscribers; each until there is no need for it any more. */
  readonly #sending: Promise<void>[] = [];
  readonly #listening: Promise<void>[] = [];

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  /** Lets them come. */
  start(): void {
    const { doors, busyChannels, rate } = this.#options;
    const busy = Array.from({ length: busyChannels }, (_, i) => i);
    const lower = busy.slice(0, busyChannels / 2);
    const upper = busy.slice(busyChannels / 2);
    for (const node of doors.keys()) {
      const share = rate / doors.length / 2;
      this.#sending.push(this.#publish(node, share, Infinity), this.#publish(node, share, 10_000));
      this.#listening.push(
        this.#follow(node, busy),
        this.#follow(node, lower),
        this.#resume(node, upper, Infinity),
        this.#resume(node, lower, 6000),
        this.#visit(node),
        this.#visit(node),
      );
    }
  }

  /** Waits until every publisher has got all its answers, and sends no more. */
  async stopPublishing(): Promise<void> {
    this.#publishing.abort();
    await Promise.all(this.#sending);
  }

  /** Waits until nothing has come for so long, ms; false where something still does after `maxMs`. */
  async untilQuiet(quietMs: number, maxMs: number): Promise<boolean> {
    const { now } = this.#options;
    const untilMs = now() + maxMs;
    let count = this.received;
    for (let sinceMs = now(); now() - sinceMs < quietMs;) {
      if (now() > untilMs) return false;
      await pause(QUIET_LOOK_MS, this.#subscribing.signal);
      if (this.received !== count) sinceMs = now();
      count = this.received;
    }
    return true;
  }

  async stopSubscribing(): Promise<void> {
    this.#subscribing.abort();
    await Promise.all(this.#listening);
  }

  /** Messages that have come so far. */
  get received(): number {
    return this.subscribers.reduce((sum, { receipts }) => sum + receipts.length, 0);
  }

  /** A publisher that comes back where it was lost, and now and then goes by itself. */
  async #publish(node: number, rate: number, maxStayMs: number): Promise<void> {
    const { doors, now, random, busyChannels, rareChannels } = this.#options;
    const nextChannel = () =>
      random.next() * 10 < RARE_TENTHS
        ? busyChannels + random.below(rareChannels)
        : random.below(busyChannels);
    const options: PublisherOptions = { door: doors[node], now, rate, nextChannel };
    const newLog = () => {
      const log = new PublisherLog(this.publishers.length, node);
      this.publishers.push(log);
      return log;
    };
    const { signal } = this.#publishing;
    while (!signal.aborted) {
      const publisher = await LoadPublisher.connect(newLog, options).catch(ignoreUnreachable);
      if (publisher === undefined) {
        await pause(RETRY_MS, signal);
        continue;
      }
      await this.#stay(publisher.done, maxStayMs, signal);
      publisher.stop();
      await publisher.done;
    }
  }

  /** Whoever follows these channels, and after a loss follows them anew. */
  async #follow(node: number, channels: readonly number[]): Promise<void> {
    const { signal } = this.#subscribing;
    while (!signal.aborted) {
      const subscriber = await this.#connect(node, channels);
      if (subscriber === undefined) continue;
      await this.#stay(subscriber.done, Infinity, signal);
      subscriber.close();
      await subscriber.done;
    }
  }

  /** Whoever goes on, after a loss or a short absence, where it had been. */
  async #resume(node: number, channels: readonly number[], maxStayMs: number): Promise<void> {
    const { random } = this.#options;
    const { signal } = this.#subscribing;
    let before: LoadSubscriber | undefined;
    while (!signal.aborted) {
      const subscriber = await this.#connect(node, channels, before);
      if (subscriber === undefined) continue;
      before = subscriber;
      await this.#stay(subscriber.done, maxStayMs, signal);
      subscriber.close();
      await subscriber.done;
      // Where it was lost it comes back as soon as it can.
      if (Number.isFinite(maxStayMs)) await pause(random.between(0, 1500), signal);
    }
  }

  /** Whoever looks at a channel for a moment, one that has nobody else most of the time. */
  async #visit(node: number): Promise<void> {
    const { random, busyChannels, rareChannels } = this.#options;
    const { signal } = this.#subscribing;
    // Those who come to see the end are there until it has been seen.
    while (!this.#publishing.signal.aborted) {
      const subscriber = await this.#connect(node, [busyChannels + random.below(rareChannels)]);
      if (subscriber === undefined) continue;
      await this.#stay(subscriber.subscribed, Infinity, signal);
      await this.#stay(subscriber.done, 2500, this.#publishing.signal);
      if (this.#publishing.signal.aborted) await this.#stay(subscriber.done, Infinity, signal);
      subscriber.close();
      await subscriber.done;
      await pause(random.between(0, 500), signal);
    }
  }

  async #connect(
    node: number,
    channels: readonly number[],
    before?: LoadSubscriber,
  ): Promise<LoadSubscriber | undefined> {
    const { doors, now } = this.#options;
    const newLog = () => {
      const log = new SubscriberLog(this.subscribers.length, node);
      this.subscribers.push(log);
      return log;
    };
    const options = { door: doors[node], now, channels, before };
    const subscriber = await LoadSubscriber.connect(newLog, options).catch(ignoreUnreachable);
    if (subscriber === undefined) await pause(RETRY_MS, this.#subscribing.signal);
    return subscriber;
  }

  /** Until this happens, or for some time up to `maxMs`, or until the signal comes. */
  async #stay(done: Promise<void>, maxMs: number, signal: AbortSignal): Promise<void> {
    const { random } = this.#options;
    const early = new AbortController();
    const either = AbortSignal.any([signal, early.signal]);
    const staying = Number.isFinite(maxMs)
      ? pause(random.between(maxMs / 10, maxMs), either)
      : aborted(either);
    await Promise.race([done, staying]);
    early.abort();
    await staying;
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}

/** A node that is not there is tried again. */
function ignoreUnreachable(error: unknown): undefined {
  if (error instanceof Deno.errors.ConnectionRefused) return;
  if (error instanceof Deno.errors.ConnectionReset) return;
  throw error;
}
