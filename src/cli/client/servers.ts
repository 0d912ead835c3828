// The servers a client may use: one after the other, until one takes it.

import { hostAndPort } from "../../core/host_port.ts";
import { shorten } from "../../proto/request.ts";
import { ClientError, ConnectionLost } from "./client_error.ts";
import {
  Conversation,
  type DialOptions,
  type Listener,
  type ServerAddress,
} from "./conversation.ts";
import { authenticate, type Identity } from "./identity.ts";

/** What is said at the beginning takes at most so long; wrong tries are answered after up to 5 s. */
const GREETING_MS = 12_000;

/** What every client command is told. */
export interface ClientOptions extends DialOptions {
  /** The form in which deliveries come. */
  readonly form?: "json" | "text";
  /** At least one; tried in turn. */
  readonly servers: readonly ServerAddress[];
  readonly identity: Identity;
}

/** What a server says of itself. */
export interface Hello {
  readonly node: string;
  /** A timestamp of then, microseconds; undefined where the server tells none. */
  readonly ts?: number;
  readonly features: readonly string[];
}

/** A server that has taken the client, and who it is. */
export interface Reached {
  readonly conversation: Conversation;
  readonly hello: Hello;
}

/** The list, and which one is in use. */
export class Servers {
  #options: ClientOptions;
  #all: ServerAddress[];
  #at = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#all = [...options.servers];
  }

  /**
   * A connection to the one in use or else the next, after `hello` and who we are. Rejects with a
   * {@link ConnectionLost} that names what was wrong with each, or a {@link ClientError} where a server
   * does not want us.
   */
  async reach(newListener: () => Listener): Promise<Reached> {
    const failures: string[] = [];
    for (let i = 0; i < this.#all.length; i++) {
      try {
        return await this.#try(this.#all[this.#at], newListener());
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
        failures.push(error.message);
        this.#at = (this.#at + 1) % this.#all.length;
      }
    }
    throw new ConnectionLost(failures.join("; "));
  }

  /** The next time begins with these, which a server has named, or with the one behind the present one. */
  moveOn(named: readonly ServerAddress[]): void {
    if (named.length === 0) {
      this.#at = (this.#at + 1) % this.#all.length;
      return;
    }
    const key = ({ hostname, port }: ServerAddress) => hostAndPort(hostname, port);
    const keys = new Set(named.map(key));
    // Those of the call stay: whoever is named now may be gone tomorrow.
    this.#all = [...named, ...this.#options.servers.filter((server) => !keys.has(key(server)))];
    this.#at = 0;
  }

  async #try(address: ServerAddress, listener: Listener): Promise<Reached> {
    const { identity } = this.#options;
    const conversation = await Conversation.open(address, this.#options, listener);
    const deadline = setTimeout(() => {
      conversation.giveUp(
        `no answer to hello within ${GREETING_MS / 1000} s; is that a pushd server?`,
      );
    }, GREETING_MS);
    try {
      await authenticate(conversation, identity);
      return { conversation, hello: await sayHello(conversation, this.#options.form) };
    } catch (error) {
      conversation.close();
      throw error;
    } finally {
      clearTimeout(deadline);
    }
  }
}

async function sayHello(conversation: Conversation, form = "json"): Promise<Hello> {
  const reply = await conversation.ask(form === "json" ? "hello 1 json" : "hello 1");
  const [, json] = /^HELLO 1 (\{.*\})/.exec(reply) ?? [];
  if (json === undefined) {
    // A server that is full says so before it closes; anything else is no pushd.
    const isFull = reply.startsWith("ERROR too-busy ");
    const message = `${conversation.where}: ${reply}`;
    throw isFull ? new ConnectionLost(message) : new ClientError(message);
  }
  try {
    const { node = "", ts, features = [] } = JSON.parse(json);
    return { node, ts, features };
  } catch {
    throw new ClientError(`${conversation.where}: no JSON behind HELLO: ${shorten(reply)}`);
  }
}
