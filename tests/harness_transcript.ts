// Finds the transcripts in a document, and replays them: what the document shows is what happens.
//
// In a block whose info string is `telnet NAME` stands what a telnet session shows. Up to the next heading,
// several blocks of one name are one session, and all sessions one conversation, in the order of the document:
//
//     $ telnet localhost 2222        starts the session
//     Connected to localhost.        a line that begins with a capital is printed
//     sub channel1                   any other line is typed
//
// In a block with `sh`, a line `$ …` is a command (a `\` at its end joins the next line to it), and what
// follows it is what it prints. A block without such a line is no transcript.
//
// 16 digits stand for any timestamp, 43 characters of base64url for any token: the same ones for the same
// one, different ones for different ones, as far as the telnet conversation or the `sh` block goes; typed,
// they are what was printed before (a timestamp that is a few more or less too, as in `his c <last + 1>`).
// `…` stands for any text. The ports 2222 and 9020 are those of the server under test.
//
// A comment `<!-- pushd: {…} -->` starts another server, with that configuration, for what follows it; one
// `<!-- pushd dev-cluster 3 -->` starts that, whose further nodes have the ports 2232, 9030 and so on. With
// `<!-- not replayed: why -->` before it a block is left out.

import { AssertionError } from "node:assert/strict";
import { messageOf } from "../src/core/message_of.ts";
import { CLOSED, type OpenTerminal, type Terminal } from "./harness_terminal.ts";
import { within } from "./harness_within.ts";

/**
 * Something that a document shows: a session's start, a typed line, a printed line, the end of all sessions,
 * or a command.
 */
export type Step =
  & { line: number }
  & (
    | { kind: "start"; session: string; host: string; port: string }
    | { kind: "type" | "print"; session: string; text: string }
    | { kind: "end" }
    | { kind: "run"; block: number; command: string; output: string[] }
  );

/** What happens with one server. */
export interface Scene {
  /** The text of its configuration; null for that of a first start. */
  config: string | null;
  /** Nodes of a `dev-cluster`; 0 for a single server. */
  nodes: number;
  steps: Step[];
}

/** The transcripts of a document. */
export interface Transcripts {
  scenes: Scene[];
  /** Blocks that look like a transcript and cannot be replayed: line and what is wrong. */
  strays: string[];
}

interface Block {
  kind: "code" | "comment" | "heading";
  /** Its first line in the document, counted from 1. */
  line: number;
  /** Behind the fence; empty for indented code. */
  info: string;
  lines: string[];
}

/** What the server prints to telnet, in a block that does not say that it is a transcript. */
const PRINTED =
  /^(SUBSCRIBED|ALREADY SUBSCRIBED|UNSUBSCRIBED|NOT SUBSCRIBED|PUBLISHED|MESSAGE|EVENT|HISTORY|TOKEN|AUTHENTICATED|HELLO|PONG|HELP|BYE|ERROR|NOTE|RECONNECT|Trying|Connected to)( |$)/;
/** Programs that a transcript may run. */
const PROGRAMS = /^(?:[A-Z_]+=\S+ )*(curl|echo|nc|printf|pushd) /;

/** Takes the transcripts out of a document in Markdown. */
export function readTranscripts(markdown: string): Transcripts {
  const scenes: Scene[] = [{ config: null, nodes: 0, steps: [] }];
  const strays: string[] = [];
  let isLeftOut = false;
  for (const block of blocksOf(markdown)) {
    const { steps } = scenes[scenes.length - 1];
    if (block.kind === "heading") {
      if (steps.length > 0) steps.push({ line: block.line, kind: "end" });
      continue;
    }
    if (block.kind === "comment") {
      const text = block.lines.join("\n").trim();
      const config = /^pushd:(.*)$/s.exec(text)?.[1];
      if (config !== undefined) scenes.push({ config, nodes: 0, steps: [] });
      const nodes = Number(/^pushd dev-cluster (\d+)$/.exec(text)?.[1] ?? 0);
      if (nodes > 0) scenes.push({ config: null, nodes, steps: [] });
      if (/^not replayed: \S/.test(text)) isLeftOut = true;
      continue;
    }
    const session = /^telnet (\S+)$/.exec(block.info)?.[1];
    const stray = isLeftOut
      ? null
      : session !== undefined
      ? readTelnet(block, session, steps)
      : block.info === "sh"
      ? readShell(block, steps)
      : block.lines.some((line) => PRINTED.test(line) || line.startsWith("$ "))
      ? "it looks like a transcript, and is neither a `telnet NAME` nor a `sh` block"
      : null;
    if (stray !== null) strays.push(`line ${block.line}: ${stray}`);
    isLeftOut = false;
  }
  return { scenes: scenes.filter(({ steps }) => steps.length > 0), strays };
}

function* blocksOf(markdown: string): Generator<Block> {
  const lines = markdown.split("\n");
  for (let at = 0; at < lines.length; at++) {
    const fence = /^( *)(```+|~~~+)(.*)$/.exec(lines[at]);
    const isIndented = /^(?: {4}|\t)/.test(lines[at]) && (at === 0 || lines[at - 1] === "");
    const first = at;
    if (fence !== null) {
      const [, indent, marks, info] = fence;
      while (++at < lines.length && !lines[at].trimStart().startsWith(marks));
      const inside = lines.slice(first + 1, at).map((line) =>
        line.startsWith(indent) ? line.slice(indent.length) : line
      );
      yield { kind: "code", line: first + 1, info: info.trim(), lines: inside };
    } else if (/^#{1,6} /.test(lines[at])) {
      yield { kind: "heading", line: first + 1, info: "", lines: [lines[at]] };
    } else if (lines[at].startsWith("<!--")) {
      while (!lines[at].includes("-->") && at < lines.length - 1) at++;
      const text = lines.slice(first, at + 1).join("\n");
      const inside = text.replace(/^<!--/, "").replace(/-->.*$/s, "");
      yield { kind: "comment", line: first + 1, info: "", lines: inside.split("\n") };
    } else if (isIndented) {
      while (at + 1 < lines.length && /^(?: {4}|\t|\s*$)/.test(lines[at + 1])) at++;
      const inside = lines.slice(first, at + 1).map((line) => line.replace(/^(?: {4}|\t)/, ""));
      yield { kind: "code", line: first + 1, info: "", lines: inside };
    }
  }
}

/** Adds a telnet block's steps; returns what is wrong with it, or null. */
function readTelnet(block: Block, session: string, steps: Step[]): string | null {
  for (const [i, text] of block.lines.entries()) {
    const line = block.line + 1 + i;
    const [, host, port] = /^\$ telnet (\S+) (\d+)$/.exec(text) ?? [];
    if (host !== undefined) {
      steps.push({ line, kind: "start", session, host, port });
    } else if (text.startsWith("$ ")) {
      return `a telnet session begins with "$ telnet HOST PORT", not with "${text}"`;
    } else if (text === "") {
      return `line ${line} is empty, which a telnet session never shows`;
    } else {
      steps.push({ line, kind: /^\p{Lu}/u.test(text) ? "print" : "type", session, text });
    }
  }
  return null;
}

/** Adds the steps of a block with commands; returns what is wrong with it, or null. */
function readShell(block: Block, steps: Step[]): string | null {
  let isTranscript = false;
  let run: Step & { kind: "run" } | null = null;
  let isContinued = false;
  for (const [i, text] of block.lines.entries()) {
    const line = block.line + 1 + i;
    if (run !== null && isContinued) {
      run.command += `\n${text}`;
    } else if (text.startsWith("$ ")) {
      run = { line, kind: "run", block: block.line, command: text.slice(2), output: [] };
      if (!PROGRAMS.test(run.command)) return `a test cannot run "${run.command}"`;
      isTranscript = true;
      steps.push(run);
    } else if (run !== null) {
      run.output.push(text);
    } else if (PRINTED.test(text)) {
      return `line ${line} is printed by no command`;
    }
    isContinued = run !== null && /(^|[^\\])\\$/.test(text) && run.output.length === 0;
  }
  if (isTranscript && run?.output.at(-1) === "") run.output.pop();
  return null;
}

/** What {@link replay} needs. */
export interface Stage {
  /** Ports of the servers under test: those of the first, and of each of its peers. */
  servers: readonly { port: number; statsPort: number }[];
  open: OpenTerminal;
  /** Where commands run, and the folder in which they find `pushd`. */
  cwd?: string;
  bin?: string;
}

/** Replays what a document shows of one server. Throws where it shows something else than happens. */
export async function replay({ steps }: Scene, stage: Stage): Promise<void> {
  let conversation = new Conversation(stage);
  let shell = { block: 0, placeholders: new Placeholders() };
  try {
    for (const step of steps) {
      const explain = (error: unknown): never => {
        const message = messageOf(error);
        throw new AssertionError({ message: `line ${step.line}: ${message}` });
      };
      if (step.kind === "end") {
        await conversation.end().catch(explain);
        conversation = new Conversation(stage);
      } else if (step.kind === "run") {
        if (step.block !== shell.block) {
          shell = { block: step.block, placeholders: new Placeholders() };
        }
        await replayCommand(step, stage, shell.placeholders).catch(explain);
      } else {
        await conversation.replay(step).catch(explain);
      }
    }
    await conversation.end();
  } finally {
    await conversation.close();
  }
}

/** Telnet sessions, up to a heading. */
class Conversation {
  #stage: Stage;
  #terminals = new Map<string, Terminal>();
  #placeholders = new Placeholders();

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  async replay(step: Exclude<Step, { kind: "run" | "end" }>): Promise<void> {
    const { session } = step;
    const terminal = this.#terminals.get(session);
    if (step.kind === "start") {
      if (terminal !== undefined) throw new Error(`${session} has not ended`);
      const port = Number(mapPorts(step.port, this.#stage));
      this.#terminals.set(session, await this.#stage.open(step.host, port));
      return;
    }
    if (terminal === undefined) throw new Error(`${session} has not been started, or has ended`);
    if (step.kind === "type") {
      await terminal.type(this.#placeholders.fill(step.text));
      return;
    }
    this.#placeholders.match(step.text, await terminal.line());
    if (step.text !== CLOSED) return;
    await terminal.end();
    this.#terminals.delete(session);
    await terminal.close();
  }

  /** Checks that no session has printed more than was shown, and ends them. */
  async end(): Promise<void> {
    for (const [name, terminal] of this.#terminals) {
      // Anything more would come in front of this answer.
      await terminal.type("ping");
      const line = await terminal.line();
      if (line !== "PONG") throw new Error(`${name} also shows: ${line}`);
    }
    await this.close();
  }

  async close(): Promise<void> {
    for (const terminal of this.#terminals.values()) await terminal.close();
    this.#terminals.clear();
  }
}

async function replayCommand(
  step: Step & { kind: "run" },
  stage: Stage,
  placeholders: Placeholders,
): Promise<void> {
  const command = mapPorts(placeholders.fill(step.command), stage);
  const child = new Deno.Command("sh", {
    args: ["-c", `exec 2>&1\n${command}`],
    cwd: stage.cwd,
    env: stage.bin === undefined ? {} : { PATH: `${stage.bin}:${Deno.env.get("PATH") ?? ""}` },
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const { stdout } = await within(() => `"${command}" to end`, child.output(), {
    onLate: () => child.kill("SIGKILL"),
  });
  const printed = new TextDecoder().decode(stdout).replaceAll("\r\n", "\n").split("\n");
  if (printed.at(-1) === "") printed.pop();
  for (const [i, line] of printed.entries()) {
    if (i >= step.output.length) throw new Error(`it also prints: ${line}`);
    placeholders.match(step.output[i], line);
  }
  if (printed.length < step.output.length) {
    throw new Error(`it does not print: ${step.output[printed.length]}`);
  }
}

function mapPorts(text: string, { servers }: Stage): string {
  return text.replace(/\b(?:22\d2|90\d0)\b/g, (documented) => {
    const server = servers[Number(documented.slice(2, 3)) - 2];
    if (server === undefined) return documented;
    return documented.startsWith("22") ? `${server.port}` : `${server.statsPort}`;
  });
}

/** Parts of a documented line that differ from run to run: a timestamp, a token, what is left out. */
const PLACEHOLDER = /(?<![\w-])(?:\d{16}|[\w-]{43})(?![\w-])|…/g;
/** How far a typed timestamp may be from one that was printed to mean it, µs. */
const NEAR_MICROS = 1000;

/** What the timestamps and tokens of a document are in this run. */
class Placeholders {
  #real = new Map<string, string>();

  /** A documented line as it is to be typed. */
  fill(text: string): string {
    return text.replace(PLACEHOLDER, (documented) => {
      const real = this.#real.get(documented);
      if (real !== undefined || !/^\d{16}$/.test(documented)) return real ?? documented;
      for (const [near, realNear] of this.#real) {
        const distance = Number(documented) - Number(near);
        if (Math.abs(distance) <= NEAR_MICROS) return `${Number(realNear) + distance}`;
      }
      return documented;
    });
  }

  /** Throws unless `actual` is what the documented line says. */
  match(documented: string, actual: string): void {
    const names = documented.match(PLACEHOLDER) ?? [];
    const literals = documented.split(PLACEHOLDER).map((text) => RegExp.escape(text));
    const pattern = literals.reduce((before, literal, i) => {
      const name = names[i - 1];
      const any = name === "…" ? "(.*)" : name.length === 16 ? "(\\d{16})" : "([\\w-]{43})";
      return before + any + literal;
    });
    const values = new RegExp(`^${pattern}$`, "su").exec(actual)?.slice(1);
    const isRight = values !== undefined &&
      names.every((name, i) => name === "…" || this.#bind(name, values[i]));
    if (!isRight) {
      throw new Error(`the document says\n  ${documented}\nbut this is printed\n  ${actual}`);
    }
  }

  #bind(documented: string, real: string): boolean {
    const known = this.#real.get(documented);
    if (known !== undefined) return known === real;
    if ([...this.#real.values()].includes(real)) return false;
    this.#real.set(documented, real);
    return true;
  }
}
