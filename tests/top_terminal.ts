// A terminal for tests: a program on a pseudo-terminal, and what a person would see of it.
// deno-lint-ignore-file no-control-regex -- what steers terminals is what it is about

import { eastAsianWidth } from "get-east-asian-width";
import { within } from "./harness_within.ts";

/** Runs the command on a pseudo-terminal; its process number goes to standard error. */
const BRIDGE = String.raw`
  log_user 0
  set timeout -1
  set stty_init "rows $env(ROWS) cols $env(COLS)"
  fconfigure stdout -translation binary -encoding utf-8
  fconfigure stdin -blocking 0 -translation binary
  spawn -noecho sh -c "exec $env(TOP_COMMAND)"
  puts stderr [exp_pid]
  flush stderr
  expect_background {
    -re {.+} { puts -nonewline stdout $expect_out(0,string); flush stdout }
    eof { lassign [wait] pid id os code; exit $code }
  }
  fileevent stdin readable {
    set typed [read stdin]
    if {$typed ne ""} { send -- $typed } elseif {[eof stdin]} { exit 99 }
  }
  vwait forever
`;

/** What such a terminal makes of the few sequences that `pushd top` writes; fails at any other. */
class Grid {
  lines: string[][];
  isOther = false;
  isCursorHidden = false;
  #row = 0;
  #column = 0;

  constructor(readonly columns: number, readonly rows: number) {
    this.lines = this.#empty();
  }

  #empty(): string[][] {
    return Array.from({ length: this.rows }, () => new Array(this.columns).fill(" "));
  }

  /** Takes whole sequences; returns what is left of one that has not ended. */
  write(text: string): string {
    const token = /\x1b\[(\??)([\d;]*)([A-Za-z])|\x1b\[?\??[\d;]*$|[^]/uy;
    for (let match = token.exec(text); match !== null; match = token.exec(text)) {
      const [all, isPrivate, parameters, final] = match;
      if (final !== undefined) this.#control(isPrivate + final, parameters);
      else if (all.startsWith("\x1b")) return all;
      else this.#print(all);
    }
    return "";
  }

  #control(what: string, parameters: string): void {
    const [first, second] = parameters.split(";").map((digits) => Number(digits || 0));
    if (what === "?h" || what === "?l") this.#mode(first, what === "?h");
    // What deno itself says at a start.
    else if (!this.isOther) return;
    else if (what === "H") [this.#row, this.#column] = [(first || 1) - 1, (second || 1) - 1];
    else if (what === "G") this.#column = (first || 1) - 1;
    else if (what === "J" && first === 2) this.lines = this.#empty();
    else if (what === "K" && first === 2) this.lines[this.#row].fill(" ");
    else if (what !== "m") throw new Error(`unexpected sequence: CSI ${parameters}${what}`);
  }

  #mode(number: number, isOn: boolean): void {
    if (number === 1049) this.isOther = isOn;
    if (number === 25) this.isCursorHidden = !isOn;
  }

  #print(character: string): void {
    if (!this.isOther) return;
    if (/\p{C}/u.test(character)) throw new Error(`${JSON.stringify(character)} on the screen`);
    if (/\p{M}/u.test(character)) return;
    if (this.#row >= this.rows || this.#column >= this.columns) {
      throw new Error("beside the screen");
    }
    this.lines[this.#row][this.#column] = character;
    const width = eastAsianWidth(character.codePointAt(0) ?? 0);
    for (let i = 1; i < width; i++) this.lines[this.#row][this.#column + i] = "";
    this.#column += width;
  }
}

/** A program on a terminal of 80×24, or another size. */
export class ProgramOnTerminal implements AsyncDisposable {
  /** Everything that it wrote. */
  written = "";
  /** How often it wrote. */
  writes = 0;
  pid = 0;

  #child: Deno.ChildProcess;
  #keyboard: WritableStreamDefaultWriter<Uint8Array>;
  #grid: Grid;
  #watchers = new Set<() => void>();
  #reading: Promise<unknown>;
  #started = Promise.withResolvers<void>();
  /** What expect itself has said, the number of the process first. */
  #said = "";

  private constructor(child: Deno.ChildProcess, columns: number, rows: number) {
    this.#child = child;
    this.#keyboard = child.stdin.getWriter();
    this.#grid = new Grid(columns, rows);
    this.#reading = Promise.all([this.#read(), this.#readErrors()]);
  }

  static async start(
    command: readonly string[],
    env: Record<string, string>,
    { columns = 80, rows = 24 } = {},
  ): Promise<ProgramOnTerminal> {
    const child = new Deno.Command("expect", {
      args: ["-c", BRIDGE],
      clearEnv: true,
      env: {
        ...env,
        TERM: "xterm",
        LC_ALL: "C.UTF-8",
        ROWS: `${rows}`,
        COLS: `${columns}`,
        TOP_COMMAND: command.join(" "),
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const terminal = new ProgramOnTerminal(child, columns, rows);
    await within(() => "the number of the process", terminal.#started.promise);
    return terminal;
  }

  /** The lines of the screen. */
  get screen(): string {
    return this.#grid.lines.map((line) => line.join("").trimEnd()).join("\n");
  }

  /** Whether it has the screen for itself. */
  get isOther(): boolean {
    return this.#grid.isOther;
  }

  get isCursorHidden(): boolean {
    return this.#grid.isCursorHidden;
  }

  async type(keys: string): Promise<void> {
    await this.#keyboard.write(new TextEncoder().encode(keys));
  }

  /** Waits until the screen shows it. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    const { promise, resolve } = Promise.withResolvers<RegExpExecArray>();
    const watcher = () => {
      const match = pattern.exec(this.screen);
      if (match !== null) resolve(match);
    };
    this.#watchers.add(watcher);
    watcher();
    const ended = this.#reading.then(() => {
      throw new Error(`it ended without ${pattern} on the screen: ${this.#said}\n${this.screen}`);
    });
    try {
      const shown = Promise.race([promise, ended]);
      return await within(() => `${pattern} on the screen:\n${this.screen}`, shown);
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  /** Waits for its end, and returns its exit code. */
  async ended(): Promise<number> {
    const { code } = await within(() => `the end of it:\n${this.screen}`, this.#child.status);
    await this.#reading;
    return code;
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.written += text;
      this.writes++;
      rest = this.#grid.write(rest + text);
      for (const watcher of this.#watchers) watcher();
    }
  }

  /** To the end: expect does not outlive that nobody takes what it says. */
  async #readErrors(): Promise<void> {
    for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      this.#said += text;
      this.pid ||= Number.parseInt(this.#said);
      this.#started.resolve();
    }
    this.#started.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#keyboard.close().catch(() => {});
    await within(() => "expect to end", this.#child.status, {
      onLate: () => this.#child.kill("SIGKILL"),
    });
    await this.#reading;
  }
}
