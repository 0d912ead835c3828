// pushd his: prints the history of a channel, page by page.

import { ClientError } from "./client_error.ts";
import { jsonOf, type Message, Printer } from "./printer.ts";
import { type ClientOptions, Servers } from "./servers.ts";

/** What it is called with. */
export interface HisOptions extends ClientOptions {
  readonly channel: string;
  /** A timestamp; what was kept at it or after it. */
  readonly from: string;
  /** The oldest so many; undefined for all. */
  readonly limit?: number;
  /** JSON objects instead of `<timestamp> <message>`. */
  readonly json: boolean;
  /** Says something to the person, on standard error. */
  readonly tell: (text: string) => void;
}

/** Messages of one page. */
const PAGE = 1000;

/** Prints it. Rejects with a {@link ClientError}. */
export async function printHistory(options: HisOptions): Promise<void> {
  const { channel, json } = options;
  const { conversation } = await new Servers(options).reach(() => ({ onUnasked() {} }));
  const printer = new Printer();
  try {
    let isPartial = false;
    let left = options.limit ?? Infinity;
    for (let from = options.from; left > 0;) {
      const reply = await conversation.ask(`his ${channel} ${from} ${Math.min(left, PAGE)}`);
      const head = `HISTORY ${channel} `;
      if (!reply.startsWith(head)) throw new ClientError(`${conversation.where}: ${reply}`);
      let body = reply.slice(head.length);
      if (body.startsWith("PARTIAL ")) {
        if (!isPartial) options.tell(`${channel}: there may be more than this (PARTIAL)`);
        isPartial = true;
        body = body.slice("PARTIAL ".length);
      }
      const messages: Message[] = JSON.parse(body);
      for (const message of messages.slice(0, left)) {
        printer.add(json ? jsonOf(message) : `${message.ts} ${message.msg}`);
      }
      await printer.flush();
      if (messages.length === 0) return;
      left -= messages.length;
      from = `${messages[messages.length - 1].ts + 1}`;
    }
  } finally {
    conversation.close();
  }
}
