// pushd sub: follows channels, over as many connections as it takes, each message once.

import { pause } from "../../core/pause.ts";
import { parseServer } from "./addresses.ts";
import { ClientError, ConnectionLost } from "./client_error.ts";
import type { Conversation, Listener, ServerAddress } from "./conversation.ts";
import { Followed } from "./followed.ts";
import { jsonOf, type Message, Printer } from "./printer.ts";
import { type ClientOptions, type Hello, Servers } from "./servers.ts";

/** What it is called with. */
export interface SubOptions extends ClientOptions {
  readonly channels: readonly string[];
  /** A timestamp: what was kept after it comes first. */
  readonly from?: string;
  /** JSON objects instead of `<channel> <timestamp> <message>`. */
  readonly json: boolean;
  /** Says something to the person, on standard error. */
  readonly tell: (text: string) => void;
}

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5000;
/** A store that does not answer is asked again after so long, ms. */
const STORE_RETRY_MS = 1000;
/** Subscriptions that wait for their reply at one time. */
const MAX_UNDER_WAY = 1000;

/**
 * Follows the channels until `signal` is aborted. Rejects with a {@link ClientError}: no server could be
 * reached at first, or one refuses what was asked for; with {@link OutputClosed} where nobody reads.
 */
export async function follow(options: SubOptions, signal: AbortSignal): Promise<void> {
  const servers = new Servers(options);
  const channels = new Map(
    options.channels.map((name) => [name, new Followed(name, options.from)]),
  );
  let retryMs = 0;
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    const line = new Line(options, channels);
    try {
      const { conversation, hello } = await servers.reach(() => line);
      if (!isFirst) options.tell(`connected to ${conversation.where} again`);
      retryMs = 0;
      await line.serve(conversation, hello, signal);
    } catch (error) {
      if (!(error instanceof ConnectionLost) || (isFirst && !line.isServed)) throw error;
      if (retryMs <= FIRST_RETRY_MS) options.tell(`${error.message}; reconnecting`);
    }
    if (signal.aborted) return;
    if (line.isToldToLeave) servers.moveOn(line.elsewhere);
    // At once the first time; then ever later, and not with everybody else.
    await pause(Math.max(line.comeBackMs(), retryMs * (0.5 + Math.random() / 2)), signal);
    retryMs = Math.min(Math.max(FIRST_RETRY_MS, retryMs * 2), MAX_RETRY_MS);
  }
}

/** One connection's share of it. */
class Line implements Listener {
  /** The server has taken us. */
  isServed = false;
  isToldToLeave = false;
  /** Servers that were named by one that leaves. */
  elsewhere: ServerAddress[] = [];

  #options: SubOptions;
  #channels: Map<string, Followed>;
  #printer = new Printer();
  #node = "";
  #leaveMs = 0;
  #leave: (() => void) | null = null;

  constructor(options: SubOptions, channels: Map<string, Followed>) {
    this.#options = options;
    this.#channels = channels;
  }

  /** For how long a server that has told us to leave wants us to stay away, ms from now. */
  comeBackMs(): number {
    return Math.max(0, this.#leaveMs - performance.now());
  }

  /** Subscribes to everything, and prints until the connection ends, which it rejects with. */
  async serve(conversation: Conversation, hello: Hello, signal: AbortSignal): Promise<void> {
    this.isServed = true;
    this.#node = hello.node;
    const stop = () => conversation.close();
    signal.addEventListener("abort", stop);
    const toldToLeave = new Promise<void>((resolve) => this.#leave = resolve);
    try {
      await Promise.race([conversation.ended, this.#subscribe(conversation, hello, signal)]);
      await Promise.race([conversation.ended, toldToLeave]);
      // Messages go on coming until it is time.
      await Promise.race([conversation.ended, pause(this.comeBackMs(), signal)]);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", stop);
      conversation.close();
      await this.#printer.flush();
    }
  }

  async #subscribe(conversation: Conversation, hello: Hello, signal: AbortSignal): Promise<void> {
    const keepsHistory = hello.features.includes("history");
    if (!keepsHistory) this.#sayHistoryIsOff(conversation);
    const underWay = new Set<Promise<void>>();
    for (const followed of this.#channels.values()) {
      followed.begin(hello.node, hello.ts);
      const one = this.#subscribeTo(followed, conversation, keepsHistory, signal)
        .finally(() => underWay.delete(one));
      underWay.add(one);
      if (underWay.size >= MAX_UNDER_WAY) await Promise.race(underWay);
    }
    await Promise.all(underWay);
  }

  #sayHistoryIsOff({ where }: Conversation): void {
    if (this.#options.from !== undefined) {
      throw new ClientError(`${where} keeps no history, so there is nothing to begin --from`);
    }
    this.#options.tell(`${where} keeps no history: what is published while not connected is lost`);
  }

  async #subscribeTo(
    followed: Followed,
    conversation: Conversation,
    keepsHistory: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const { channel } = followed;
    for (;;) {
      const reply = await conversation.ask(followed.request(this.#node, keepsHistory));
      if (reply.startsWith("SUBSCRIBED ")) {
        if (reply.slice(`SUBSCRIBED ${channel}`.length).endsWith(" PARTIAL")) {
          this.#options.tell(`${channel}: what comes may be incomplete (PARTIAL)`);
        }
        return;
      }
      if (!reply.startsWith("ERROR storage-unavailable ")) {
        throw new ClientError(`${conversation.where}: sub ${channel}: ${reply}`);
      }
      this.#options.tell(`${channel}: ${reply}; trying again`);
      if (!await pause(STORE_RETRY_MS, signal)) return;
    }
  }

  onUnasked(line: string): void {
    if (line.startsWith("EVENT ")) {
      const message: Message & { op?: string } = JSON.parse(line.slice("EVENT ".length));
      if (message.op === "msg") this.#print(message);
    } else if (line.startsWith("RECONNECT ")) {
      const [, ms, ...named] = line.split(" ");
      this.#leaveMs = performance.now() + (Number(ms) || 0);
      this.isToldToLeave = true;
      this.elsewhere = named.flatMap((text) => parseServer(text) ?? []);
      this.#options.tell(`the server leaves; going elsewhere in ${Number(ms) || 0} ms`);
      this.#leave?.();
    }
  }

  async onRead(): Promise<void> {
    await this.#printer.flush();
  }

  #print(message: Message): void {
    const { channel, ts, msg } = message;
    if (!this.#channels.get(channel)?.isNew(message, this.#node)) return;
    this.#printer.add(this.#options.json ? jsonOf(message) : `${channel} ${ts} ${msg}`);
  }
}
