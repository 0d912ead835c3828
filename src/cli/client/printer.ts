// What client commands print: whole lines on standard output, remarks on standard error.

import { encodeUtf8 } from "../../proto/bytes.ts";
import { OutputClosed } from "./client_error.ts";

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

  /** Writes what was added. Rejects with {@link OutputClosed} when nobody reads it. */
  async flush(): Promise<void> {
    if (this.#lines.length === 0) return;
    const bytes = encodeUtf8(this.#lines.join("\n") + "\n");
    this.#lines = [];
    try {
      for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
    } catch (error) {
      if (error instanceof Deno.errors.BrokenPipe) {
        throw new OutputClosed("nobody reads the output");
      }
      throw error;
    }
  }
}

/** Control characters made visible, so that a message cannot work the terminal. Tabs may stay. */
function harmless(line: string): string {
  // deno-lint-ignore no-control-regex
  return line.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, (control) => {
    return `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}

/** The line of a JSON message, keys in the order of `his`. */
export function jsonOf({ channel, msg, ts, from, node }: Message): string {
  return JSON.stringify({ channel, msg, ts, from, node });
}
