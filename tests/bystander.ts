// Somebody who stands beside a crowd and pings all the time.

import assert from "node:assert/strict";
import { Client, type Pushd } from "./harness.ts";
import { ownMs, Process, type Span, timed } from "./process.ts";

/** Between an answer and the next ping, ms. */
const PAUSE_MS = 5;

/** One connection that pings. */
export class Bystander implements AsyncDisposable {
  #client: Client;
  #server: Process;
  #isOver = false;
  #pings: Span[] = [];
  #pinging: Promise<void>;

  private constructor(client: Client, pushd: Pushd) {
    this.#client = client;
    this.#server = new Process(pushd.pid);
    this.#pinging = this.#ping();
    // Where something else fails first, that is what is told.
    this.#pinging.catch(() => {});
  }

  /** Comes in, with requests whose answers are given; resolves once it is served. */
  static async join(
    pushd: Pushd,
    ...asked: [request: string, answer: string][]
  ): Promise<Bystander> {
    const client = await Client.connect(pushd.port);
    for (const [request, answer] of asked) await client.ask(request, answer);
    await client.ask("ping", "PONG");
    return new Bystander(client, pushd);
  }

  async #ping(): Promise<void> {
    while (!this.#isOver) {
      this.#pings.push(await timed(this.#server, () => this.#client.ask("ping", "PONG")));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /**
   * Leaves. At least so many pings must have been answered, each within `ms`; the time in which the
   * machine was busy with other programs does not count.
   */
  async assertServed(ms: number, least: number): Promise<void> {
    this.#isOver = true;
    await this.#pinging;
    const pings = this.#pings.toSorted((a, b) => ownMs(b) - ownMs(a));
    assert.ok(pings.length >= least, `only ${pings.length} pings were answered`);
    const slowest = JSON.stringify(pings.slice(0, 3));
    assert.ok(ownMs(pings[0]) < ms, `the slowest of ${pings.length} pings: ${slowest}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#pinging.catch(() => {});
    this.#client.close();
  }
}
