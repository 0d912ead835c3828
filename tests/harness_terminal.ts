// What a person at telnet sees and types, for tests: in the real program, or played by the test.

import { AssertionError } from "node:assert/strict";
import { Client } from "./harness_client.ts";
import { within } from "./harness_within.ts";

/** What telnet says when the server closes. */
export const CLOSED = "Connection closed by foreign host.";

/** One telnet session, line by line as the screen shows it. */
export interface Terminal {
  /** Types a line and Enter. */
  type(line: string): Promise<void>;
  /** The next line that is printed; what is typed is not among them. */
  line(): Promise<string>;
  /** After {@linkcode CLOSED}: the program ends, and nothing more is printed. */
  end(): Promise<void>;
  /** Ends it at once. */
  close(): Promise<void>;
}

/** Starts a session. */
export type OpenTerminal = (host: string, port: number) => Promise<Terminal>;

/** A session without the program telnet: what that itself prints is played. */
export async function openTcpTerminal(host: string, port: number): Promise<Terminal> {
  const client = await Client.connect(port, "127.0.0.1");
  const played = ["Trying 127.0.0.1...", `Connected to ${host}.`, "Escape character is '^]'."];
  return {
    type: (line) => client.send(`${line}\r\n`),
    line: async () => played.shift() ?? await client.lineOrEnd() ?? CLOSED,
    end: () => client.eof(),
    async close() {
      await Promise.resolve(client.close());
    },
  };
}

/**
 * Runs telnet on a pseudo-terminal: lines of standard input are typed, what the terminal shows comes on
 * standard output.
 */
const BRIDGE = String.raw`
  log_user 0
  set timeout -1
  spawn -noecho telnet $env(TELNET_HOST) $env(TELNET_PORT)
  fconfigure stdin -blocking 0 -encoding utf-8
  fconfigure stdout -translation binary -encoding utf-8
  expect_background {
    -re {.+} { puts -nonewline stdout $expect_out(0,string); flush stdout }
    eof { exit }
  }
  fileevent stdin readable {
    if {[gets stdin line] >= 0} { send -- "$line\r" } elseif {[eof stdin]} { exit }
  }
  vwait forever
`;

/** A session in the real program telnet, on a pseudo-terminal that expect provides. */
export function openTelnet(host: string, port: number): Promise<Terminal> {
  return Promise.resolve(new TelnetTerminal(host, port));
}

class TelnetTerminal implements Terminal {
  #child: Deno.ChildProcess;
  #keyboard: WritableStreamDefaultWriter<Uint8Array>;
  #screen: ReadableStreamDefaultReader<string>;
  #seen = "";
  #at = 0;

  constructor(host: string, port: number) {
    this.#child = new Deno.Command("expect", {
      args: ["-c", BRIDGE],
      env: { TELNET_HOST: host, TELNET_PORT: `${port}`, LC_ALL: "C.UTF-8", TERM: "dumb" },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#keyboard = this.#child.stdin.getWriter();
    this.#screen = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  async type(line: string): Promise<void> {
    await this.#keyboard.write(new TextEncoder().encode(`${line}\n`));
    const shown = await this.line();
    if (shown !== line) this.#fail(`the screen should show what is typed, ${JSON.stringify(line)}`);
  }

  async line(): Promise<string> {
    let line = await this.#nextLine();
    // Where localhost is ::1 first, telnet tries that before the address that pushd listens on.
    while (line !== null && /^(Trying ::1\.\.\.|Connection failed: .*)$/.test(line)) {
      line = await this.#nextLine();
    }
    return line ?? this.#fail("telnet has ended, but a further line was expected");
  }

  async end(): Promise<void> {
    if (await this.#nextLine() !== null) this.#fail("telnet should have ended here");
  }

  async close(): Promise<void> {
    // The bridge ends, and telnet with its terminal.
    await this.#keyboard.close().catch(() => {});
    await this.#screen.cancel();
    await within(() => "expect to end", this.#child.status, {
      onLate: () => this.#child.kill("SIGKILL"),
    });
  }

  async #nextLine(): Promise<string | null> {
    while (true) {
      const lf = this.#seen.indexOf("\n", this.#at);
      if (lf >= 0) {
        const line = this.#seen.slice(this.#at, lf);
        this.#at = lf + 1;
        if (!line.endsWith("\r")) this.#fail("a line on the screen does not end in CR LF");
        return line.slice(0, -1);
      }
      const { value, done } = await within(
        () => `telnet to print; the screen:\n${this.#seen}`,
        this.#screen.read(),
        { onLate: () => this.#child.kill("SIGKILL") },
      );
      if (done) {
        if (this.#at < this.#seen.length) this.#fail("telnet ended within a line");
        return null;
      }
      this.#seen += value;
    }
  }

  #fail(message: string): never {
    throw new AssertionError({ message: `${message}; the screen:\n${this.#seen}` });
  }
}
