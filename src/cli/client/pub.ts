// pushd pub: publishes one message, or a line of standard input each, and waits for every reply.

import { messageOf } from "../../core/message_of.ts";
import { ClientError, ConnectionLost } from "./client_error.ts";
import type { Conversation } from "./conversation.ts";
import { ByteLines } from "./line_reader.ts";
import { Printer } from "./printer.ts";
import { type ClientOptions, Servers } from "./servers.ts";

/** What it is called with. */
export interface PubOptions extends ClientOptions {
  readonly channel: string;
  /** Undefined for the lines of standard input. */
  readonly message?: string;
  /** Prints `{"channel","ts"}` for each message instead of nothing or the timestamp. */
  readonly json: boolean;
  /** Says something to the person, on standard error. */
  readonly tell: (text: string) => void;
}

/** Requests that wait for their reply at one time. */
const MAX_OUTSTANDING = 1000;
const MAX_OUTSTANDING_BYTES = 4 * 1024 * 1024;
/** Refusals that are told one by one; the others are counted. */
const MAX_TOLD = 10;
const READ_BYTES = 64 * 1024;

/**
 * Publishes; resolves to whether every message was. Rejects with a {@link ClientError} when the connection
 * is lost, which says what is not known; that is not tried again, as it might publish twice.
 */
export async function publish(options: PubOptions): Promise<boolean> {
  const { conversation } = await new Servers(options).reach(() => ({ onUnasked() {} }));
  const run = new Run(options, conversation);
  try {
    await run.publishAll();
  } finally {
    conversation.close();
  }
  return run.isAllPublished;
}

class Run {
  #options: PubOptions;
  #conversation: Conversation;
  #printer = new Printer();
  #published = 0;
  #refused = 0;
  #unanswered = 0;
  #outstandingBytes = 0;
  #wake: (() => void) | null = null;

  constructor(options: PubOptions, conversation: Conversation) {
    this.#options = options;
    this.#conversation = conversation;
  }

  get isAllPublished(): boolean {
    return this.#refused === 0;
  }

  /** Publishes what there is, and waits for the replies. */
  async publishAll(): Promise<void> {
    const { message } = this.#options;
    let isCut = false;
    try {
      if (message !== undefined) await this.#publish(message, "");
      else await this.#publishLines();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      isCut = true;
    }
    await this.#finish(isCut);
  }

  async #publishLines(): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    const lines = new ByteLines();
    let number = 0;
    const publishAll = async (lines: Uint8Array[]) => {
      for (const line of lines) {
        const where = `line ${++number}: `;
        const text = textOf(line);
        if (text === null) this.#refuse(`${where}it is not valid UTF-8`);
        else await this.#publish(text, where);
      }
    };
    for (;;) {
      const count = await Promise.race([readInput(buffer), this.#conversation.ended]);
      if (count === null) break;
      await publishAll(lines.push(buffer.subarray(0, count)));
      await this.#printer.flush();
    }
    const rest = lines.rest();
    if (rest.length > 0) await publishAll([rest]);
  }

  /** Sends one message, when there is room; `where` begins what is said when it is refused. */
  async #publish(message: string, where: string): Promise<void> {
    const fault = faultOf(message);
    if (fault !== null) return this.#refuse(`${where}${fault}`);
    while (
      this.#conversation.outstanding >= MAX_OUTSTANDING ||
      this.#outstandingBytes > MAX_OUTSTANDING_BYTES
    ) {
      await this.#change();
    }
    const { channel } = this.#options;
    this.#outstandingBytes += message.length;
    this.#conversation.send(`pub ${channel} ${message}`, (reply) => {
      this.#outstandingBytes -= message.length;
      if (reply === null) this.#unanswered++;
      else if (reply.startsWith("PUBLISHED ")) this.#onPublished(reply.split(" ")[1]);
      else this.#refuse(`${where}${reply}`);
      this.#wake?.();
    });
  }

  /** Waits for all replies; `isCut`: not all of the input was sent. */
  async #finish(isCut: boolean): Promise<void> {
    while (this.#conversation.outstanding > 0) await this.#change();
    await this.#printer.flush();
    if (this.#refused > MAX_TOLD) {
      this.#options.tell(`${this.#refused} messages were refused in all`);
    }
    if (this.#unanswered === 0 && !isCut) return;
    throw new ClientError(
      `${this.#conversation.where}: the connection was lost: ${this.#published} published; of ` +
        `${this.#unanswered} that followed it is not known; nothing more was sent`,
    );
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  #onPublished(ts: string): void {
    this.#published++;
    const { json, channel, message } = this.#options;
    if (json) this.#printer.add(JSON.stringify({ channel, ts: Number(ts) }));
    else if (message !== undefined) this.#printer.add(ts);
  }

  #refuse(text: string): void {
    if (++this.#refused <= MAX_TOLD) this.#options.tell(text);
  }
}

async function readInput(buffer: Uint8Array): Promise<number | null> {
  try {
    return await Deno.stdin.read(buffer);
  } catch (error) {
    throw new ClientError(`standard input: ${messageOf(error)}`);
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function textOf(bytes: Uint8Array): string | null {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

/** Why a text cannot be a message, where sending it would say something else. */
function faultOf(message: string): string | null {
  if (message === "") return "an empty message cannot be published";
  if (message.includes("\n")) return "a message cannot hold a line end";
  if (/[\r\0]$/.test(message)) return "a message cannot end in CR or NUL";
  return null;
}
