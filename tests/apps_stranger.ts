// A client from an address of its own, so that what it gets wrong slows nobody else's answers.

import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { within } from "./harness_within.ts";

let addresses = 0;

/** An address that no other client has; on Linux all of 127.0.0.0/8 is this machine. */
function freshAddress(): string {
  const n = ++addresses;
  return `127.1.${n >> 8}.${n & 255}`;
}

/** One connection that authenticates, rightly or wrongly, and keeps account of it. */
export class Stranger implements Disposable {
  /** What was offered as a secret or a token. */
  readonly offered: string[] = [];
  /** Tries that were refused with `auth-failed`. */
  readonly failures: { command: string; line: string }[] = [];

  #socket: Socket;
  #text = "";
  #hasEnded = false;
  #wake = () => {};

  private constructor(socket: Socket, readonly address: string) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      this.#text += text;
      this.#wake();
    });
    socket.on("close", () => {
      this.#hasEnded = true;
      this.#wake();
    });
    socket.on("error", () => {});
  }

  /** Connects to a port of this machine, from `address` or else from one that is not used yet. */
  static async connect(port: number, address = freshAddress()): Promise<Stranger> {
    const socket = connect({ host: "127.0.0.1", port, localAddress: address });
    const connected = new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    const onLate = () => socket.destroy();
    await within(() => `a connection from ${address}`, connected, { onLate });
    return new Stranger(socket, address);
  }

  /** Sends one request and returns the next line. */
  async reply(request: string): Promise<string> {
    this.#socket.write(`${request}\n`);
    const line = await within(() => `the reply to ${request}`, this.#line(), {
      onLate: () => this[Symbol.dispose](),
    });
    const [command, ...words] = request.split(" ");
    if (/^auth(_server)?$/.test(command)) this.offered.push(words[1]);
    if (line.startsWith("ERROR auth-failed ")) this.failures.push({ command, line });
    return line;
  }

  /** Sends one request, and the reply must be `expected` or match it. */
  async ask(request: string, expected: string | RegExp): Promise<void> {
    const line = await this.reply(request);
    if (typeof expected === "string") assert.equal(line, expected, request);
    else assert.match(line, expected, request);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #line(): Promise<string> {
    let end: number;
    while ((end = this.#text.indexOf("\r\n")) < 0) {
      assert.ok(!this.#hasEnded, "the server closed the connection");
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 2);
    return line;
  }
}
