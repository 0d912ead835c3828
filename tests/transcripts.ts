// Transcripts in the docs: how they are written, and how they are played against a real server.

import { spawnTerminal, type Terminal } from "./terminal.ts";

/**
 * A block of a document that shows what a person types and sees.
 *
 * - ```` ```telnet NAME ````: a telnet session. Its first line is `$ telnet localhost 2222`; further
 *   blocks of the same name go on with it. A line that begins with a command of the protocol, in
 *   lower case, is typed; every other one is what the terminal shows.
 * - ```` ```sh ````: `$ ` begins a command for the shell, what follows up to the next is its output.
 *
 * A timestamp (16 digits) stands for any, the same one for the same wherever it is shown again;
 * 2222 and 9020 stand for the server's ports.
 */
export interface Block {
  readonly kind: "telnet" | "sh";
  /** The session of a telnet block. */
  readonly name: string;
  readonly lines: readonly string[];
  /** Line of the document on which it begins. */
  readonly at: number;
}

/** Where the server under test listens. */
export interface Ports {
  readonly port: number;
  readonly statsPort: number;
}

const COMMANDS = /^(sub|unsub|pub|his|gettoken|auth|auth_server|hello|ping|help|quit)( |$)/;
const TIMESTAMP = /\b\d{16}\b/g;
const TIMEOUT_MS = 15_000;

/** The transcripts of a Markdown text. Throws for a block that looks like one and is not marked. */
export function readBlocks(markdown: string): Block[] {
  const blocks: Block[] = [];
  const lines = markdown.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const fence = /^```(\S*) ?(.*)$/.exec(lines[i]);
    if (fence === null) continue;
    const end = lines.indexOf("```", i + 1);
    if (end < 0) throw new Error(`line ${i + 1}: a block without an end`);
    const [, kind, name] = fence;
    const body = lines.slice(i + 1, end);
    if (kind === "telnet" || kind === "sh") {
      blocks.push({ kind, name, lines: body, at: i + 1 });
    } else if (body.some((line) => /^\$ |^(MESSAGE|SUBSCRIBED|PUBLISHED) /.test(line))) {
      throw new Error(`line ${i + 1}: a transcript that is not marked as telnet or sh`);
    }
    i = end;
  }
  return blocks;
}

/** Plays blocks in order; throws with what was expected and what came instead. */
export async function play(blocks: readonly Block[], ports: Ports): Promise<void> {
  const player = new Player(ports);
  try {
    for (const block of blocks) {
      if (block.kind === "telnet") await player.telnet(block);
      else await player.shell(block);
    }
  } finally {
    await player.end();
  }
}

class Player {
  #ports: Ports;
  #sessions = new Map<string, { terminal: Terminal; expected: string }>();
  /** Timestamps of the document and what they turned out to be. */
  #timestamps = new Map<string, string>();

  constructor(ports: Ports) {
    this.#ports = ports;
  }

  async telnet(block: Block): Promise<void> {
    let session = this.#sessions.get(block.name);
    for (const line of block.lines) {
      if (line.startsWith("$ ")) {
        if (session !== undefined) {
          throw new Error(`${place(block)}: the session has begun already`);
        }
        const [program, ...args] = this.#mapPorts(line.slice(2)).split(" ");
        session = { terminal: spawnTerminal(program, args), expected: "" };
        this.#sessions.set(block.name, session);
        continue;
      }
      if (session === undefined) throw new Error(`${place(block)}: begins without "$ telnet …"`);
      if (COMMANDS.test(line)) {
        // A person reads what is there before typing on.
        await this.#see(block, session.terminal, session.expected);
        await session.terminal.type(this.#mapTimestamps(line));
      }
      session.expected += `${line}\n`;
    }
    if (session !== undefined) await this.#see(block, session.terminal, session.expected);
  }

  async #see(block: Block, terminal: Terminal, expected: string): Promise<void> {
    const seen = await terminal.until((text) => this.#matches(expected, text), TIMEOUT_MS);
    if (seen !== null) throw new Error(`${place(block)}: expected\n${expected}\nbut saw\n${seen}`);
  }

  async shell(block: Block): Promise<void> {
    for (let i = 0; i < block.lines.length;) {
      const line = block.lines[i++];
      if (!line.startsWith("$ ")) throw new Error(`${place(block)}: begins without "$ "`);
      let expected = "";
      while (i < block.lines.length && !block.lines[i].startsWith("$ ")) {
        expected += `${block.lines[i++]}\n`;
      }
      const { stdout } = await new Deno.Command("sh", {
        args: ["-c", this.#mapTimestamps(this.#mapPorts(line.slice(2)))],
        stdin: "null",
        stderr: "inherit",
      }).output();
      const seen = new TextDecoder().decode(stdout).replaceAll("\r\n", "\n").trimEnd() + "\n";
      if (!this.#matches(expected, seen)) {
        throw new Error(`${place(block)}: ${line}: expected\n${expected}\nbut saw\n${seen}`);
      }
    }
  }

  /** Whether `seen` is `expected`, any timestamp standing for one that was not shown before. */
  #matches(expected: string, seen: string): boolean {
    const found: string[] = [];
    let pattern = "";
    let end = 0;
    for (const match of expected.matchAll(TIMESTAMP)) {
      const [shown] = match;
      pattern += escape(expected.slice(end, match.index));
      const known = this.#timestamps.get(shown);
      const before = found.indexOf(shown);
      if (known !== undefined) pattern += known;
      else if (before >= 0) pattern += `\\${before + 1}`;
      else pattern += found.push(shown) && "(\\d{16})";
      end = match.index + shown.length;
    }
    pattern += escape(expected.slice(end));
    const match = new RegExp(`^${pattern}$`).exec(seen);
    if (match === null) return false;
    found.forEach((shown, i) => this.#timestamps.set(shown, match[i + 1]));
    return true;
  }

  #mapPorts(text: string): string {
    return text.replace(/\b2222\b/g, `${this.#ports.port}`)
      .replace(/\b9020\b/g, `${this.#ports.statsPort}`);
  }

  #mapTimestamps(text: string): string {
    return text.replace(TIMESTAMP, (shown) => this.#timestamps.get(shown) ?? shown);
  }

  async end(): Promise<void> {
    for (const { terminal } of this.#sessions.values()) await terminal.close();
  }
}

function place({ kind, name, at }: Block): string {
  return `the ${kind} block ${name} at line ${at}`;
}

function escape(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
