// What client commands print: whole lines on standard output, remarks on standard error.

import { messageOf } from "../../core/message_of.ts";
import { harmless, writeOut } from "../output.ts";
import { ClientError, OutputClosed } from "./client_error.ts";

/** A message as a client sees it: an object of `his`, or of EVENT without `op`. */
export interface Message {
  readonly channel: string;
  readonly msg: string;
  /** Microseconds since the epoch. */
  readonly ts: number;
  readonly from?: string;
  readonly node?: string;
}

/** Collects lines; they are written together, whole. */
export class Printer {
  #lines: string[] = [];
  #isTerminal = Deno.stdout.isTerminal();

  /** Adds a line, given without its end. */
  add(line: string): void {
    this.#lines.push(this.#isTerminal ? harmless(line) : line);
  }

  /** Writes what was added. Rejects with {@link OutputClosed} when nobody reads it, and with a ClientError else. */
  async flush(): Promise<void> {
    if (this.#lines.length === 0) return;
    const text = this.#lines.join("\n") + "\n";
    this.#lines = [];
    try {
      await writeOut(text);
    } catch (error) {
      if (error instanceof Deno.errors.BrokenPipe) {
        throw new OutputClosed("nobody reads the output");
      }
      // Not to be taken for something that another connection would mend.
      throw new ClientError(`standard output: ${messageOf(error)}`);
    }
  }
}

/** The line of a JSON message, keys in the order of `his`. */
export function jsonOf({ channel, msg, ts, from, node }: Message): string {
  return JSON.stringify({ channel, msg, ts, from, node });
}
