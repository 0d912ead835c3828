// A terminal that a picture is drawn on in place, and that is left as it was found.

/** The other screen, without a cursor, and without lines that go on in the next one. */
const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/** Where the size of a terminal cannot be known. */
const USUAL = { columns: 80, rows: 24 };
/** No terminal is larger, and a picture of it is not to be made. */
const MOST = { columns: 1000, rows: 500 };

/** A size in characters. */
export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** The size of the terminal; 80×24 where it has none. */
export function terminalSize(): Size {
  try {
    const { columns, rows } = Deno.consoleSize();
    if (columns < 1 || rows < 1) return USUAL;
    return { columns: Math.min(columns, MOST.columns), rows: Math.min(rows, MOST.rows) };
  } catch {
    return USUAL;
  }
}

/** What draws on a terminal. Each picture is one write, of the lines that have changed. */
export class Screen {
  #write: (text: string) => Promise<void>;
  #lines: string[] = [];
  #size: Size | null = null;

  constructor(write: (text: string) => Promise<void>) {
    this.#write = write;
  }

  async enter(): Promise<void> {
    await this.#write(ENTER);
  }

  /** Draws. `lines` are at most `size.rows`. */
  async draw(lines: readonly string[], size: Size): Promise<void> {
    const isResized = this.#size?.columns !== size.columns || this.#size.rows !== size.rows;
    if (isResized) this.#lines = [];
    this.#size = size;
    // A terminal that was made smaller may have moved what was on it.
    let text = isResized ? "\x1b[2J" : "";
    for (let row = 0; row < Math.max(lines.length, this.#lines.length); row++) {
      const line = lines[row] ?? "";
      if (line !== (this.#lines[row] ?? "")) text += `\x1b[${row + 1};1H\x1b[2K${line}`;
    }
    this.#lines = [...lines];
    if (text !== "") await this.#write(text);
  }

  /** What gives the terminal back; harmless where it was not entered. */
  static readonly leave: string = LEAVE;
}
