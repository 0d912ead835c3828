// Which of the ZooKeeper servers is tried next, and when.

import { splitHostPort } from "../core/host_port.ts";

/** The first pause, after every server was tried in vain, ms. It doubles with each round. */
const FIRST_PAUSE_MS = 100;

/** A server to connect to. */
export interface Attempt {
  readonly hostname: string;
  readonly port: number;
  /** How long to wait before, ms. */
  readonly pauseMs: number;
}

/**
 * The servers in turn, in an order of our own, so that not every node goes to the first. One round is tried at
 * once, and before each further one there is a pause, which grows and is never the same for two nodes.
 *
 * What is tried is remembered across clients: a server that ends every session at once is not asked faster.
 */
export class ServerRing {
  readonly #servers: { hostname: string; port: number }[];
  readonly #maxPauseMs: number;
  readonly #random: () => number;
  #next = 0;
  #attempts = 0;

  /** `servers` as `host:port`, at least one; `random` gives 0 to 1, as Math.random. */
  constructor(
    servers: readonly string[],
    { maxPauseMs, random = Math.random }: { maxPauseMs: number; random?: () => number },
  ) {
    if (servers.length === 0) throw new RangeError("no ZooKeeper server is named");
    this.#servers = shuffled(servers.map(parseServer), random);
    this.#maxPauseMs = maxPauseMs;
    this.#random = random;
  }

  /** Whether every server has been tried since {@link reset}, and none was good. */
  get isExhausted(): boolean {
    return this.#attempts >= this.#servers.length;
  }

  /** The server to try now. */
  next(): Attempt {
    const server = this.#servers[this.#next];
    this.#next = (this.#next + 1) % this.#servers.length;
    const round = Math.floor(this.#attempts / this.#servers.length);
    const isFirst = this.#attempts % this.#servers.length === 0;
    this.#attempts++;
    const longest = Math.min(this.#maxPauseMs, FIRST_PAUSE_MS * 2 ** Math.min(round - 1, 20));
    const pauseMs = round > 0 && isFirst ? longest * (0.5 + this.#random() / 2) : 0;
    return { ...server, pauseMs };
  }

  /** A connection was good: when it is lost, every server deserves to be tried at once. */
  reset(): void {
    this.#attempts = 0;
  }
}

/** Takes `host:port`, an IPv6 address in brackets. */
function parseServer(text: string): { hostname: string; port: number } {
  const server = splitHostPort(text);
  const { hostname, port } = server;
  if (!/:\d{1,5}$/.test(text) || hostname === "" || port < 1 || port > 65535) {
    throw new RangeError(`${JSON.stringify(text)} is no host:port, as 10.0.0.1:2181 would be`);
  }
  return server;
}

/** Fisher and Yates. */
function shuffled<T>(items: T[], random: () => number): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.min(Math.floor(random() * (i + 1)), i);
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}
